"""The money of jobs: locked with the submit, driven by what the job does, looked up by people.

A payment follows its job: nothing that moves a job has to think of money. `Payments.drive` looks at both and has the
ledger do what is missing between them, one step at a time (`domain.payment.look`).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, not_found
from cyxwiz.domain.events import JobFundsLow, JobPayment
from cyxwiz.domain.ids import JobId, UserId, parse_job_id
from cyxwiz.domain.job import Intent, Job, JobSpec, Phase
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.payment import CLOSING, Done, Movement, Payment, Step, Work, after, look
from cyxwiz.domain.states import JobState, PaymentState
from cyxwiz.domain.verification import Mode
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger, LedgerInfo
from cyxwiz.ports.store import MoneyStats, MovementQuery, Page, PaymentQuery, Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.accounts import OPEN_USER, find_user
from cyxwiz.services.audit import record
from cyxwiz.services.reconcile import Reconciliation

T = TypeVar("T")
log = logging.getLogger(__name__)
TOPIC = "payments"  # hint: a ledger may have something to do
OUT_OF_FUNDS = "its funds run out"  # how the reason of a job begins that was set aside for it
STOPPED = "its client stopped the payments"  # on the ledger, by its own signature
STEPS = frozenset(str(step) for step in Step)
WANTING = (OUT_OF_FUNDS, STOPPED)
HELD = frozenset({PaymentState.LOCKED, PaymentState.STREAMING})
LOW = 0.8  # of what is locked: the owner is told
RETRY, RETRY_MOST = timedelta(seconds=1), timedelta(minutes=1)
MAX_REASON = 500
LOOK_AGAIN = timedelta(seconds=1)
_Decided = tuple[Payment, Step, Work]
_NOTHING = Work("", None, ended=False, cost_units=None, progress=0.0, attempt=0, running=False)


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
    """What is on an account: `locked_units` are set aside for the caller's jobs that have not ended; None of others."""

    account: str
    balance_units: int
    locked_units: int | None
    info: LedgerInfo


class Payments:
    def __init__(self, store: Store, clock: Clock, ledger: Ledger, terms: Terms) -> None:
        self._store = store
        self._clock = clock
        self.ledger = ledger
        self._terms = terms
        self.taker: Callable[[str], object] | None = None  # drives a payment in the background, while there is one
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
        if not tx.add_movement(lock.movement):
            raise conflict(f"Transaction {lock.movement.reference} has paid for something else already")
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
        if done is None:
            tx.add_payment(payment)
            return False
        tx.add_payment(after(payment, Step.LOCK, _NOTHING, done, tx.now))
        _tell(tx, payment, Step.LOCK, done)
        return True

    async def check_funds(self, owner_id: UserId, units: int) -> None:
        """Raises FUNDS when a user's balance is lower than that."""
        have = await self.ledger.balance(self.ledger.client_account(owner_id))
        if have < units:
            raise CyxError(
                Code.FUNDS,
                f"This needs {format_cyxwiz(units)} CYXWIZ and your balance is {format_cyxwiz(have)}: add funds, or "
                "ask for less (resources.max_duration, payment.max_price)",
                {"needed_units": units, "available_units": have},
            )

    async def top_up(self, actor: Principal, job_id: str, units: int) -> Job:
        """Locks more money for a job that goes on; one that was set aside for want of it comes back.

        Raises:
            CyxError: CONFLICT for a job that has ended or costs nothing; FUNDS; INVALID for no amount.
        """
        _check_amount(units)
        parsed = parse_job_id(job_id)
        await self.check_funds(actor.id, units)

        def unit(tx: Tx) -> Job:
            job = tx.job(parsed)
            if job is None or not actor.owns(job.owner_id):
                raise not_found("job", parsed)
            if job.ended:
                raise conflict(f"Job {job.id} is {job.state}: it needs no more money", state=str(job.state))
            known = tx.payments_of(job.id)
            if not known:
                raise conflict(f"Job {job.id} is not paid for by this ledger")
            world, rate = job.spec.resources.nodes, known[0].rate
            number = 1 + max(payment.number for payment in known)
            for member in range(world):
                amount = units // world + (units % world if member == 0 else 0)
                if amount:
                    self._lock_now(tx, self._new(tx, job, amount, rate, member, number))
            record(tx, actor.name, "job.top_up", f"job:{job.id}", units=units)
            tx.hint(TOPIC)
            return self._funded(tx, job)

        return await self._store.write(unit)

    # settlement

    async def drive(self, payment_id: str) -> bool:
        """Has the ledger do the next step of a payment, if one is due. False when there was nothing to do.

        Raises:
            CyxError: FUNDS when its owner could not pay, in which case the job has failed for it; UNAVAILABLE and
                others when the ledger could not do it now: it is tried again later.
        """
        decided = await self._store.write(lambda tx: self._look(tx, payment_id))
        if decided is None:
            return False
        await self._perform(*decided, follow=False)
        return True

    async def drive_on(self, payment_id: str, go_on: Callable[[], bool]) -> None:
        """As `drive`, one step after the other until nothing is due or `go_on` says no."""
        decided = await self._store.write(lambda tx: self._look(tx, payment_id))
        while decided is not None:
            decided = await self._perform(*decided, follow=go_on())

    async def _perform(self, payment: Payment, step: Step, work: Work, *, follow: bool) -> _Decided | None:
        """Does one step and writes it down; with `follow`, what is next, which is looked at in the same unit."""
        try:
            done = await self.ledger.perform(payment, step, work)
        except CyxError as error:
            failure = error
        else:

            def unit(tx: Tx) -> _Decided | None:
                moved = self._apply(tx, payment, step, work, done)
                if moved is None:
                    return self._look(tx, payment.id) if follow else None
                if follow and moved.open:
                    return self._look_at(tx, moved, stored=payment)
                tx.save_payment(moved)
                return None

            return await self._store.write(unit)
        await self._store.write(lambda tx: self._put_off(tx, payment, step, failure))
        raise failure

    def _look(self, tx: Tx, payment_id: str) -> _Decided | None:
        payment = tx.payment(payment_id)
        return self._look_at(tx, payment, stored=payment) if payment is not None and payment.open else None

    def _look_at(self, tx: Tx, payment: Payment, *, stored: Payment) -> _Decided | None:
        """What is due of an open payment, which is saved if it is not as it is stored."""
        job = tx.job(payment.job_id)
        work = self._work(tx, payment, job)
        seen = replace(payment, job_version=job.version if job else -1, due_at=None)
        looked, step = look(seen, work, tx.now)
        if work.running and looked.streams:
            waits = timedelta(seconds=looked.interval_seconds)
            due = (looked.milestone_at or tx.now) + waits
            looked = replace(looked, due_at=due if due > tx.now else tx.now + LOOK_AGAIN)
        if job is not None:
            self._watch_funds(tx, payment, looked, job)
        if step is None:
            if looked != stored:
                tx.save_payment(looked)
            return None
        # Looked at again even if this process ends before the step is written down, and the job never changes.
        return tx.save_payment(replace(looked, due_at=tx.now + RETRY_MOST)), step, work

    def _work(self, tx: Tx, payment: Payment, job: Job | None) -> Work:
        closing = tx.now >= payment.deadline - CLOSING
        if job is None or (closing and job.state is not JobState.COMPLETED):
            return replace(_NOTHING, node=payment.node, node_id=payment.node_id, ended=True)
        # Nothing is earned before it runs: the assignment comes after, and holds up no start.
        node_id = job.node_id if job.ended or job.state in (JobState.RUNNING, JobState.PAUSED) else None
        if payment.member and node_id and job.token is not None:
            mine = (each for each in tx.leases_of(job.id) if each.group == job.token and each.rank == payment.member)
            node_id = next((each.node_id for each in mine), None)
        # A node is paid where it was when it was assigned.
        account = payment.node if node_id == payment.node_id else ""
        if node_id and not account and (node := tx.node(node_id)) is not None:
            account = self.ledger.node_account(node)
        completed = job.state is JobState.COMPLETED
        known = tx.payments_of(job.id) if payment.number or completed else ()
        others = [each for each in known if each.member == payment.member and each.id != payment.id]
        before = [each for each in others if each.number < payment.number]
        full = all(each.earned_units >= each.amount_units for each in before if each.open)
        cost = None
        if job.state is JobState.COMPLETED:
            world = job.spec.resources.nodes
            share = job.actual_cost_units // world + (job.actual_cost_units % world if payment.member == 0 else 0)
            covered = sum(_covers(each, payment) for each in others if each.id != payment.id)
            cost = max(0, min(payment.amount_units, share - covered))
        return Work(
            account,
            node_id if account else None,
            ended=job.ended,
            cost_units=cost,
            progress=job.progress,
            attempt=job.attempts,
            running=job.state is JobState.RUNNING and full,
        )

    def _watch_funds(self, tx: Tx, before: Payment, now: Payment, job: Job) -> None:
        """Tells the owner when a job's money runs low, and sets the job aside before it is all earned."""
        if now.earned_units == before.earned_units or job.ended:
            return
        others = [each for each in tx.payments_of(job.id) if each.member == now.member and each.id != now.id]
        if any(each.number > now.number for each in others):
            return
        if before.earned_units < LOW * now.amount_units <= now.earned_units:
            amount, earned = format_cyxwiz(now.amount_units), format_cyxwiz(now.earned_units)
            tx.emit(JobFundsLow(job.id, job.owner_id, amount, earned), private_to=job.owner_id)
        next_interval = now.earned_units + round(now.rate * now.interval_seconds)
        if next_interval > now.amount_units:
            self._set_aside(tx, job, OUT_OF_FUNDS)

    def _set_aside(self, tx: Tx, job: Job, why: str) -> None:
        """Has a job save itself and pause, until there is money again. Nodes of the earlier kind can't."""
        node = tx.node(job.node_id) if job.node_id else None
        if job.state is JobState.RUNNING and job.intent is Intent.RUN and node is not None and not node.legacy:
            job = leases.pause(tx, job, "the platform")
            tx.save_job(replace(job, reason=f"{why}: `cyxwiz jobs topup {job.id} AMOUNT` lets it go on"))

    def _apply(self, tx: Tx, seen: Payment, step: Step, work: Work, done: Done) -> Payment | None:
        """The payment with what the ledger did, to be saved. None when somebody else was faster: the ledger did it once
        all the same, and the next look sees the rest."""
        payment = tx.payment(seen.id)
        if payment is None or payment.version != seen.version:
            return None
        moved = after(payment, step, work, done, tx.now)
        _tell(tx, moved, step, done)
        job = tx.job(payment.job_id) if step is Step.LOCK or done.stopped else None
        if job is not None and not job.ended:
            if step is Step.LOCK:
                self._funded(tx, job, locked=moved)
            else:
                self._set_aside(tx, job, STOPPED)
        return replace(moved, job_version=-1) if moved.open else moved

    def _funded(self, tx: Tx, job: Job, locked: Payment | None = None) -> Job:
        """The job may start, or go on, once all of its payments are locked, of which `locked` is about to be saved."""
        waiting = [each for each in tx.payments_of(job.id) if each.state is PaymentState.PENDING]
        if any(locked is None or each.id != locked.id for each in waiting):
            return job
        if job.phase is Phase.AWAITING_PAYMENT and job.state is JobState.PENDING:
            job = tx.save_job(replace(job, phase=Phase.QUEUED, reason="waiting for the scheduler"))
            tx.hint(leases.QUEUE)
        elif job.reason.startswith(WANTING) and (job.state is JobState.PAUSED or job.intent is Intent.PAUSE):
            job = leases.resume(tx, job, "the platform")
        return job

    def _put_off(self, tx: Tx, seen: Payment, step: Step, error: CyxError) -> None:
        payment = tx.payment(seen.id)
        if payment is None or not payment.open:
            return
        job = tx.job(payment.job_id)
        if error.code is Code.FUNDS and step is Step.LOCK and payment.number == 0 and job is not None and not job.ended:
            leases.fail(tx, job, Code.FUNDS.value, error.message)
        elif job is not None and job.phase is Phase.AWAITING_PAYMENT and job.state is JobState.PENDING:
            reason = f"waiting for its payment: {error.message}"[:MAX_REASON]
            if job.reason != reason:
                tx.save_job(replace(job, reason=reason))
        attempts = payment.attempts + 1
        wait = min(RETRY * 2 ** min(attempts - 1, 10), RETRY_MOST)
        tx.save_payment(replace(payment, attempts=attempts, error=error.message[:MAX_REASON], due_at=tx.now + wait))

    def hand(self, job_id: JobId) -> None:
        """Has a new job's first payment driven at once, before the next pass over what is due finds it."""
        if self.taker is not None:
            self.taker(job_id)

    async def due(self, limit: int) -> tuple[Sequence[str], float]:
        """Payments to drive now, and the seconds until the next one is due by the clock."""

        def unit(tx: Tx) -> tuple[Sequence[str], float]:
            ids = tx.due_payment_ids(limit)
            at = tx.next_payment_at()
            return ids, 3600.0 if at is None else max(0.0, (at - tx.now).total_seconds())

        return await self._store.read(unit)

    # look

    async def wallet(self, actor: Principal, account: str) -> Wallet:
        """An account that the caller may look at (`services/lookup.py`)."""
        balance = await self.ledger.balance(account)
        if account != self.ledger.client_account(actor.id):
            return Wallet(account, balance, None, self.ledger.info)
        query = PaymentQuery(owner_id=actor.id, states=HELD, limit=10_000)
        page = await self._store.read(lambda tx: tx.payments(query))
        locked = sum(payment.amount_units - payment.paid_units for payment in page.items)
        return Wallet(account, balance, locked, self.ledger.info)

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

    async def of_job(self, actor: Principal, job_id: str) -> Sequence[tuple[Payment, Sequence[Movement]]]:
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Sequence[tuple[Payment, Sequence[Movement]]]:
            job = tx.job(parsed)
            if job is None or not actor.owns(job.owner_id):
                raise not_found("job", parsed)
            return payments_of(tx, job.id)

        return await self._store.read(unit)

    async def withdraw(self, actor: Principal, to: str, units: int, key: str) -> str:
        """Sends of the caller's balance to a wallet, once a key. Returns the transaction."""
        actor.require(Role.USER, Role.OPERATOR)
        _check_amount(units)
        parse_wallet(to, "to")
        reference = await self.ledger.withdraw(actor.id, to, units, key)

        def unit(tx: Tx) -> None:
            record(tx, actor.name, "wallet.withdraw", f"user:{actor.id}", units=units, to=to, reference=reference)

        await self._store.write(unit)
        return reference

    async def grant(self, actor: Principal, user: str, units: int, key: str) -> tuple[UserId, str]:
        """Gives a user (name or id) money that the platform makes; for admins. Returns (who it was, the reference)."""
        actor.require(Role.ADMIN)
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


def _check_amount(units: int) -> None:
    if not 0 < units <= MAX_UNITS:
        raise invalid("amount: must be more than 0 CYXWIZ and less than 2^63 units", field="amount")


def payments_of(tx: Tx, job_id: JobId) -> Sequence[tuple[Payment, Sequence[Movement]]]:
    """A job's payments, each with its movements, oldest first."""
    return [(payment, movements_of(tx, payment)) for payment in tx.payments_of(job_id)]


def movements_of(tx: Tx, payment: Payment) -> list[Movement]:
    """Oldest first; of those of one instant, the lock first. Not what was only made ready for it."""
    steps = [each for each in tx.movements_of(payment.id) if each.kind in STEPS]
    return sorted(steps, key=lambda each: (each.at, each.kind != "lock"))


def _covers(other: Payment, payment: Payment) -> int:
    """How much of a job's cost is not this payment's, as another of the same member pays it: earlier ones first, and
    none more than it holds, or than it had paid when it ended."""
    if other.state not in HELD:
        return other.paid_units
    return other.amount_units if other.number < payment.number else other.earned_units


def settled(tx: Tx, job_id: JobId) -> bool:
    """Whether a job that has ended is needed for its money no more: its cost says what its node is still paid."""
    return not any(payment.open for payment in tx.payments_of(job_id))


def _tell(tx: Tx, payment: Payment, step: Step, done: Done) -> None:
    said = step.value if done.locked else "fail"
    event = JobPayment(
        payment.job_id,
        payment.owner_id,
        payment.id,
        said,
        done.reference,
        format_cyxwiz(payment.amount_units),
        format_cyxwiz(done.paid_units or payment.paid_units),
        format_cyxwiz(done.refunded_units),
    )
    tx.emit(event, private_to=payment.owner_id)
