"""Answers on their way to a file: appended to one file of float32 rows, saved and taken up again, and written out.

A checkpoint is a safetensors file with one tensor, the bytes of all rows so far, and the count in its metadata; it is
copied, never held in memory. Who goes on appends after the last whole row, so that no row is there twice or missing.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cyxwiz.compute.data.filed import Filed
from cyxwiz.domain.errors import invalid
from cyxwiz.ports.executor import Artefact

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_META = "cyxwiz.rows"
_ITEM = 4  # bytes of a float32
_MAX_HEAD = 1 << 20
_PIECE = 4096  # rows that are written out at a time
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every entry: the same rows give the same bytes


class Spool:
    """Rows of one shape, which the first of them decide. `job` names what is computed."""

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job = path, job
        self.count = 0
        self.shape: tuple[int, ...] = ()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb+")

    def append(self, rows: Array) -> None:
        """float32, n x …"""
        if self.count == 0:
            self.shape = tuple(rows.shape[1:])
        if tuple(rows.shape[1:]) != self.shape:
            raise invalid(f"The model's answers change their shape from {self.shape} to {tuple(rows.shape[1:])}.")
        rows.tofile(self._file)
        self.count += len(rows)

    def save(self, path: Path) -> Artefact:
        """A checkpoint of all rows so far."""
        self._file.flush()
        size = self.count * _ITEM * math.prod(self.shape)
        meta = json.dumps({"job": self._job, "count": self.count, "shape": self.shape})
        head = json.dumps(
            {
                "__metadata__": {"format": "pt", _META: meta},
                "rows": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
            },
            separators=(",", ":"),
        ).encode()
        head += b" " * (-len(head) % 8)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as target, self._path.open("rb") as source:
            head = len(head).to_bytes(8, "little") + head
            target.write(head)
            _copy(source, target, size)
        part.replace(path)
        return Artefact(path.name, path, "", len(head) + size)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint. Raises CyxError INVALID for one of another job, or no whole one."""
        with path.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            try:
                head = json.loads(source.read(min(length, _MAX_HEAD)))
                meta = json.loads(head["__metadata__"][_META])
                job, count = str(meta["job"]), int(meta["count"])
                shape = tuple(int(size) for size in meta["shape"])
            except (ValueError, KeyError, TypeError) as error:
                raise invalid(f"{path.name} is no checkpoint of answers: {type(error).__name__}") from None
            size = count * _ITEM * math.prod(shape)
            if job != self._job or path.stat().st_size != 8 + length + size:
                raise invalid(f"{path.name} is a checkpoint of another job, or not whole.")
            _copy(source, self._file, size)
        self.count, self.shape = count, shape

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """All rows in their order, some at a time, with the number of the first of them."""
        import numpy as np

        self._file.flush()
        if not self.count:
            return
        rows = Filed(self._path, np.dtype(np.float32), (self.count, *self.shape))
        for start in range(0, self.count, _PIECE):
            yield start, rows[start : start + _PIECE]

    def close(self) -> None:
        self._file.close()
        self._path.unlink()


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    left = size
    while left:
        data = source.read(min(left, 1 << 20))
        if not data:
            raise OSError("a file of answers ended early")
        target.write(data)
        left -= len(data)


# --- files


def write_answers(spool: Spool, path: Path, classes: bool, names: Sequence[str], divide: float) -> None:
    """The rows as npz, csv or jsonl, by the file's name; `classes` adds the best class of each, whose name stands
    beside it if it has one. `divide`: above it, a single answer is the second of two classes."""
    writers = {".npz": _npz, ".csv": _csv, ".jsonl": _jsonl}
    writers[path.suffix](spool, path, classes, names, divide)


def _best(rows: Array, divide: float) -> Array:
    if rows.ndim > 1 and rows.shape[-1] > 1:
        return rows.argmax(-1).astype("int64")
    return (rows.reshape(len(rows), -1)[:, 0] > divide).astype("int64")


def _npz(spool: Spool, path: Path, classes: bool, names: Sequence[str], divide: float) -> None:
    """`outputs` (n x …, float32), `predictions` (classes, int64), `class_names` (text)."""
    import numpy as np

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with _entry(archive, "outputs") as file:
            _header(file, np.dtype(np.float32), (spool.count, *spool.shape))
            for _, rows in spool.pieces():
                file.write(np.ascontiguousarray(rows).tobytes())
        if not classes:
            return
        with _entry(archive, "predictions") as file:
            steps = spool.shape[:-1] if spool.shape and spool.shape[-1] > 1 else ()
            _header(file, np.dtype(np.int64), (spool.count, *steps))
            for _, rows in spool.pieces():
                file.write(_best(rows, divide).tobytes())
        if names:
            write_array(archive, "class_names", np.array(list(names)))


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True)


def _header(file: IO[bytes], dtype: Any, shape: tuple[int, ...]) -> None:
    import numpy as np

    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def write_array(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    """One array of an npz; the same bytes for the same content."""
    import numpy as np

    with _entry(archive, name) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """An npz with the same bytes for the same arrays, in the order of their names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            write_array(archive, name, arrays[name])


def _csv(spool: Spool, path: Path, classes: bool, names: Sequence[str], divide: float) -> None:
    """`row`, `prediction` and `name` where there are such, then `output_0` and so on, row-major."""
    import csv

    width = math.prod(spool.shape)
    named = bool(names) and classes
    steps = len(spool.shape) > 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["row", *(["prediction"] if classes else []), *(["name"] if named else [])]
        writer.writerow([*head, *(f"output_{number}" for number in range(width))])
        for start, rows in spool.pieces():
            best = _best(rows, divide) if classes else None
            for number, row in enumerate(rows.reshape(len(rows), -1)):
                line: list[Any] = [start + number]
                if best is not None:
                    line.append(" ".join(map(str, best[number].ravel())) if steps else int(best[number]))
                    line += [_named(best[number], names)] if named else []
                writer.writerow([*line, *(repr(float(value)) for value in row)])


def _named(best: Any, names: Sequence[str]) -> str:
    return " ".join(names[int(each)] if int(each) < len(names) else "" for each in best.ravel())


def _jsonl(spool: Spool, path: Path, classes: bool, names: Sequence[str], divide: float) -> None:
    """Objects with `row`, `outputs`, and `prediction` and `name` where there are such."""
    with path.open("w", encoding="utf-8") as file:
        for start, rows in spool.pieces():
            best = _best(rows, divide) if classes else None
            for number, row in enumerate(rows):
                line: dict[str, Any] = {"row": start + number}
                if best is not None:
                    line["prediction"] = best[number].tolist()
                    if names:
                        line["name"] = _named(best[number], names)
                line["outputs"] = [float(value) for value in row] if row.ndim == 1 else row.tolist()
                file.write(json.dumps(line) + "\n")
