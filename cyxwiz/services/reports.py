"""What nodes report, applied to the store: guarded by the lease, in order, each once."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cyxwiz.domain.errors import Code, CyxError, invalid, stale
from cyxwiz.domain.events import JobCheckpointed, JobCompleted
from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.job import (
    FETCHED,
    MAX_COUNT,
    MAX_LOG_MESSAGE,
    MAX_LOG_WORD,
    MAX_METRIC_NAME,
    MAX_METRICS,
    Checkpoint,
    Intent,
    Job,
    JobResult,
    Lease,
    LogLine,
    MetricPoint,
    Phase,
    ResultFile,
    check_result_names,
)
from cyxwiz.domain.payment import Tariff, paid_of
from cyxwiz.domain.reputation import Kind, ReputationEvent, fault, good_metrics
from cyxwiz.domain.states import JobState, JobTrigger, LeaseState
from cyxwiz.domain.verification import Mode
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import BlobInfo, Tx
from cyxwiz.scheduler.price import epochs_done
from cyxwiz.services import leases, proofs
from cyxwiz.services.leases import RetryPolicy
from cyxwiz.services.pricing import cost_of
from cyxwiz.services.reputation import Reputation
from cyxwiz.services.verification import Verifying

log = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
RELEASED_STAY = timedelta(minutes=10)
DROP_BLOB = "drop_blob"  # the outbox's kind


@dataclass(frozen=True, slots=True)
class Reporting:
    """How reports change jobs: the policies that they need."""

    policy: RetryPolicy
    tariff: Tariff
    reputation: Reputation
    verifying: Verifying

    def apply(self, tx: Tx, node_id: NodeId, boot_id: str, reports: Sequence[pb.Report]) -> Lease:
        """Applies one lease's reports, in order; returns the lease, with the highest seq committed.

        Reports already applied are passed over; after a gap nothing is applied, so that the node sends from there.

        Raises:
            CyxError: STALE if the lease is not the node's or no longer counts; INVALID for a report that is out of
                bounds, in which case nothing of the batch is stored.
        """
        job_id, token = JobId(reports[0].job_id), token_of(reports[0].token)
        job, lease = held(tx, node_id, job_id, token)
        ordered = sorted((r for r in reports if r.seq > lease.last_seq), key=lambda r: r.seq)
        if not ordered:
            return lease
        if lease.state is LeaseState.ENDED:
            raise stale(f"Lease {token} of job {job_id} is over: {lease.end_reason or 'ended'}")
        if lease.state is LeaseState.EXPIRED:
            job, lease = leases.revive(tx, job, lease)
        for kind, group in _together(ordered, lease.last_seq):
            lease = replace(lease, last_seq=group[-1].seq)
            job, lease = self._some(tx, job, lease, boot_id, kind, group)
            if lease.state is LeaseState.ENDED:
                break
        tx.save_lease(lease)
        return lease

    def _some(
        self, tx: Tx, job: Job, lease: Lease, boot_id: str, kind: str, group: Sequence[pb.Report]
    ) -> tuple[Job, Lease]:
        """Applies points of the curve, or one report of another kind."""
        report = group[-1]
        if lease.state is LeaseState.OFFERED:
            job, lease = leases.accept(tx, job, lease, boot_id)
        if lease.rank:
            return self._of_member(tx, job, lease, report)
        at = instant(report.at_ms, tx.now)
        if kind == "first_step":
            job = tx.save_job(replace(job, first_step_at=job.first_step_at or at, phase=Phase.TRAINING))
            tx.hint(f"job:{job.id}", "progress")
        elif kind == "progress":
            job = self.progress(tx, job, [(each.progress, instant(each.at_ms, tx.now)) for each in group])
        elif kind == "logs":
            self._logs(tx, job, report.logs)
        elif kind == "uploading":
            job = tx.save_job(replace(job, phase=Phase.UPLOADING))
            tx.hint(f"job:{job.id}", "progress")
        elif kind == "finished":
            job, lease = self.finish(tx, job, lease, report.finished)
        elif kind == "failed":
            failed, whose = report.failed, _whose(job, lease, report.failed)
            retryable = failed.retryable or _went_on_in_vain(tx, job, lease, failed)
            if not retryable:  # what another node does again is not paid for twice
                job = _charged(tx, job, lease, failed.compute_seconds)
            code = failed.code[:MAX_LOG_WORD] or "INTERNAL"
            job = leases.retry_or_fail(tx, job, lease, self.policy, code, failed.message[:2000], retryable)
            self.failed(tx, lease, whose, failed.message)
            lease = ended(tx, lease)
        elif kind == "link":
            proofs.take_link(tx, job, lease, report.link)
        elif kind == "checkpoint":
            self._checkpoint(tx, job, lease, report.checkpoint, at)
        elif kind == "preempted":
            job = _charged(tx, job, lease, report.preempted.compute_seconds)
            job = leases.yielded(tx, job, lease, self.policy, report.preempted.reason[:400] or "its node gave it back")
            lease = ended(tx, lease)
        elif kind == "cancelled":
            leases.end_group(tx, lease, "ended by its node")
            job = leases.lose(tx, job, lease.node_id, self.policy, "its node ended it")
            lease = ended(tx, lease)
        return job, lease

    def _of_member(self, tx: Tx, job: Job, lease: Lease, report: pb.Report) -> tuple[Job, Lease]:
        """Of a gang's member that is not its first: its logs, and how it ended. The first one speaks for the job."""
        kind = report.WhichOneof("body")
        if kind == "logs":
            for line in report.logs.lines:
                line.source = f"{line.source or 'job'}@{lease.rank}"
            self._logs(tx, job, report.logs)
        elif kind == "preempted":  # its part is done: the first member ends the group
            leases.end(tx, lease, report.preempted.reason[:400] or "its part is done")
            lease = ended(tx, lease)
        elif kind == "failed":
            failed, whose = report.failed, _whose(job, lease, report.failed)
            retryable = failed.retryable or _went_on_in_vain(tx, job, lease, failed)
            code = failed.code[:MAX_LOG_WORD] or "INTERNAL"
            job = leases.retry_or_fail(tx, job, lease, self.policy, code, failed.message[:2000], retryable)
            self.failed(tx, lease, whose, failed.message)
            lease = ended(tx, lease)
        elif kind == "cancelled":
            leases.end_group(tx, lease, "ended by its node")
            job = leases.lose(tx, job, lease.node_id, self.policy, "its node ended it")
            lease = ended(tx, lease)
        elif kind not in ("started", "first_step"):
            raise invalid(f"{kind}: only the first member of a gang reports it, this is member {lease.rank}")
        return job, lease

    def progress(self, tx: Tx, job: Job, reports: Sequence[tuple[pb.Progress, datetime]]) -> Job:
        """Stores points of the curve, each with its time. Raises INVALID for one that is out of bounds."""
        offset = tx.last_metric_offset(job.id)
        points: list[MetricPoint] = []
        metrics = job.metrics
        for number, (report, at) in enumerate(reports, 1):
            told = check_metrics(report.metrics)
            progress = share(report.progress, "progress")
            if report.epoch > job.spec.epochs:
                raise invalid(f"epoch: {report.epoch} is past the last one, {job.spec.epochs}", field="epoch")
            points.append(
                MetricPoint(offset + number, at, job.attempts, report.epoch, progress, report.epoch_ended, told)
            )
            metrics = _merged(job.id, metrics, told)
        tx.add_metrics(job.id, points)
        tx.hint(f"job:{job.id}", "progress")
        last = points[-1]
        return tx.save_job(
            replace(
                job,
                progress=last.progress,
                epoch=last.epoch,
                metrics=metrics,
                phase=Phase.TRAINING,
                first_step_at=job.first_step_at or points[0].at,
            )
        )

    def _checkpoint(self, tx: Tx, job: Job, lease: Lease, report: pb.Checkpoint, at: datetime) -> None:
        """Takes a checkpoint, whose bytes must be stored here; the ones before the last are released."""
        if _uploaded(tx, lease.node_id, report.sha256, report.size) is None:
            raise CyxError(Code.CONFLICT, f"The checkpoint of job {job.id} was not uploaded whole: {report.sha256}")
        progress = share(report.progress, "progress")
        within = 1 <= report.epoch <= job.spec.epochs + 1 and max(report.batch, report.threads) < MAX_COUNT
        if not within or report.step >= 2**32:
            raise invalid("checkpoint: its epoch, batch, step or threads are out of bounds", field="checkpoint")
        proofs.check_checkpoint(tx, job, lease, report)
        known = tx.checkpoints(job.id, KEPT_CHECKPOINTS)
        number = known[0].number + 1 if known else 1
        tx.add_checkpoint(
            job.id,
            Checkpoint(
                number,
                at,
                lease.node_id,
                lease.token,
                report.epoch,
                report.batch,
                report.step,
                progress,
                report.threads,
                report.sha256,
                report.size,
                link=report.link,
            ),
        )
        spot = job.spec.verify is Mode.SPOT
        for old in self.verifying.surplus(tx, job) if spot else known[KEPT_CHECKPOINTS - 1 :]:
            release(tx, job.id, old)
        event = JobCheckpointed(job.id, job.owner_id, lease.node_id, number, report.epoch, report.step)
        tx.emit(event, private_to=job.owner_id)

    def _logs(self, tx: Tx, job: Job, logs: pb.Logs) -> None:
        offset = tx.last_log_offset(job.id)
        tx.add_logs(
            job.id,
            [
                LogLine(
                    offset + index,
                    instant(line.at_ms, tx.now),
                    line.level[:MAX_LOG_WORD] or "info",
                    line.source[:MAX_LOG_WORD] or "job",
                    line.message[:MAX_LOG_MESSAGE],
                )
                for index, line in enumerate(logs.lines, 1)
            ],
        )
        tx.hint(f"job:{job.id}", f"logs:{job.id}")

    def finish(self, tx: Tx, job: Job, lease: Lease, report: pb.Finished) -> tuple[Job, Lease]:
        """Takes the one result of a job: every file that it names must be stored here."""
        if not report.artefacts:
            raise invalid("finished: names no artefact; the first must be the model's weights", field="artefacts")
        check_result_names([artefact.name for artefact in report.artefacts])
        for artefact in report.artefacts:
            info = _uploaded(tx, lease.node_id, artefact.sha256, artefact.size)
            if info is None:
                raise CyxError(Code.CONFLICT, f"Artefact {artefact.name!r} was not uploaded whole: {artefact.sha256}")
        proof = proofs.check_result(tx, job, lease, report)
        report.compute_seconds = spent(tx, lease, report.compute_seconds)
        if not 0 <= report.energy_joules < math.inf:
            report.ClearField("energy_joules")
        check = job.spec.check
        if job.spec.verify is not Mode.NONE and self.verifying.hold(tx, job, lease, report, proof) is not None:
            return tx.job(job.id) or job, ended(tx, lease)
        for artefact in report.artefacts if check is None else ():
            tx.add_blob(BlobInfo(artefact.sha256, artefact.size, tx.now), job.owner_id)
        files = tuple(ResultFile(a.name, a.sha256, a.size) for a in report.artefacts)
        job = self.complete(
            tx,
            job,
            lease,
            files=files,
            uri=f"blob://sha256/{files[0].sha256}",
            hashed=f"sha256:{files[0].sha256}",
            size=files[0].size,
            metrics=check_metrics(report.final_metrics),
            seconds=report.compute_seconds,
            joules=report.energy_joules if report.HasField("energy_joules") else None,
        )
        tx.add_proof(proof)
        if check is not None:
            self.verifying.judged(tx, self, job, lease, report)
        return job, ended(tx, lease)

    def complete(
        self,
        tx: Tx,
        job: Job,
        lease: Lease,
        *,
        files: tuple[ResultFile, ...],
        uri: str,
        hashed: str,
        size: int,
        metrics: Mapping[str, float],
        seconds: float,
        joules: float | None = None,
    ) -> Job:
        total = job.compute_seconds + seconds * lease.world
        group = leases.members(tx, lease)
        cost = cost_of(job, group, self.tariff, total)
        # Its client may have ended all of its payments on the chain by now; in a reservation, that is what is paid.
        paid = 0 if job.spec.reservation_id else paid_of(tx.payments_of(job.id))
        tx.add_result(
            JobResult(job.id, lease.node_id, lease.token, files, uri, hashed, size, metrics, total, tx.now, joules)
        )
        if lease.state is not LeaseState.ENDED:  # as it is once the result was held to be verified
            leases.end_group(tx, lease, "completed")
        job = tx.save_job(
            job.move(
                JobTrigger.COMPLETE,
                phase=Phase.NONE,
                intent=Intent.RUN,
                progress=1.0,
                epoch=epochs_done(job),
                metrics=_merged(job.id, job.metrics, metrics),
                compute_seconds=total,
                actual_cost_units=cost if paid is None else paid,
                started_at=job.started_at or tx.now,
                completed_at=tx.now,
                reason="",
            )
        )
        for checkpoint in tx.kept_checkpoints(job.id):
            release(tx, job.id, checkpoint)
        tx.emit(JobCompleted(job.id, job.owner_id, lease.node_id, hashed), private_to=job.owner_id)
        first = tx.metrics(job.id, 0, 1)
        learned = bool(first) and good_metrics(first[0].metrics, metrics)
        kinds = (Kind.SUCCESS, Kind.GOOD_METRICS) if learned else (Kind.SUCCESS,)
        for member in group:
            node = tx.node(member.node_id)
            given = node is not None and not cost and bool(member.pricing) and node.owner_id != job.owner_id
            earned = [ReputationEvent(kind, job.id) for kind in (*kinds, *((Kind.FREE_WORK,) if given else ()))]
            self.reputation.record(tx, member.node_id, *earned, completed=1, seconds=seconds)
        return job

    def failed(self, tx: Tx, lease: Lease, kind: Kind, message: str) -> None:
        """Counts a failed run for its node."""
        event = ReputationEvent(kind, lease.job_id, message)
        self.reputation.record(tx, lease.node_id, event, failed=int(kind is Kind.FAILURE))


def _together(ordered: Sequence[pb.Report], last_seq: int) -> Iterator[tuple[str, Sequence[pb.Report]]]:
    """What follows `last_seq` without a gap, with its kind: points in a row together, others by themselves."""
    ready = [report for number, report in enumerate(ordered, last_seq + 1) if report.seq == number]
    for kind, group in itertools.groupby(ready, lambda report: report.WhichOneof("body") or ""):
        if kind == "progress":
            yield kind, list(group)
        else:
            yield from ((kind, [report]) for report in group)


def _went_on_in_vain(tx: Tx, job: Job, lease: Lease, failed: pb.Failed) -> bool:
    """Whether a run that has failed went on from another's checkpoint and came to no step: that checkpoint may be at
    fault, so it is let go, and the next run goes on from the one before it, or begins anew. Not of what the process of
    a script did, which may come far before it says anything."""
    began = job.spec.script is not None and failed.by_script
    kept = tx.kept_checkpoints(job.id) if job.phase is Phase.STARTING and not began else ()
    if not kept or kept[0].token == lease.group:
        return False
    release(tx, job.id, kept[0])
    return True


def _whose(job: Job, lease: Lease, failed: pb.Failed) -> Kind:
    """Whose fault a failed run is: its node's, if another node could do better and nobody else did it."""
    if lease.world > 1 and failed.code == leases.LOST_PEER:
        return Kind.LOST_PEER
    # It came to no step as its data were not to be had, by an address that anybody can write into a job, or the index
    # of its packages was away.
    fetched = job.spec.dataset_uri.partition(":")[0].lower() in FETCHED or job.spec.requirements
    if fetched and failed.code == Code.UNAVAILABLE and job.phase is Phase.STARTING:
        return Kind.UNREACHABLE
    return fault(failed.retryable, by_script=failed.by_script and job.spec.script is not None)


def spent(tx: Tx, lease: Lease, seconds: float) -> float:
    """The seconds that a run took, as its node says: no more than it has had its lease, as they are its bill."""
    held_for = (tx.now - lease.issued_at).total_seconds()
    return min(max(0.0, finite(seconds, "compute_seconds")), max(0.0, held_for))


def _charged(tx: Tx, job: Job, lease: Lease, seconds: float) -> Job:
    """The job with a run's time: that of its first member counts for every member of a gang."""
    return replace(job, compute_seconds=job.compute_seconds + spent(tx, lease, seconds) * lease.world)


def _uploaded(tx: Tx, node_id: NodeId, sha256: str, size: int) -> BlobInfo | None:
    """A stored blob that this node has sent itself: else it could give its job's owner what is somebody else's."""
    info = tx.blob(sha256)
    return info if info is not None and info.size == size and tx.sent_blob(sha256, node_id) else None


def release(tx: Tx, job_id: JobId, checkpoint: Checkpoint) -> None:
    """Its bytes may go, after a while in which a node may still be fetching them."""
    if checkpoint.kept:
        tx.release_checkpoint(job_id, checkpoint.number)
        release_blob(tx, f"{job_id}:{checkpoint.number}", checkpoint.sha256)


def release_blob(tx: Tx, key: str, sha256: str) -> None:
    """Its bytes may go, after a while; they stay if somebody came to own or need them."""
    tx.add_outbox(DROP_BLOB, key, {"sha256": sha256}, tx.now + RELEASED_STAY)


def held(tx: Tx, node_id: NodeId, job_id: JobId, token: Token) -> tuple[Job, Lease]:
    """The job and the lease if it is this node's and the newest of the job. Raises STALE otherwise."""
    job, lease = tx.job(job_id), tx.lease(job_id, token)
    if job is None or lease is None or lease.node_id != node_id:
        raise stale(f"This node holds no lease {token} of job {job_id}")
    if job.token != lease.group:
        raise stale(f"A newer lease of job {job_id} exists: {job.token} after {token}")
    if lease.state is LeaseState.EXPIRED and job.state is not JobState.PENDING:
        raise stale(f"Job {job_id} is {job.state}")
    return job, lease


def ended(tx: Tx, lease: Lease) -> Lease:
    """The lease as stored by whoever ended it, with the report counted that did."""
    stored = tx.lease(lease.job_id, lease.token)
    assert stored is not None
    return replace(stored, last_seq=lease.last_seq)


def check_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    if len(metrics) > MAX_METRICS:
        raise invalid(f"metrics: at most {MAX_METRICS} names, not {len(metrics)}", field="metrics")
    named = {name[:MAX_METRIC_NAME]: value for name, value in metrics.items()}
    return {name: finite(value, f"metrics.{name}") for name, value in named.items()}


def _merged(job_id: JobId, known: Mapping[str, float], told: Mapping[str, float]) -> dict[str, float]:
    """A job's figures with newer ones: of names that it has not yet, no more than MAX_METRICS allows in all."""
    merged = dict(known)
    for name, value in told.items():
        if name in merged or len(merged) < MAX_METRICS:
            merged[name] = value
    if len(known) < MAX_METRICS == len(merged):
        log.warning("job %s has %d figures, as many as are kept: those by other names are dropped", job_id, MAX_METRICS)
    return merged


def finite(value: float, field: str) -> float:
    if not math.isfinite(value):
        raise invalid(f"{field}: must be a finite number, not {value}", field=field)
    return value


def share(value: float, field: str) -> float:
    if not 0.0 <= finite(value, field) <= 1.0:
        raise invalid(f"{field}: must be from 0 to 1, not {value}", field=field)
    return value


def instant(at_ms: int, now: datetime) -> datetime:
    """A node's time, which is never later than now: its clock may be off."""
    if at_ms <= 0:
        return now
    try:
        return min(now, datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms))
    except OverflowError:
        return now


def token_of(token: pb.Token) -> Token:
    """Raises INVALID for numbers that no central ever issued, and no database could look up."""
    if max(token.epoch, token.counter) >= 2**63:
        raise invalid("token: its numbers are below 2^63", field="token")
    return Token(token.epoch, token.counter)


def token_to(token: Token) -> pb.Token:
    return pb.Token(epoch=token.epoch, counter=token.counter)
