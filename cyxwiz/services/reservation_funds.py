"""The money of reservations on a ledger: locked in full for each span of time, paid out by the used part at the end.

Every lock has an idempotency key: made again with the same key it answers as before and moves nothing. So does the
end, of which there is one. A reservation has one lock for the time that it began with and one for each extension. What
a ledger has locked for it is found by the ledger's own record, not by the reservation's row, which a crash may have
left behind.

All locks of a reservation have one deadline, a day after the longest that it can be extended to.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Protocol

from cyxwiz.domain.ids import JobId
from cyxwiz.domain.payment import Done, Movement, Payment, Step, Work
from cyxwiz.domain.reservation import Reservation
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import MovementQuery, Store

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Hold:
    """Where an amount is locked, and by which transaction; empty where no ledger locks anything."""

    account: str = ""
    tx_hash: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The transactions that paid the node and gave the rest back; empty for what moved nothing.

    Args:
        paid_units: what was paid out in all, fees included; None where no ledger moves anything.
    """

    payment_tx_hash: str = ""
    refund_tx_hash: str = ""
    paid_units: int | None = None


class ReservationFunds(Protocol):
    """What a ledger does for reservations. Refusals are CyxError: FUNDS where the owner lacks the amount."""

    @property
    def charges(self) -> bool:
        """Whether money moves at all."""
        ...

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        """Locks `reservation.escrow_units` of the owner's."""
        ...

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        """Locks so many units more."""
        ...

    async def settle(self, reservation: Reservation) -> Moved:
        """Pays out `reservation.settlement` (the node's share, the fee) and gives back all else that is locked for the
        reservation, whatever that is: nothing at all is locked where `reserve` came to nothing."""
        ...


class NoFunds:
    """`ReservationFunds` without a ledger: prices are shown, nothing is charged."""

    charges = False

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        return Hold()

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        return Hold()

    async def settle(self, reservation: Reservation) -> Moved:
        return Moved()


class LedgerFunds:
    """`ReservationFunds` on a ledger.

    Each lock pays its own fee, rounded down, as a ledger computes it on each lock alone: where a reservation was
    extended n times, the platform may have up to n units less than the fee of the whole would be, and the node as many
    more. Nothing else could be done where all of every lock is paid out, so it is done nowhere.
    """

    charges = True

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        return await self.extend(reservation, reservation.escrow_units, key)

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        if not units:
            return Hold()
        payment = self._payment(reservation, str(uuid.uuid5(uuid.UUID(reservation.id), key)), units)
        done = await self._ledger.perform(payment, Step.LOCK, _work(""))
        moves = await self._store.read(lambda tx: tx.movements_of(payment.id))
        made = next((each for each in moves if each.reference == done.reference), None)
        return Hold(made.destination if made is not None else "", done.reference)

    async def settle(self, reservation: Reservation) -> Moved:
        node = await self._store.read(lambda tx: tx.node(reservation.node_id))
        account = self._ledger.node_account(node) if node is not None else ""
        owed = left = reservation.paid_units if account else 0
        paid = back = ""
        for payment in await self._locked(reservation):
            part = min(left, payment.amount_units)
            done = await self._end(payment, part, account)
            left -= done.paid_units
            paid = paid or (done.reference if done.paid_units else "")
            back = done.reference if done.refunded_units else back
        return Moved(paid, back, owed - left)

    async def held(self, reservation: Reservation) -> int:
        """Units that the ledger still holds for it, by all of its locks."""
        total = 0
        for payment in await self._locked(reservation):
            found = await self._ledger.held(payment)
            total += found.amount_units - found.paid_units if found is not None else 0
        return total

    async def _end(self, payment: Payment, part: int, account: str) -> Done:
        if not part:
            return await self._ledger.perform(payment, Step.REFUND, _work(""))
        await self._ledger.perform(payment, Step.ASSIGN, _work(account))
        assigned = replace(payment, node=account, earned_units=part)
        return await self._ledger.perform(assigned, Step.SETTLE, _work(account))

    async def _locked(self, reservation: Reservation) -> list[Payment]:
        """What was locked for it, oldest first, or may have been: not what is known never to have landed."""
        moves: list[Movement] = []
        query = MovementQuery(job_id=reservation.id, kinds=frozenset({"lock"}), limit=BATCH)
        while len(moves) == query.offset:
            moves += (await self._store.read(lambda tx, query=query: tx.movements(query))).items
            query = replace(query, offset=query.offset + BATCH)
        units = {each.payment_id: each.units for each in reversed(moves) if each.state != "failed"}
        return [self._payment(reservation, ident, amount) for ident, amount in units.items()]

    def _payment(self, reservation: Reservation, ident: str, units: int) -> Payment:
        return Payment(
            id=ident,
            job_id=JobId(reservation.id),
            owner_id=reservation.owner_id,
            amount_units=units,
            fee_bps=reservation.fee_percent * 100,
            client=self._ledger.client_account(reservation.owner_id),
            rate=0.0,
            interval_seconds=0,
            created_at=reservation.started_at,
            deadline=reservation.deadline,
            node_id=reservation.node_id,
        )


def _work(node: str) -> Work:
    return Work(node, None, ended=True, cost_units=None, progress=0.0, attempt=0, running=False)
