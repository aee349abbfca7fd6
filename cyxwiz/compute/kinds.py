"""Which code runs which type of job."""

from __future__ import annotations

from collections.abc import Callable

from cyxwiz.compute.orders import Orders
from cyxwiz.domain.errors import unsupported
from cyxwiz.ports.executor import Finished, Preempted, Report, Work

Send = Callable[[Report], None]


def run_job(work: Work, send: Send, orders: Orders) -> Finished | Preempted:
    """Runs a job that has no code of its own to its end.

    Raises:
        CyxError: the job can't be run; UNSUPPORTED for a type that this version does not know.
        Stopped: it was told to stop; if it was preempted, after a checkpoint where its type takes any.
    """
    kind = work.job_type.lower()
    if kind == "training":
        from cyxwiz.compute.train import train

        return train(work, send, orders)
    if kind == "evaluation":
        from cyxwiz.compute.evaluate import evaluate

        return evaluate(work, send, orders)
    if kind == "inference":
        from cyxwiz.compute.infer import infer

        return infer(work, send, orders)
    if kind == "preprocessing":
        from cyxwiz.compute.preprocess import preprocess

        return preprocess(work, send, orders)
    known = "training, evaluation, inference, preprocessing"
    raise unsupported(f"Jobs of type {work.job_type} cannot be run here; known: {known}.", type=work.job_type)
