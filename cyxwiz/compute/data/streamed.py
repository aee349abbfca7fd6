"""Rows of a data set that come one batch at a time: as the node writes them, and as its child reads them meanwhile.

A folder has `x.npy` (float32, samples x shape) and `y.npy` (int64, samples), each of its full size from the start, and
`meta.json`, which says what there is to come. Every row has its place from the start, so that rows may come in any
order, and the whole is an ordinary data set. Which rows are there is known to the writer alone; it says so in
`have.npy` when it leaves before the last one, and takes that file away while it writes.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.filed import Filed, filed_npy

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

META, HAVE = "meta.json", "have.npy"
DROP_BYTES = 64 << 20  # of rows read, after which the pages that they came by are given back


@dataclass(frozen=True, slots=True)
class Info:
    """What the client says of its data."""

    samples: int
    shape: tuple[int, ...]
    classes: int  # 0: not said
    names: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Of one sample as it is sent, with its label."""
        return 4 * math.prod(self.shape) + 4

    @property
    def stored_bytes(self) -> int:
        """Of all samples on disk, about: the files' headers are left out."""
        return self.samples * (4 * math.prod(self.shape) + 8)


def read_info(folder: Path) -> Info:
    """Raises OSError, ValueError, KeyError or TypeError for a folder without a sound `meta.json`."""
    said = json.loads((folder / META).read_text())
    return Info(int(said["samples"]), tuple(said["shape"]), int(said["classes"]), tuple(said["names"]))


class RowStore:
    """The writer's side. `have` says which rows are there. Methods that touch the disk raise OSError."""

    def __init__(self, folder: Path, info: Info, have: Array) -> None:
        self.folder, self.info, self.have = folder, info, have
        self._files: list[tuple[Filed, int]] = []
        for name in ("x.npy", "y.npy"):
            path = folder / name
            path.chmod(0o644)
            filed = filed_npy(path)
            assert filed is not None
            self._files.append((filed, os.open(path, os.O_WRONLY | os.O_CLOEXEC)))
        (folder / HAVE).unlink(missing_ok=True)

    @classmethod
    def create(cls, folder: Path, info: Info) -> RowStore:
        """An empty one, in place of whatever lies there."""
        import numpy as np

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        np.lib.format.open_memmap(folder / "x.npy", "w+", np.dtype("<f4"), (info.samples, *info.shape))
        np.lib.format.open_memmap(folder / "y.npy", "w+", np.dtype("<i8"), (info.samples,))
        said = {
            "samples": info.samples,
            "shape": list(info.shape),
            "classes": info.classes,
            "names": list(info.names),
        }
        (folder / META).write_text(json.dumps(said))
        return cls(folder, info, np.zeros(info.samples, dtype=bool))

    @classmethod
    def find(cls, folder: Path) -> RowStore | None:
        """What an earlier writer left here, None where it left nothing that can be gone on with."""
        import numpy as np

        try:
            info = read_info(folder)
            have = np.load(folder / HAVE, allow_pickle=False)
            if have.dtype != bool or have.shape != (info.samples,):
                return None
            return cls(folder, info, have)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def whole(self) -> bool:
        return bool(self.have.all())

    def write(self, rows: Array, samples: Array, labels: Array) -> None:
        """Samples (n, …) and labels (n) at these rows. From then on whoever has the file open reads them."""
        import numpy as np

        together = int(rows[-1]) - int(rows[0]) == len(rows) - 1 and bool((np.diff(rows) == 1).all())
        for (filed, descriptor), values in zip(self._files, (samples, labels), strict=True):
            data: memoryview = np.ascontiguousarray(values, filed.dtype).reshape(-1).view("u1").data
            each = len(data) // len(rows)
            if together:
                _write_at(descriptor, data, filed.offset + int(rows[0]) * each)
                continue
            for number, row in enumerate(rows.tolist()):
                _write_at(descriptor, data[number * each : (number + 1) * each], filed.offset + row * each)
        self.have[rows] = True

    def close(self, *, keep: bool) -> None:
        """With `keep`, `find` gives it again."""
        import numpy as np

        files, self._files = self._files, []
        for _, descriptor in files:
            if keep:
                os.fsync(descriptor)
            os.close(descriptor)
        if files and keep:
            np.save(self.folder / HAVE, self.have)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


class Rows:
    """The reader's side: rows of a file that is mapped, copied out as they are asked for. Pages of a mapped file don't
    count as a job's memory, and are given back now and then all the same."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        filed = filed_npy(path)
        assert filed is not None
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(self._map, filed.dtype, filed.size, filed.offset)
        self.array: Array = flat.reshape(filed.shape)  # what is not there yet reads as 0
        self._read = 0

    def take(self, rows: Array) -> Array:
        """A copy of these rows."""
        made = self.array[rows]
        self._read += made.nbytes
        if self._read >= DROP_BYTES:
            self._read = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return made
