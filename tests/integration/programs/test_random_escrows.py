"""Random sequences of the escrow's instructions, right and wrong ones, against what must always hold."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.ledger.instructions import escrow as builders
from cyxwiz.ledger.instructions.escrow import Escrow, Flag, Payout, Step
from tests.integration.programs.chain import Refused
from tests.integration.programs.deals import DAY, ESCROW, EVIDENCE, Deal
from tests.integration.programs.test_escrow_checks import MAY
from tests.soak import SOAKING, examples

JOBS = [bytes([number]) * 16 for number in range(3)]
PEOPLE = ("client", "node", "platform", "arbiter", "stranger")
BOTH_STEPS = (Step.ASSIGN, Step.UNASSIGN)
PLAIN_STEPS = (*BOTH_STEPS, Step.RELEASE, Step.SETTLE, Step.REFUND, Step.DISPUTE, Step.RESOLVE, Step.RECLAIM)
STREAM_STEPS = (*BOTH_STEPS, *[Step.ATTEST] * 4, Step.CLAIM, Step.STOP, Step.CLOSE)
ENDING = (Step.SETTLE, Step.REFUND, Step.RESOLVE, Step.RECLAIM, Step.CLOSE)


class Escrows(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deal = Deal()
        self.chain = self.deal.chain
        self.donated: dict[bytes, int] = {}
        self.released = self.given = 0  # over all escrows: paid to node and platform; sent to vaults by the stranger
        self.started: dict[bytes, int] = {}  # since when a stream can earn
        self.earned: dict[bytes, list[tuple[int, int]]] = {}  # what it did, and when
        self.places = {name: self.chain.make_tokens(getattr(self.deal, name).pubkey()) for name in PEOPLE}
        self.start = {name: self.chain.balance(place) for name, place in self.places.items()}

    def there(self, job: bytes) -> Escrow | None:
        address = builders.state_address(ESCROW, self.deal.client.pubkey(), job)
        account = self.chain.account(address)
        return Escrow.decode(address, bytes(account.data)) if account else None

    def snapshot(self) -> list[Any]:
        return [*(self.there(job) for job in JOBS), *(self.chain.balance(place) for place in self.places.values())]

    @initialize()
    def first(self) -> None:
        self.create(0, True, False, 1000, 1000)
        self.create(1, False, True, 1000, 1000)

    @rule(random=st.randoms(use_true_random=True))
    def moves(self, random: Random) -> None:
        """Ten moves. They come of one seeded source: Hypothesis' own choices lean to a few small values."""
        for _ in range(10):
            which = random.randrange(3)
            match random.choices(("act", "create", "wait", "donate"), (12, 2, 5, 1))[0]:
                case "create":
                    bps = random.choice([0, 1, 999, 1000, 5000])
                    amount = random.choice([1, 7, 500, 1000])
                    self.create(which, random.random() < 0.5, random.random() < 0.6, bps, amount)
                case "wait":
                    self.chain.wait(
                        random.choice([1, 30, 60, 120, DAY, 8 * DAY] if random.random() < 0.2 else [1, 30, 60])
                    )
                case "donate":
                    self.donate(which, random.randint(1, 5))
                case _:
                    self.act(random, which)
            self.money_is_where_it_was_promised()
            self.a_stream_earns_no_faster_than_its_rate()

    def create(self, which: int, named: bool, streams: bool, bps: int, amount: int) -> None:
        job = JOBS[which]
        existed = self.there(job)
        mode = {"interval": 60, "cap": max(1, amount // 3)} if streams else {}
        node = self.deal.node.pubkey() if named else None
        try:
            self.deal.create(job=job, node=node, fee_bps=bps, amount=amount, window=DAY, **mode)
        except Refused:
            assert existed is not None
            return
        assert existed is None
        self.donated[job] = 0
        self.started[job] = self.chain.now
        self.earned[job] = []

    def act(self, random: Random, which: int) -> None:
        """One step by somebody: four times of five by one of those who may, and mostly to the right accounts."""
        escrow = self.there(JOBS[which])
        if escrow is None:
            return
        streams = Flag.STREAM in escrow.flags
        step = random.choice(sorted(MAY) if random.random() < 0.2 else STREAM_STEPS if streams else PLAIN_STEPS)
        if step in ENDING and random.random() < 0.7:
            return
        who = random.choice(sorted(MAY[step]) if random.random() < 0.8 else PEOPLE)
        total = random.choice([0, 1, 1000, 1001, 2**64 - 1])
        near = random.random() < 0.8
        to_node, to_client = (random.choice([*PEOPLE, "vault"]) if random.random() < 0.1 else None for _ in range(2))
        by: Keypair = getattr(self.deal, who)
        if near:
            total = max(escrow.released, escrow.accrued) + random.randint(0, 50)
        before = self.snapshot()
        try:
            self.deal.send(self.build(escrow, step, by, total, to_node, to_client), by)
        except Refused:
            assert self.snapshot() == before
            return
        assert who in MAY[step], f"{who} did {step.name}"
        self.account_for(escrow, step, total)

    def build(
        self, escrow: Escrow, step: Step, by: Keypair, total: int, to_node: str | None, to_client: str | None
    ) -> Any:
        def place(name: str | None) -> Pubkey | None:
            return escrow.vault if name == "vault" else self.places[name] if name else None

        payout = Payout(ESCROW, escrow, by.pubkey(), place(to_node), place(to_client))
        match step:
            case Step.ASSIGN:
                made = builders.assign(ESCROW, escrow, self.deal.node.pubkey())
            case Step.UNASSIGN:
                made = builders.unassign(ESCROW, escrow, by.pubkey())
            case Step.DISPUTE:
                made = builders.dispute(ESCROW, escrow, by.pubkey())
            case Step.ATTEST:
                made = builders.attest(ESCROW, escrow, total, EVIDENCE)
            case Step.STOP:
                made = builders.stop(ESCROW, escrow)
            case Step.RELEASE | Step.SETTLE | Step.RESOLVE:
                made = getattr(payout, step.name.lower())(total)
            case _:
                made = getattr(payout, step.name.lower())()
        metas = list(made.accounts)
        metas[0] = type(metas[0])(by.pubkey(), True, False)
        return type(made)(made.program_id, bytes(made.data), metas)

    def account_for(self, escrow: Escrow, step: Step, total: int) -> None:
        """What a step that was taken may have changed."""
        after = self.there(escrow.job)
        target = escrow.released
        if step in (Step.RELEASE, Step.SETTLE, Step.RESOLVE):
            target = total
            assert Flag.STREAM not in escrow.flags
        elif step in (Step.CLAIM, Step.CLOSE):
            target = escrow.accrued
            assert Flag.STREAM in escrow.flags
        assert escrow.released <= target <= escrow.amount
        self.released += target - escrow.released
        assert (after is None) == (step in ENDING)
        if after is None:
            assert self.chain.account(escrow.vault) is None
            self.given += self.donated.pop(escrow.job)
        elif step is Step.ASSIGN:
            self.started[escrow.job] = self.chain.now
        elif step is Step.ATTEST:
            assert Flag.STOPPED not in escrow.flags
            self.earned[escrow.job].append((self.chain.now, after.accrued - escrow.accrued))
        if step in (Step.RELEASE, Step.SETTLE, Step.REFUND, Step.RECLAIM) and self.chain.now < escrow.frozen_until:
            assert step is Step.REFUND  # in a dispute only the node's giving up

    def donate(self, which: int, amount: int) -> None:
        escrow = self.there(JOBS[which])
        if escrow is not None:
            self.chain.pay_tokens(self.places["stranger"], escrow.vault, amount, self.deal.stranger)
            self.donated[escrow.job] += amount

    def gained(self, name: str) -> int:
        return self.chain.balance(self.places[name]) - self.start[name]

    def money_is_where_it_was_promised(self) -> None:
        locked = promised = 0
        for job in JOBS:
            escrow = self.there(job)
            if escrow is None:
                continue
            vault = self.chain.balance(escrow.vault)
            assert vault == escrow.amount - escrow.released + self.donated[job]
            assert escrow.fees == escrow.released * escrow.fee_bps // 10_000
            assert escrow.released <= escrow.amount
            locked += vault
            promised += escrow.amount - escrow.released
            if Flag.STREAM in escrow.flags:
                assert escrow.released <= escrow.accrued <= escrow.amount
            else:
                assert escrow.accrued == 0
        assert sum(self.gained(name) for name in PEOPLE) + locked == 0  # tokens are conserved
        assert self.gained("node") + self.gained("platform") == self.released
        assert self.gained("client") == self.given - self.released - promised
        assert self.gained("arbiter") == 0
        assert self.gained("stranger") == -self.given - sum(self.donated.values())

    def a_stream_earns_no_faster_than_its_rate(self) -> None:
        for job in JOBS:
            escrow = self.there(job)
            if escrow is not None and escrow.interval and escrow.released == 0:
                assert escrow.accrued <= escrow.cap * (self.chain.now - self.started[job]) // escrow.interval
            if escrow is not None and escrow.interval:
                earned = self.earned[job]
                for begin, _ in earned:
                    assert sum(units for at, units in earned if begin <= at <= begin + escrow.interval) <= escrow.cap

    def teardown(self) -> None:
        """Whatever happened, the client gets its tokens out alone, in the end."""
        self.chain.wait(500 * DAY)
        for job in JOBS:
            escrow = self.there(job)
            if escrow is not None:
                payout = Payout(ESCROW, escrow, self.deal.client.pubkey())
                streams = Flag.STREAM in escrow.flags
                step = Step.CLOSE if streams else Step.RECLAIM
                self.deal.send(payout.close() if streams else payout.reclaim(), self.deal.client)
                self.account_for(escrow, step, 0)
        self.money_is_where_it_was_promised()
        assert self.gained("client") == self.given - self.released


TestEscrows = Escrows.TestCase
TestEscrows.settings = settings(
    max_examples=examples(30), stateful_step_count=15, deadline=None, derandomize=not SOAKING
)
