"""What reservations have a ledger do: one in memory that can be told to refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import ReservationState
from cyxwiz.ports.store import JobQuery
from cyxwiz.services import views
from cyxwiz.services.reservation_funds import Hold, Moved
from tests.contract.conftest import HandClock
from tests.integration.test_reservations import MINUTE, alice, one, reserve, rig
from tests.wiring import Central, central

S = ReservationState


class Funds:
    """A ledger of reservations, which can be told to refuse."""

    charges = True

    def __init__(self) -> None:
        self.locked: dict[str, int] = {}
        self.moves: dict[str, Any] = {}  # by idempotency key
        self.refuses: CyxError | None = None

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        return await self.extend(reservation, reservation.escrow_units, key)

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        if self.refuses:
            raise self.refuses
        if key not in self.moves:
            self.locked[reservation.id] = self.locked.get(reservation.id, 0) + units
            self.moves[key] = Hold(f"account-{reservation.id}", f"tx-{key}")
        return self.moves[key]

    async def settle(self, reservation: Reservation) -> Moved:
        key = f"settle:{reservation.id}"
        if self.refuses:
            raise self.refuses
        if key not in self.moves:
            held = self.locked.pop(reservation.id, 0)
            division = reservation.settlement
            assert held == 0 or division.paid + division.refunded == held
            self.moves[key] = Moved(f"pay-{key}" if held else "", f"back-{key}" if division.refunded else "")
        return self.moves[key]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def funds() -> Funds:
    return Funds()


@pytest.fixture
async def charging(tmp_path: Path, clock: HandClock, funds: Funds) -> AsyncIterator[Central]:
    running = await central(tmp_path, clock=clock, funds=funds)
    yield running
    await running.aclose()


async def test_a_ledger_locks_extends_and_settles_once(charging: Central, funds: Funds, clock: HandClock) -> None:
    made = await reserve(charging, await rig(charging), 10)
    kept = await one(charging, made)
    assert (kept.held, kept.escrow_account) == (True, f"account-{kept.id}")
    seen = views.reservation(await charging.reservations.get(await alice(charging), kept.id), clock.now())
    assert seen["escrow_tx_hash"] == f"tx-reserve:{kept.id}"
    longer, added, tx_hash = await charging.reservations.extend(await alice(charging), kept.id, 5)
    assert (added, tx_hash) == (5 * MINUTE, f"tx-extend:{kept.id}:1:5")
    assert funds.locked == {kept.id: 15 * MINUTE}
    clock.advance(60)
    ended = await charging.reservations.release(await alice(charging), kept.id)
    assert (ended.charged, ended.payment_tx_hash) == (True, f"pay-settle:{kept.id}")
    assert (ended.paid_units, ended.refunded_units, funds.locked) == (MINUTE, 14 * MINUTE, {})
    assert longer.escrow_units == ended.paid_units + ended.refunded_units


async def test_without_the_money_there_is_no_reservation(charging: Central, funds: Funds) -> None:
    node_id = await rig(charging)
    funds.refuses = CyxError(Code.FUNDS, "You have 1 CYXWIZ, this needs 10")
    with pytest.raises(CyxError, match="this needs 10"):
        await reserve(charging, node_id, job=True)
    assert (await charging.nodes.get(node_id)).status == "online"
    page = await charging.jobs.list(await alice(charging), JobQuery())
    assert page.total == 0
    funds.refuses = None
    await reserve(charging, node_id, job=True)


async def test_what_the_ledger_would_not_settle_is_settled_later(
    charging: Central, funds: Funds, clock: HandClock
) -> None:
    made = await reserve(charging, await rig(charging), 10)
    clock.advance(60)
    funds.refuses = CyxError(Code.UNAVAILABLE, "The chain is away")
    ended = await charging.reservations.release(await alice(charging), made.look.reservation.id)
    assert (ended.state, ended.charged, ended.settled_at) == (S.CANCELLED, False, None)
    assert await charging.reservations.settle_owed() == 0
    funds.refuses = None
    assert await charging.reservations.settle_owed() == 1
    kept = await one(charging, made)
    assert (kept.charged, funds.locked) == (True, {})


async def test_one_whose_amount_was_never_locked_fails(charging: Central, clock: HandClock) -> None:
    """Central died between the row and the ledger's answer."""
    made = await reserve(charging, await rig(charging), 10)
    kept = await one(charging, made)
    await charging.store.write(lambda tx: tx.save_reservation(replace(kept, held=False)))
    clock.advance(59)
    await charging.reservations.attend()
    assert (await one(charging, made)).live
    clock.advance(2)
    await charging.reservations.attend()
    ended = await one(charging, made)
    assert (ended.state, ended.paid_units, ended.refunded_units) == (S.FAILED, 0, 10 * MINUTE)
