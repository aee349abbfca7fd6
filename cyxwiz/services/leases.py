"""Moving a job between its owner, the queue and the nodes: the transitions that more than one use case needs.

All of it runs inside a unit of the store. A lease is fenced by the existence of a newer one: one that expired revives
when its node speaks again before the job was given away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cyxwiz.config import Scheduler
from cyxwiz.domain.errors import conflict
from cyxwiz.domain.events import (
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobPreempted,
    JobRequeued,
    JobResumed,
    JobRevived,
    JobStarted,
)
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import YIELDED, Intent, Job, Lease, Phase
from cyxwiz.domain.payment import paid_of
from cyxwiz.domain.states import JobState, JobTrigger, LeaseState, LeaseTrigger, PaymentState
from cyxwiz.ports.store import Tx

DISBANDED = "its group was disbanded: "  # how the reason of a lease begins that ended for another member's sake
QUEUE = "queue"  # hint: something may be placed now
LEASES = "leases"  # hint prefix: the set of leases of a node changed


MAX_REASON = 500  # characters: it may be a node's own word
PAUSING = "pausing: its run saves a checkpoint"
SHORT_RUN = timedelta(seconds=10)
BOUNDED = 3  # what of a lease takes `max_duration` at most: the fetch of its data, of its packages, and the run
BESIDES = timedelta(hours=1)  # for all else, such as the upload of a result
LOST_PEER = "UNAVAILABLE"  # the failure of a gang's member that another member left alone: charged to nobody


def lease_topic(node_id: NodeId) -> str:
    return f"{LEASES}:{node_id}"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    max_retries: int
    max_node_losses: int
    backoff: timedelta
    backoff_max: timedelta

    @staticmethod
    def of(config: Scheduler) -> RetryPolicy:
        return RetryPolicy(
            config.max_retries,
            config.max_node_losses,
            timedelta(milliseconds=config.retry_backoff_ms),
            timedelta(milliseconds=config.retry_backoff_max_ms),
        )

    def wait(self, failures: int) -> timedelta:
        """The wait before try number `failures` + 1: doubles each time, up to the maximum."""
        return min(self.backoff_max, self.backoff * 2 ** min(30, max(0, failures - 1)))


def live(tx: Tx, node_id: NodeId) -> Sequence[tuple[Job, Lease]]:
    """The node's live leases with their jobs, as they are once the job is locked: the job's lock guards its leases."""
    found: list[tuple[Job, Lease]] = []
    for listed in tx.live_leases(node_id):
        job, lease = tx.job(listed.job_id), tx.lease(listed.job_id, listed.token)
        if job is not None and lease is not None and lease.live:
            found.append((job, lease))
    return found


def issue(tx: Tx, job: Job, *node_ids: NodeId) -> Lease:
    """Gives a pending job to a node, or to the members of a gang: all of them hold a lease of one group, or none does.

    Returns the first member's lease. Raises CONFLICT or STALE if the job is no longer there to give.
    """
    made = [
        Lease(
            job.id, tx.next_token(), node_id, tx.now, rank=rank, world=len(node_ids), pricing=tx.node_pricing(node_id)
        )
        for rank, node_id in enumerate(node_ids)
    ]
    lease, others = made[0], [replace(each, lead=made[0].token.counter) for each in made[1:]]
    node_id = lease.node_id
    saved = tx.checkpoints(job.id, 1) if job.attempts else ()
    tx.save_job(
        job.move(
            JobTrigger.LEASE,
            node_id=node_id,
            token=lease.token,
            attempts=job.attempts + 1,
            progress=saved[0].progress if saved and saved[0].kept else 0.0,
            phase=Phase.STARTING,
            not_before=None,
            reason="",
        )
    )
    for each in (lease, *others):
        tx.add_lease(each)
        tx.hint(lease_topic(each.node_id))
    tx.emit(JobAssigned(job.id, job.owner_id, node_id, str(lease.token), job.attempts + 1), private_to=job.owner_id)
    return lease


def members(tx: Tx, lease: Lease) -> Sequence[Lease]:
    """The leases of its group, in the order of their ranks; of a lease that is no gang's, itself."""
    return [lease] if lease.world == 1 else [each for each in tx.leases_of(lease.job_id) if each.group == lease.group]


def accept(tx: Tx, job: Job, lease: Lease, boot_id: str) -> tuple[Job, Lease]:
    """The node's child is up. A gang's job runs from its first member's word on."""
    lease = lease.move(LeaseTrigger.ACCEPT, boot_id=boot_id)
    tx.save_lease(lease)
    if lease.rank:
        return job, lease
    job = tx.save_job(job.move(JobTrigger.ACCEPT, phase=Phase.STARTING, started_at=job.started_at or tx.now))
    tx.emit(JobStarted(job.id, job.owner_id, lease.node_id), private_to=job.owner_id)
    return job, lease


def end(tx: Tx, lease: Lease, reason: str) -> Lease:
    """The lease is over: its node gets nothing more for it, and its slot is free."""
    lease = lease.move(LeaseTrigger.END, ended_at=tx.now, end_reason=reason[:MAX_REASON])
    tx.save_lease(lease)
    tx.hint(lease_topic(lease.node_id), QUEUE)
    return lease


def end_group(tx: Tx, lease: Lease, reason: str) -> None:
    """The lease is over, and with it those of the other members of its gang."""
    end(tx, lease, reason)
    for other in members(tx, lease) if lease.world > 1 else ():
        if other.token != lease.token and other.state is not LeaseState.ENDED:
            end(tx, other, f"{DISBANDED}{reason.removeprefix(DISBANDED)}")


def longest(job: Job) -> timedelta:
    """How long a node may hold the job that keeps to its `max_duration`."""
    return BOUNDED * timedelta(seconds=job.spec.resources.max_duration_seconds) + BESIDES


def expire(tx: Tx, job: Job, lease: Lease, policy: RetryPolicy, reason: str) -> Job:
    """The node went silent: the job waits for another, or for that one to speak again. A gang does not wait for it."""
    if lease.world > 1:
        end_group(tx, lease, reason)
        return lose(tx, job, lease.node_id, policy, reason)
    tx.save_lease(lease.move(LeaseTrigger.EXPIRE, ended_at=tx.now, end_reason=reason))
    tx.hint(lease_topic(lease.node_id))
    return lose(tx, job, lease.node_id, policy, reason)


def lose(tx: Tx, job: Job, node_id: NodeId, policy: RetryPolicy, reason: str) -> Job:
    """Back to the queue without a failure charged; after too many lost nodes the job fails."""
    losses = job.node_losses + 1
    if losses > policy.max_node_losses:
        message = f"{losses} nodes went away under this job, the last one because: {reason}"
        return fail(tx, job, "UNAVAILABLE", message, node_losses=losses)
    return _requeue(tx, job, JobTrigger.LOSE, node_id, reason, node_losses=losses)


def drop(tx: Tx, job: Job, lease: Lease, policy: RetryPolicy, reason: str) -> None:
    """Takes a live lease from its node at once; its job, if it still is this lease's, goes elsewhere."""
    end_group(tx, lease, reason)
    if job.token == lease.group and not job.ended:
        lose(tx, job, lease.node_id, policy, reason)


def decline(tx: Tx, job: Job, lease: Lease, policy: RetryPolicy, reason: str) -> Job:
    """The node would not take it: elsewhere, uncharged, after a wait that grows with each try."""
    reason = reason[:MAX_REASON]
    end_group(tx, lease, f"declined: {reason}")
    return _requeue(
        tx, job, JobTrigger.DECLINE, lease.node_id, f"declined: {reason}", not_before=tx.now + policy.wait(job.attempts)
    )


def retry_or_fail(tx: Tx, job: Job, lease: Lease, policy: RetryPolicy, code: str, message: str, retryable: bool) -> Job:
    """The run failed. Another try is charged to the job, until `max_retries` are used up."""
    if lease.world > 1 and code == LOST_PEER:
        reason = f"member {lease.rank} lost another one: {message}"[:400]
        end_group(tx, lease, f"{DISBANDED}{reason}")
        return lose(tx, job, lease.node_id, policy, reason)
    end_group(tx, lease, f"failed: {message}")
    if not retryable or job.retry_count >= policy.max_retries:
        return fail(tx, job, code, message)
    failures = job.retry_count + 1
    return _requeue(
        tx,
        job,
        JobTrigger.RETRY,
        lease.node_id,
        message,
        retry_count=failures,
        not_before=tx.now + policy.wait(failures),
    )


def fail(tx: Tx, job: Job, code: str, message: str, **changes: object) -> Job:
    job = tx.save_job(
        job.move(
            JobTrigger.FAIL,
            phase=Phase.NONE,
            intent=Intent.RUN,
            error=message,
            error_code=code,
            reason="",
            completed_at=tx.now,
            actual_cost_units=_cost(tx, job),
            **changes,
        )
    )
    tx.emit(JobFailed(job.id, job.owner_id, code, message), private_to=job.owner_id)
    tx.hint(QUEUE)
    return job


def revive(tx: Tx, job: Job, lease: Lease) -> tuple[Job, Lease]:
    """The silent node speaks again, and nobody else has the job: it goes on, and no lost node is counted."""
    lease = lease.move(LeaseTrigger.REVIVE, ended_at=None, end_reason="")
    tx.save_lease(lease)
    job = tx.save_job(
        job.move(
            JobTrigger.REVIVE,
            phase=Phase.TRAINING,
            node_id=lease.node_id,
            node_losses=max(0, job.node_losses - 1),
            reason="",
            not_before=None,
            started_at=job.started_at or tx.now,
        )
    )
    tx.emit(JobRevived(job.id, job.owner_id, lease.node_id), private_to=job.owner_id)
    tx.hint(lease_topic(lease.node_id))
    return job, lease


def pause(tx: Tx, job: Job, by: str) -> Job:
    """Sets a job aside. A run is told to save a checkpoint first, and goes on until it has.

    Raises:
        CyxError: CONFLICT for a job that has ended or is paused, or whose node knows no checkpoints.
    """
    lease = tx.lease(job.id, job.token) if job.token else None
    if job.phase is Phase.VERIFYING:
        raise conflict(f"Job {job.id} is done: its result is being verified")
    if job.state is JobState.RUNNING and lease is not None:
        if job.intent is Intent.PAUSE:
            return job
        node = tx.node(lease.node_id)
        if node is not None and node.legacy:
            raise conflict(f"Job {job.id} runs on a node of the earlier kind, which saves no checkpoints: cancel it")
        return _ask(tx, job, lease, Intent.PAUSE, PAUSING)
    if lease is not None and lease.state is not LeaseState.ENDED:
        end_group(tx, lease, "paused")
    return _paused(tx, job, by)


def resume(tx: Tx, job: Job, by: str, *, paid: bool = False) -> Job:
    """Lets a paused job go on from its last checkpoint; one whose run is still saving comes back by itself. `paid`: all
    of its money is there, whatever its payments' rows still say.

    Raises:
        CyxError: CONFLICT for a job that is not paused.
    """
    if job.state is JobState.RUNNING and job.intent is Intent.PAUSE:
        job = tx.save_job(replace(job, intent=Intent.MOVE, reason=""))
    else:
        payments = tx.payments_of(job.id)
        over = bool(payments) and not any(payment.open for payment in payments)
        unpaid = not paid and (over or any(payment.state is PaymentState.PENDING for payment in payments))
        phase = Phase.AWAITING_PAYMENT if unpaid else Phase.QUEUED
        reason = f"waiting for {'its payment' if unpaid else 'the scheduler'}"
        if unpaid and over:
            reason = f"its payment has ended: `cyxwiz jobs topup {job.id} AMOUNT` lets it go on"
        job = tx.save_job(job.move(JobTrigger.RESUME, phase=phase, not_before=None, reason=reason))
    tx.emit(JobResumed(job.id, job.owner_id, by), private_to=job.owner_id)
    tx.hint(QUEUE)
    return job


def preempt(tx: Tx, job: Job, lease: Lease, reason: str, by: str) -> Job:
    """Takes a run away from its node: with a checkpoint if it has begun, else at once."""
    if job.intent is Intent.RUN:
        tx.emit(JobPreempted(job.id, job.owner_id, lease.node_id, by, reason), private_to=job.owner_id)
    if lease.state is LeaseState.OFFERED:
        end_group(tx, lease, f"{YIELDED}{reason}")
        return _requeue(tx, job, JobTrigger.YIELD, lease.node_id, reason)
    if job.intent is not Intent.RUN:
        return job
    return _ask(tx, job, lease, Intent.MOVE, reason)


def _ask(tx: Tx, job: Job, lease: Lease, intent: Intent, reason: str) -> Job:
    job = tx.save_job(replace(job, intent=intent, reason=reason[:MAX_REASON]))
    tx.hint(*(lease_topic(each.node_id) for each in members(tx, lease)), f"job:{job.id}", "progress")
    return job


def yielded(tx: Tx, job: Job, lease: Lease, policy: RetryPolicy, reason: str) -> Job:
    """The node stopped with a checkpoint, asked to or for its owner's sake, or as the job's script wanted it: the job
    goes on elsewhere or waits. Runs that give themselves back one after the other as soon as they began are begun again
    after a wait that grows."""
    unasked = job.intent is Intent.RUN
    if job.intent is Intent.MOVE and job.reason:
        reason = job.reason  # why it was asked to, in our own words
    end_group(tx, lease, f"{YIELDED}{reason}")
    before = _short_yields(tx, lease) if unasked and tx.now - lease.issued_at < SHORT_RUN else 0
    not_before = tx.now + policy.wait(before) if before else None
    return _requeue(tx, job, JobTrigger.YIELD, lease.node_id, reason, not_before=not_before)


def _short_yields(tx: Tx, lease: Lease) -> int:
    """How many runs just before this one were given back as soon as they began."""
    count = 0
    for each in reversed(tx.leases_of(lease.job_id)):
        if each.rank or each.token == lease.token:
            continue
        if not each.end_reason.startswith(YIELDED) or (each.ended_at or tx.now) - each.issued_at >= SHORT_RUN:
            break
        count += 1
    return count


def refused(tx: Tx, job: Job, node_id: NodeId, reason: str) -> Job:
    """The result that was held of it was refused: it begins again."""
    return _requeue(tx, job, JobTrigger.RETRY, node_id, reason, retry_count=job.retry_count + 1)


def _paused(tx: Tx, job: Job, by: str) -> Job:
    # Why it was asked to, if that was said: a job without funds goes on by itself when there are some.
    reason = job.reason if job.intent is Intent.PAUSE and job.reason != PAUSING else f"paused by {by}"
    job = job.move(JobTrigger.PAUSE, phase=Phase.NONE, node_id=None, intent=Intent.RUN, reason=reason)
    job = tx.save_job(replace(job, not_before=None))
    tx.emit(JobPaused(job.id, job.owner_id, by), private_to=job.owner_id)
    tx.hint(QUEUE)
    return job


def check_cancel(job: Job) -> None:
    """Raises CONFLICT for a job that has ended, and for one whose work is done: it would be had for nothing."""
    if job.ended:
        raise conflict(f"Job cannot be cancelled: it is {job.state}", state=str(job.state))
    if job.phase is Phase.VERIFYING:
        raise conflict("Job cannot be cancelled: it is done, and its result is being verified", state=str(job.state))


def cancel(tx: Tx, job: Job, by: str, reason: str) -> Job:
    """Ends a job by command; whoever runs it is told to stop."""
    open_lease = tx.lease(job.id, job.token) if job.token else None
    job = job.move(JobTrigger.CANCEL, phase=Phase.NONE, intent=Intent.RUN, reason="", error=reason, completed_at=tx.now)
    job = tx.save_job(replace(job, actual_cost_units=_cost(tx, job)))
    if open_lease is not None and open_lease.state is not LeaseState.ENDED:
        end_group(tx, open_lease, "cancelled")
    tx.emit(JobCancelled(job.id, job.owner_id, by, reason), private_to=job.owner_id)
    return job


def _cost(tx: Tx, job: Job) -> int:
    """What was paid for a job that ends after all of its payments; of one that is open, the end tells it."""
    paid = paid_of(tx.payments_of(job.id))
    return job.actual_cost_units if paid is None else paid


def _requeue(tx: Tx, job: Job, trigger: JobTrigger, node_id: NodeId, reason: str, **changes: object) -> Job:
    if job.intent is Intent.PAUSE:
        return _paused(tx, replace(job, **changes), "its owner")  # type: ignore[arg-type]
    job = job.move(
        trigger, phase=Phase.QUEUED, node_id=None, intent=Intent.RUN, reason=f"waiting again: {reason}"[:MAX_REASON]
    )
    job = tx.save_job(replace(job, **changes))  # type: ignore[arg-type]
    tx.emit(JobRequeued(job.id, job.owner_id, node_id, reason), private_to=job.owner_id)
    tx.hint(QUEUE)
    return job
