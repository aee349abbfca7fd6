"""The rules of stakes: what is allowed when, and that no unit is made or lost on the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.stake import Contest, Stake, StakeKind, StakeRules, StakeStep, applied, share_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RULES = StakeRules(100, timedelta(hours=2), timedelta(hours=1))
EVIDENCE = "ab" * 32


def step(kind: StakeKind, units: int = 0, *, upheld: bool = False, evidence: str = EVIDENCE) -> StakeStep:
    return StakeStep("s", NodeId("n"), UserId("u"), kind, NOW, NOW, units=units, upheld=upheld, evidence=evidence)


@pytest.mark.parametrize(
    ("staked", "share", "units"),
    [(0, 0.5, 0), (1, 0.5, 1), (301, 0.5, 150), (300, 1.0, 300), (MAX_UNITS, 1.0, MAX_UNITS)],
)
def test_a_share_is_at_least_a_unit_and_at_most_all(staked: int, share: float, units: int) -> None:
    assert share_of(Stake("a", active_units=staked), share) == units


def test_what_cools_down_is_part_of_what_a_share_is_of() -> None:
    assert share_of(Stake("a", active_units=100, cooling_units=300), 0.5) == 200


@pytest.mark.parametrize(
    ("active", "seconds", "units"),
    [
        (10_000, 365 * 86_400, 500),
        (10_000, 365 * 86_400 - 1, 499),
        (10_000, 0, 0),
        (10_000, -5, 0),
        (MAX_UNITS, 365 * 86_400 * 30, MAX_UNITS),
    ],
)
def test_rewards_are_the_rate_of_what_is_active_for_whole_seconds(active: int, seconds: int, units: int) -> None:
    rules = StakeRules(100, rate_bps=500)
    stake = Stake("a", active, accrued_at=NOW)
    later = NOW + timedelta(seconds=seconds, microseconds=999_999)
    assert stake.due_units(rules, later) == units
    claimed, paid = applied(stake, step(StakeKind.CLAIM), rules, later, units) if units else (stake, 0)
    assert (paid, claimed.rewards_units) == (units, 0)


def test_a_stake_of_before_there_were_rewards_earns_from_its_next_change_on() -> None:
    rules = StakeRules(100, rate_bps=500)
    old = Stake("a", 10_000)
    assert old.due_units(rules, NOW) == 0
    changed, _ = applied(old, step(StakeKind.ADD, 1), rules, NOW)
    assert (changed.rewards_units, changed.accrued_at) == (0, NOW)


def test_cooling_begins_anew_with_more() -> None:
    stake, _ = applied(Stake("a", 500), step(StakeKind.COOL, 100), RULES, NOW)
    stake, _ = applied(stake, step(StakeKind.COOL, 200), RULES, NOW + timedelta(hours=1))
    assert (stake.cooling_units, stake.cooling_until) == (300, NOW + timedelta(hours=3))
    assert stake.free_units(NOW + timedelta(hours=2, minutes=59)) == 0
    assert stake.free_units(NOW + timedelta(hours=3)) == 300


@pytest.mark.parametrize(
    ("stake", "asked", "code"),
    [
        (Stake("a"), step(StakeKind.ADD, 99), Code.INVALID),
        (Stake("a", MAX_UNITS), step(StakeKind.ADD, 1), Code.INVALID),
        (Stake("a", 150), step(StakeKind.COOL, 51), Code.INVALID),
        (Stake("a", 150), step(StakeKind.COOL, 151), Code.FUNDS),
        (Stake("a", 150), step(StakeKind.WITHDRAW), Code.CONFLICT),
        (Stake("a", 150), step(StakeKind.SLASH, 151), Code.FUNDS),
        (Stake("a", 150), step(StakeKind.SLASH, 0), Code.INVALID),
        (Stake("a", 150), step(StakeKind.SLASH, 1, evidence="0" * 64), Code.INVALID),
        (Stake("a", 150), step(StakeKind.APPEAL), Code.CONFLICT),
        (Stake("a", 150), step(StakeKind.JUDGE), Code.CONFLICT),
        (Stake("a", 150), step(StakeKind.CONCLUDE), Code.CONFLICT),
        (Stake("a", 150, contest=Contest.PENDING, contested_until=NOW), step(StakeKind.APPEAL), Code.CONFLICT),
        (Stake("a", 150, contest=Contest.APPEALED, contested_until=NOW), step(StakeKind.JUDGE), Code.CONFLICT),
        (
            Stake("a", 150, contest=Contest.PENDING, contested_until=NOW + timedelta(seconds=1)),
            step(StakeKind.CONCLUDE),
            Code.CONFLICT,
        ),
    ],
)
def test_what_the_rules_refuse(stake: Stake, asked: StakeStep, code: Code) -> None:
    with pytest.raises(CyxError) as caught:
        applied(stake, asked, RULES, NOW)
    assert caught.value.code is code


@given(st.lists(st.tuples(st.sampled_from(StakeKind), st.integers(-1, 500), st.booleans(), st.integers(0, 9000))))
def test_no_unit_is_made_or_lost(moves: list[tuple[StakeKind, int, bool, int]]) -> None:
    stake, now, given_in, taken_out = Stake("a"), NOW, 0, 0
    for kind, units, upheld, seconds in moves:
        now += timedelta(seconds=seconds)
        try:
            after, moved = applied(stake, step(kind, units, upheld=upheld), RULES, now)
        except CyxError:
            continue
        given_in += moved if kind is StakeKind.ADD else 0
        taken_out += moved if kind is StakeKind.WITHDRAW else 0
        assert min(after.active_units, after.cooling_units, after.contested_units, after.slashed_units) >= 0
        assert 0 <= after.contested_cooling_units <= after.contested_units
        assert (after.contest is Contest.NONE) == (after.contested_units == 0)
        held = after.active_units + after.cooling_units + after.contested_units + after.slashed_units
        assert held == given_in - taken_out
        stake = after
