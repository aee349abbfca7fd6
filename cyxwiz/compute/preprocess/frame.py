"""The data between two steps of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.builtin import builtin, mock
from cyxwiz.compute.data.columns import MISSING
from cyxwiz.compute.data.dataset import MAX_VALUES, Raw, check_rows, labels_of, not_infinite
from cyxwiz.compute.data.load import locate, read
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.graph.dataset_uri import check_dataset_uri
from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")


@dataclass(slots=True)
class Frame:
    """`x` is of the array module `xp` (NumPy, or CuPy on a GPU), float32, n x …, NaN where a value is missing; whatever
    else goes with a row stays in `rows` on the host, `y` among it."""

    xp: Any
    x: Any
    rows: dict[str, Array]
    classes: int | None
    class_names: tuple[str, ...] = ()
    part: Array | None = None  # of each row, after a split
    dtype: str = "float32"  # that the features are written as
    learned: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notes: tuple[Logged, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def train(self) -> Any:
        """The rows that a step may learn from. Raises CyxError INVALID when there are none."""
        rows = self.x if self.part is None else self.x[self.xp.asarray(self.part == TRAIN)]
        if not len(rows):
            raise invalid("steps: no training rows are left to learn from")
        return rows

    def keep(self, index: Array) -> None:
        """Those rows, by number or by mask, in that order. Raises CyxError INVALID when none is left."""
        self.x = self.x[self.xp.asarray(index)]
        self.rows = {name: array[index] for name, array in self.rows.items()}
        self.part = None if self.part is None else self.part[index]
        if not len(self.x):
            raise invalid("steps: no row is left")

    def add(self, x: Any, index: Array) -> None:
        """Further training rows: what goes with them is that of the rows `index`."""
        import numpy as np

        check_values((len(self.x) + len(x)) * int(np.prod(self.x.shape[1:])))
        self.x = self.xp.concatenate([self.x, x])
        self.rows = {name: np.concatenate([array, array[index]]) for name, array in self.rows.items()}
        if self.part is not None:
            self.part = np.concatenate([self.part, np.full(len(x), TRAIN, self.part.dtype)])


def check_values(count: int) -> None:
    if count > MAX_VALUES:
        raise invalid(f"steps: {count} values are more than the {MAX_VALUES} that a data set may have")


def read_frame(uri: str, xp: Any, *, seed: int, data_roots: Sequence[Path], blob: Path | None) -> Frame:
    """The data set as training reads it (bytes as 0 to 1), with values that may be missing. CyxError as `load`."""
    import numpy as np

    parsed = check_dataset_uri(uri)
    if parsed.scheme in ("builtin", "mock"):
        made = builtin(uri, parsed.kind) if parsed.scheme == "builtin" else mock(uri, seed)
        rows = {**made.fields, "y": made.labels}
        return Frame(xp, xp.asarray(made.features), rows, made.classes, made.class_names)
    try:
        path, kind = locate(uri, parsed, data_roots, blob)
        raw: Raw = read(uri, path, kind, {**parsed.options, MISSING: "true"})
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} cannot be read: {reason}; check the path.") from error
    check_rows(uri, raw)
    labels, classes, names = labels_of(uri, raw, "numbers")
    divisor = np.float32(255.0 if raw.features.dtype == np.uint8 else 1.0)
    x = not_infinite(uri, raw.features) / divisor
    return Frame(xp, xp.asarray(x), {**raw.fields, "y": labels}, classes, names, notes=raw.notes)
