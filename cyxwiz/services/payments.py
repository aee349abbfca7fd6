"""The money of jobs: locked with the submit, driven by what the job does (`settlement`), looked up by people."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, not_found
from cyxwiz.domain.ids import JobId, UserId, parse_job_id
from cyxwiz.domain.job import Job, JobSpec, Phase
from cyxwiz.domain.money import DUST_UNITS, check_amount, format_cyxwiz
from cyxwiz.domain.payment import Done, Movement, Payment, Step, after
from cyxwiz.domain.verification import Mode
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger, LedgerInfo
from cyxwiz.ports.store import MoneyStats, MovementQuery, Page, PaymentQuery, ReservationQuery, Store, Tx
from cyxwiz.services.accounts import OPEN_USER, find_user
from cyxwiz.services.audit import record
from cyxwiz.services.budgets import reserve
from cyxwiz.services.reconcile import Reconciliation
from cyxwiz.services.repeats import Repeats
from cyxwiz.services.settlement import HELD, NO_WORK, RETRY_MOST, Due, Settlement, allow, tell

T = TypeVar("T")
log = logging.getLogger(__name__)
TOPIC = "payments"  # hint: a ledger may have something to do
STEPS = frozenset(str(step) for step in Step)


@dataclass(frozen=True, slots=True)
class Terms:
    """How jobs are paid for.

    Args:
        fee_bps: the platform's part of what is paid out.
        interval_seconds: how often accepted progress is paid for while a job runs.
        open_days: after so many a client can take its money back by itself.
    """

    fee_bps: int
    interval_seconds: int
    open_days: int


@dataclass(frozen=True, slots=True)
class SignedLock:
    """A payment that its client locks, with the transaction that does."""

    payment: Payment
    movement: Movement


@dataclass(frozen=True, slots=True)
class Wallet:
    """What is on an account: `locked_units` are set aside for the caller's jobs and reservations until they are
    settled; None of others."""

    account: str
    balance_units: int
    locked_units: int | None
    info: LedgerInfo


class Payments(Settlement):
    def __init__(self, store: Store, clock: Clock, ledger: Ledger, terms: Terms) -> None:
        super().__init__(store, clock, ledger)
        self._terms = terms
        # Drives a payment in the background, while there is one, beginning with a step that is known to be due.
        self.taker: Callable[[str, Due], object] | None = None
        self.reconciliation = Reconciliation(store, ledger)

    # a job's payments

    def open(self, tx: Tx, job: Job, units: int, rate: float) -> Job:
        """Sets `units` aside for a job that is submitted in this unit; a gang's are shared among its members.

        Returns the job, which waits for its money unless the ledger could lock it at once.

        Raises:
            CyxError: FUNDS when the owner's balance is too low.
        """
        world = job.spec.resources.nodes
        locked = True
        for member in range(world):
            amount = units // world + (units % world if member == 0 else 0)
            if amount <= 0:
                continue
            payment = self._new(tx, job, amount, rate / world, member, 0)
            locked = self._lock_now(tx, payment) and locked
        tx.hint(TOPIC)
        return job if locked else replace(job, phase=Phase.AWAITING_PAYMENT, reason="waiting for its payment")

    def open_signed(self, tx: Tx, job: Job, lock: SignedLock) -> Job:
        """Takes up a payment that the job's client locks itself. Raises CONFLICT for a transaction that paid before."""
        if tx.movement(lock.movement.reference) is not None:
            raise conflict(f"Transaction {lock.movement.reference} has paid for something else already")
        tx.add_movement(lock.movement)
        tx.add_payment(lock.payment)
        tx.hint(TOPIC)
        return replace(job, phase=Phase.AWAITING_PAYMENT, reason="waiting for its payment")

    def draft(self, job_id: JobId, owner_id: UserId, spec: JobSpec, amount: int, rate: float, now: datetime) -> Payment:
        """A payment out of the owner's balance, before it is stored."""
        return Payment(
            id=job_id,
            job_id=job_id,
            owner_id=owner_id,
            amount_units=amount,
            fee_bps=self._terms.fee_bps,
            client=self.ledger.client_account(owner_id),
            rate=rate,
            most_rate=amount / spec.longest_seconds,
            # A result that is still to be verified earns nothing on the way.
            interval_seconds=self._terms.interval_seconds if spec.verify is Mode.NONE else 0,
            created_at=now,
            deadline=now + timedelta(days=self._terms.open_days),
        )

    def _new(self, tx: Tx, job: Job, amount: int, rate: float, member: int, number: int) -> Payment:
        drafted = self.draft(job.id, job.owner_id, job.spec, amount, rate, tx.now)
        if member == 0 and number == 0:
            return drafted
        ident = str(uuid.uuid5(uuid.UUID(job.id), f"payment {member} {number}"))
        return replace(drafted, id=ident, member=member, number=number)

    def _lock_now(self, tx: Tx, payment: Payment) -> bool:
        done = self.ledger.lock_within(tx, payment)
        if isinstance(done, Done):
            tx.add_payment(after(payment, Step.LOCK, NO_WORK, done, tx.now))
            tell(tx, payment, Step.LOCK, done)
            return True
        if self.taker is not None:
            payment = replace(payment, due_at=tx.now + RETRY_MOST)  # in case that this process ends before it is locked
            tx.then(lambda: self._hand(Due(payment, Step.LOCK, NO_WORK, done)))
        tx.add_payment(payment)
        return False

    def _hand(self, due: Due) -> None:
        if self.taker is not None:
            self.taker(due.payment.id, due)

    async def check_funds(self, owner_id: UserId, units: int) -> int:
        """A user's balance in units. Raises FUNDS when it is lower than `units`."""
        have = await self.ledger.balance(self.ledger.client_account(owner_id))
        if have < units:
            raise _lacking(units, have, 0)
        return have

    def check_unpromised(self, tx: Tx, owner_id: UserId, units: int, have: int) -> None:
        """Raises FUNDS when a balance of `have` is too low for `units` and what its owner's other payments lock next:
        where the ledger can't lock within a unit, several submits at once would all find the same money."""
        promised = tx.promised_units(owner_id)
        if have < promised + units:
            raise _lacking(units, have, promised)

    async def top_up(self, actor: Principal, job_id: str, units: int, key: str = "") -> Job:
        """Locks more money for a job that goes on, once a key; one that was set aside for want of it comes back.

        Raises:
            CyxError: NOT_FOUND; FORBIDDEN for all but its owner, whose balance pays; CONFLICT for a job that has ended
                or costs nothing, and for a key that had other content; FUNDS for a balance or a budget that is too
                low; INVALID for no amount.
        """
        check_amount(units, least=DUST_UNITS)
        parsed = parse_job_id(job_id)
        request = Repeats(f"topup:{actor.id}", key, f"{parsed} {units}")

        def before(tx: Tx) -> str | None:
            _own(tx, actor, parsed)
            return request.answered(tx)

        have = 0
        if await self._store.read(before) is None:
            have = await self.check_funds(actor.id, units)

        def unit(tx: Tx) -> Job:
            job = _own(tx, actor, parsed)
            if request.answered(tx) is not None:
                return job
            self.check_unpromised(tx, actor.id, units, have)
            if job.ended:
                raise conflict(f"Job {job.id} is {job.state}: it needs no more money", state=str(job.state))
            known = tx.payments_of(job.id)
            if not known:
                raise conflict(f"Job {job.id} is not paid for by this ledger")
            reserve(tx, job.owner_id, units, more=True)
            job = tx.save_job(replace(job, estimated_cost_units=job.estimated_cost_units + units))
            world, first = job.spec.resources.nodes, known[0]
            number, locked = 1 + max(payment.number for payment in known), 0
            for member in range(world):
                amount = units // world + (units % world if member == 0 else 0)
                if not amount:
                    continue
                payment = self._new(tx, job, amount, first.rate, member, number)
                if self._lock_now(tx, replace(payment, most_rate=first.most_rate)):
                    locked += amount
            job = allow(tx, job, locked)
            record(tx, actor.name, "job.top_up", f"job:{job.id}", units=units)
            request.keep(tx, job.id)
            tx.hint(TOPIC)
            return self.funded(tx, job)

        return await self._store.write(unit)

    # look

    async def wallet(self, actor: Principal, account: str) -> Wallet:
        """An account that the caller may look at (`services/lookup.py`)."""
        balance = await self.ledger.balance(account)
        if account != self.ledger.client_account(actor.id):
            return Wallet(account, balance, None, self.ledger.info)

        def locked(tx: Tx) -> int:
            payments = tx.payments(PaymentQuery(owner_id=actor.id, states=HELD, limit=10_000)).items
            kept = tx.reservations(ReservationQuery(owner_id=actor.id, locked=True, limit=10_000)).items
            return sum(each.amount_units - each.paid_units for each in payments) + sum(
                each.escrow_units for each in kept
            )

        return Wallet(account, balance, await self._store.read(locked), self.ledger.info)

    async def payments(self, actor: Principal, query: PaymentQuery) -> Page[Payment]:
        """The caller's payments; an admin may ask for everybody's."""
        actor.require(Role.USER, Role.OPERATOR)
        if not actor.is_admin:
            query = replace(query, owner_id=actor.id)
        return await self._store.read(lambda tx: tx.payments(query))

    async def history(self, actor: Principal, query: MovementQuery) -> Page[Movement]:
        """What moved on the caller's account or for its jobs; an admin may ask for everything."""
        actor.require(Role.USER, Role.OPERATOR)
        if not actor.is_admin:
            query = replace(query, owner_id=actor.id, account=self.ledger.client_account(actor.id))
        return await self._store.read(lambda tx: tx.movements(query))

    async def movements(self, query: MovementQuery) -> Page[Movement]:
        """For callers who have looked at whose they are."""
        return await self._store.read(lambda tx: tx.movements(query))

    async def with_movements(self, query: PaymentQuery) -> Page[tuple[Payment, list[Movement]]]:
        """Payments with what moved of each, oldest first; for admins."""

        def unit(tx: Tx) -> Page[tuple[Payment, list[Movement]]]:
            page = tx.payments(query)
            return Page([(each, movements_of(tx, each)) for each in page.items], page.total, page.capped)

        return await self._store.read(unit)

    async def read(self, unit: Callable[[Tx], T]) -> T:
        return await self._store.read(unit)

    async def withdraw(self, actor: Principal, to: str, units: int, key: str) -> str:
        """Sends of the caller's balance to a wallet, once a key. Returns the transaction."""
        actor.require(Role.USER, Role.OPERATOR)
        check_amount(units, least=DUST_UNITS)
        parse_wallet(to, "to")
        reference = await self.ledger.withdraw(actor.id, to, units, key)

        def unit(tx: Tx) -> None:
            record(tx, actor.name, "wallet.withdraw", f"user:{actor.id}", units=units, to=to, reference=reference)

        await self._store.write(unit)
        return reference

    async def grant(self, actor: Principal, user: str, units: int, key: str) -> tuple[UserId, str]:
        """Gives a user (name or id) money that the platform makes; for admins. Returns (who it was, the reference)."""
        actor.require(Role.ADMIN)
        check_amount(units, least=DUST_UNITS)
        user_id = OPEN_USER.id
        if user != OPEN_USER.id:
            user_id = (await self._store.read(lambda tx: find_user(tx, user))).id
        reference = await self.ledger.grant(self.ledger.client_account(user_id), units, key)

        def unit(tx: Tx) -> None:
            record(tx, actor.name, "wallet.grant", f"user:{user_id}", units=units, reference=reference)

        await self._store.write(unit)
        return user_id, reference

    async def stats(self) -> MoneyStats:
        return await self._store.read(lambda tx: tx.money())


def _lacking(units: int, have: int, promised: int) -> CyxError:
    waiting = f", of which {format_cyxwiz(promised)} is about to be locked for others" if promised else ""
    return CyxError(
        Code.FUNDS,
        f"This needs {format_cyxwiz(units)} CYXWIZ and your balance is {format_cyxwiz(have)}{waiting}: add funds, or "
        "ask for less (resources.max_duration, payment.max_price)",
        {"needed_units": units, "available_units": max(0, have - promised)},
    )


def _own(tx: Tx, actor: Principal, job_id: JobId) -> Job:
    """The caller's own job. Admins don't spend what others have. Raises NOT_FOUND or FORBIDDEN."""
    job = tx.job(job_id)
    if job is None:
        raise not_found("job", job_id)
    if job.owner_id != actor.id:
        raise forbidden(f"Job {job_id} is not yours: its owner's balance pays for it")
    return job


def payments_of(tx: Tx, job_id: JobId) -> Sequence[tuple[Payment, Sequence[Movement]]]:
    """A job's payments, each with its movements, oldest first."""
    return [(payment, movements_of(tx, payment)) for payment in tx.payments_of(job_id)]


def movements_of(tx: Tx, payment: Payment) -> list[Movement]:
    """Oldest first; of those of one instant, the lock first. Not what was only made ready for it."""
    steps = [each for each in tx.movements_of(payment.id) if each.kind in STEPS]
    return sorted(steps, key=lambda each: (each.at, each.kind != "lock"))


def settled(tx: Tx, job_id: JobId) -> bool:
    """Whether a job that has ended is needed for its money no more: its cost says what its node is still paid."""
    return not any(payment.open for payment in tx.payments_of(job_id))
