"""Reservations' rows against their locks on the ledger.

What a row says and what the ledger holds may differ while a call is under way, and for as long as a crash cut one off
between the two:

- A lock that the row does not know of, as of an extension: it goes back with all else when the reservation ends, or is
  taken up when the extension is asked for again, by the same key. Until then it is counted, and harms nobody.
- A lock that came when the reservation was settled already: it is given back here, as nobody else would.
- An end whose money has not moved: the keeper of reservations tries it again and again; what stays is told.
- Less is locked than the row says: nothing mends that, so it is told and left to people.

Whatever differs counts only when it differs again in the next pass with the row's money unchanged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.ids import ReservationId
from cyxwiz.domain.reservation import Reservation
from cyxwiz.ports.store import Store
from cyxwiz.services.reservation_funds import LedgerFunds

log = logging.getLogger(__name__)
BATCH = 1000
Terms = tuple[int, bool, bool]


@dataclass(frozen=True, slots=True)
class Drifted:
    """How one reservation differs. `safe`: settling it again makes it right. `spare`: too much is locked, for now."""

    said: str
    units: int
    safe: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class ReservationsFound:
    """A pass: reservations that differ and were not healed, by how many units; what is locked in excess."""

    reservations: int = 0
    units: int = 0
    spare_units: int = 0
    healed: int = 0


def compare_reservation(reservation: Reservation, held: int) -> Drifted | None:
    """How a reservation's row differs from the units that the ledger holds for it; None where it does not."""
    if reservation.settled_at is not None:
        return Drifted(f"it is settled, and the ledger still holds {held} units", held, safe=True) if held else None
    if reservation.ended_at is not None:
        return Drifted(f"it has ended, and the ledger still holds {held} units", held) if held else None
    if not reservation.held or held == reservation.escrow_units:
        return None  # one that is not held yet is locked, or ended, by the keeper of reservations
    off = held - reservation.escrow_units
    said = f"the ledger holds {held}, not {reservation.escrow_units} units"
    return Drifted(said, abs(off), spare=off > 0)


class ReservationDrift:
    def __init__(self, store: Store, funds: LedgerFunds) -> None:
        self._store = store
        self._funds = funds
        self._suspects: dict[ReservationId, Terms] = {}

    async def look(self) -> ReservationsFound:
        """One pass over every reservation whose money is not settled, or was when more came."""
        suspects: dict[ReservationId, Terms] = {}
        reservations = units = spare = healed = 0
        for each in await self._candidates():
            drift = compare_reservation(each, await self._funds.held(each))
            if drift is None:
                continue
            suspects[each.id] = _terms(each)
            if self._suspects.get(each.id) != suspects[each.id]:
                continue
            if drift.spare:
                spare += drift.units
                log.warning("reservation %s: %s; the rest goes back with its end", each.id, drift.said)
            elif drift.safe and await self._heal(each):
                healed += 1
                log.warning("reservation %s: %s; it is given back", each.id, drift.said)
            else:
                reservations, units = reservations + 1, units + drift.units
                log.error("reservation %s: %s; this needs a person", each.id, drift.said)
        self._suspects = suspects
        return ReservationsFound(reservations, units, spare, healed)

    async def _candidates(self) -> list[Reservation]:
        live = await self._store.read(lambda tx: tx.live_reservations())
        owed = await self._store.read(lambda tx: tx.unsettled_reservations(BATCH))
        late = await self._store.read(lambda tx: tx.settled_reservations_with_locks(BATCH))
        return [*live, *owed, *late]

    async def _heal(self, reservation: Reservation) -> bool:
        """Settles it again: what was settled answers as before, what came late is given back."""
        try:
            await self._funds.settle(reservation)
        except CyxError as error:
            log.warning("reservation %s: its late money does not go back yet: %s", reservation.id, error.message)
            return False
        return await self._funds.held(reservation) == 0


def _terms(reservation: Reservation) -> Terms:
    """What of a row its money follows from: the rest changes with each heartbeat."""
    return reservation.minutes, reservation.ended_at is not None, reservation.settled_at is not None
