"""Random sequences of the staking instructions, right and wrong ones, against what must always hold."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from solders.instruction import Instruction
from solders.keypair import Keypair

from cyxwiz.ledger.instructions.staking import Contest, Stake, Staking, Step
from tests.integration.programs.chain import Refused, swap
from tests.integration.programs.pledges import COOLDOWN, DAY, EVIDENCE, STAKING, TOKENS, Pledges
from tests.soak import SOAKING, examples

NODES = ("node", "other")
PEOPLE = ("admin", "slasher", "judge", "node", "other", "stranger")
STEPS = tuple(step for step in Step if step not in (Step.CONFIGURE, Step.SET_MINIMUM, Step.OPEN))


def may(step: Step, owner: str) -> set[str]:
    if step is Step.CONCLUDE:
        return set(PEOPLE)
    return {{Step.SLASH: "slasher", Step.JUDGE: "judge"}.get(step, owner)}


class Stakes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = Pledges()
        self.chain = self.world.chain
        self.places = {name: self.chain.make_tokens(getattr(self.world, name).pubkey()) for name in PEOPLE}
        self.start = {name: self.chain.balance(place) for name, place in self.places.items()}
        self.funded = self.slashed = self.paid = 0  # in, in and out of the rewards vault

    def staking(self, owner: str, to: str | None = None) -> Staking:
        node: Keypair = getattr(self.world, owner)
        return Staking(STAKING, self.world.config, node.pubkey(), node_tokens=self.places[to] if to else None)

    def there(self, owner: str) -> Stake | None:
        address = self.staking(owner).address
        account = self.chain.account(address)
        return Stake.decode(address, bytes(account.data)) if account else None

    def snapshot(self) -> list[Any]:
        return [*(self.there(owner) for owner in NODES), *(self.chain.balance(place) for place in self.places.values())]

    @initialize()
    def first(self) -> None:
        self.world.pledge(5000)

    @rule(random=st.randoms(use_true_random=True))
    def moves(self, random: Random) -> None:
        """Ten moves. They come of one seeded source: Hypothesis' own choices lean to a few small values."""
        for _ in range(10):
            owner = random.choice(NODES)
            match random.choices(("act", "open", "wait", "fund"), (12, 2, 4, 1))[0]:
                case "open":
                    self.open(owner)
                case "wait":
                    self.chain.wait(random.choice([1, 3600, DAY, 2 * DAY, 7 * DAY, 90 * DAY]))
                case "fund":
                    amount = random.randint(1, 100)
                    self.world.fund_rewards(amount)
                    self.funded += amount
                case _:
                    step = random.choice(STEPS)
                    who = random.choice(sorted(may(step, owner)) if random.random() < 0.8 else PEOPLE)
                    amount = random.choice([0, 1, 500, 1000, 2000, 5000, 2**64 - 1])
                    self.act(owner, step, who, amount, random.choice(PEOPLE) if random.random() < 0.1 else None)
            self.money_is_where_it_was_promised()

    def open(self, owner: str) -> None:
        existed = self.there(owner)
        try:
            self.world.send(self.staking(owner).open(), getattr(self.world, owner))
        except Refused:
            assert existed is not None
            return
        assert existed is None

    def act(self, owner: str, step: Step, who: str, amount: int, to: str | None) -> None:
        stake = self.there(owner)
        if stake is None:
            return
        by: Keypair = getattr(self.world, who)
        before, rewards = self.snapshot(), self.chain.balance(self.world.config.rewards)
        try:
            self.world.send(swap(self.build(owner, step, amount, to), 0, by.pubkey()), by)
        except Refused:
            assert self.snapshot() == before
            return
        assert who in may(step, owner), f"{who} did {step.name}"
        after, change = self.there(owner), self.chain.balance(self.world.config.rewards) - rewards
        if change > 0:
            assert step in (Step.JUDGE, Step.CONCLUDE)
            assert change == stake.contested
            if step is Step.CONCLUDE:
                assert stake.contest is Contest.PENDING
            self.slashed += change
        elif change < 0:
            assert step in (Step.CLAIM_REWARDS, Step.CLOSE)
            self.paid -= change
        if step is Step.WITHDRAW:
            assert self.chain.now >= stake.cooling_until
        if step is Step.CLOSE:
            assert after is None
            assert self.chain.account(stake.vault) is None
            assert stake.active + stake.cooling + stake.contested == 0

    def build(self, owner: str, step: Step, amount: int, to: str | None) -> Instruction:
        staking = self.staking(owner, to)
        match step:
            case Step.DEPOSIT | Step.UNSTAKE:
                return getattr(staking, step.name.lower())(amount)
            case Step.SLASH:
                return staking.slash(amount, EVIDENCE)
            case Step.JUDGE:
                return staking.judge(upheld=amount % 2 == 0)
            case Step.CONCLUDE:
                return staking.conclude(self.world.stranger.pubkey())
            case _:
                return getattr(staking, step.name.lower())()

    def gained(self, name: str) -> int:
        return self.chain.balance(self.places[name]) - self.start[name]

    def money_is_where_it_was_promised(self) -> None:
        pledged = 0
        for owner in NODES:
            stake = self.there(owner)
            if stake is not None:
                vault = self.chain.balance(stake.vault)
                assert vault == stake.active + stake.cooling + stake.contested
                assert stake.contested_cooling <= stake.contested
                assert (stake.contest is Contest.NONE) == (stake.contested == 0)
                pledged += vault
        rewards = self.chain.balance(self.world.config.rewards)
        assert rewards == self.funded + self.slashed - self.paid
        assert sum(self.gained(name) for name in PEOPLE) + pledged + rewards == 0  # tokens are conserved
        assert self.gained("node") + self.gained("other") == self.paid - self.slashed - pledged
        for name in ("admin", "slasher", "judge"):
            assert self.gained(name) == 0
        assert self.gained("stranger") == -self.funded

    def teardown(self) -> None:
        """Whatever happened, nodes get out alone all that was not slashed."""
        self.chain.wait(COOLDOWN)
        for owner in NODES:
            stake = self.there(owner)
            if stake is None:
                continue
            if stake.contested:
                self.act(owner, Step.CONCLUDE, owner, 0, None)
            for step in (Step.UNSTAKE, Step.WITHDRAW, Step.CLOSE):
                stake = self.there(owner)
                assert stake is not None
                self.act(owner, step, owner, stake.active, None)
                self.chain.wait(COOLDOWN)
            assert self.there(owner) is None
        self.money_is_where_it_was_promised()
        assert sum(self.start[owner] for owner in NODES) == 2 * TOKENS
        assert self.gained("node") + self.gained("other") == self.paid - self.slashed


TestStakes = Stakes.TestCase
TestStakes.settings = settings(
    max_examples=examples(30), stateful_step_count=15, deadline=None, derandomize=not SOAKING
)
