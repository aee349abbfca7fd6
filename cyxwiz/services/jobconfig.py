"""The wire contract's `JobConfig` as a job: what every door that takes one makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.job import Device, JobSpec, JobType, Priority, Resources
from cyxwiz.protocol import job_pb2 as job_pb
from cyxwiz.services.definition import batch_of, parse_definition
from cyxwiz.services.hardware import DEVICE_FROM_WIRE
from cyxwiz.services.jobfile import MAX_SECONDS, MAX_SIZE, epochs_of
from cyxwiz.services.pricing import units_of
from cyxwiz.services.validation import refuse_nul

DEFAULT_EPOCHS = 10
GIB = 2**30

TYPES = {
    job_pb.JOB_TYPE_UNKNOWN: JobType.TRAINING,
    job_pb.JOB_TYPE_TRAINING: JobType.TRAINING,
    job_pb.JOB_TYPE_INFERENCE: JobType.INFERENCE,
    job_pb.JOB_TYPE_EVALUATION: JobType.EVALUATION,
    job_pb.JOB_TYPE_PREPROCESSING: JobType.PREPROCESSING,
}
PRIORITIES = dict(enumerate(Priority))


def enum_of(table: Mapping[Any, object], number: int, field: str) -> object:
    if number not in table:
        raise invalid(f"{field}: {number} is not one of {', '.join(str(each) for each in table)}", field=field)
    return table[number]


def count_of(value: int, default: int, field: str, most: int | None = None) -> int:
    """Proto3 cannot tell 0 from unset: 0 is the default, a negative number or one above `most` INVALID."""
    if value < 0:
        raise invalid(f"{field}: must not be negative, not {value}", field=field)
    if most is not None and value > most:
        raise invalid(f"{field}: must be at most {most}, not {value}", field=field)
    return value or default


def spec_of(config: job_pb.JobConfig) -> JobSpec:
    """A job as the wire contract describes it. A `seed` among the hyperparameters is the job's seed. Raises INVALID."""
    refuse_nul(config)
    hyperparameters = dict(config.hyperparameters)
    seed = hyperparameters.pop("seed", "0")
    try:
        seed_number = int(seed)
        if not -(2**63) <= seed_number < 2**63:
            raise ValueError
    except ValueError:
        raise invalid(f"hyperparameters.seed: {seed[:40]!r} is no 64-bit integer", field="seed") from None
    device = Device(str(enum_of(DEVICE_FROM_WIRE, config.required_device, "required_device")))
    memory = count_of(config.estimated_memory, 0, "estimated_memory", MAX_SIZE)
    seconds = float(count_of(config.estimated_duration, 0, "estimated_duration", MAX_SECONDS))
    # For a node's own timer, which ours do not have: checked, and not kept.
    count_of(config.reservation_duration_minutes, 0, "reservation_duration_minutes")
    on_gpu = device not in (Device.ANY, Device.CPU)
    resources = Resources(
        device=device,
        vram_bytes=memory if on_gpu else 0,
        ram_bytes=memory if memory and not on_gpu else GIB,
        max_duration_seconds=max(Resources().max_duration_seconds, seconds),  # what is paid for may be used
    )
    definition = parse_definition(config.model_definition)
    kind = JobType(str(enum_of(TYPES, config.job_type, "job_type")))
    return JobSpec(
        name="",
        type=kind,
        priority=Priority(str(enum_of(PRIORITIES, config.priority, "priority"))),
        model=definition.model,
        script=definition.script,
        weights=definition.weights,
        requirements=definition.requirements,
        network=definition.network,
        hyperparameters=hyperparameters,
        dataset_uri=config.dataset_uri,
        batch_size=count_of(config.batch_size, 0, "batch_size") or batch_of(definition),
        epochs=epochs_of(kind, count_of(config.epochs, DEFAULT_EPOCHS, "epochs")),
        seed=seed_number,
        resources=resources,
        expected_seconds=seconds,
        max_price_units=units_of(config.payment_amount, "payment_amount"),
        payment_address=config.payment_address[:200],
    )
