"""Random sequences of the escrow's instructions, right and wrong ones, against what must always hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
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
TOTALS = st.one_of(st.integers(0, 1100), st.just(2**64 - 1))


class Escrows(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deal = Deal()
        self.chain = self.deal.chain
        self.donated: dict[bytes, int] = {}
        self.released = self.given = 0  # over all escrows: paid to node and platform; sent to vaults by the stranger
        self.started: dict[bytes, int] = {}  # since when a stream can earn
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

    @rule(
        which=st.integers(0, 2),
        named=st.booleans(),
        streams=st.booleans(),
        bps=st.sampled_from([0, 1, 999, 1000, 5000]),
        amount=st.integers(1, 1000),
    )
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

    @rule(
        which=st.integers(0, 2),
        step=st.sampled_from(sorted(MAY)),
        rightly=st.integers(0, 3),
        who=st.sampled_from(PEOPLE),
        total=TOTALS,
        near=st.booleans(),
        to_node=st.sampled_from([None, None, None, *PEOPLE, "vault"]),
        to_client=st.sampled_from([None, None, None, *PEOPLE, "vault"]),
    )
    def act(
        self,
        which: int,
        step: Step,
        rightly: int,
        who: str,
        total: int,
        near: bool,
        to_node: str | None,
        to_client: str | None,
    ) -> None:
        """One step by somebody: three times of four by one of those who may."""
        escrow = self.there(JOBS[which])
        if escrow is None:
            return
        if rightly:
            may = sorted(MAY[step])
            who = may[total % len(may)]
        by: Keypair = getattr(self.deal, who)
        if near:
            total = max(escrow.released, escrow.accrued) + total % 50
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
        ends = step in (Step.SETTLE, Step.REFUND, Step.RESOLVE, Step.RECLAIM, Step.CLOSE)
        assert (after is None) == ends
        if ends:
            assert self.chain.account(escrow.vault) is None
            self.given += self.donated.pop(escrow.job)
        elif step is Step.ASSIGN:
            self.started[escrow.job] = self.chain.now
        elif step is Step.ATTEST and after is not None:
            assert Flag.STOPPED not in escrow.flags
            assert after.accrued - escrow.accrued <= escrow.cap
        if step in (Step.RELEASE, Step.SETTLE, Step.REFUND, Step.RECLAIM) and self.chain.now < escrow.frozen_until:
            assert step is Step.REFUND  # in a dispute only the node's giving up

    @rule(seconds=st.one_of(st.integers(1, 120), st.sampled_from([DAY, 3 * DAY, 8 * DAY])))
    def wait(self, seconds: int) -> None:
        self.chain.wait(seconds)

    @rule(which=st.integers(0, 2), amount=st.integers(1, 5))
    def donate(self, which: int, amount: int) -> None:
        escrow = self.there(JOBS[which])
        if escrow is not None:
            self.chain.pay_tokens(self.places["stranger"], escrow.vault, amount, self.deal.stranger)
            self.donated[escrow.job] += amount

    def gained(self, name: str) -> int:
        return self.chain.balance(self.places[name]) - self.start[name]

    @invariant()
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

    @invariant()
    def a_stream_earns_no_faster_than_its_rate(self) -> None:
        for job in JOBS:
            escrow = self.there(job)
            if escrow is not None and escrow.interval and escrow.released == 0:
                assert escrow.accrued <= escrow.cap * (self.chain.now - self.started[job]) // escrow.interval

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
    max_examples=examples(25), stateful_step_count=40, deadline=None, derandomize=not SOAKING
)
