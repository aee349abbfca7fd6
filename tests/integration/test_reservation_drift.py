"""Reservations against their locks on both kinds of books, when central dies between the ledger and the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.payment import Step, fee_of
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.reservation import LONGEST, MONEY_STAYS, Reservation
from cyxwiz.domain.states import ReservationState as S
from cyxwiz.services.reconcile import Found
from tests.contract.conftest import HandClock
from tests.integration.conftest import client
from tests.integration.test_reservation_money import clock, earned, has, house, ledger
from tests.integration.test_reservations import MINUTE, alice, reserve, rig
from tests.wiring import Central

__all__ = ("clock", "house")  # fixtures
DAY = 24 * 60


class Killed(BaseException):
    """Central ends here: nothing of it runs on."""


async def look(house: Central) -> Found:
    assert house.api.payments is not None
    await house.api.payments.reconciliation.look()
    return await house.api.payments.reconciliation.look()


def agrees(found: Found) -> bool:
    return (found.reservations, found.reservation_units, found.spare_units, found.healed) == (0, 0, 0, 0)


def dies_after(house: Central, monkeypatch: pytest.MonkeyPatch, step: Step, count: int = 1) -> None:
    """Kills central once the ledger has done a step for the `count`th time."""
    books, whole, left = ledger(house), ledger(house).perform, count

    async def perform(*given: Any) -> Any:
        nonlocal left
        done = await whole(*given)
        if given[1] is step:
            left -= 1
            if not left:
                raise Killed
        return done

    monkeypatch.setattr(books, "perform", perform)


async def row(house: Central, reservation: Reservation) -> Reservation:
    return (await house.reservations.get(await alice(house), reservation.id)).reservation


async def test_what_agrees_is_no_drift(house: Central, clock: HandClock) -> None:
    made = (await reserve(house, await rig(house), 10)).look.reservation
    await house.reservations.extend(await alice(house), made.id, 7)
    assert agrees(await look(house))
    clock.advance(6 * 60)
    await house.reservations.release(await alice(house), made.id)
    assert agrees(await look(house))


async def test_a_lock_without_its_reservation_goes_back(
    house: Central, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Central dies when the price is locked and the row does not say so yet."""
    node_id, before = await rig(house), await has(house)
    with monkeypatch.context() as patch:
        dies_after(house, patch, Step.LOCK)
        with pytest.raises(Killed):
            await reserve(house, node_id, 10)
    assert await has(house) == before - 10 * MINUTE
    assert agrees(await look(house)), "it may yet be taken up"
    clock.advance(61)
    await house.reservations.attend()
    assert await house.reservations.settle_owed() == 1
    assert await has(house) == before
    assert agrees(await look(house))


async def test_a_lock_of_an_extension_that_was_cut_off_is_counted_and_goes_back(
    house: Central, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_id, before = await rig(house), await has(house)
    actor = await alice(house)
    made = (await reserve(house, node_id, 10)).look.reservation
    with monkeypatch.context() as patch:
        dies_after(house, patch, Step.LOCK)
        with pytest.raises(Killed):
            await house.reservations.extend(actor, made.id, 5)
    found = await look(house)
    assert (found.reservations, found.spare_units, found.healed) == (0, 5 * MINUTE, 0)
    async with client(house, house.admin) as admin:
        assert 'cyxwiz_ledger_drift{of="spare_units"} 5e+07' in (await admin.get("/metrics")).text
    again, added, _ = await house.reservations.extend(actor, made.id, 5)  # asked for again, it is the same lock
    assert (again.minutes, added, await has(house)) == (15, 5 * MINUTE, before - 15 * MINUTE)
    assert agrees(await look(house))
    with monkeypatch.context() as patch:
        dies_after(house, patch, Step.LOCK)
        with pytest.raises(Killed):
            await house.reservations.extend(actor, made.id, 20)
    clock.advance(15 * 60)
    await house.reservations.attend()
    assert await house.reservations.settle_owed() == 1
    ended = await row(house, made)
    assert (ended.state, ended.paid_units, ended.refunded_units) == (S.EXPIRED, 15 * MINUTE, 0)
    assert await has(house) == before - 15 * MINUTE
    assert agrees(await look(house))


async def test_money_that_came_after_the_end_is_given_back(
    house: Central, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension is on its way while another call ends the reservation; central dies before it can look."""
    node_id, before = await rig(house), await has(house)
    actor = await alice(house)
    made = (await reserve(house, node_id, 10)).look.reservation
    clock.advance(4 * 60)
    books, whole = ledger(house), ledger(house).perform

    async def slow(*given: Any) -> Any:
        monkeypatch.setattr(books, "perform", whole)
        assert (await house.reservations.release(actor, made.id)).settled_at is not None
        await whole(*given)
        raise Killed

    monkeypatch.setattr(books, "perform", slow)
    with pytest.raises(Killed):
        await house.reservations.extend(actor, made.id, 5)
    assert await has(house) == before - 9 * MINUTE
    assert house.api.payments is not None
    first = await house.api.payments.reconciliation.look()
    assert agrees(first), "it may just be on its way back"
    assert (await house.api.payments.reconciliation.look()).healed == 1
    assert await has(house) == before - 4 * MINUTE
    assert agrees(await look(house))
    ended = await row(house, made)
    assert (ended.paid_units, ended.refunded_units) == (4 * MINUTE, 6 * MINUTE)


@pytest.mark.parametrize(("step", "count"), [(Step.ASSIGN, 1), (Step.SETTLE, 1), (Step.ASSIGN, 2), (Step.SETTLE, 2)])
async def test_an_end_that_was_cut_off_is_told_and_goes_on(
    house: Central, clock: HandClock, monkeypatch: pytest.MonkeyPatch, step: Step, count: int
) -> None:
    node_id, before = await rig(house), await has(house)
    node_before, platform_before = await earned(house, node_id)
    actor = await alice(house)
    made = (await reserve(house, node_id, 10)).look.reservation
    clock.advance(1)
    await house.reservations.extend(actor, made.id, 5)
    clock.advance(12 * 60 - 1)
    with monkeypatch.context() as patch:
        dies_after(house, patch, step, count)
        with pytest.raises(Killed):
            await house.reservations.release(actor, made.id)
    whole = (step, count) == (Step.SETTLE, 2)
    found = await look(house)
    left = {(Step.ASSIGN, 1): 15, (Step.SETTLE, 1): 5, (Step.ASSIGN, 2): 5, (Step.SETTLE, 2): 0}[step, count]
    assert (found.reservations, found.reservation_units) == (int(not whole), left * MINUTE)
    assert await house.reservations.settle_owed() == 1
    assert await has(house) == before - 12 * MINUTE
    node, platform = await earned(house, node_id)
    assert (node - node_before) + (platform - platform_before) == 12 * MINUTE
    assert agrees(await look(house))


async def test_less_than_the_row_says_needs_a_person(house: Central) -> None:
    made = (await reserve(house, await rig(house), 10)).look.reservation
    await house.store.write(lambda tx: tx.save_reservation(replace(_seen(tx, made), minutes=12)))
    found = await look(house)
    assert (found.reservations, found.reservation_units, found.healed) == (1, 2 * MINUTE, 0)


def _seen(tx: Any, reservation: Reservation) -> Reservation:
    return tx.reservation(reservation.id)


async def test_the_longest_reservation_ends_before_its_money_can_be_taken_back(
    house: Central, clock: HandClock
) -> None:
    """Every lock has a deadline a day after the longest reservation's end, and what is longer is refused."""
    node_id = await rig(house)
    user = await alice(house)
    await ledger(house).grant(ledger(house).client_account(user.id), 30 * DAY * MINUTE, "for a month")
    before = await has(house)
    node_before, platform_before = await earned(house, node_id)
    made = (await reserve(house, node_id, DAY)).look.reservation
    for _ in range(LONGEST.days - 1):
        clock.advance(23.9 * 3600)
        made = (await house.reservations.extend(user, made.id, DAY - 6))[0]
    clock.advance(3 * 3600)
    left = LONGEST // timedelta(minutes=1) - made.minutes
    with pytest.raises(CyxError, match="reserve anew") as refused:
        await house.reservations.extend(user, made.id, left + 1)
    assert (refused.value.code, refused.value.details["most"]) == (Code.INVALID, left)
    made = (await house.reservations.extend(user, made.id, left))[0]
    assert agrees(await look(house))
    clock.advance((made.ends_at - clock.now()).total_seconds() + 60)
    await house.reservations.attend()
    assert await house.reservations.settle_owed() == 1
    ended = await row(house, made)
    assert ended.settled_at is not None
    assert ended.settled_at < made.started_at + MONEY_STAYS
    cost = LONGEST // timedelta(minutes=1) * MINUTE
    assert (ended.paid_units, await has(house)) == (cost, before - cost)
    node, platform = await earned(house, node_id)
    assert (node - node_before) + (platform - platform_before) == cost


async def test_the_fees_of_an_extended_reservation_are_a_unit_less_for_each_extension_at_most(
    house: Central, clock: HandClock
) -> None:
    """All of every lock is paid, so no other division of what was paid exists, and a ledger takes the fee of each."""
    node_id = await house.node("odd", pricing=NodePricing(per_hour_units=60 * 999))
    node_before, platform_before = await earned(house, node_id)
    actor = await alice(house)
    made = (await reserve(house, node_id, 11)).look.reservation
    await house.reservations.extend(actor, made.id, 1)
    await house.reservations.extend(actor, made.id, 1)
    clock.advance(13 * 60)
    await house.reservations.attend()
    assert await house.reservations.settle_owed() == 1
    node, platform = await earned(house, node_id)
    fees = fee_of(11 * 999, 1000) + 2 * fee_of(999, 1000)
    assert (platform - platform_before, node - node_before) == (fees, 13 * 999 - fees)
    assert fee_of(13 * 999, 1000) - 2 <= fees < fee_of(13 * 999, 1000)
