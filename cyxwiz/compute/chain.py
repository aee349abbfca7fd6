"""The proof of a training run, where torch is: digests of its states, weights and data, and the chain of its links.

`domain.proof` says what is hashed. The result's weights are hashed as its file has them: float32, without the counters
of BatchNorm, which only its training reads. Of a checkpoint all is hashed that the rest of the run depends on: who
could leave the optimizer out could save a state that learns nothing more, and every interval would be right by itself.
So the digest of a link can be computed anew from the file alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cyxwiz.compute.tensors import read_tensors
from cyxwiz.domain.proof import Array, Kind, arrays_digest, definition_digest, extend, genesis, loss_bits
from cyxwiz.ports.executor import Linked, Work

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cyxwiz.compute.checkpoint import State
    from cyxwiz.compute.course import Send
    from cyxwiz.compute.data.dataset import Dataset

_BY_LOSSES = frozenset({"best", "num_bad_epochs", "cooldown_counter"})  # figures that a loss's last digits may decide
CHUNK = 1 << 24  # bytes hashed at a time
MODEL, OPTIMIZER, RANDOM = "model/", "optimizer/", "random/"  # how the names of a checkpoint's tensors begin


class Chain:
    """The links of one run. Data are hashed in a thread, and waited for at the first link."""

    def __init__(self, work: Work, dataset: Dataset, threads: int, device: torch.device, send: Send) -> None:
        self._work, self._send = work, send
        self._environment = environment(threads, device)
        self._data = ""
        self._before = ""
        self._hashing = threading.Thread(target=self._hash, args=(dataset,), name="data digest", daemon=True)
        self._hashing.start()

    def _hash(self, dataset: Dataset) -> None:
        self._data = data_digest(dataset)

    def resume(self, kept: Mapping[str, Any] | None) -> None:
        """Goes on after the link that a checkpoint was written with; one without any begins anew."""
        self._before = str(kept["link"]) if kept else ""

    def add(self, kind: Kind, step: int, loss: float, digest: str) -> str:
        """One link more over a state's or the result's `digest`, told at once; its own. Called by one thread at a
        time."""
        self._hashing.join()
        work = self._work
        if not self._before:
            self._before = genesis(work.chain_id or work.job_id, work.seed, definition_of(work), self._data)
        link = extend(self._before, kind, step, loss_bits(loss), digest)
        self._before = link.link
        self._send(Linked(int(kind), step, loss, link.weights, link.link, self._data, self._environment))
        return link.link


def definition_of(work: Work) -> str:
    return definition_digest(
        model=work.model,
        dataset_uri=work.dataset_uri,
        hyperparameters=dict(work.hyperparameters),
        epochs=work.epochs,
        batch_size=work.batch_size,
    )


def environment(threads: int, device: torch.device) -> str:
    """What a result's bits depend on besides the job, as JSON with sorted keys."""
    import torch

    on_gpu = device.type == "cuda"
    machine = torch.cuda.get_device_name(device) if on_gpu else _cpu_model()
    facts = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "device": device.type,
        "machine": machine,
        "instructions": "" if on_gpu else torch.backends.cpu.get_cpu_capability(),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # no such file on this system: the next best source names it
    return platform.processor() or platform.machine()


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Of CPU tensors by the names of a model's state."""
    kept = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    return arrays_digest(_tensor(name, value) for name, value in kept.items())


def state_digest(state: State) -> str:
    """Of what a run goes on with but its generators, which nobody saves work by. Numbers are rounded to six digits: a
    sum that was gone on with may differ in its last bits."""
    text = json.dumps(_rounded(_figures(state)), sort_keys=True, separators=(",", ":")).encode()
    tensors = {name: value for name, value in state.tensors.items() if not name.startswith(RANDOM)}
    arrays = [_bytes(name, value) for name, value in tensors.items()]
    return arrays_digest([*arrays, Array("figures", "json", (len(text),), [text])])


def _figures(state: State) -> Any:
    """As JSON gives them back, so that those of a file are the same."""
    found = {name: state.figures[name] for name in ("optimizer", "schedule", "precision")}
    best = {name: state.figures["best"].get(name) for name in ("value", "epoch", "waited", "mark")}
    place = [state.place.epoch, state.place.batch, state.place.step]
    return json.loads(json.dumps({**found, "best": best, "place": place}))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_rounded(each) for each in cast("list[Any]", value)]
    return f"{value:.6g}" if isinstance(value, float) else value


def _bytes(name: str, value: Tensor) -> Array:
    import torch

    flat = value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()
    return Array(name, str(value.dtype).removeprefix("torch."), tuple(value.shape), _chunks(flat))


def resembles(own: State, claimed: State) -> bool:
    """Whether a state of another class of hardware is one that the same run may have come to: the same but for its
    numbers, and those near enough that no learning was left out. Its weights are for `distances`. Which epoch was the
    best so far is left open: the last digits of two losses may decide it."""
    if not _near(_figures(own), _figures(claimed)):
        return False
    ours, theirs = ({n: t for n, t in each.tensors.items() if not n.startswith(RANDOM)} for each in (own, claimed))
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        return False
    names = [name for name in ours if name.startswith(OPTIMIZER)]
    return all(_alike(float(ours[name].double().norm()), float(theirs[name].double().norm())) for name in names)


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        ours, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        names = ours.keys() - _BY_LOSSES
        return ours.keys() == theirs.keys() and all(_near(ours[name], theirs[name]) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        ours_, theirs_ = cast("list[Any]", one), cast("list[Any]", other)
        return len(ours_) == len(theirs_) and all(_near(*pair) for pair in zip(ours_, theirs_, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0.01, abs_tol=1e-6)
    return bool(one == other)


def _alike(one: float, other: float) -> bool:
    """Two norms of what an optimizer remembers, which differs more than the weights do."""
    small, large = sorted((one, other))
    return large < 1e-3 or small * 2 >= large


def weights_of_file(path: Path) -> dict[str, Tensor]:
    """The weights that a result's file or a checkpoint holds. Raises CyxError INVALID for another file."""
    tensors, _ = read_tensors(path)
    state = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    return {name: value for name, value in (state or tensors).items() if not name.endswith("num_batches_tracked")}


def data_digest(dataset: Dataset) -> str:
    """Of the arrays that training reads, before any of them is held out or scaled. Of data that a client streams, only
    of what it said of them: the first link may be due before the last of them is there."""
    if dataset.streamed:
        said = ["streamed", *dataset.features.shape, dataset.classes, *dataset.class_names]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()
    arrays = {"features": dataset.features, "labels": dataset.labels}
    arrays |= {f"fields/{name}": array for name, array in dataset.fields.items()}
    return arrays_digest((_array(name, array) for name, array in arrays.items()), data=True)


def _tensor(name: str, value: Tensor) -> Array:
    import torch

    return _array(name, value.detach().to("cpu", torch.float32).contiguous().numpy())


def _array(name: str, array: Any) -> Array:
    import numpy as np

    whole = np.ascontiguousarray(array)
    little = whole.astype(whole.dtype.newbyteorder("<"), copy=False)
    return Array(name, little.dtype.str.lstrip("<|"), tuple(array.shape), _chunks(little))


def _chunks(array: Any) -> Iterator[memoryview]:
    data = memoryview(array.reshape(-1).view("u1"))
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


def distances(own: Mapping[str, Tensor], claimed: Mapping[str, Tensor]) -> dict[str, float]:
    """How far two sets of weights are apart: `max_abs` over all values, `max_rel` over the tensors, each its largest
    difference by its largest value. Weights that can't be compared have `incomparable` = 1 instead."""
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in claimed.items()}:
        return {"incomparable": 1.0}
    most, relative = 0.0, 0.0
    for name, value in own.items():
        if not value.numel():
            continue
        ours, theirs = value.detach().to("cpu").double(), claimed[name].double()
        gap = float((ours - theirs).abs().max())
        if gap - gap != 0:
            return {"incomparable": 1.0}
        most = max(most, gap)
        relative = max(relative, gap / max(float(ours.abs().max()), 1e-12))
    return {"max_abs": most, "max_rel": relative}
