"""The JSON documents of every door: snake_case, RFC 3339 UTC, money as decimal strings beside integers of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from cyxwiz.domain.account import ApiKey, JoinToken, User
from cyxwiz.domain.job import Checkpoint, Job, JobResult, Lease, LogLine, MetricPoint
from cyxwiz.domain.link import Links
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.domain.node import DeviceInfo, LoadSample, Node
from cyxwiz.domain.pricing import NodePricing, Quote
from cyxwiz.domain.reputation import START, tier
from cyxwiz.domain.states import JobState
from cyxwiz.domain.weights import Weights
from cyxwiz.ports.store import BlobInfo, Page
from cyxwiz.scheduler.policy import Verdict
from cyxwiz.services.accounts import TokenPair
from cyxwiz.services.budgets import Budget
from cyxwiz.services.jobs import Estimate, Explanation
from cyxwiz.services.reputation import Account
from cyxwiz.services.reservations import Look, Pass
from cyxwiz.services.watch import JobUpdate, Note

T = TypeVar("T")
Json = dict[str, Any]


def instant(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def page(
    name: str, result: Page[T], view: Callable[[T], Json], number: int, limit: int, cursor: str | None = None
) -> Json:
    document: Json = {
        name: [view(item) for item in result.items],
        "total": result.total,
        "page": number,
        "limit": limit,
        "total_pages": -(-result.total // limit) if limit else 0,
        "next_cursor": cursor,
    }
    if result.capped:
        document["total_capped"] = True
    return document


def money(name: str, units: int | None) -> Json:
    return {name: None if units is None else format_cyxwiz(units), f"{name}_units": units}


def job(item: Job) -> Json:
    spec = item.spec
    return {
        "id": item.id,
        "name": spec.name,
        "status": str(item.state),
        "phase": str(item.phase) or None,
        "job_type": str(spec.type),
        "priority": str(spec.priority),
        "progress": item.progress,
        "current_epoch": item.epoch,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        "metrics": dict(item.metrics),
        "user_id": item.owner_id,
        "assigned_node_id": item.node_id,
        "attempts": item.attempts,
        "retry_count": item.retry_count,
        "node_losses": item.node_losses,
        "intent": str(item.intent),
        "reason": _reason(item),
        "error": {"code": item.error_code, "message": item.error} if item.error and not _cancelled(item) else None,
        "dataset_uri": spec.dataset_uri,
        "hyperparameters": dict(spec.hyperparameters),
        "resources": {
            "device": str(spec.resources.device),
            "vram_bytes": spec.resources.vram_bytes,
            "ram_bytes": spec.resources.ram_bytes,
            "max_duration_seconds": spec.resources.max_duration_seconds,
            "regions": list(spec.resources.regions),
            "nodes": spec.resources.nodes,
            "min_nodes": spec.resources.min_nodes,
        },
        "strategy": str(spec.strategy) if spec.resources.nodes > 1 else None,
        "labels": dict(spec.labels),
        "network": spec.network,
        "reservation_id": spec.reservation_id or None,
        "requirements": f"sha256:{spec.requirements}" if spec.requirements else None,
        "weights": _weights(spec.weights),
        **money("estimated_cost", item.estimated_cost_units),
        **money("actual_cost", item.actual_cost_units),
        "compute_seconds": item.compute_seconds,
        "created_at": instant(item.created_at),
        "started_at": instant(item.started_at),
        "first_step_at": instant(item.first_step_at),
        "completed_at": instant(item.completed_at),
    }


def _cancelled(item: Job) -> bool:
    return item.state is JobState.CANCELLED


def _reason(item: Job) -> str:
    """A cancel is no error: what was said with it is the reason."""
    return item.error if _cancelled(item) else item.reason


def _weights(weights: Weights | None) -> Json | None:
    if weights is None:
        return None
    named = {"from_job": weights.job_id, "file": weights.file} if weights.job_id else {}
    return {"sha256": weights.sha256, **named}


def result(item: JobResult) -> Json:
    """Without what vouches for it: `proof_views.of_result`."""
    return {
        "job_id": item.job_id,
        "node_id": item.node_id,
        "model_weights_uri": item.weights_uri,
        "model_weights_hash": item.weights_hash,
        "model_size": item.weights_size,
        "final_metrics": dict(item.final_metrics),
        "total_compute_seconds": item.compute_seconds,
        "energy_joules": item.energy_joules,
        "files": [{"name": f.name, "sha256": f.sha256, "size": f.size} for f in item.files],
        "accepted_at": instant(item.accepted_at),
    }


def checkpoint(item: Checkpoint) -> Json:
    return {
        "number": item.number,
        "at": instant(item.at),
        "node_id": item.node_id,
        "epoch": item.epoch,
        "batch": item.batch,
        "step": item.step,
        "progress": item.progress,
        "sha256": item.sha256,
        "size": item.size,
        "kept": item.kept,
    }


def metric(point: MetricPoint) -> Json:
    return {
        "offset": point.offset,
        "at": instant(point.at),
        "attempt": point.attempt,
        "epoch": point.epoch,
        "progress": point.progress,
        "epoch_ended": point.epoch_ended,
        "metrics": dict(point.metrics),
    }


def log_line(line: LogLine) -> Json:
    return {
        "offset": line.offset,
        "at": instant(line.at),
        "level": line.level,
        "source": line.source,
        "message": line.message,
    }


def lease(item: Lease) -> Json:
    return {
        "token": str(item.token),
        "node_id": item.node_id,
        "state": str(item.state),
        "issued_at": instant(item.issued_at),
        "ended_at": instant(item.ended_at),
        "end_reason": item.end_reason,
        "rank": item.rank,
        "world": item.world,
    }


def quote(item: Quote) -> Json:
    return {**money("total", item.units), "lines": [{"what": what, **money("amount", n)} for what, n in item.lines]}


def pricing(item: NodePricing, *, own: bool) -> Json:
    return {
        "set_by": "node" if own else "tariff",
        "billing": str(item.billing),
        **money("per_hour", item.per_hour_units),
        **money("per_epoch", item.per_epoch_units),
        **money("per_job", item.per_job_units),
        **money("per_inference", item.per_inference_units),
        **money("minimum_charge", item.minimum_charge_units),
        "minimum_minutes": item.minimum_minutes,
        "discount_1h": item.discount_1h,
        "discount_24h": item.discount_24h,
        "discount_bulk": item.discount_bulk,
        "free_tier": item.free_tier,
        "free_tier_minutes": item.free_tier_minutes,
        "usd_per_hour": item.usd_per_hour,
        "currencies": list(item.currencies),
        "updated_at": instant(datetime.fromtimestamp(item.updated_at, UTC)) if item.updated_at else None,
    }


def verdict(item: Verdict) -> Json:
    return {
        "node_id": item.node_id,
        "name": item.name,
        "feasible": item.reason is None,
        "reason": item.reason,
        "score": round(item.score, 6),
        "terms": {name: round(value, 6) for name, value in item.terms.items()},
        "quote": quote(item.quote),
        **to_central(item.round_trip_seconds, item.network_rate),
    }


def to_central(round_trip_seconds: float | None, bytes_per_second: float | None) -> Json:
    """A node's way to central, as it measured it; null where it is not known."""
    trip = None if round_trip_seconds is None else round(round_trip_seconds * 1000, 3)
    rate = None if bytes_per_second is None else round(bytes_per_second)
    return {"round_trip_ms": trip, "network_bytes_per_second": rate}


def links(found: Links) -> list[Json]:
    """Measured links, the slowest first."""
    ordered = sorted(found.items(), key=lambda item: (item[1].bytes_per_second, item[0]))
    return [
        {
            "nodes": list(key),
            "round_trip_ms": round(each.round_trip_seconds * 1000, 3),
            "bytes_per_second": round(each.bytes_per_second),
            "measured_at": instant(each.measured_at),
        }
        for key, each in ordered
    ]


def explanation(item: Explanation) -> Json:
    return {
        "job_id": item.job.id,
        "status": str(item.job.state),
        "reason": _reason(item.job),
        "jobs_ahead": item.ahead,
        "not_before": instant(item.job.not_before),
        "nodes": [verdict(each) for each in item.verdicts],
        "leases": [lease(each) for each in item.leases],
        "links": links(item.links),
    }


def plan(estimate: Estimate, verdicts: Any) -> Json:
    answers = [verdict(each) for each in verdicts]
    return {
        "feasible_nodes": sum(answer["feasible"] for answer in answers),
        "nodes": answers,
        "expected_seconds": estimate.seconds,
        "units_per_second": estimate.units_per_second,
        **money("estimated_cost", estimate.cost_units),
    }


def update(item: JobUpdate) -> Json:
    """What `WatchJob` and the event stream of a job carry."""
    return {
        "job": job(item.job),
        "events": [event(each.seq, each.kind, each.at, each.data) for each in item.events],
        "metrics": [metric(each) for each in item.points],
        "logs": [log_line(each) for each in item.lines],
        "cursor": str(item.cursor),
    }


def event(seq: int, kind: str, at: datetime | None, data: Mapping[str, Any]) -> Json:
    return {"seq": seq, "type": kind, "at": instant(at), "data": dict(data)}


def note(item: Note) -> Json:
    return event(item.seq, item.kind, item.at, item.data)


def device(item: DeviceInfo) -> Json:
    return {
        "device_type": str(item.kind),
        "name": item.name,
        "memory_total_bytes": item.memory_total_bytes,
        "memory_available_bytes": item.memory_available_bytes,
        "compute_units": item.compute_units,
        "driver_version": item.driver_version or None,
        "cuda_version": item.cuda_version or None,
        "compute_capability": item.compute_capability,
        "pcie_generation": item.pcie_generation,
        "pcie_lanes": item.pcie_lanes,
    }


def node(item: Node, now: datetime, closed: str = "", way: tuple[float | None, float | None] = (None, None)) -> Json:
    hardware = item.hardware
    gpus = hardware.gpus
    return {
        "id": item.id,
        "name": item.name,
        "status": item.status,
        "closed_reason": closed or None,
        "reserved": bool(item.reservation_id),
        **to_central(*way),
        "region": item.region,
        "reputation": round(item.reputation, 6),
        "tier": str(tier(item.standing.score)),
        **money("stake", item.stake_units),
        "load": item.load,
        "current_load": item.load_fraction,
        "max_concurrent_jobs": item.max_concurrent_jobs,
        "cpu_model": hardware.cpu_model,
        "cpu_cores": hardware.cpu_cores,
        "ram_total_bytes": hardware.ram_total_bytes,
        "ram_available_bytes": hardware.ram_available_bytes,
        "gpu_model": gpus[0].name if gpus else None,
        "devices": [device(each) for each in hardware.devices],
        "hardware_unknown": list(hardware.unknown),
        "compute_score": round(item.compute_score(), 3),
        "measured_score": item.measured_score,
        **money("price_per_hour", item.price().per_hour_units),
        "pricing": pricing(item.price(), own=item.pricing is not None),
        "jobs_completed": item.jobs_completed,
        "jobs_failed": item.jobs_failed,
        "total_compute_seconds": item.compute_seconds,
        "uptime": round(item.uptime(now), 6),
        "version": item.version,
        "owner_id": item.owner_id,
        "legacy": item.legacy,
        "registered_at": instant(item.registered_at),
        "last_seen_at": instant(item.last_seen_at),
        "banned_until": instant(item.banned_until),
    }


def reputation(item: Account) -> Json:
    """score = start + earlier + the sum of what each event counts now."""
    return {
        "score": round(item.score, 6),
        "tier": str(item.tier),
        "strikes": item.strikes,
        "bans": item.bans,
        "half_life_hours": item.rules.half_life.total_seconds() / 3600,
        "start": START,
        "earlier": round(item.earlier, 6),
        "events": [
            {
                "at": instant(line.entry.at),
                "kind": str(line.entry.kind),
                "cause": str(line.entry.cause),
                "delta": round(line.entry.delta, 6),
                "weight": round(line.weight, 6),
                "counts": round(line.counts, 6),
                "job_id": line.entry.job_id,
                "note": line.entry.note,
            }
            for line in item.lines
        ],
    }


def reservation(item: Look, now: datetime) -> Json:
    one = item.reservation
    division = one.settlement if one.ended_at is not None else None
    return {
        "id": one.id,
        "status": str(one.state),
        "ending": one.ending,
        "node_id": one.node_id,
        "node_name": item.node.name if item.node is not None else None,
        "user_id": one.owner_id,
        "wallet": one.user_wallet,
        "started_at": instant(one.started_at),
        "ends_at": instant(one.ends_at),
        "ended_at": instant(one.ended_at),
        "reason": one.end_reason,
        "duration_minutes": one.minutes,
        "remaining_seconds": int(one.remaining(now).total_seconds()),
        "used_seconds": one.used_seconds if division is not None else one.used(now).total_seconds(),
        "engine_connected": one.connected(now),
        "current_job_id": item.current_job_id or None,
        "progress": item.progress,
        "metrics": dict(item.metrics),
        "jobs_completed": item.jobs_completed,
        **money("price_per_hour", one.rate_units_per_hour),
        **money("escrow", one.escrow_units),
        **money("paid", division.paid if division is not None else 0),
        **money("fee", division.fee if division is not None else 0),
        **money("refunded", division.refunded if division is not None else 0),
        "charged": one.charged,
        "settled": one.settled_at is not None,
        "escrow_account": one.escrow_account or None,
        "escrow_tx_hash": one.escrow_tx_hash or None,
        "payment_tx_hash": one.payment_tx_hash or None,
        "refund_tx_hash": one.refund_tx_hash or None,
    }


def reserved(item: Pass, now: datetime) -> Json:
    p2p = {"node_endpoint": item.endpoint or None, "auth_token": item.token, "expires_at": item.expires_at}
    return {**reservation(item.look, now), "p2p": p2p}


def load_sample(item: LoadSample) -> Json:
    return {
        "at": instant(item.at),
        "cpu_usage": item.cpu_usage,
        "memory_usage": item.memory_usage,
        "gpu_usage": item.gpu_usage,
        "gpu_memory_usage": item.gpu_memory_usage,
        "network_rx_bytes_per_second": item.network_rx_bytes_per_second,
        "network_tx_bytes_per_second": item.network_tx_bytes_per_second,
        "power_watts": item.power_watts,
        "active_jobs": item.active_jobs,
        "gpus": [asdict(gpu) for gpu in item.gpus],
    }


def user(item: User) -> Json:
    return {
        "id": item.id,
        "name": item.name,
        "role": str(item.role),
        "disabled": item.disabled,
        "created_at": instant(item.created_at),
    }


def budget(item: Budget) -> Json:
    return {
        "user_id": item.user.id,
        "name": item.user.name,
        "month": item.month.strftime("%Y-%m"),
        **money("budget", item.amount_units),
        **money("reserved", item.reserved_units),
        **money("spent", item.spent_units),
        **money("left", item.left_units),
    }


def key(item: ApiKey) -> Json:
    return {
        "id": item.id,
        "name": item.name,
        "prefix": item.prefix,
        "user_id": item.user_id,
        "created_at": instant(item.created_at),
        "revoked_at": instant(item.revoked_at),
    }


def blob(item: BlobInfo) -> Json:
    return {
        "sha256": item.sha256,
        "size": item.size,
        "uri": f"blob://sha256/{item.sha256}",
        "created_at": instant(item.created_at),
    }


def join_token(item: JoinToken) -> Json:
    return {
        "id": item.id,
        "owner_id": item.owner_id,
        "uses_left": item.uses_left,
        "created_at": instant(item.created_at),
        "expires_at": instant(item.expires_at),
        "revoked_at": instant(item.revoked_at),
    }


def tokens(pair: TokenPair) -> Json:
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in_seconds,
        "user": user(pair.user),
    }
