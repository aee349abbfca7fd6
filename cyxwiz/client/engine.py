"""`LocalData`: a data set on the client's machine, streamed to the node that trains on it (`remote://`).

Reads `.npz` (arrays x and y, or their usual names) and `.csv` (the last column is the label; a header is optional).
Samples are sent as float32 and labels as int32, both little-endian; 8-bit pictures are scaled to 0..1.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.domain.tables import DAMAGED, is_number, titles
from cyxwiz.protocol import common_pb2
from cyxwiz.protocol import execution_pb2 as pb

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_PAIRS = (("x", "y"), ("x_train", "y_train"), ("features", "labels"), ("data", "target"))
_UNREADABLE = (*DAMAGED, OSError, csv.Error)
MAX_CLASSES = 65_536
NO_DATA, NO_SPLIT, NO_INDEX = 1001, 1002, 1003  # error codes of the earlier system


@dataclass(frozen=True, slots=True)
class LocalData:
    """Samples (n, …) as float32 and a class for each as int32."""

    samples: Array
    labels: Array
    names: tuple[str, ...] = ()

    @staticmethod
    def read(path: Path) -> LocalData:
        """Raises INVALID for a file that can't be read as samples with classes, UNSUPPORTED without NumPy."""
        try:
            import numpy as np
        except ImportError:
            raise unsupported("remote:// data need NumPy on this machine: pip install numpy") from None
        if path.suffix.lower() not in (".npz", ".csv"):
            raise invalid(f"dataset: {path} can't be streamed; only .npz and .csv files are", field="dataset")
        try:
            read = _npz(path) if path.suffix.lower() == ".npz" else _csv(path)
        except _UNREADABLE as error:
            raise invalid(f"dataset: {path} can't be read: {str(error)[:200]}", field="dataset") from None
        samples, labels, names = read
        if len(samples) != len(labels) or len(samples) < 2:
            raise invalid(f"dataset: {path} has {len(samples)} samples and {len(labels)} labels", field="dataset")
        if not np.isfinite(samples).all():
            raise invalid(f"dataset: {path} holds missing or infinite values; fill or drop them", field="dataset")
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise invalid(
                f"dataset: {path} has labels from {labels.min():g} to {labels.max():g}; classes run from 0",
                field="dataset",
            )
        return LocalData(np.ascontiguousarray(samples, "<f4"), labels.astype("<i4"), names)

    def info(self) -> pb.DatasetInfoResponse:
        classes = max(2, int(self.labels.max()) + 1)
        return pb.DatasetInfoResponse(
            status=common_pb2.STATUS_SUCCESS,
            train=pb.SplitInfo(num_samples=len(self.samples), available=True, shuffle_enabled=True),
            validation=pb.SplitInfo(),
            test=pb.SplitInfo(),
            sample_shape=self.samples.shape[1:],
            label_shape=[1],
            dtype="float32",
            num_classes=classes,
            class_names=self.names or [str(number) for number in range(min(classes, 1000))],
        )

    def batch(self, request: pb.BatchRequest) -> pb.BatchResponse:
        """The samples that are asked for; indices out of bounds are left out."""
        if request.split != pb.SPLIT_TRAIN:
            return _failed(request, NO_SPLIT, "only the training split is streamed")
        indices = [index for index in request.sample_indices if 0 <= index < len(self.samples)]
        if not indices:
            return _failed(request, NO_INDEX, "no index is one of a sample")
        samples = self.samples[indices]
        return pb.BatchResponse(
            status=common_pb2.STATUS_SUCCESS,
            request_id=request.request_id,
            images=samples.tobytes(),
            labels=self.labels[indices].tobytes(),
            batch_shape=samples.shape,
            label_shape=[len(indices)],
        )


def no_data(job_id: str) -> pb.DatasetInfoResponse:
    """The answer of a client that has no data for the job."""
    error = common_pb2.Error(code=NO_DATA, message=f"this client has no data for job {job_id}")
    return pb.DatasetInfoResponse(status=common_pb2.STATUS_ERROR, error=error)


def _failed(request: pb.BatchRequest, code: int, message: str) -> pb.BatchResponse:
    error = common_pb2.Error(code=code, message=message)
    return pb.BatchResponse(status=common_pb2.STATUS_ERROR, request_id=request.request_id, error=error)


def _npz(path: Path) -> tuple[Array, Array, tuple[str, ...]]:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        for x, y in _PAIRS:
            if x in file and y in file:
                break
        else:
            raise ValueError(f"it needs the arrays x and y; it has {file.files[:10]}")
        samples, labels = file[x], file[y]
    if samples.dtype.kind not in "biuf" or labels.dtype.kind not in "biuU" or labels.size != len(labels):
        raise ValueError(f"x must hold numbers and y a class each, not {samples.dtype} and {labels.dtype}")
    if samples.ndim == 1:
        samples = samples.reshape(-1, 1)
    scaled = samples / np.float32(255) if samples.dtype == np.uint8 else samples.astype(np.float32)
    return scaled, *_classes(labels.reshape(-1))


def _csv(path: Path) -> tuple[Array, Array, tuple[str, ...]]:
    """A node reads a table by the same rules."""
    import numpy as np

    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if len(row) > 1 or "".join(row).strip()]
    if rows and not any(row[-1].strip() for row in rows):
        rows = [row[:-1] for row in rows]  # every line ends in a delimiter
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ValueError("it needs rows of numbers with the label last")
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) == width + 1 and not row[-1].strip():
            row.pop()
        if len(row) != width or not row[-1].strip():
            what = "has no label" if len(row) == width else f"has {len(row)} columns, the first has {width}"
            raise ValueError(f"row {number} {what}")
    rows = rows[1:] if titles(*rows[:2]) else rows
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is refused
        samples = np.array([row[:-1] for row in rows], dtype=np.float32)
    return samples, *_classes(np.array([row[-1] for row in rows]))


def _classes(labels: Array) -> tuple[Array, tuple[str, ...]]:
    """Whole numbers as they are, words as classes in sorted order."""
    import numpy as np

    if labels.dtype.kind in "biu":
        return labels.astype(np.int64), ()
    words = [str(label).strip() for label in labels]
    if all(is_number(word) for word in words):
        values = np.array([float(word) for word in words])
        if not np.array_equal(values, np.rint(values)):
            raise ValueError("its labels are numbers to predict, and only classes are streamed: upload it")
        return values, ()
    names = sorted(set(words))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[word] for word in words]), tuple(names)


def local_path(uri: str, beside: Path) -> Path | None:
    """The file that `remote://PATH` names beside a job file, or None where there is none."""
    scheme, _, rest = uri.partition("://")
    if scheme != "remote" or not rest:
        return None
    path = beside / rest
    return path if path.is_file() else None


def remote_uri(path: Path) -> str:
    """A URI for a local file: its name alone travels, not where it lies."""
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in path.name)
    return f"remote://{name[-100:]}"
