"""The wire contract's messages to and from the domain: the one place where both are named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.job import Device, Job
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.node import P2P_SERVICE, Hardware, LoadSample, Node
from cyxwiz.domain.states import JobState, NodeState
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2 as job_pb
from cyxwiz.protocol import node_pb2 as node_pb
from cyxwiz.services.hardware import DEVICE_FROM_WIRE, device_of, device_to
from cyxwiz.services.in_band import error_to
from cyxwiz.services.jobconfig import TYPES
from cyxwiz.services.jobs import Assignment
from cyxwiz.services.nodes import Registration
from cyxwiz.services.pricing import pricing_of, pricing_to, states_prices
from cyxwiz.services.validation import refuse_nul

TYPE_TO = {kind: number for number, kind in TYPES.items() if number}
STATUS_TO = {
    JobState.PENDING: common.STATUS_PENDING,
    JobState.ASSIGNED: common.STATUS_IN_PROGRESS,
    JobState.RUNNING: common.STATUS_IN_PROGRESS,
    JobState.PAUSED: common.STATUS_IN_PROGRESS,
    JobState.COMPLETED: common.STATUS_COMPLETED,
    JobState.FAILED: common.STATUS_FAILED,
    JobState.CANCELLED: common.STATUS_CANCELLED,
}
STATES_OF: Mapping[int, frozenset[JobState]] = {
    common.STATUS_UNKNOWN: frozenset(),
    common.STATUS_PENDING: frozenset({JobState.PENDING}),
    common.STATUS_IN_PROGRESS: frozenset({JobState.ASSIGNED, JobState.RUNNING, JobState.PAUSED}),
    common.STATUS_SUCCESS: frozenset({JobState.COMPLETED}),
    common.STATUS_COMPLETED: frozenset({JobState.COMPLETED}),
    common.STATUS_ERROR: frozenset({JobState.FAILED}),
    common.STATUS_FAILED: frozenset({JobState.FAILED}),
    common.STATUS_CANCELLED: frozenset({JobState.CANCELLED}),
}


def seconds_to(at: datetime | None) -> int:
    """Unix seconds; 0 for never."""
    return int(at.timestamp()) if at else 0


def seconds_of(seconds: int, field: str) -> datetime | None:
    """An instant, or None for 0. Raises INVALID beyond what a date can say."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise invalid(f"{field}: {seconds} is no time in Unix seconds", field=field) from None


# jobs


def status_to(job: Job) -> job_pb.JobStatus:
    status = job_pb.JobStatus(
        job_id=job.id,
        status=STATUS_TO[job.state],
        progress=job.progress,
        current_node_id=job.node_id or "",
        start_time=seconds_to(job.started_at),
        end_time=seconds_to(job.completed_at),
        metrics=dict(job.metrics),
        current_epoch=job.epoch,
    )
    if job.error:
        code = Code(job.error_code) if job.error_code in Code.__members__ else Code.INTERNAL
        if job.state is JobState.FAILED:
            status.error.CopyFrom(error_to(CyxError(code, job.error)))
    return status


def assignment_to(assignment: Assignment) -> job_pb.NodeAssignment:
    return job_pb.NodeAssignment(
        node_id=assignment.node.id,
        node_endpoint=assignment.endpoint,
        auth_token=assignment.token,
        token_expires_at=assignment.expires_at,
        node_public_key=assignment.node.certificate_fingerprint,
    )


def config_to(job: Job, model: str) -> job_pb.JobConfig:
    """For the push to a node of the earlier kind: everything that the owner asked for."""
    spec = job.spec
    resources = spec.resources
    device = resources.device
    number = next(number for number, each in DEVICE_FROM_WIRE.items() if each is device)
    return job_pb.JobConfig(
        job_id=job.id,
        job_type=TYPE_TO[spec.type],
        priority=spec.priority.rank,  # type: ignore[arg-type]  the enum's numbers are the ranks
        model_definition=model,
        hyperparameters={**spec.hyperparameters, "seed": str(spec.seed)},
        dataset_uri=spec.dataset_uri,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        # 0 meant "a GPU" to the earlier system: a job that takes any device says CPU.
        required_device=number or common.DEVICE_CPU,
        estimated_memory=resources.vram_bytes or resources.ram_bytes,
        estimated_duration=int(spec.expected_seconds or resources.max_duration_seconds),
        payment_amount=job.estimated_cost_units / UNITS_PER_CYXWIZ,
        payment_address=spec.payment_address,
        reservation_duration_minutes=max(1, int(resources.max_duration_seconds // 60)),
    )


# nodes


def registration_of(info: node_pb.NodeInfo, public_key: bytes, peer: str) -> Registration:
    """A node of the earlier kind; it serves clients itself at the port that it names."""
    refuse_nul(info)
    for field in ("compute_score", "reputation_score", "staked_amount", "average_rating", "uptime_percentage"):
        if not math.isfinite(getattr(info, field)):
            raise invalid(f"{field}: must be a finite number", field=field)
    return Registration(
        name=info.name,
        hardware=hardware_of_info(info),
        region=info.region[:64],
        host=info.ip_address or peer,
        port=info.port,
        wallet_address=info.wallet_address[:200],
        version=f"{info.version.major}.{info.version.minor}.{info.version.patch}" if info.HasField("version") else "",
        max_concurrent_jobs=1,
        services=(P2P_SERVICE,) if info.port else (),
        public_key=public_key,
        pricing=pricing_of(info.pricing) if states_prices(info.pricing) else None,
        supported_formats=tuple(info.supported_formats),
        runtimes=tuple(info.available_runtimes),
    )


def hardware_of_info(info: node_pb.NodeInfo) -> Hardware:
    if info.ram_total < 0 or info.ram_available < 0:
        raise invalid("ram_total: must not be negative", field="ram_total")
    devices = tuple(device_of(caps) for caps in info.devices)
    cpu = next((device.name for device in devices if device.kind is Device.CPU), "")
    return Hardware(cpu, info.cpu_cores, info.ram_total, info.ram_available or info.ram_total, devices)


def info_to(node: Node, now: datetime) -> node_pb.NodeInfo:
    hardware = node.hardware
    extras = node.extras
    return node_pb.NodeInfo(
        node_id=node.id,
        name=node.name,
        version=_version(node.version),
        devices=[device_to(device) for device in hardware.devices],
        cpu_cores=hardware.cpu_cores,
        ram_total=hardware.ram_total_bytes,
        ram_available=hardware.ram_available_bytes,
        ip_address=node.host,
        port=node.port,
        region=node.region,
        compute_score=node.compute_score(),
        reputation_score=node.reputation,
        total_jobs_completed=node.jobs_completed,
        total_compute_hours=int(node.compute_seconds // 3600),
        average_rating=node.reputation * 5,
        staked_amount=node.stake_units / UNITS_PER_CYXWIZ,
        wallet_address=node.wallet_address,
        is_online=node.state is NodeState.ONLINE,
        last_heartbeat=seconds_to(node.last_seen_at),
        uptime_percentage=node.uptime(now) * 100,
        supported_formats=_texts(extras.get("formats")),
        available_runtimes=_texts(extras.get("runtimes")),
        pricing=pricing_to(node.price()),
    )


def point_to(sample: LoadSample) -> node_pb.MetricPoint:
    network = (sample.network_rx_bytes_per_second or 0.0) + (sample.network_tx_bytes_per_second or 0.0)
    return node_pb.MetricPoint(
        timestamp=seconds_to(sample.at),
        cpu_usage=sample.cpu_usage or 0.0,
        gpu_usage=sample.gpu_usage or 0.0,
        memory_usage=sample.memory_usage or 0.0,
        network_throughput=network,
        power_consumption=sample.power_watts or 0.0,
    )


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _version(text: str) -> common.Version:
    parts = text.split("+")[0].split(".")
    numbers = [int(part) if _counts(part) else 0 for part in parts[:3]] + [0, 0, 0]
    return common.Version(major=numbers[0], minor=numbers[1], patch=numbers[2], build=text)


def _counts(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10  # fits in 32 bits
