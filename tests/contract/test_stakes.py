"""The one suite of every ledger's stakes: the rules of the program, each step once, nothing made or lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.domain.node import Hardware, Node
from cyxwiz.domain.stake import Contest, Stake, StakeDone, StakeKind, StakeRules, StakeStep
from tests.contract.ledgers import KINDS, WELCOME, Bench, opened

EVIDENCE, OTHER_EVIDENCE = "ab" * 32, "cd" * 32
ADD, COOL, WITHDRAW = StakeKind.ADD, StakeKind.COOL, StakeKind.WITHDRAW
CLAIM = StakeKind.CLAIM
SLASH, APPEAL, JUDGE, CONCLUDE = StakeKind.SLASH, StakeKind.APPEAL, StakeKind.JUDGE, StakeKind.CONCLUDE


class Pledge:
    """One node's stake on a bench, by an owner with enough for some minimums of it."""

    def __init__(self, bench: Bench, rules: StakeRules) -> None:
        self.bench, self.rules, self.least = bench, rules, rules.minimum_units
        self.node = self.another(bench.user)

    def another(self, owner: UserId) -> Node:
        now = self.bench.now()
        return Node(NodeId(new_id()), owner, "rig", Hardware("CPU", 1, 1, 1, ()), now, now)

    def step(self, kind: StakeKind, units: int = 0, **changes: Any) -> StakeStep:
        now = self.bench.now()
        made = StakeStep(new_id(), self.node.id, self.bench.user, kind, now, now, units=units)
        return replace(made, **changes)

    async def do(self, kind: StakeKind, units: int = 0, **changes: Any) -> StakeDone:
        return await self.bench.ledger.stakes.perform(self.node, self.step(kind, units, **changes))

    async def slash(self, units: int, evidence: str = EVIDENCE) -> StakeDone:
        return await self.do(SLASH, units, evidence=evidence)

    async def fund(self, units: int, key: str = "fund") -> str:
        return await self.bench.ledger.stakes.fund(self.bench.user, units, key)

    async def vault(self) -> int:
        return (await self.bench.ledger.stakes.vault()).units

    async def stake(self) -> Stake:
        return await self.bench.ledger.stakes.stake(self.node)

    async def refused(self, code: Code, kind: StakeKind, units: int = 0, **changes: Any) -> None:
        before, balance = await self.stake(), await self.bench.client()
        with pytest.raises(CyxError) as caught:
            await self.do(kind, units, **changes)
        assert caught.value.code is code, caught.value
        assert await self.stake() == before
        assert await self.bench.client() == balance

    async def cooled(self) -> None:
        await self.bench.pass_time(self.rules.cooldown.total_seconds() + 2)

    async def appealed(self) -> None:
        await self.bench.pass_time(self.rules.appeal.total_seconds() + 2)


@pytest.fixture(params=KINDS)
async def pledge(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pledge]:
    async with opened(request.param, tmp_path) as bench:
        rules = await bench.ledger.stakes.rules()
        await bench.ledger.grant(bench.ledger.client_account(bench.user), 10 * rules.minimum_units, "for tests")
        yield Pledge(bench, rules)


async def test_a_stake_comes_out_of_its_owners_account_and_goes_back_after_the_cool_down(pledge: Pledge) -> None:
    before, least = await pledge.bench.client(), pledge.least
    assert await pledge.stake() == Stake(pledge.bench.ledger.stakes.account(pledge.node))
    done = await pledge.do(ADD, 3 * least)
    assert (done.units, done.stake.active_units) == (3 * least, 3 * least)
    assert done.stake == await pledge.stake()
    assert await pledge.bench.client() == before - 3 * least
    await pledge.do(ADD, 1)
    await pledge.refused(Code.CONFLICT, WITHDRAW)
    cooling = (await pledge.do(COOL, 2 * least)).stake
    assert (cooling.active_units, cooling.cooling_units, cooling.free_units(pledge.bench.now())) == (
        least + 1,
        2 * least,
        0,
    )
    await pledge.refused(Code.CONFLICT, WITHDRAW)
    await pledge.cooled()
    assert cooling.free_units(pledge.bench.now()) == 2 * least
    taken = await pledge.do(WITHDRAW)
    assert (taken.units, taken.stake.cooling_units, taken.stake.active_units) == (2 * least, 0, least + 1)
    assert await pledge.bench.client() == before - least - 1
    await pledge.refused(Code.CONFLICT, WITHDRAW)


async def test_another_nodes_stake_is_its_own(pledge: Pledge) -> None:
    other = pledge.another(pledge.bench.user)
    await pledge.do(ADD, pledge.least)
    assert (await pledge.bench.ledger.stakes.stake(other)).active_units == 0
    named = replace(other, wallet_address=pledge.bench.ledger.stakes.account(pledge.node))
    assert (await pledge.bench.ledger.stakes.stake(named)).active_units == 0, "a wallet that it names is only its word"


@pytest.mark.parametrize("units", [0, -1, 2**63])
async def test_no_amount_is_staked(pledge: Pledge, units: int) -> None:
    await pledge.refused(Code.INVALID, ADD, units)
    await pledge.do(ADD, pledge.least)
    await pledge.refused(Code.INVALID, COOL, units)


async def test_more_than_there_is_is_refused(pledge: Pledge) -> None:
    await pledge.refused(Code.FUNDS, ADD, await pledge.bench.client() + 1)
    await pledge.do(ADD, 2 * pledge.least)
    await pledge.refused(Code.FUNDS, COOL, 2 * pledge.least + 1)


async def test_a_stake_is_nothing_or_its_minimum(pledge: Pledge) -> None:
    await pledge.refused(Code.INVALID, ADD, pledge.least - 1)
    await pledge.do(ADD, 2 * pledge.least)
    await pledge.refused(Code.INVALID, COOL, pledge.least + 1)
    assert (await pledge.do(COOL, pledge.least)).stake.active_units == pledge.least


@pytest.mark.parametrize("kind", [ADD, COOL, SLASH])
async def test_a_step_asked_for_again_happens_once(pledge: Pledge, kind: StakeKind) -> None:
    await pledge.do(ADD, 4 * pledge.least)
    step = pledge.step(kind, pledge.least, evidence=EVIDENCE)
    stakes = pledge.bench.ledger.stakes
    first = await stakes.perform(pledge.node, step)
    again = await stakes.perform(pledge.node, step)
    assert first.reference
    assert (again.reference, again.units, again.stake) == (first.reference, first.units, first.stake)
    active = {ADD: 5, COOL: 3, SLASH: 3}[kind] * pledge.least
    assert (await pledge.stake()).active_units == active


async def test_a_slash_without_appeal_is_lost(pledge: Pledge) -> None:
    await pledge.do(ADD, 3 * pledge.least)
    balance = await pledge.bench.client()
    done = await pledge.slash(pledge.least)
    stake = done.stake
    assert (stake.contest, stake.contested_units, stake.evidence) == (Contest.PENDING, pledge.least, EVIDENCE)
    assert (stake.active_units, stake.slashed_units) == (2 * pledge.least, 0)
    await pledge.refused(Code.CONFLICT, SLASH, 1, evidence=OTHER_EVIDENCE)
    await pledge.refused(Code.CONFLICT, CONCLUDE)
    await pledge.refused(Code.CONFLICT, JUDGE)
    await pledge.appealed()
    await pledge.refused(Code.CONFLICT, APPEAL)
    ended = (await pledge.do(CONCLUDE)).stake
    assert (ended.contest, ended.active_units, ended.slashed_units) == (Contest.NONE, 2 * pledge.least, pledge.least)
    await pledge.refused(Code.CONFLICT, CONCLUDE)
    assert (await pledge.slash(pledge.least, OTHER_EVIDENCE)).stake.slashed_units == pledge.least
    assert await pledge.bench.client() == balance


@pytest.mark.parametrize("end", ["upheld", "dismissed", "not judged"])
async def test_an_appeal_is_judged_or_granted_by_time(pledge: Pledge, end: str) -> None:
    await pledge.do(ADD, 3 * pledge.least)
    await pledge.slash(pledge.least)
    assert (await pledge.do(APPEAL)).stake.contest is Contest.APPEALED
    await pledge.refused(Code.CONFLICT, APPEAL)
    if end == "not judged":
        await pledge.appealed()
        await pledge.refused(Code.CONFLICT, JUDGE, upheld=True)
        stake = (await pledge.do(CONCLUDE)).stake
    else:
        stake = (await pledge.do(JUDGE, upheld=end == "upheld")).stake
    lost = pledge.least if end == "upheld" else 0
    assert (stake.contest, stake.slashed_units, stake.active_units) == (Contest.NONE, lost, 3 * pledge.least - lost)


async def test_what_cools_down_is_slashed_last_and_goes_back_to_where_it_was(pledge: Pledge) -> None:
    await pledge.do(ADD, 3 * pledge.least)
    await pledge.do(COOL, 2 * pledge.least)
    await pledge.refused(Code.FUNDS, SLASH, 3 * pledge.least + 1, evidence=EVIDENCE)
    stake = (await pledge.slash(2 * pledge.least)).stake
    assert (stake.active_units, stake.cooling_units, stake.contested_cooling_units) == (0, pledge.least, pledge.least)
    await pledge.do(APPEAL)
    back = (await pledge.do(JUDGE, upheld=False)).stake
    assert (back.active_units, back.cooling_units) == (pledge.least, 2 * pledge.least)


@pytest.mark.parametrize("evidence", ["", "00" * 32, "ab"])
async def test_a_slash_needs_its_evidence(pledge: Pledge, evidence: str) -> None:
    await pledge.do(ADD, pledge.least)
    await pledge.refused(Code.INVALID, SLASH, 1, evidence=evidence)


async def test_somebody_who_has_only_the_welcome_stakes_no_more_than_that(pledge: Pledge) -> None:
    pledge.bench.user = UserId(new_id())
    pledge.node = pledge.another(pledge.bench.user)
    await pledge.refused(Code.FUNDS, ADD, WELCOME + 10**12)


YEAR = 365 * 86400


async def test_rewards_grow_with_what_is_active_and_are_paid_to_the_owner(pledge: Pledge) -> None:
    """floor(active · rate · seconds / (10000 · year)) for each span of one stake."""
    rate = pledge.rules.rate_bps
    assert rate == 500
    await pledge.refused(Code.CONFLICT, CLAIM)
    first = (await pledge.do(ADD, 4 * pledge.least)).stake
    assert first.due_units(pledge.rules, pledge.bench.now()) == 0
    await pledge.bench.pass_time(1000)
    cooled = (await pledge.do(COOL, 3 * pledge.least)).stake
    await pledge.bench.pass_time(YEAR)
    now = pledge.bench.now()
    stake = await pledge.stake()
    assert stake.accrued_at is not None
    assert first.accrued_at is not None
    assert cooled.accrued_at is not None
    before = (cooled.accrued_at - first.accrued_at).total_seconds()
    earned = 4 * pledge.least * rate * int(before) // (10_000 * YEAR)
    assert cooled.rewards_units == earned
    due = stake.due_units(pledge.rules, now)
    assert due == earned + pledge.least * rate * int((now - stake.accrued_at).total_seconds()) // (10_000 * YEAR)
    await pledge.fund(10 * due)
    balance, vault = await pledge.bench.client(), await pledge.vault()
    done = await pledge.do(CLAIM)
    # The chain's clock may be a second on.
    assert due <= done.units <= due + pledge.least * rate * 2 // (10_000 * YEAR) + 1
    assert await pledge.bench.client() == balance + done.units
    left = await pledge.stake()
    assert left == done.stake
    assert left.due_units(pledge.rules, pledge.bench.now()) <= pledge.least * rate * 2 // (10_000 * YEAR) + 1
    assert vault - await pledge.vault() >= done.units
    assert (left.active_units, left.cooling_units) == (pledge.least, 3 * pledge.least)


async def test_rewards_are_paid_as_far_as_the_vault_has_them(pledge: Pledge) -> None:
    await pledge.do(ADD, 4 * pledge.least)
    await pledge.bench.pass_time(YEAR)
    due = (await pledge.stake()).due_units(pledge.rules, pledge.bench.now())
    assert due == 4 * pledge.least * pledge.rules.rate_bps // 10_000
    await pledge.refused(Code.CONFLICT, CLAIM)
    await pledge.fund(due // 4)
    assert (await pledge.do(CLAIM)).units == due // 4
    assert await pledge.vault() == 0
    rest = (await pledge.stake()).due_units(pledge.rules, pledge.bench.now())
    assert due - due // 4 <= rest <= due - due // 4 + 1000
    await pledge.refused(Code.CONFLICT, CLAIM)


async def test_what_a_slash_takes_pays_rewards(pledge: Pledge) -> None:
    other = pledge.another(pledge.bench.user)
    await pledge.do(ADD, pledge.least)
    add = replace(pledge.step(ADD, 2 * pledge.least), node_id=other.id)
    await pledge.bench.ledger.stakes.perform(other, add)
    assert await pledge.vault() == 0
    await pledge.slash(pledge.least)
    await pledge.appealed()
    await pledge.do(CONCLUDE)
    assert await pledge.vault() == pledge.least
    await pledge.bench.pass_time(YEAR / 2)
    claim = replace(pledge.step(CLAIM), node_id=other.id)
    done = await pledge.bench.ledger.stakes.perform(other, claim)
    assert done.units > 0
    assert not done.lost
    assert await pledge.vault() <= pledge.least - done.units


async def test_a_claim_and_a_gift_that_are_asked_for_again_happen_once(pledge: Pledge) -> None:
    await pledge.do(ADD, 4 * pledge.least)
    balance = await pledge.bench.client()
    gift = pledge.least
    first = await pledge.fund(gift, "a")
    assert await pledge.fund(gift, "a") == first != await pledge.fund(gift, "b")
    assert (await pledge.vault(), await pledge.bench.client()) == (2 * gift, balance - 2 * gift)
    await pledge.bench.pass_time(YEAR)
    step = pledge.step(CLAIM)
    stakes = pledge.bench.ledger.stakes
    done = await stakes.perform(pledge.node, step)
    await pledge.bench.pass_time(1000)
    again = await stakes.perform(pledge.node, step)
    assert (again.reference, again.units) == (done.reference, done.units)
    assert await pledge.bench.client() == balance - 2 * gift + done.units


async def test_more_than_there_is_is_not_given(pledge: Pledge) -> None:
    with pytest.raises(CyxError) as caught:
        await pledge.fund(await pledge.bench.client() + 1)
    assert caught.value.code is Code.FUNDS
    assert await pledge.vault() == 0


async def test_a_stake_that_left_still_claims_what_it_earned(pledge: Pledge) -> None:
    await pledge.do(ADD, pledge.least)
    await pledge.bench.pass_time(YEAR)
    await pledge.do(COOL, pledge.least)
    await pledge.cooled()
    await pledge.do(WITHDRAW)
    await pledge.fund(pledge.least)
    earned = (await pledge.stake()).rewards_units
    assert earned >= pledge.least * pledge.rules.rate_bps // 10_000
    assert (await pledge.do(CLAIM)).units == earned
    await pledge.refused(Code.CONFLICT, CLAIM)
