"""Database against ledger: whether the rows of payments and reservations say what the ledger holds, and whether the
books add up.

A row may lag behind the ledger for as long as a step takes. So what differs counts only when it differs again in the
next pass with the row unchanged. A row that is behind is brought forward; all else is told and left to people, as money
that the ledger does not know of can't be made right by writing it down.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.payment import Payment
from cyxwiz.domain.states import OPEN_PAYMENT_STATES, PaymentState, PaymentTrigger
from cyxwiz.ports.ledger import Held, Ledger
from cyxwiz.ports.store import PaymentQuery, Store, Tx
from cyxwiz.services.reservation_drift import ReservationDrift

log = logging.getLogger(__name__)
BATCH = 200


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs of one payment. `safe`: the row is behind and can be brought forward."""

    payment_id: str
    said: str
    units: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The last pass: open payments that differ and were not healed, by how many units; what the books are off by; and
    the same of reservations, of which `spare_units` are locked in excess and go back at their end."""

    payments: int = 0
    units: int = 0
    books_units: int = 0
    healed: int = 0
    reservations: int = 0
    reservation_units: int = 0
    spare_units: int = 0


def compare(payment: Payment, held: Held | None) -> Drift | None:
    """How an open payment's row differs from what the ledger holds; None where it does not."""
    pending = payment.state is PaymentState.PENDING
    if held is None:
        left = payment.amount_units - payment.paid_units
        return None if pending else Drift(payment.id, "the ledger holds nothing of it", left, True)
    if held.amount_units != payment.amount_units:
        off = abs(held.amount_units - payment.amount_units)
        return Drift(payment.id, f"the ledger holds {held.amount_units}, not {payment.amount_units} units", off, False)
    if pending:
        return Drift(payment.id, "the ledger has locked it already", held.amount_units, True)
    if held.paid_units != payment.paid_units:
        off = held.paid_units - payment.paid_units
        said = f"the ledger has paid {held.paid_units}, not {payment.paid_units} units"
        return Drift(payment.id, said, abs(off), off > 0)
    if held.node and held.node != payment.node:
        return Drift(payment.id, f"the ledger pays {held.node}, not {payment.node or 'nobody'}", 0, True)
    return None


class Reconciliation:
    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._suspects: dict[str, int] = {}
        self.reservations: ReservationDrift | None = None
        self.found = Found()

    async def look(self) -> Found:
        """One pass over every open payment, every reservation whose money is not settled, and the books."""
        await self._ledger.mend()
        suspects: dict[str, int] = {}
        payments = units = healed = offset = 0
        while True:
            query = PaymentQuery(states=OPEN_PAYMENT_STATES, offset=offset, limit=BATCH)
            items = (await self._store.read(lambda tx, query=query: tx.payments(query))).items
            for payment in items:
                drift = await self._drift(payment)
                if drift is None:
                    continue
                suspects[payment.id] = payment.version
                if self._suspects.get(payment.id) != payment.version:
                    continue
                if drift.safe and await self._heal(payment):
                    healed += 1
                    log.warning("payment %s: %s; its row is brought forward", drift.payment_id, drift.said)
                    continue
                payments, units = payments + 1, units + drift.units
                log.error("payment %s: %s; this needs a person", drift.payment_id, drift.said)
            offset += BATCH
            if len(items) < BATCH:
                break
        books = await self._store.read(lambda tx: tx.accounts_total())
        if books:
            log.error("the books do not add up: they are off by %d units", books)
        self._suspects = suspects
        found = Found(payments, units, books, healed)
        if self.reservations is not None:
            drift = await self.reservations.look()
            found = replace(
                found,
                healed=healed + drift.healed,
                reservations=drift.reservations,
                reservation_units=drift.units,
                spare_units=drift.spare_units,
            )
        self.found = found
        return self.found

    async def _drift(self, payment: Payment) -> Drift | None:
        """As `compare`. What the ledger can't say of one payment keeps it from nothing else."""
        try:
            held = await self._ledger.held(payment)
        except CyxError as error:
            if error.code is Code.UNAVAILABLE and not await self._answers():
                raise
            left = payment.amount_units - payment.paid_units
            return Drift(payment.id, f"the ledger can't say what it holds: {error.message}", left, False)
        return compare(payment, held)

    async def _answers(self) -> bool:
        """Whether the ledger can be asked at all."""
        try:
            await self._ledger.balance(self._ledger.info.platform)
        except CyxError:
            return False
        return True

    async def _heal(self, seen: Payment) -> bool:
        """Brings the row forward, or has the settlement look at it again; False when that was of no use before."""
        held = await self._ledger.held(seen)

        def unit(tx: Tx) -> bool:
            payment = tx.payment(seen.id)
            if payment is None or payment.version != seen.version:
                return True  # somebody has moved it meanwhile
            if held is not None and held.paid_units > payment.paid_units and payment.state is not PaymentState.PENDING:
                earned = max(payment.earned_units, held.paid_units)
                moved = payment.move(PaymentTrigger.PAY, paid_units=held.paid_units, earned_units=earned)
                tx.save_payment(replace(moved, job_version=-1, due_at=tx.now))
                return True
            job = tx.job(payment.job_id)
            if held is None and job is not None and not job.ended:
                return False  # its job goes on with no money behind it
            tx.save_payment(replace(payment, job_version=-1, due_at=tx.now))
            return True

        try:
            return await self._store.write(unit)
        except CyxError as error:
            if error.code is not Code.STALE:
                raise
            return True
