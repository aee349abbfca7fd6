"""How well a node suits a job: a weighted sum of terms, each 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from cyxwiz.domain.job import JobSpec, data_key
from cyxwiz.scheduler.feasible import Candidate
from cyxwiz.scheduler.links import distance
from cyxwiz.scheduler.price import needs_gpu

LONGEST = 10  # doublings of a millisecond: a round trip of a second, or one that is not known, counts nothing


@dataclass(frozen=True, slots=True)
class Weights:
    """Settings scheduler.weight_…; reference: 0.4·reputation + 0.3·(1 - load) + 0.2·capability + 0.1·uptime."""

    reputation: float = 0.4
    availability: float = 0.3
    capability: float = 0.2
    uptime: float = 0.1
    region: float = 0.0
    data: float = 0.1  # added: the node need not fetch the data
    latency: float = 0.0  # added: a short way to central


def capability(spec: JobSpec, candidate: Candidate) -> float:
    """1.0 for a GPU job on a GPU node and a CPU job on a CPU node; 0.8 for a CPU job that would sit before a GPU."""
    has_gpu = bool(candidate.node.hardware.gpus)
    return 1.0 if has_gpu == needs_gpu(spec) else 0.8


def terms(spec: JobSpec, candidate: Candidate) -> dict[str, float]:
    """The terms of the score, each 0 to 1."""
    node = candidate.node
    slots = max(1, node.max_concurrent_jobs)
    return {
        "reputation": _unit(node.reputation),
        "availability": _unit(candidate.free_slots / slots),
        "capability": capability(spec, candidate),
        "uptime": _unit(candidate.uptime),
        "region": 1.0 if not spec.resources.regions or node.region == spec.resources.regions[0] else 0.0,
        "data": 1.0 if candidate.data_keys and data_key(spec.dataset_uri) in candidate.data_keys else 0.0,
        "latency": 1.0 - min(1.0, distance(candidate) / LONGEST),
    }


def score(spec: JobSpec, candidate: Candidate, weights: Weights) -> float:
    values = terms(spec, candidate)
    return (
        weights.reputation * values["reputation"]
        + weights.availability * values["availability"]
        + weights.capability * values["capability"]
        + weights.uptime * values["uptime"]
        + weights.region * values["region"]
        + weights.data * values["data"]
        + weights.latency * values["latency"]
    )


def _unit(value: float) -> float:
    return 0.0 if value < 0 else min(value, 1.0)
