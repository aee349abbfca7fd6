"""Reservations, purely: what counts as used, and that no unit is lost or made."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.reservation import (
    LONGEST,
    MAX_MINUTES,
    check_minutes,
    cost_units,
    divided,
    extended,
    hourly_rate,
    minutes_of,
    settle,
)
from cyxwiz.domain.states import RESERVATION, ReservationState, ReservationTrigger
from tests.contract import make
from tests.contract.make import START
from tests.contract.test_store_reservations import reservation

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
RATES = st.integers(0, MAX_UNITS // 24)
MINUTES = st.integers(1, MAX_MINUTES)


@given(rate=RATES, minutes=MINUTES, used=st.integers(0, 3 * MAX_MINUTES), percent=st.integers(0, 100))
def test_what_is_paid_and_what_goes_back_is_what_was_locked(rate: int, minutes: int, used: int, percent: int) -> None:
    division = settle(rate, minutes, used, percent)
    assert division.paid + division.refunded == cost_units(rate, minutes)
    assert division.fee + division.node == division.paid
    assert min(division.paid, division.refunded, division.fee, division.node) >= 0
    assert division.paid == cost_units(rate, min(used, minutes))


@given(rate=RATES, minutes=MINUTES, percent=st.integers(0, 100), used=st.lists(st.integers(0, 1500), max_size=9))
def test_longer_use_never_costs_less(rate: int, minutes: int, percent: int, used: list[int]) -> None:
    paid = [settle(rate, minutes, each, percent).paid for each in sorted(used)]
    assert all(before <= after for before, after in pairwise(paid))


@given(rate=st.integers(0, 10**12), parts=st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_extensions_lock_together_what_one_long_reservation_locks(rate: int, parts: list[int]) -> None:
    one, locked = reservation(rate_units_per_hour=rate, minutes=10), cost_units(rate, 10)
    for minutes in parts:
        longer = extended(one, minutes, START)
        locked += longer.escrow_units - one.escrow_units
        one = longer
    assert locked == one.escrow_units == cost_units(rate, 10 + sum(parts))
    assert one.extensions == len(parts)


@pytest.mark.parametrize(("paid", "fee", "node"), [(999, 99, 900), (1000, 100, 900), (9, 0, 9), (0, 0, 0)])
def test_the_fee_is_floored_and_the_node_has_the_rest(paid: int, fee: int, node: int) -> None:
    division = divided(2000, paid, 10)
    assert (division.fee, division.node, division.refunded) == (fee, node, 2000 - paid)


@pytest.mark.parametrize(
    ("used", "minutes"), [(0 * SECOND, 0), (timedelta(microseconds=1), 1), (MINUTE, 1), (61 * SECOND, 2)]
)
def test_a_minute_that_has_begun_counts(used: timedelta, minutes: int) -> None:
    assert minutes_of(used) == minutes


@pytest.mark.parametrize(("minutes", "good"), [(9, False), (10, True), (1440, True), (1441, False), (-1, False)])
def test_the_bounds_of_a_reservation(minutes: int, good: bool) -> None:
    if good:
        check_minutes(minutes)
        return
    with pytest.raises(CyxError, match=f"from 10 to 1440, not {minutes}") as caught:
        check_minutes(minutes)
    assert caught.value.code is Code.INVALID


def test_no_more_than_a_day_lies_ahead() -> None:
    one = reservation(minutes=60)
    assert extended(one, 1380, START).minutes == 1440
    assert extended(one, 1381, START + MINUTE).minutes == 1441
    for minutes in (0, -5, 1441, 1381):
        with pytest.raises(CyxError, match="additional_minutes"):
            extended(one, minutes, START)
    dear = reservation(rate_units_per_hour=MAX_UNITS // 24, minutes=1440)
    with pytest.raises(CyxError, match="units"):
        extended(dear, 60, START + 120 * MINUTE)


def test_a_reservation_ends_a_day_before_its_money_can_be_taken_back() -> None:
    most = LONGEST // MINUTE
    one = reservation(minutes=most - 5)
    assert extended(one, 5, one.ends_at).ends_at == one.deadline - timedelta(days=1)
    with pytest.raises(CyxError, match=r"5 minutes more .* 29 days"):
        extended(one, 6, one.ends_at)


def test_the_price_is_the_one_that_the_node_shows() -> None:
    assert hourly_rate(make.node(pricing=NodePricing(per_hour_units=100_000_000))) == 100_000_000
    assert cost_units(100_000_000, 15) == 25_000_000  # int(0.10 * 15 / 60 * 1e9)
    with pytest.raises(CyxError, match="take another node"):
        hourly_rate(make.node(pricing=NodePricing(per_hour_units=MAX_UNITS // 24 + 1)))


def test_what_counts_as_used() -> None:
    one = reservation(minutes=60)
    at = START + 30 * MINUTE
    assert one.used(at) == 30 * MINUTE
    assert one.used(START - MINUTE) == 0 * MINUTE
    assert one.used(START + 90 * MINUTE) == 60 * MINUTE
    assert replace(one, away_seconds=90.0).used(at) == timedelta(minutes=28.5)
    for name in ("engine_ended_at", "node_ended_at", "node_lost_at"):
        assert replace(one, **{name: START + 12 * MINUTE}).used(at) == 12 * MINUTE  # type: ignore[arg-type]
    assert one.proven(at) == 0 * MINUTE
    assert replace(one, proven_at=START + 7 * MINUTE).proven(at) == 7 * MINUTE
    assert replace(one, proven_at=START + 7 * MINUTE).proven(START + 5 * MINUTE) == 5 * MINUTE


def test_an_engine_counts_as_there_for_three_of_its_heartbeats() -> None:
    one = reservation()
    assert not one.connected(START)
    heard = replace(one, heard_at=START)
    assert heard.connected(START + 90 * SECOND)
    assert not heard.connected(START + 91 * SECOND)
    assert not replace(heard, state=ReservationState.EXPIRED).connected(START)


def test_an_end_writes_down_the_amounts() -> None:
    ended = reservation(rate_units_per_hour=6000).end(
        ReservationTrigger.CANCEL, START + MINUTE, 61 * SECOND, "released"
    )
    assert (ended.state, ended.paid_units, ended.refunded_units) == (ReservationState.CANCELLED, 200, 5800)
    assert (ended.settlement.fee, ended.settlement.node) == (20, 180)
    assert ended.remaining(START) == 0 * MINUTE
    with pytest.raises(CyxError, match="it cannot cancel"):
        ended.end(ReservationTrigger.CANCEL, START, MINUTE, "again")


@pytest.mark.parametrize(("state", "trigger"), list(product(ReservationState, ReservationTrigger)))
def test_a_reservation_moves_as_its_table_says_or_not_at_all(
    state: ReservationState, trigger: ReservationTrigger
) -> None:
    one = reservation(state=state)
    if (state, trigger) in RESERVATION:
        assert one.move(trigger).state is RESERVATION[state, trigger]
    else:
        with pytest.raises(CyxError) as caught:
            one.move(trigger)
        assert caught.value.code is Code.CONFLICT
