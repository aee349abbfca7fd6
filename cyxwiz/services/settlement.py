"""Has a ledger do what jobs call for, and jobs follow what a ledger did.

A payment follows its job: nothing that moves a job has to think of money. `Settlement.drive` looks at both and has the
ledger do what is missing between them, one step at a time (`domain.payment.look`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.events import JobFundsLow, JobPayment
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Intent, Job, Phase
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.payment import CLOSING, Done, Movement, Payment, Step, Work, after, look, paid_of
from cyxwiz.domain.pricing import quote
from cyxwiz.domain.states import JobState, PaymentState
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.sharing import Shared, apart
from cyxwiz.scheduler.price import epochs_done, needs_of
from cyxwiz.services import leases
from cyxwiz.services.payment_deadline import TIME_OVER, keep_from_running_unpaid

OUT_OF_FUNDS = "its funds run out"  # how the reason of a job begins that was set aside for it
STOPPED = "its client stopped the payments"  # on the ledger, by its own signature
GONE = "what was set aside for it was ended on the ledger"
WANTING = (OUT_OF_FUNDS, STOPPED, GONE, TIME_OVER)
HELD = frozenset({PaymentState.LOCKED, PaymentState.STREAMING})
LOW = 0.8  # of what is locked: the owner is told
RETRY, RETRY_MOST = timedelta(seconds=1), timedelta(minutes=1)
LOOK_AGAIN = timedelta(seconds=1)
Accounts = dict[NodeId, str]
"""Where nodes are paid, as far as a unit has looked them up."""
NO_WORK = Work("", None, ended=False, cost_units=None, progress=0.0, attempt=0, running=False)


@dataclass(frozen=True, slots=True)
class Due:
    """A step that is decided on, of a payment as it is stored.

    Args:
        known: see `Ledger.known`; None: still to be read.
        job: as it was then; None: it is gone, or was not read.
    """

    payment: Payment
    step: Step
    work: Work
    known: Sequence[Movement] | None
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is asked of the store for one payment: to write down what became of a step, and what is due then.

    Args:
        due, done: the step and what the ledger did, or why it did not; None before the first look.
        follow: whether to look for what is due.
    """

    payment_id: str
    due: Due | None = None
    done: Done | CyxError | None = None
    follow: bool = True


class Settlement:
    def __init__(self, store: Store, clock: Clock, ledger: Ledger) -> None:
        self._store = store
        self._clock = clock
        self.ledger = ledger
        # Payments whose turn comes at one time have it in one unit; where that fails, each in one of its own.
        self._turn = Shared(apart(self._turns), clock)

    async def drive(self, payment_id: str) -> bool:
        """Has the ledger do the next step of a payment, if one is due. False when there was nothing to do.

        Raises:
            CyxError: FUNDS when its owner could not pay, in which case the job has failed for it; UNAVAILABLE and
                others when the ledger could not do it now: it is tried again later.
        """
        decided = await self._turn(_Turn(payment_id))
        if decided is None:
            return False
        await self._perform(decided, follow=False)
        return True

    async def drive_on(self, payment_id: str, go_on: Callable[[], bool], due: Due | None = None) -> None:
        """As `drive`, one step after the other until nothing is due or `go_on` says no; `due` is the first of them."""
        if due is None:
            due = await self._turn(_Turn(payment_id))
        while due is not None:
            due = await self._perform(due, follow=go_on())

    async def _perform(self, due: Due, *, follow: bool) -> Due | None:
        """Does one step and writes it down; with `follow`, what is next, which is looked at in the same unit."""
        payment = due.payment
        try:
            done = await self.ledger.perform(payment, due.step, due.work, due.known)
        except CyxError as error:
            await self._turn(_Turn(payment.id, due, error, follow=False))
            raise
        return await self._turn(_Turn(payment.id, due, done, follow))

    async def _turns(self, turns: Sequence[_Turn]) -> Sequence[Due | None]:
        def unit(tx: Tx) -> Sequence[Due | None]:
            before = [turn.due for turn in turns if turn.due is not None]
            tx.gather(
                [turn.payment_id for turn in turns],
                [due.payment for due in before],
                [due.job for due in before if due.job is not None],
            )
            tx.save_movements([each for turn in turns if isinstance(turn.done, Done) for each in turn.done.ended])
            accounts: Accounts = {}
            found = [self._take(tx, turn, accounts) for turn in turns]
            unread = [due.payment for due in found if due is not None and due.known is None]
            known = dict(zip((each.id for each in unread), self.ledger.known(tx, unread), strict=True))
            return [due and replace(due, known=known.get(due.payment.id, due.known)) for due in found]

        return await self._store.write(unit)

    def _take(self, tx: Tx, turn: _Turn, accounts: Accounts) -> Due | None:
        due, done = turn.due, turn.done
        if due is None or done is None:
            return self._look(tx, turn.payment_id, accounts)
        if isinstance(done, CyxError):
            self._put_off(tx, due.payment, due.step, done)
            return None
        moved = self._apply(tx, due, done)
        if moved is None:
            return self._look(tx, turn.payment_id, accounts) if turn.follow else None
        if turn.follow and moved.open:
            known = {each.reference: each for each in (*(due.known or ()), *done.ended)}
            return self._look_at(tx, moved, stored=due.payment, accounts=accounts, known=list(known.values()))
        tx.save_payment(replace(moved, job_version=-1) if moved.open else moved)
        return None

    def _look(self, tx: Tx, payment_id: str, accounts: Accounts) -> Due | None:
        payment = tx.payment(payment_id)
        if payment is None or not payment.open:
            return None
        return self._look_at(tx, payment, stored=payment, accounts=accounts)

    def _look_at(
        self,
        tx: Tx,
        payment: Payment,
        *,
        stored: Payment,
        accounts: Accounts,
        known: Sequence[Movement] | None = None,
    ) -> Due | None:
        """What is due of an open payment, which is saved if it is not as it is stored."""
        job = tx.job(payment.job_id)
        work = self._work(tx, payment, job, accounts)
        looked, step = look(payment, work, tx.now)
        due_at = None
        if step is not None:
            due_at = tx.now + RETRY_MOST  # even if this process ends before the step is written down
        elif work.running and looked.streams:
            due_at = (looked.milestone_at or tx.now) + timedelta(seconds=looked.interval_seconds)
            due_at = due_at if due_at > tx.now else tx.now + LOOK_AGAIN
        looked = replace(looked, job_version=job.version if job else -1, due_at=due_at)
        if job is not None:
            self._watch_funds(tx, payment, looked, job, work)
            keep_from_running_unpaid(tx, payment, job)
        if step is None:
            if looked != stored:
                tx.save_payment(looked)
            return None
        return Due(tx.save_payment(looked), step, work, known, job)

    def _work(self, tx: Tx, payment: Payment, job: Job | None, accounts: Accounts) -> Work:
        closing = tx.now >= payment.deadline - CLOSING
        if job is None or (closing and job.state is not JobState.COMPLETED):
            return replace(NO_WORK, node=payment.node, node_id=payment.node_id, ended=True)
        # Nothing is earned before it runs: the assignment comes after, and holds up no start.
        node_id = job.node_id if job.ended or job.state in (JobState.RUNNING, JobState.PAUSED) else None
        if payment.member and node_id and job.token is not None:
            mine = (each for each in tx.leases_of(job.id) if each.group == job.token and each.rank == payment.member)
            node_id = next((each.node_id for each in mine), None)
        # A node is paid where it was when it was assigned.
        account = payment.node if node_id == payment.node_id else ""
        if node_id and not account:
            account = self._account_of(tx, node_id, accounts)
        completed = job.state is JobState.COMPLETED
        known = tx.payments_of(job.id) if payment.number or completed else ()
        others = [each for each in known if each.member == payment.member and each.id != payment.id]
        before = [each for each in others if each.number < payment.number]
        full = all(each.earned_units >= each.amount_units for each in before if each.open)
        cost = None
        if job.state is JobState.COMPLETED:
            share = _share(tx, job, payment.member)
            covered = sum(_covers(each, payment) for each in others if each.id != payment.id)
            cost = max(0, min(payment.amount_units, share - covered))
        # Of a gang that goes on with fewer, who is not there any more earns nothing.
        running = job.state is JobState.RUNNING and full and node_id is not None
        return Work(
            account,
            node_id if account else None,
            ended=job.ended,
            cost_units=cost,
            progress=job.progress,
            attempt=job.attempts,
            running=running,
            most_units=_asked(tx, payment, job, node_id, others) if running and payment.streams and node_id else None,
        )

    def _account_of(self, tx: Tx, node_id: NodeId, accounts: Accounts) -> str:
        if node_id not in accounts:
            node = tx.node(node_id)
            accounts[node_id] = self.ledger.node_account(node) if node is not None else ""
        return accounts[node_id]

    def _watch_funds(self, tx: Tx, before: Payment, now: Payment, job: Job, work: Work) -> None:
        """Tells the owner when a job's money runs low, and sets the job aside before it is all earned."""
        if now.earned_units == before.earned_units or job.ended:
            return
        others = [each for each in tx.payments_of(job.id) if each.member == now.member and each.id != now.id]
        # A top-up counts once it is locked: its owner may have promised the same money to several jobs.
        if any(each.number > now.number and each.state in HELD for each in others):
            return
        if before.earned_units < LOW * now.amount_units <= now.earned_units:
            amount, earned = format_cyxwiz(now.amount_units), format_cyxwiz(now.earned_units)
            tx.emit(JobFundsLow(job.id, job.owner_id, amount, earned), private_to=job.owner_id)
        seconds = min(now.interval_seconds, _time_left(tx, job))
        next_interval = now.earned_units + int(now.rate_at(priced=work.priced) * seconds)
        if next_interval > now.amount_units:
            self._set_aside(tx, job, OUT_OF_FUNDS)

    def _set_aside(self, tx: Tx, job: Job, why: str) -> None:
        """Has a job save itself and pause, until there is money again. Nodes of the earlier kind can't."""
        node = tx.node(job.node_id) if job.node_id else None
        if job.state is JobState.RUNNING and job.intent is Intent.RUN and node is not None and not node.legacy:
            job = leases.pause(tx, job, "the platform")
            tx.save_job(replace(job, reason=f"{why}: `cyxwiz jobs topup {job.id} AMOUNT` lets it go on"))

    def _apply(self, tx: Tx, due: Due, done: Done) -> Payment | None:
        """The payment with what the ledger did, to be saved. None when somebody else was faster: the ledger did it once
        all the same, and the next look sees the rest. That somebody else looked at it meanwhile changes nothing: two
        centrals would keep each other from ever writing down what they did."""
        step = Step.PAY if done.more else due.step
        payment = tx.payment(due.payment.id)
        if payment is None or payment.done != due.payment.done:
            return None
        moved = after(payment, step, due.work, done, tx.now)
        tell(tx, moved, step, done)
        if not moved.open:
            _tell_cost(tx, moved)
        job = tx.job(payment.job_id) if step is Step.LOCK or done.over else None
        if job is not None and not job.ended:
            if step is Step.LOCK:
                job = allow(tx, job, moved.amount_units) if moved.number else job
                self.funded(tx, job, locked=moved)
            else:
                self._set_aside(tx, job, STOPPED if done.stopped else GONE)
        return moved

    def funded(self, tx: Tx, job: Job, locked: Payment | None = None) -> Job:
        """The job may start, or go on, once all of its payments are locked, of which `locked` is about to be saved."""
        waiting = [each for each in tx.payments_of(job.id) if each.state is PaymentState.PENDING]
        if any(locked is None or each.id != locked.id for each in waiting):
            return job
        if job.phase is Phase.AWAITING_PAYMENT and job.state is JobState.PENDING:
            job = tx.save_job(replace(job, phase=Phase.QUEUED, reason="waiting for the scheduler"))
            tx.hint(leases.QUEUE)
        elif job.reason.startswith(WANTING) and (job.state is JobState.PAUSED or job.intent is Intent.PAUSE):
            job = leases.resume(tx, job, "the platform", paid=True)
        return job

    def _put_off(self, tx: Tx, seen: Payment, step: Step, error: CyxError) -> None:
        payment = tx.payment(seen.id)
        if payment is None or not payment.open:
            return
        job = tx.job(payment.job_id)
        if error.code is Code.FUNDS and step is Step.LOCK and payment.number == 0 and job is not None and not job.ended:
            leases.fail(tx, job, Code.FUNDS.value, error.message)
        elif job is not None and job.phase is Phase.AWAITING_PAYMENT and job.state is JobState.PENDING:
            reason = f"waiting for its payment: {error.message}"[: leases.MAX_REASON]
            if job.reason != reason:
                tx.save_job(replace(job, reason=reason))
        attempts = payment.attempts + 1
        wait = min(RETRY * 2 ** min(attempts - 1, 10), RETRY_MOST)
        tx.save_payment(
            replace(payment, attempts=attempts, error=error.message[: leases.MAX_REASON], due_at=tx.now + wait)
        )

    async def take_up(self) -> None:
        """Has all open payments looked at now: what a central that is gone had in hand would be only when it was given
        up for lost. Where another central has some in hand, the ledger still does each step once."""
        await self._store.write(lambda tx: tx.hurry_payments())

    async def due(self, limit: int) -> tuple[Sequence[str], float]:
        """Payments to drive now, and the seconds until the next one is due by the clock."""

        def unit(tx: Tx) -> tuple[Sequence[str], float]:
            ids = tx.due_payment_ids(limit)
            at = tx.next_payment_at()
            return ids, 3600.0 if at is None else max(0.0, (at - tx.now).total_seconds())

        return await self._store.read(unit)


def allow(tx: Tx, job: Job, units: int) -> Job:
    """The job, which may cost so much more: a top-up of so many units is locked."""
    limit = job.spec.max_price_units
    if not limit or not units:
        return job
    return tx.save_spec(replace(job, spec=replace(job.spec, max_price_units=min(limit + units, MAX_UNITS))))


def _share(tx: Tx, job: Job, member: int) -> int:
    """What a member's payments have of a completed job's cost: the members that ended it share that equally."""
    lead = tx.lease(job.id, job.token) if job.token is not None else None
    world = lead.world if lead is not None else job.spec.resources.nodes
    if member >= world:
        return 0
    return job.actual_cost_units // world + (job.actual_cost_units % world if member == 0 else 0)


def _asked(tx: Tx, payment: Payment, job: Job, node_id: NodeId, others: Sequence[Payment]) -> int | None:
    """What a payment's member has cost so far at its node's own prices, less what others of its payments have of it;
    None for a node that has set none, which the tariff pays."""
    lead = tx.lease(job.id, job.token) if job.token is not None else None
    group = leases.members(tx, lead) if lead is not None else ()
    lease = next((each for each in group if each.rank == payment.member and each.node_id == node_id), None)
    if lease is None or lease.pricing is None:
        return None
    seconds = job.compute_seconds / lease.world + max(0.0, (tx.now - lease.issued_at).total_seconds())
    units = quote(needs_of(job.spec, seconds, 1, epochs_done(job)), lease.pricing).units
    return max(0, units - sum(_covers(each, payment) for each in others))


def _covers(other: Payment, payment: Payment) -> int:
    """How much of a job's cost is not this payment's, as another of the same member pays it: earlier ones first, and
    none more than it holds, or than it had paid when it ended."""
    if other.state not in HELD:
        return other.paid_units
    return other.amount_units if other.number < payment.number else other.earned_units


def _tell_cost(tx: Tx, ended: Payment) -> None:
    """A job has cost what was paid of it, whatever its price: it may not have been completed, or others than the
    platform have ended its payments."""
    job = tx.job(ended.job_id)
    if job is None or not job.ended:
        return
    paid = paid_of([ended, *(each for each in tx.payments_of(job.id) if each.id != ended.id)])
    if paid is not None and paid != job.actual_cost_units:
        tx.save_job(replace(job, actual_cost_units=paid))


def tell(tx: Tx, payment: Payment, step: Step, done: Done) -> None:
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


def _time_left(tx: Tx, job: Job) -> float:
    """Seconds after which a job's node ends it: what is locked for all of its time is enough to its end."""
    lease = tx.lease(job.id, job.token) if job.token is not None else None
    ran = (tx.now - lease.issued_at).total_seconds() if lease is not None else 0.0
    return max(0.0, job.spec.resources.max_duration_seconds - job.compute_seconds - ran)
