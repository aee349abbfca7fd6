"""A training job's state as a file, and when to write one.

A checkpoint has everything that the next step depends on: the model, the optimizer, the random generators, where in
which epoch the sampler is, and the figures counted so far. It is one safetensors file, tensors by name and the rest as
JSON in its metadata: loading one runs no code. The same seed with the same number of CPU threads gives, after a resume,
the bits that an uninterrupted run gives.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.tensors import read_tensors, write_tensors
from cyxwiz.domain.checkpoint import Every, Unit
from cyxwiz.domain.errors import invalid
from cyxwiz.ports.executor import Artefact, Checkpointed, Logged, Report

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

VERSION = 1
_META = "cyxwiz.checkpoint"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the job a state was taken. `epoch` goes on, from 1, after `batch` of its batches."""

    epoch: int
    batch: int
    step: int
    progress: float


@dataclass(frozen=True, slots=True)
class State:
    """A checkpoint in memory. `figures` is JSON: what the trainer counts and wants back."""

    place: Place
    threads: int
    tensors: Mapping[str, Tensor]
    figures: Mapping[str, Any]


def snapshot(
    place: Place,
    threads: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, Tensor],
    figures: Mapping[str, Any],
    extra: Mapping[str, Tensor],
) -> State:
    """Copies the state to CPU memory: training may go on while it is written."""
    tensors = {f"model/{name}": _copy(value) for name, value in model.state_dict().items()}
    optimizer_state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entry in optimizer_state["state"].items():
        for key, value in entry.items():
            if hasattr(value, "detach"):
                tensors[f"optimizer/{index}/{key}"] = _copy(value)
            else:
                scalars.setdefault(str(index), {})[key] = value
    tensors |= {f"random/{name}": value.clone() for name, value in generators.items()} | dict(extra)
    own = {"scalars": scalars, "groups": optimizer_state["param_groups"]}
    return State(place, threads, tensors, {**figures, "optimizer": own})


def _copy(value: Tensor) -> Tensor:
    return whole(value.detach()).to("cpu", copy=True).contiguous()


def whole(value: Any) -> Tensor:
    """The tensor itself; gathered from all members of a gang, who must all ask, where each has a share of it."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()  # type: ignore[no-any-return]


def like(own: Any, value: Tensor) -> Tensor:
    """`value` as `own` is kept: this member's share of it where `own` is a share of a tensor of the same shape."""
    if not hasattr(own, "full_tensor") or own.shape != value.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_model(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts whole weights into a model that may be one of shares. Raises RuntimeError for another model's."""
    own = model.state_dict()
    model.load_state_dict({name: like(own[name], value) if name in own else value for name, value in weights.items()})


def restore(state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts the state back; the generators are the caller's. Raises CyxError INVALID if it is another model's."""
    saved = _below(state.tensors, "model/")
    try:
        load_model(model, saved)
    except RuntimeError as error:
        raise invalid(f"The checkpoint is of another model: {str(error)[:300]}") from error
    own = state.figures["optimizer"]
    entries: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in own["scalars"].items()}
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for name, value in _below(state.tensors, "optimizer/").items():
        index, _, key = name.partition("/")
        owner = parameters[int(index)] if int(index) < len(parameters) else None
        entries.setdefault(int(index), {})[key] = like(owner, value)
    try:
        optimizer.load_state_dict({"state": entries, "param_groups": own["groups"]})
    except (ValueError, KeyError) as error:
        raise invalid(f"The checkpoint is of another optimizer: {str(error)[:300]}") from error


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names: `random/`, or what `extra` had."""
    return _below(state.tensors, prefix)


def write(path: Path, state: State, job: str, link: str = "") -> Artefact:
    """`job` is `fingerprint` of what is trained, `link` the digest of the proof's link for this state."""
    place = state.place
    meta = {
        "version": VERSION,
        "job": job,
        "threads": state.threads,
        "place": [place.epoch, place.batch, place.step, place.progress],
        "figures": {**state.figures, "proof": {"link": link}} if link else state.figures,
    }
    return write_tensors(path, state.tensors, {"format": "pt", _META: json.dumps(meta)}, lasting=False)


def read(path: Path, job: str) -> State:
    """Raises CyxError INVALID for what is no checkpoint of this job."""
    tensors, metadata = read_tensors(path)
    try:
        meta = json.loads(metadata[_META])
        epoch, batch, step, progress = meta["place"]
        state = State(Place(epoch, batch, step, progress), int(meta["threads"]), tensors, meta["figures"])
        version, of = meta["version"], meta["job"]
    except (KeyError, ValueError, TypeError) as error:
        raise invalid(f"{path.name} is no checkpoint: {type(error).__name__}: {error}") from error
    if version != VERSION or of != job:
        raise invalid(f"{path.name} is a checkpoint of another job, or of version {version}; this is {VERSION}.")
    return state


def fingerprint(*parts: object) -> str:
    """Names what is trained, so that a checkpoint is not taken for another job's."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


class Saver:
    """Writes checkpoints in a thread of its own, one at a time, and reports each once it is complete.

    While one is being written no other is due: training never waits, but for `save(wait=True)`.
    """

    def __init__(
        self,
        folder: Path,
        job: str,
        every: Every,
        send: Callable[[Report], None],
        prove: Callable[[State], str] | None = None,
        steps: Sequence[int] = (),
    ) -> None:
        """`prove` makes the link of a state. With `steps`, states are taken at just these, proved, and not written."""
        self._folder, self._job, self._every, self._send, self._prove = folder, job, every, send, prove
        self._steps = deque(sorted(set(steps)))
        self._only_proves = bool(steps)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._saved_step = 0
        self._saved_epoch = 0
        self.next_time = time.perf_counter() + every.count if every.unit is Unit.SECOND else float("inf")
        self.next_step = every.count if every.unit is Unit.STEP else float("inf")
        self._after(0)

    def _after(self, step: int) -> None:
        """With `steps`: the next one above `step` is due next."""
        if self._only_proves:
            while self._steps and self._steps[0] <= step:
                self._steps.popleft()
            self.next_step, self.next_time = (self._steps[0] if self._steps else float("inf")), float("inf")

    def resumed(self, place: Place) -> None:
        """Counts from a checkpoint that was read."""
        self._saved_step, self._saved_epoch = place.step, place.epoch - 1
        if self._every.unit is Unit.STEP:
            self.next_step = place.step + self._every.count
        self._after(place.step)

    @property
    def busy(self) -> bool:
        """Whether one is being written: no other would be."""
        return not self._only_proves and self._thread is not None and self._thread.is_alive()

    def proves_at(self, step: int) -> bool:
        """Whether a link is wanted at the job's last step, which no checkpoint is due at."""
        return self._only_proves and step >= self.next_step

    def due_after(self, epoch: int) -> bool:
        """Whether one is due at the end of an epoch."""
        return (
            not self._only_proves and self._every.unit is Unit.EPOCH and epoch - self._saved_epoch >= self._every.count
        )

    def save(self, take: Callable[[], State], *, wait: bool = False) -> None:
        """Takes a state and has it written; skipped while another is being written, unless it must `wait`."""
        if self.busy and not wait:
            return
        self.finish()
        state = take()
        self._saved_step, self._saved_epoch = state.place.step, state.place.epoch - 1
        self._thread = threading.Thread(target=self._write, args=(state,), name="checkpoint")
        self._thread.start()
        if self._every.unit is Unit.SECOND:
            self.next_time = time.perf_counter() + self._every.count
        if self._every.unit is Unit.STEP:
            self.next_step = state.place.step + self._every.count
        self._after(state.place.step)
        if wait:
            self.finish()

    def _write(self, state: State) -> None:
        try:
            place = state.place
            link = self._prove(state) if self._prove is not None else ""
            if self._only_proves:
                return
            path = self._folder / f"step-{place.step:012d}.safetensors"
            artefact = write(path, state, self._job, link)
            for older in sorted(self._folder.glob("*.safetensors"))[:-2]:
                older.unlink()  # the node has it, or has a newer one
            where = (place.epoch, place.batch, place.step, place.progress)
            self._send(Checkpointed((artefact,), *where, state.threads, link))
        except OSError as error:  # a full disk: the job can do without this one
            self._send(Logged("warning", f"a checkpoint could not be written: {error}", "node"))
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        """Waits for the one being written. Raises what its writing raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
