"""A run's reports as `TrainingUpdate`s. Times are Unix milliseconds, durations seconds, shares 0 to 1.

The earlier system's messages count in fewer bits than a job may: what goes past them is told as the most they hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cyxwiz.domain.node import LoadSample
from cyxwiz.ext.v1 import link_pb2 as link
from cyxwiz.protocol import execution_pb2 as pb

LEVELS: Mapping[str, int] = {
    "debug": pb.LogMessage.DEBUG,
    "info": pb.LogMessage.INFO,
    "warning": pb.LogMessage.WARNING,
    "error": pb.LogMessage.ERROR,
}
MOST_INT32, MOST_INT64 = 2**31 - 1, 2**63 - 1
STOPPED = {"stopped_by_user": 1.0}  # the final metrics of a job that its owner stopped, as in the earlier system


def int32(count: int) -> int:
    return min(count, MOST_INT32)


def _whole(seconds: float) -> int:
    """Whole seconds; none for NaN."""
    return int(min(max(0.0, seconds), MOST_INT64))


def progress_of(report: link.Report, sample: LoadSample | None, gpu_bytes: int = 0) -> pb.TrainingUpdate:
    """`gpu_bytes`: memory of the machine's GPUs. What can't be read is 0."""
    told = report.progress
    progress = pb.TrainingProgress(
        current_epoch=int32(told.epoch),
        total_epochs=int32(told.epochs),
        current_batch=int32(told.batch),
        total_batches=int32(told.batches),
        progress_percentage=told.progress,
        metrics=dict(told.metrics),
        gpu_usage=(sample.gpu_usage or 0.0) if sample else 0.0,
        cpu_usage=(sample.cpu_usage or 0.0) if sample else 0.0,
        memory_usage=(sample.memory_usage or 0.0) if sample else 0.0,
        gpu_memory_used=int(gpu_bytes * (sample.gpu_memory_usage or 0.0)) if sample else 0,
        gpu_memory_total=gpu_bytes,
        elapsed_time=_whole(told.elapsed_seconds),
        estimated_time_remaining=_whole(told.remaining_seconds),
        samples_per_second=told.metrics.get("samples_per_second", 0.0),
    )
    return _update(report, progress=progress)


def logs_of(report: link.Report) -> list[pb.TrainingUpdate]:
    return [log_of(report.job_id, line.at_ms, line.level, line.message, line.source) for line in report.logs.lines]


def log_of(job_id: str, at_ms: int, level: str, message: str, source: str = "node") -> pb.TrainingUpdate:
    number: pb.LogMessage.Level = LEVELS.get(level, pb.LogMessage.INFO)  # type: ignore[assignment]
    return pb.TrainingUpdate(
        job_id=job_id, timestamp=at_ms, log=pb.LogMessage(level=number, message=message, source=source)
    )


def checkpoint_of(report: link.Report, metrics: Mapping[str, float]) -> pb.TrainingUpdate:
    """Names the state that was saved. Its bytes are with central: they hold more than weights."""
    saved = report.checkpoint
    return _update(
        report,
        checkpoint=pb.TrainingCheckpoint(
            epoch=int32(saved.epoch),
            weights_size=saved.size,
            compression_type="none",
            checkpoint_hash=f"sha256:{saved.sha256}",
            metrics_at_checkpoint=dict(metrics),
        ),
    )


def complete_of(report: link.Report) -> pb.TrainingUpdate:
    finished = report.finished
    weights = finished.artefacts[0]
    return _update(
        report,
        complete=pb.TrainingComplete(
            success=True,
            result_hash=f"sha256:{weights.sha256}",
            final_metrics=dict(finished.final_metrics),
            total_training_time=_whole(finished.compute_seconds),
            total_epochs_completed=finished.epochs_completed,
            weights_location=weights.name,
            final_weights_size=weights.size,
            proof_of_compute=_head(finished),
        ),
    )


def _head(finished: link.Finished) -> str:
    """The last link of the run's chain, as the node's signed statement names it; empty for a run without a chain."""
    return str(json.loads(finished.statement)["head"]) if finished.statement else ""


def stopped_of(job_id: str, at_ms: int, epochs: int) -> pb.TrainingUpdate:
    return pb.TrainingUpdate(
        job_id=job_id,
        timestamp=at_ms,
        complete=pb.TrainingComplete(success=False, final_metrics=STOPPED, total_epochs_completed=epochs),
    )


def error_of(
    job_id: str, at_ms: int, code: str, message: str, epoch: int = 0, *, recoverable: bool = False
) -> pb.TrainingUpdate:
    error = pb.TrainingError(
        error_code=code, error_message=message, epoch_at_error=int32(epoch), recoverable=recoverable
    )
    return pb.TrainingUpdate(job_id=job_id, timestamp=at_ms, error=error)


def _update(
    report: link.Report,
    *,
    progress: pb.TrainingProgress | None = None,
    checkpoint: pb.TrainingCheckpoint | None = None,
    complete: pb.TrainingComplete | None = None,
) -> pb.TrainingUpdate:
    update = pb.TrainingUpdate(job_id=report.job_id, timestamp=report.at_ms)
    for name, part in (("progress", progress), ("checkpoint", checkpoint), ("complete", complete)):
        if part is not None:
            getattr(update, name).CopyFrom(part)
    return update
