"""The rules of reputation: figures, fading, strikes, and that the sum of the events is the score."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.domain.reputation import (
    EFFECTS,
    HIGHEST,
    LOWEST,
    START,
    Cause,
    Kind,
    Rules,
    Standing,
    Tier,
    fault,
    good_metrics,
    tier,
    widespread,
)

T0 = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULES = Rules()


def test_the_figures_are_the_earlier_systems() -> None:
    points = {kind: effect.points for kind, effect in EFFECTS.items()}
    assert points[Kind.SUCCESS] == 1.0
    assert points[Kind.GOOD_METRICS] == 0.5
    assert points[Kind.DISCONNECT] == -5.0
    assert points[Kind.TIMEOUT] == -2.0
    assert points[Kind.COMPLAINT] == -10.0
    assert set(points) == set(Kind)
    free = {kind for kind, effect in EFFECTS.items() if effect.cause in (Cause.USER, Cause.OPERATOR)}
    assert {points[kind] for kind in free} == {0.0}, "only the node and its network cost it anything"


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (100.0, Tier.PREMIUM),
        (80.0, Tier.PREMIUM),
        (79.999, Tier.NORMAL),
        (50.0, Tier.NORMAL),
        (49.999, Tier.PROBATION),
        (25.0, Tier.PROBATION),
        (24.999, Tier.BANNED),
        (0.0, Tier.BANNED),
    ],
)
def test_tiers(score: float, expected: Tier) -> None:
    assert tier(score) is expected


def test_a_score_fades_to_the_start_from_both_sides() -> None:
    for score in (95.0, 35.0):
        standing = Standing(score, T0)
        assert RULES.present(standing, T0 + RULES.half_life).score == pytest.approx((score + START) / 2)
        assert RULES.present(standing, T0 + 60 * RULES.half_life).score == pytest.approx(START)
        assert RULES.present(standing, T0 - HOUR).score == score, "a clock that went back fades nothing"
    assert RULES.present(Standing(), T0) == Standing(), "what nothing has moved does not move"


events = st.lists(
    st.tuples(st.sampled_from([kind for kind in Kind if kind is not Kind.UNBAN]), st.floats(0, 500)), max_size=30
)


@given(events, st.floats(0, 1000))
def test_the_sum_of_what_counts_is_the_score(history: list[tuple[Kind, float]], later: float) -> None:
    standing, now, applied = Standing(), T0, []
    for kind, hours in history:
        now += hours * HOUR
        standing, delta = RULES.apply(standing, kind, now)
        assert LOWEST <= standing.score <= HIGHEST
        assert abs(delta) <= abs(EFFECTS[kind].points) + 1e-9
        applied.append((now, delta))
        if standing.strikes >= 3:
            standing, delta = RULES.pardoned(standing, now)
            applied.append((now, delta))
    now += later * HOUR
    total = START + sum(delta * RULES.weight(at, now) for at, delta in applied)
    assert total == pytest.approx(RULES.present(standing, now).score, abs=1e-6)


@given(st.floats(0, 100), st.floats(0, 300), st.floats(0, 300))
def test_fading_in_steps_is_fading_at_once(score: float, one: float, other: float) -> None:
    standing = Standing(score, T0)
    steps = RULES.present(RULES.present(standing, T0 + one * HOUR), T0 + (one + other) * HOUR)
    assert steps.score == pytest.approx(RULES.present(standing, T0 + (one + other) * HOUR).score)


def test_recent_events_weigh_more() -> None:
    early, _ = RULES.apply(Standing(), Kind.COMPLAINT, T0)
    late, _ = RULES.apply(Standing(), Kind.COMPLAINT, T0 + 100 * HOUR)
    now = T0 + 100 * HOUR
    assert RULES.present(late, now).score < RULES.present(early, now).score < START


def test_a_strike_is_a_fall_below_50_and_not_the_time_below_it() -> None:
    standing = Standing(51.0, T0)
    standing, _ = RULES.apply(standing, Kind.TIMEOUT, T0)
    assert standing.strikes == 1
    standing, _ = RULES.apply(standing, Kind.TIMEOUT, T0)
    assert standing.strikes == 1, "it was below already"
    standing, _ = RULES.apply(Standing(50.0, T0, strikes=1), Kind.SUCCESS, T0)
    assert standing.strikes == 1


@pytest.mark.parametrize(("bans", "hours"), [(0, 24), (1, 48), (2, 168), (9, 168)])
def test_three_strikes_are_a_ban_and_each_is_longer(bans: int, hours: int) -> None:
    assert RULES.due(Standing(40.0, T0, strikes=2, bans=bans)) is None
    assert RULES.due(Standing(40.0, T0, strikes=3, bans=bans)) == hours * HOUR
    assert Rules(strikes=0).due(Standing(40.0, T0, strikes=9)) is None


def test_after_a_ban_a_node_is_on_probation_without_strikes() -> None:
    standing, delta = RULES.pardoned(Standing(10.0, T0, strikes=3, bans=2), T0)
    assert (standing.score, standing.strikes, standing.bans) == (25.0, 0, 2)
    assert delta == 15.0
    assert tier(RULES.present(standing, T0 + HOUR).score) is Tier.PROBATION


def test_whose_fault_a_failure_is() -> None:
    assert EFFECTS[fault(False)].cause is Cause.USER
    assert EFFECTS[fault(True)].cause is Cause.NODE
    assert EFFECTS[fault(True, by_script=True)].cause is Cause.USER, "what is tried again is not always a node's fault"


@pytest.mark.parametrize(
    ("first", "last", "good"),
    [
        ({"loss": 2.0}, {"loss": 1.0}, True),
        ({"loss": 1.0}, {"loss": 1.0}, False),
        ({"loss": 1.0}, {"loss": math.nan}, False),
        ({"loss": 1.0}, {"loss": -math.inf}, False),
        ({"accuracy": 0.1}, {"accuracy": 0.9}, False),
        ({"loss": 1.0}, {}, False),
    ],
)
def test_good_metrics(first: dict[str, float], last: dict[str, float], good: bool) -> None:
    assert good_metrics(first, last) is good


@pytest.mark.parametrize(
    ("silent", "online", "expected"), [(1, 1, False), (2, 2, False), (3, 5, True), (3, 6, False), (50, 60, True)]
)
def test_when_most_go_silent_at_once_it_is_the_network(silent: int, online: int, expected: bool) -> None:
    assert widespread(silent, online) is expected
