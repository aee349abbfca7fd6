"""Nodes of the earlier kind: they call, unary, and know no tokens.

A lease is theirs if it is the job's newest and names them; everything else goes through the same transitions as any
other node's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, invalid, not_found, stale
from cyxwiz.domain.ids import JobId, NodeId, Token, parse_job_id, parse_node_id
from cyxwiz.domain.job import MAX_LOG_MESSAGE, Job, Lease, LogLine
from cyxwiz.domain.node import Hardware, LoadSample, Node
from cyxwiz.domain.payment import Step
from cyxwiz.domain.proof import is_digest
from cyxwiz.domain.reputation import Kind, ReputationEvent
from cyxwiz.domain.states import JobState, LeaseState, NodeState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.hardware import check_hardware
from cyxwiz.services.nodes import Nodes
from cyxwiz.services.payments import payments_of, settled
from cyxwiz.services.reports import Reporting, check_metrics, finite, share, spent

PUSHED = "legacy"  # stands for the boot id, which such a node does not have, in the lease of a push that it took
GIVING = (Step.PAY, Step.SETTLE)
MAX_URI = 2000  # characters of the address that a node gives of its weights


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job as such a node reports it. The weights stay with the node; what it says of them is its word."""

    completed: bool
    metrics: Mapping[str, float]
    uri: str = ""
    hashed: str = ""
    size: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Push:
    """A job that is owed to a node by `AssignJob`."""

    node: Node
    job: Job
    model: str
    token: Token


class LegacyNodes:
    def __init__(self, store: Store, nodes: Nodes, reporting: Reporting, *, open_mode: bool) -> None:
        self._store = store
        self._nodes = nodes
        self._reporting = reporting
        self._open = open_mode

    def check(self, actor: Principal, node_id: str) -> NodeId:
        """Raises FORBIDDEN unless the caller is that node; in open mode anybody on loopback may speak for a node."""
        parsed = parse_node_id(node_id)
        if actor.node_id != parsed and not (self._open and actor.node_id is None):
            raise forbidden(f"Only node {parsed} itself may report this: use its session token as bearer")
        return parsed

    async def heartbeat(
        self, node_id: NodeId, hardware: Hardware | None, sample: LoadSample | None, active: Sequence[str]
    ) -> Sequence[str]:
        """Notes that the node lives; returns which of the jobs it runs it should stop."""
        running = {parse_job_id(text) for text in active[:10_000]}
        if hardware is not None:
            check_hardware(hardware)

        def unit(tx: Tx) -> Sequence[str]:
            node = _known(tx, node_id)
            if node.state is not NodeState.ONLINE:
                node = self._nodes.came_online(tx, node)
            if hardware is not None and hardware != node.hardware:
                tx.save_node(replace(node, hardware=hardware))
            if sample is not None:
                tx.add_load(node_id, sample)
            wanted = {job_id for job_id in running if self._still(tx, node_id, job_id)}
            self._drop_vanished(tx, node_id, running)
            return sorted(running - wanted)

        result = await self._store.write(unit)
        self._nodes.liveness.heard(node_id)
        return result

    def _still(self, tx: Tx, node_id: NodeId, job_id: JobId) -> bool:
        """Whether the node should go on with a job; a lease that expired meanwhile revives."""
        try:
            job, lease = _held(tx, node_id, job_id)
        except CyxError as error:
            if error.code not in (Code.STALE, Code.NOT_FOUND):
                raise
            return False
        if lease.state is LeaseState.EXPIRED:
            leases.revive(tx, job, lease)
        return lease.state is not LeaseState.ENDED

    def _drop_vanished(self, tx: Tx, node_id: NodeId, running: set[JobId]) -> None:
        """A job that the node took, and has not named for a whole time-out, is lost."""
        patience = timedelta(seconds=self._nodes.liveness.timeout_seconds)
        gone: list[JobId] = []
        for job, lease in leases.live(tx, node_id):
            if lease.job_id in running or (lease.state is LeaseState.OFFERED and lease.boot_id != PUSHED):
                continue
            if tx.now - max(job.started_at or lease.issued_at, lease.issued_at) > patience:
                leases.end(tx, lease, "its node does not run it any more")
                leases.lose(tx, job, node_id, self._nodes.policy, "its node does not run it any more")
                gone.append(job.id)
        if gone:
            event = ReputationEvent(Kind.DISCONNECT, gone[0], "it does not run the job any more")
            self._nodes.reputation.record(tx, node_id, event)

    async def accepted(self, node_id: NodeId, job_id: str) -> None:
        """The node has started the job."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> None:
            self._running(tx, *_held(tx, node_id, parsed))

        await self._store.write(unit)
        self._nodes.liveness.heard(node_id)

    def _running(self, tx: Tx, job: Job, lease: Lease) -> tuple[Job, Lease]:
        if lease.state is LeaseState.ENDED:
            raise stale(f"The lease of job {job.id} is over: {lease.end_reason}")
        if lease.state is LeaseState.EXPIRED:
            return leases.revive(tx, job, lease)
        if job.state is JobState.ASSIGNED:
            return leases.accept(tx, job, lease, PUSHED)
        return job, lease

    async def update(
        self,
        node_id: NodeId,
        job_id: str,
        *,
        progress: float,
        epoch: int,
        metrics: Mapping[str, float],
        log_message: str = "",
    ) -> bool:
        """Stores progress, which never goes back within a lease; returns whether the node should go on.

        Raises:
            CyxError: NOT_FOUND for an unknown job, STALE if it is not this node's, INVALID for figures out of bounds.
        """
        parsed = parse_job_id(job_id)
        if epoch < 0:
            raise invalid(f"current_epoch: must not be negative, not {epoch}", field="current_epoch")

        def unit(tx: Tx) -> bool:
            job, lease = _held(tx, node_id, parsed)
            checked = check_metrics(metrics)
            share(progress, "progress")
            if lease.state is LeaseState.ENDED:
                return False
            job, lease = self._running(tx, job, lease)
            reached, last = _reached(tx, job)  # a report that says nothing of how far it is says 0
            report = pb.Progress(
                epoch=max(epoch, last),
                epochs=job.spec.epochs,
                progress=max(progress, reached),
                metrics=checked,
                epoch_ended=True,
            )
            job = self._reporting.progress(tx, job, [(report, tx.now)])
            if log_message:
                line = LogLine(tx.last_log_offset(job.id) + 1, tx.now, "info", "node", log_message[:MAX_LOG_MESSAGE])
                tx.add_logs(job.id, [line])
                tx.hint(f"logs:{job.id}")
            return True

        result = await self._store.write(unit)
        self._nodes.liveness.heard(node_id)
        return result

    async def result(self, node_id: NodeId, job_id: str, outcome: Outcome) -> Job:
        """Takes a job's end. Told twice it is taken once, and the second telling is no error."""
        parsed = parse_job_id(job_id)
        seconds = finite(outcome.seconds, "total_compute_time")
        if seconds < 0 or outcome.size < 0:
            raise invalid("total_compute_time and model_size: must not be negative", field="total_compute_time")

        def unit(tx: Tx) -> Job:
            job, lease = _held(tx, node_id, parsed)
            metrics = check_metrics(outcome.metrics)
            if lease.state is LeaseState.ENDED:
                if (job.state is JobState.COMPLETED) == outcome.completed:
                    return job  # told before, or given up after the end
                raise stale(f"Job {job.id} is {job.state}: its lease is over ({lease.end_reason})")
            job, lease = self._running(tx, job, lease)
            if not outcome.completed:  # tried again, and what another node does again is not paid for twice
                message = outcome.error[:2000] or "the node reported a failure without a reason"
                job = leases.retry_or_fail(tx, job, lease, self._reporting.policy, "INTERNAL", message, True)
                self._reporting.failed(tx, lease, Kind.FAILURE, message)
                return job
            return self._reporting.complete(
                tx,
                replace(job, epoch=job.spec.epochs),  # it may have told of fewer than it did
                lease,
                files=(),
                uri=outcome.uri if len(outcome.uri) <= MAX_URI and outcome.uri.isprintable() else "",
                hashed=_weights_hash(outcome.hashed),
                size=outcome.size,
                metrics=metrics,
                seconds=spent(tx, lease, seconds),
            )

        job = await self._store.write(unit)
        self._nodes.liveness.heard(node_id)
        return job

    async def paid_by(self, node_id: NodeId, job_id: JobId) -> str:
        """The last transaction that paid the node for a job, once all of the job's money has settled; until then, and
        where it got nothing, ""."""

        def unit(tx: Tx) -> str:
            if not settled(tx, job_id):
                return ""
            paid = [moved for each, moved in payments_of(tx, job_id) if each.node_id == node_id and each.paid_units]
            gave = [each for moved in paid for each in moved if each.kind in GIVING and each.state == "confirmed"]
            return gave[-1].reference if gave else ""

        return await self._store.read(unit)

    # the push

    async def due(self, limit: int) -> Sequence[tuple[int, Push | None]]:
        """Owed pushes as (outbox id, what to push); None where the lease is over and nothing is owed any more."""

        def unit(tx: Tx) -> list[tuple[int, Push | None]]:
            return [(entry.id, self._push(tx, entry.payload)) for entry in tx.due_outbox("assign_legacy", limit)]

        return await self._store.read(unit)

    def _push(self, tx: Tx, payload: Mapping[str, object]) -> Push | None:
        token = Token(int(str(payload["epoch"])), int(str(payload["counter"])))
        job, node = tx.job(JobId(str(payload["job_id"]))), tx.node(NodeId(str(payload["node_id"])))
        lease = tx.lease(job.id, token) if job else None
        if job is None or node is None or lease is None or job.token != token or lease.state is not LeaseState.OFFERED:
            return None
        return Push(node, job, tx.model(job.id), token)

    async def pushed(self, entry_id: int, push: Push | None, refused: str | None) -> None:
        """The push has been answered (or is void): the node took the job, or the job goes elsewhere."""

        def unit(tx: Tx) -> None:
            tx.finish_outbox(entry_id)
            if push is None:
                return
            job, lease = tx.job(push.job.id), tx.lease(push.job.id, push.token)
            if job is None or lease is None or job.token != push.token or lease.state is not LeaseState.OFFERED:
                return
            if refused is not None:
                leases.decline(tx, job, lease, self._nodes.policy, refused)
            else:  # from now on it has to name the job
                tx.save_lease(replace(lease, boot_id=PUSHED, issued_at=tx.now))

        await self._store.write(unit)


def _known(tx: Tx, node_id: NodeId) -> Node:
    node = tx.node(node_id)
    if node is None:
        raise not_found("node", node_id)
    if node.banned(tx.now):
        raise forbidden(f"Node {node_id} is banned")
    if not node.legacy:
        raise conflict(f"Node {node_id} has its own stream and does not report by unary calls")
    return node


def _held(tx: Tx, node_id: NodeId, job_id: JobId) -> tuple[Job, Lease]:
    job = tx.job(job_id)
    if job is None:
        raise not_found("job", job_id)
    lease = tx.lease(job.id, job.token) if job.token else None
    if lease is None or lease.node_id != node_id:
        raise stale(f"Node {node_id} does not hold the lease of job {job_id}")
    if lease.state is LeaseState.EXPIRED and job.state is not JobState.PENDING:
        raise stale(f"Job {job_id} is {job.state}")
    return job, lease


def _reached(tx: Tx, job: Job) -> tuple[float, int]:
    """How far the job's present lease has come: progress and epoch, 0 before its first report."""
    points = tx.metrics(job.id, max(0, tx.last_metric_offset(job.id) - 1), 1)
    return (points[0].progress, points[0].epoch) if points and points[0].attempt == job.attempts else (0.0, 0)


def _weights_hash(text: str) -> str:
    """`sha256:` + hex of a SHA-256 with or without that prefix; "" for a text that is none."""
    digest = text.lower().removeprefix("sha256:")
    return f"sha256:{digest}" if is_digest(digest) else ""
