"""Rows to domain objects and back: the only place that knows both.

`to_x(row)` takes anything with the columns as attributes; `from_x(x)` gives the columns as a dict. What is derived (a
node's load) is passed in beside the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from cyxwiz.domain.account import ApiKey, JoinToken, Role, User
from cyxwiz.domain.events import StoredEvent
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId
from cyxwiz.domain.job import (
    Checkpoint,
    Device,
    Intent,
    Job,
    JobResult,
    JobSpec,
    JobType,
    Lease,
    LogLine,
    MetricPoint,
    Phase,
    Priority,
    Resources,
    ResultFile,
    Strategy,
)
from cyxwiz.domain.node import DeviceInfo, GpuLoad, Hardware, LoadSample, Node
from cyxwiz.domain.pricing import Billing, NodePricing
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import JobState, LeaseState, NodeState
from cyxwiz.domain.verification import CheckSpec, Mode
from cyxwiz.domain.weights import Weights
from cyxwiz.ports.store import AuditEntry, BlobInfo, OutboxEntry

_TOP_RANK = Priority.CRITICAL.rank
# So that none that is added is forgotten; the model has a table of its own.
_SPEC_FIELDS = tuple(field.name for field in fields(JobSpec) if field.name != "model")


def to_spec(data: Mapping[str, Any]) -> JobSpec:
    resources = data["resources"]
    return JobSpec(
        **{
            **data,
            "model": "",
            "type": JobType(data["type"]),
            "script": _to_script(data.get("script")),
            "weights": Weights(**data["weights"]) if data.get("weights") else None,
            "priority": Priority(data["priority"]),
            "strategy": Strategy(data.get("strategy", Strategy.DDP)),
            "verify": Mode(data.get("verify", Mode.NONE)),
            "check": _to_check(data.get("check")),
            "resources": Resources(
                **{**resources, "device": Device(resources["device"]), "regions": tuple(resources["regions"])}
            ),
        }
    )


def _to_check(data: Mapping[str, Any] | None) -> CheckSpec | None:
    if data is None:
        return None
    lists = {name: tuple(data[name]) for name in ("not_nodes", "not_owners")}
    return CheckSpec(**{**data, **lists})


def _to_script(data: Mapping[str, Any] | None) -> Script | None:
    return None if data is None else Script(data["entry"], data["files"], tuple(data["args"]))


def _from_script(script: Script | None) -> dict[str, Any] | None:
    return None if script is None else {"entry": script.entry, "files": dict(script.files), "args": list(script.args)}


def from_spec(spec: JobSpec) -> dict[str, Any]:
    return {
        **{name: getattr(spec, name) for name in _SPEC_FIELDS},
        "hyperparameters": dict(spec.hyperparameters),
        "resources": asdict(spec.resources),
        "script": _from_script(spec.script),
        "weights": asdict(spec.weights) if spec.weights is not None else None,
        "labels": dict(spec.labels),
        "check": asdict(spec.check) if spec.check is not None else None,
    }


def to_job(row: Any) -> Job:
    return Job(
        id=JobId(row.id),
        owner_id=UserId(row.owner_id),
        spec=to_spec(row.spec),
        created_at=row.created_at,
        state=JobState(row.state),
        phase=Phase(row.phase),
        progress=row.progress,
        epoch=row.epoch,
        metrics=row.metrics,
        node_id=None if row.node_id is None else NodeId(row.node_id),
        token=None if row.token_counter is None else Token(row.token_epoch, row.token_counter),
        attempts=row.attempts,
        retry_count=row.retry_count,
        node_losses=row.node_losses,
        not_before=row.not_before,
        intent=Intent(row.intent),
        reason=row.reason,
        error=row.error,
        error_code=row.error_code,
        estimated_cost_units=row.estimated_cost_units,
        actual_cost_units=row.actual_cost_units,
        compute_seconds=row.compute_seconds,
        started_at=row.started_at,
        first_step_at=row.first_step_at,
        completed_at=row.completed_at,
        version=row.version,
    )


def from_job_progress(job: Job) -> dict[str, Any]:
    """The columns that change after the submit."""
    return {
        "state": job.state.value,
        "phase": job.phase.value,
        "progress": job.progress,
        "epoch": job.epoch,
        "metrics": dict(job.metrics),
        "node_id": job.node_id,
        "token_epoch": job.token.epoch if job.token else None,
        "token_counter": job.token.counter if job.token else None,
        "attempts": job.attempts,
        "retry_count": job.retry_count,
        "node_losses": job.node_losses,
        "not_before": job.not_before,
        "intent": job.intent.value,
        "reason": job.reason,
        "error": job.error,
        "error_code": job.error_code,
        "estimated_cost_units": job.estimated_cost_units,
        "actual_cost_units": job.actual_cost_units,
        "compute_seconds": job.compute_seconds,
        "started_at": job.started_at,
        "first_step_at": job.first_step_at,
        "completed_at": job.completed_at,
        "version": job.version,
    }


def from_job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "owner_id": job.owner_id,
        "name": job.spec.name,
        "type": job.spec.type.value,
        "urgency": urgency(job),
        "reservation_id": job.spec.reservation_id,
        "spec": from_spec(job.spec),
        "created_at": job.created_at,
        **from_job_progress(job),
    }


def urgency(job: Job) -> int:
    """0 is the most urgent; a job with a node of its own is before all, as it is in nobody's way."""
    return -1 if job.spec.reservation_id else urgency_of(job.spec.priority)


def urgency_of(priority: Priority) -> int:
    return _TOP_RANK - priority.rank


def to_lease(row: Any) -> Lease:
    return Lease(
        job_id=JobId(row.job_id),
        token=Token(row.token_epoch, row.token_counter),
        node_id=NodeId(row.node_id),
        issued_at=row.issued_at,
        boot_id=row.boot_id,
        state=LeaseState(row.state),
        last_seq=row.last_seq,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        rank=row.rank,
        world=row.world,
        lead=row.lead,
        pricing=to_pricing(row.pricing),
    )


def from_lease(lease: Lease) -> dict[str, Any]:
    return {
        "job_id": lease.job_id,
        "token_epoch": lease.token.epoch,
        "token_counter": lease.token.counter,
        "node_id": lease.node_id,
        "issued_at": lease.issued_at,
        "boot_id": lease.boot_id,
        "state": lease.state.value,
        "last_seq": lease.last_seq,
        "ended_at": lease.ended_at,
        "end_reason": lease.end_reason,
        "rank": lease.rank,
        "world": lease.world,
        "lead": lease.lead,
        "pricing": _from_pricing(lease.pricing),
    }


def to_metric(row: Any) -> MetricPoint:
    return MetricPoint(row.offset, row.at, row.attempt, row.epoch, row.progress, row.epoch_ended, row.metrics)


def from_metric(job_id: JobId, point: MetricPoint) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "offset": point.offset,
        "at": point.at,
        "attempt": point.attempt,
        "epoch": point.epoch,
        "progress": point.progress,
        "epoch_ended": point.epoch_ended,
        "metrics": dict(point.metrics),
    }


def to_log(row: Any) -> LogLine:
    return LogLine(row.offset, row.at, row.level, row.source, row.message)


def from_log(job_id: JobId, line: LogLine) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "offset": line.offset,
        "at": line.at,
        "level": line.level,
        "source": line.source,
        "message": line.message,
    }


def to_checkpoint(row: Any) -> Checkpoint:
    return Checkpoint(
        number=row.number,
        at=row.at,
        node_id=NodeId(row.node_id),
        token=Token(row.token_epoch, row.token_counter),
        epoch=row.epoch,
        batch=row.batch,
        step=row.step,
        progress=row.progress,
        threads=row.threads,
        sha256=row.sha256,
        size=row.size,
        kept=row.kept,
        link=row.link,
    )


def from_checkpoint(job_id: JobId, checkpoint: Checkpoint) -> dict[str, Any]:
    columns = asdict(checkpoint)
    del columns["token"]
    token = checkpoint.token
    return {"job_id": job_id, **columns, "token_epoch": token.epoch, "token_counter": token.counter}


def to_result(row: Any) -> JobResult:
    return JobResult(
        job_id=JobId(row.job_id),
        node_id=NodeId(row.node_id),
        token=Token(row.token_epoch, row.token_counter),
        files=tuple(ResultFile(**file) for file in row.files),
        weights_uri=row.weights_uri,
        weights_hash=row.weights_hash,
        weights_size=row.weights_size,
        final_metrics=row.final_metrics,
        compute_seconds=row.compute_seconds,
        accepted_at=row.accepted_at,
        energy_joules=row.energy_joules,
    )


def from_result(result: JobResult) -> dict[str, Any]:
    return {
        "job_id": result.job_id,
        "node_id": result.node_id,
        "token_epoch": result.token.epoch,
        "token_counter": result.token.counter,
        "files": [asdict(file) for file in result.files],
        "weights_uri": result.weights_uri,
        "weights_hash": result.weights_hash,
        "weights_size": result.weights_size,
        "final_metrics": dict(result.final_metrics),
        "compute_seconds": result.compute_seconds,
        "accepted_at": result.accepted_at,
        "energy_joules": result.energy_joules,
    }


_NODE_PLAIN = [
    "id",
    "owner_id",
    "name",
    "registered_at",
    "last_seen_at",
    "public_key",
    "legacy",
    "identity",
    "region",
    "host",
    "port",
    "wallet_address",
    "version",
    "boot_id",
    "max_concurrent_jobs",
    "certificate_fingerprint",
    "cordoned",
    "banned_until",
    "reputation",
    "reputation_at",
    "strikes",
    "bans",
    "stake_units",
    "jobs_completed",
    "jobs_failed",
    "compute_seconds",
    "online_seconds",
    "version_number",
]
_DEVICE_PLAIN = [
    "name",
    "memory_total_bytes",
    "memory_available_bytes",
    "compute_units",
    "supports_fp64",
    "supports_fp16",
    "driver_version",
    "cuda_version",
    "pcie_generation",
    "pcie_lanes",
    "compute_capability",
]
_SAMPLE_PLAIN = [
    "at",
    "cpu_usage",
    "memory_usage",
    "gpu_usage",
    "gpu_memory_usage",
    "network_rx_bytes_per_second",
    "network_tx_bytes_per_second",
    "power_watts",
    "active_jobs",
]


def to_node(row: Any, devices: Sequence[Any], load: int, reservation_id: str = "") -> Node:
    return Node(
        **{name: getattr(row, name) for name in _NODE_PLAIN},
        state=NodeState(row.state),
        hardware=Hardware(
            cpu_model=row.cpu_model,
            cpu_cores=row.cpu_cores,
            ram_total_bytes=row.ram_total_bytes,
            ram_available_bytes=row.ram_available_bytes,
            devices=tuple(to_device(device) for device in devices),
            unknown=tuple(row.unknown_hardware),
        ),
        services=tuple(row.services),
        pricing=to_pricing(row.pricing),
        extras=row.extras,
        load=load,
        reservation_id=reservation_id,
    )


def to_pricing(stored: Mapping[str, Any] | None) -> NodePricing | None:
    if not stored:
        return None
    own = {"billing": Billing(stored["billing"]), "currencies": tuple(stored["currencies"])}
    return NodePricing(**{**stored, **own})


def _from_pricing(pricing: NodePricing | None) -> dict[str, Any] | None:
    return None if pricing is None else asdict(pricing)


def from_node(node: Node) -> dict[str, Any]:
    return {
        **{name: getattr(node, name) for name in _NODE_PLAIN},
        "state": node.state.value,
        "cpu_model": node.hardware.cpu_model,
        "cpu_cores": node.hardware.cpu_cores,
        "ram_total_bytes": node.hardware.ram_total_bytes,
        "ram_available_bytes": node.hardware.ram_available_bytes,
        "unknown_hardware": list(node.hardware.unknown),
        "services": list(node.services),
        "pricing": _from_pricing(node.pricing),
        "extras": dict(node.extras),
    }


def to_device(row: Any) -> DeviceInfo:
    return DeviceInfo(kind=Device(row.kind), **{name: getattr(row, name) for name in _DEVICE_PLAIN})


def from_device(node_id: NodeId, position: int, device: DeviceInfo) -> dict[str, Any]:
    columns = {name: getattr(device, name) for name in _DEVICE_PLAIN}
    return {"node_id": node_id, "position": position, "kind": device.kind.value, **columns}


def to_sample(row: Any) -> LoadSample:
    gpus = tuple(GpuLoad(**gpu) for gpu in row.gpus or ())
    return LoadSample(**{name: getattr(row, name) for name in _SAMPLE_PLAIN}, gpus=gpus)


def from_sample(node_id: NodeId, sample: LoadSample) -> dict[str, Any]:
    gpus = [asdict(gpu) for gpu in sample.gpus] or None
    return {"node_id": node_id, **{name: getattr(sample, name) for name in _SAMPLE_PLAIN}, "gpus": gpus}


def to_user(row: Any) -> User:
    return User(UserId(row.id), row.name, Role(row.role), row.created_at, row.password_hash, row.disabled)


def from_user(user: User) -> dict[str, Any]:
    return {**asdict(user), "role": user.role.value}


def to_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        user_id=UserId(row.user_id),
        name=row.name,
        digest=row.digest,
        prefix=row.prefix,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def from_key(key: ApiKey) -> dict[str, Any]:
    return asdict(key)


def to_join_token(row: Any) -> JoinToken:
    return JoinToken(
        id=row.id,
        owner_id=UserId(row.owner_id),
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        uses_left=row.uses_left,
        revoked_at=row.revoked_at,
    )


def from_join_token(token: JoinToken) -> dict[str, Any]:
    return asdict(token)


def to_blob(row: Any, owners: Sequence[str]) -> BlobInfo:
    return BlobInfo(row.sha256, row.size, row.created_at, frozenset(UserId(owner) for owner in owners))


def from_blob(info: BlobInfo) -> dict[str, Any]:
    return {"sha256": info.sha256, "size": info.size, "created_at": info.created_at}


def to_event(row: Any) -> StoredEvent:
    topics = tuple(topic for topic in (row.category, row.subject) if topic)
    return StoredEvent(row.seq, row.kind, row.at, topics, row.owner_id, row.data)


def to_audit(row: Any) -> AuditEntry:
    return AuditEntry(row.at, row.actor, row.action, row.target, row.details)


def from_audit(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "details": dict(entry.details),
    }


def to_outbox(row: Any) -> OutboxEntry:
    return OutboxEntry(row.id, row.kind, row.key, row.payload, row.due_at)
