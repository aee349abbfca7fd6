"""An array that stays in its file: only the rows that are asked for are read. Unlike a mapped file's pages
they count as the job's memory only while they are used."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from cyxwiz.compute.data.dataset import Array


@dataclass(frozen=True, slots=True)
class Filed:
    """Row-major from `offset` on, n x …; sliced along its rows."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def as_columns(self) -> Filed:
        """n x 1 for n, else itself."""
        return replace(self, shape=(self.shape[0], 1)) if self.ndim == 1 else self

    def __getitem__(self, rows: slice) -> Array:
        """Raises OSError for a file that ends early."""
        import numpy as np

        start, stop, _ = rows.indices(len(self))
        inner = self.shape[1:]
        each = math.prod(inner)
        count = max(0, stop - start) * each
        made = np.fromfile(self.path, self.dtype, count, offset=self.offset + start * each * self.dtype.itemsize)
        if made.size != count:
            raise OSError(f"{self.path.name} ends early")
        return made.reshape(-1, *inner)


def filed_npy(path: Path) -> Filed | None:
    """The array of a .npy file; None for one that is not row-major. Raises ValueError for no such file, or a pickle."""
    import numpy as np

    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds objects, which are never loaded")
        if any(size < 0 for size in shape):
            raise ValueError("its header has a negative size")
        made = Filed(path, dtype, tuple(shape), file.tell())
    if path.stat().st_size < made.offset + made.size * dtype.itemsize:
        raise ValueError("it is shorter than its header says")
    return None if fortran and made.ndim > 1 else made
