"""The proof of a training run, where torch is: digests of its weights and data, and the chain of its links.

`domain.proof` says what is hashed. Weights are hashed as a result's file has them: float32, without the counters of
BatchNorm, which only its training reads. So the digest of a link can be computed anew from the file alone.
"""

from __future__ import annotations

import hashlib
import json
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.tensors import read_tensors
from cyxwiz.domain.proof import Array, Kind, arrays_digest, definition_digest, extend, genesis, loss_bits
from cyxwiz.ports.executor import Linked, Work

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cyxwiz.compute.course import Send
    from cyxwiz.compute.data.dataset import Dataset

CHUNK = 1 << 24  # bytes hashed at a time
MODEL = "model/"  # how the names of a checkpoint's weights begin


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

    def add(self, kind: Kind, step: int, loss: float, weights: Mapping[str, Tensor]) -> str:
        """One link more, told at once; its digest. Called by one thread at a time."""
        self._hashing.join()
        work = self._work
        if not self._before:
            self._before = genesis(work.chain_id or work.job_id, work.seed, definition_of(work), self._data)
        link = extend(self._before, kind, step, loss_bits(loss), weights_digest(weights))
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
