"""What a job costs on a node: at the node's own prices if it has set some, else by the operator's tariff."""

from __future__ import annotations

from cyxwiz.domain.job import Device, Job, JobSpec, JobType
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.pricing import Needs, NodePricing, Quote, quote, quote_by_tariff


def needs_gpu(spec: JobSpec) -> bool:
    return spec.resources.device not in (Device.ANY, Device.CPU) or spec.resources.vram_bytes > 0


def epochs_done(job: Job) -> int:
    """Epochs of a run: as far as it has told, as it may have stopped early; all of them where it tells of none, and of
    a script, which counts as it likes."""
    return min(job.epoch, job.spec.epochs) if job.epoch and job.spec.script is None else job.spec.epochs


def needs_of(
    spec: JobSpec, seconds: float | None = None, members: int | None = None, epochs: int | None = None
) -> Needs:
    """`seconds` of each member: those that it took; else those expected, or all that it may take. `epochs`: those that
    it did; else all."""
    resources = spec.resources
    return Needs(
        seconds=spec.expected_seconds or resources.max_duration_seconds if seconds is None else seconds,
        epochs=(spec.epochs if epochs is None else epochs) if spec.type is JobType.TRAINING else 0,
        members=resources.nodes if members is None else members,
    )


def price(spec: JobSpec, needs: Needs, pricing: NodePricing | None, tariff: Tariff) -> Quote:
    """Not capped: who pays looks at `max_price_units`."""
    if pricing is not None:
        return quote(needs, pricing)
    return quote_by_tariff(needs, tariff, gpu=needs_gpu(spec), ram_bytes=spec.resources.ram_bytes)


def outruns(spec: JobSpec, pricing: NodePricing | None) -> bool:
    """Whether a job would owe its node more, at some time, than an escrow of the client's own lets be earned by then
    and one interval later: its client could close it and leave the node with that. The tariff never does.

    A steady stream earns 4/5 of its cap an interval (docs/programs.md).
    """
    if not spec.stream_seconds or pricing is None:
        return False
    for seconds in (0.0, 3600.0, spec.resources.max_duration_seconds):
        earned = spec.stream_units * (1 + 0.8 * seconds / spec.stream_seconds)
        if quote(needs_of(spec, seconds, 1), pricing).units > earned:
            return True
    return False
