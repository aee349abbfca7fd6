"""`run_script`: a job's own Python code, as the main program of this process.

Only a child in a sandbox runs it. It starts in the work folder, where what lies beside it is found by the same relative
paths as by hand; what it leaves in `out` there are the job's files. It ends well by its end or exit status 0, and with
`cyxwiz.job.AGAIN` after a save it asks to be run again.
"""

from __future__ import annotations

import math
import os
import runpy
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz import job
from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.state import read_figures, read_state, write_state
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.job import MAX_METRICS
from cyxwiz.domain.script import Script
from cyxwiz.graph.dataset_uri import check_dataset_uri
from cyxwiz.ports.executor import (
    Artefact,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    FirstStep,
    Gang,
    Logged,
    Outcome,
    Preempted,
    Progressed,
    Report,
    Work,
)

if TYPE_CHECKING:
    from cyxwiz.compute.gang.elastic import Member

FILE = "file://"
MAX_FILES = 1000
MAX_STEPS = 2**32
FULL = 1 << 20  # a disk with fewer bytes free
LOSS_SECONDS = 2.0  # as in `train`
LEVELS = ("debug", "info", "warning", "error")
OWN = ("out", "data", "checkpoints")  # of the job, in its work folder
WEIGHTS = (".safetensors", ".pt", ".pth", ".onnx", ".cyxmodel")

Send = Callable[[Report], None]


class ScriptSession:
    """`cyxwiz.job.Session` over the child's channel."""

    def __init__(self, work: Work, send: Send, orders: Orders) -> None:
        self.rank = work.gang.rank if work.gang is not None else 0
        self.world = work.gang.world if work.gang is not None else 1
        self._work, self._send, self._orders = work, send, orders
        self._began = time.perf_counter()
        self._last = work.resume  # the file that was saved last
        self._state = read_state(work.resume) if work.resume is not None else None  # for the first who loads it
        self._step, self._steps = 0, 1
        self._progress = 0.0
        self._reported = False
        self.saved = False
        self.metrics = read_figures(work.resume) if work.resume is not None else {}
        self.params: Mapping[str, str] = {
            **work.hyperparameters,
            "epochs": str(work.epochs),
            "batch_size": str(work.batch_size),
            "seed": str(work.seed),
        }
        self.data_dir = work.work_dir / "data"
        self.out_dir = work.work_dir / "out"

    def report(self, step: int, metrics: Mapping[str, float], of: int | None) -> None:
        step, of = _whole(step), None if of is None else _whole(of)
        if not 0 <= step < MAX_STEPS or (of is not None and not 1 <= of < MAX_STEPS):
            raise ValueError(f"step {step} of {of}: a step is 0 or more, of 1 or more, and both are below 2^32")
        figures = {str(name): float(value) for name, value in metrics.items()}
        told = {**self.metrics, **figures}  # of all steps: the last figure by each name is in the result
        if len(told) >= MAX_METRICS:
            raise ValueError(f"figures by {len(told)} names in all; at most {MAX_METRICS - 1} are reported with a step")
        for name, value in figures.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}: figures must be finite numbers")
        if not self._reported and self.rank == 0:
            self._reported = True
            self._send(FirstStep())
        self._step, self.metrics = step, told
        self.should_stop()  # answers what its owner asked for meanwhile
        if self.rank:
            return
        self._steps = steps = of or max(self._work.epochs, step)
        self._progress = min(1.0, step / steps)
        elapsed = time.perf_counter() - self._began
        remaining = elapsed * (1 - self._progress) / self._progress if self._progress else 0.0
        shown = {**figures, "step": float(step)}
        share, epochs = self._progress, self._work.epochs
        self._send(Progressed(self._epoch, epochs, step, steps, share, shown, elapsed, remaining, epoch_ended=True))

    @property
    def _epoch(self) -> int:
        """The epoch that the last reported step lies in: a job's epochs are equal shares of a script's steps."""
        return min(self._work.epochs, -(-self._step * self._work.epochs // self._steps))  # whole: rounded up exactly

    def log(self, message: str, level: str) -> None:
        self._send(Logged(level if level in LEVELS else "info", message, "job"))

    def save(self, state: Any) -> None:
        if self.rank:
            return
        path = self._work.work_dir / "checkpoints" / f"{time.time_ns()}.safetensors"
        file = write_state(path, state, self.metrics)
        for older in sorted(path.parent.glob("*.safetensors"))[:-2]:
            older.unlink()  # the node has it, or has a newer one
        self._send(
            Checkpointed((file,), max(1, self._epoch), 0, self._step, self._progress, max(1, self._work.threads))
        )
        self._last, self._state, self.saved = path, None, True

    def load(self) -> Any:
        """As it was when it was saved, however its objects were changed since."""
        state, self._state = self._state, None
        return read_state(self._last) if state is None and self._last is not None else state

    def should_stop(self) -> bool:
        for wish in self._orders.take():
            self.log(f"{wish.order}: a script decides itself when it saves and what it changes", "error")
        return self._orders.ending

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began


def _whole(value: Any) -> int:
    """A number of steps as Python's: scripts count with NumPy's and tensors, too."""
    try:
        number = int(value)
    except OverflowError:  # infinite
        number = None
    if number is None or number != value:
        raise ValueError(f"{value} is no whole number of steps")
    return number


def run_script(
    work: Work, script: Script, send: Send, orders: Orders, let_finish: Callable[[], None] = lambda: None
) -> Outcome:
    """Runs the script to its end; returns the job's outcome.

    Args:
        let_finish: waits for what the script left behind in this process, which may still write files of the job.
    """
    assert work.source is not None
    source = work.source
    session = ScriptSession(work, send, orders)
    session.out_dir.mkdir(exist_ok=True)
    lay_out_data(work, session.data_dir)
    lay_out_source(source, work.work_dir)
    member: Member | None = None
    if work.gang is not None:
        from cyxwiz.compute.gang.meeting import join

        try:
            member = join(work, send, orders)
        except InterruptedError:
            return Cancelled() if orders.cancelled else Preempted(session.seconds)
        os.environ.update(member.environment)
    job.enter(session)
    sys.argv = [str(source / script.entry), *script.args]
    sys.path.insert(0, str((source / script.entry).parent))
    if work.packages is not None:
        add_packages(work.packages, send)
    status = _status(source / script.entry)
    let_finish()
    sys.stdout.flush()
    sys.stderr.flush()
    if member is not None and status == 0:
        member.leave()
    # With what it saved now or went on from; without either only if it was asked to stop, and it begins anew then.
    if status == job.AGAIN and (session.saved or session.rank or work.resume is not None or orders.ending):
        return Preempted(session.seconds)
    if work.gang is not None and work.gang.world > 1 and isinstance(status, str):
        _raise_if_lost(work.gang, status)
    if status != 0 and shutil.disk_usage(work.work_dir).free < FULL:  # the node's trouble: another one may do better
        message = f"The node's disk is full, and the script ended with {status}; what it said is in the job's log."
        return Failed("EXHAUSTED", message, retryable=True)
    if status == job.AGAIN:
        return Failed("INVALID", f"The script asked to be run again (exit status {status}) and had saved nothing.")
    if status != 0:
        whose = f" of member {session.rank}" if session.world > 1 else ""
        return Failed("INVALID", f"The script{whose} ended with {status}; what it said is in the job's log.")
    if session.rank:
        return Preempted(session.seconds)
    return Finished(_files(session), session.metrics, work.epochs, session.seconds)


def _raise_if_lost(gang: Gang, status: str) -> None:
    from cyxwiz.compute.gang.meeting import is_loss, lost

    if is_loss(status):
        time.sleep(LOSS_SECONDS)
        raise lost(gang, RuntimeError(status))


def add_packages(folder: Path, send: Send) -> None:
    """Puts a script's packages last on the path, and tells which of them the node has in another version."""
    from importlib.metadata import PackageNotFoundError, distributions, version

    for wanted in sorted(distributions(path=[str(folder)]), key=lambda each: each.name):
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            continue
        if there != wanted.version:
            send(Logged("warning", f"{wanted.name} {there} of this node is used, requirements name {wanted.version}"))
    sys.path.append(str(folder))  # and no .pth file of it is read


def lay_out_data(work: Work, folder: Path) -> None:
    """The job's data set below `folder`: what the node fetched or has below its data roots as `dataset` (a file or a
    folder), anything else as `dataset.npz` with the arrays x and y."""
    folder.mkdir(exist_ok=True)
    if work.dataset_path is not None:
        (folder / "dataset").symlink_to(work.dataset_path)
    elif work.dataset_uri.startswith(FILE):
        from cyxwiz.compute.data.load import locate

        parsed = check_dataset_uri(work.dataset_uri)
        (folder / "dataset").symlink_to(locate(work.dataset_uri, parsed, work.data_roots, None)[0])
    elif work.dataset_uri:
        import numpy as np

        from cyxwiz.compute.datasets import load

        data = load(work.dataset_uri, seed=work.seed, data_roots=work.data_roots, blob=None)
        arrays: dict[str, Any] = {**data.fields, "x": data.features, "y": data.labels}
        np.savez(folder / "dataset.npz", **arrays)


def lay_out_source(source: Path, folder: Path) -> None:
    """The script's files in the folder that it starts in, as links. Not what the job has there itself, nor names with
    a dot in front: the folder is the script's home, in which libraries write theirs."""
    for entry in source.iterdir():
        place = folder / entry.name
        if entry.name not in OWN and not entry.name.startswith(".") and not os.path.lexists(place):
            place.symlink_to(entry)


def _status(path: Path) -> int | str:
    """The exit status, or the exception that ended it; 0 for a good end."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return end.code if end.code == 0 or end.code == job.AGAIN else f"exit status {end.code}"
        sys.stderr.write(f"{end.code}\n")  # as the interpreter does
        return "exit status 1"
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        return f"{type(error).__name__}: {str(error)[:500]}"
    return 0


def _files(session: ScriptSession) -> tuple[Artefact, ...]:
    """What lies in the out folder, a file of weights first; if nothing does, the last figures as a file."""
    import json

    found = sorted(path for path in session.out_dir.rglob("*") if path.is_file() and not path.is_symlink())
    if len(found) > MAX_FILES:
        raise invalid(f"The script left {len(found)} files in job.out_dir; at most {MAX_FILES} are kept.")
    if not found:
        found = [session.out_dir / "metrics.json"]
        found[0].write_text(json.dumps(session.metrics, sort_keys=True))
    found.sort(key=lambda path: path.suffix not in WEIGHTS)
    return tuple(replace(artefact(path), name=str(path.relative_to(session.out_dir))) for path in found)
