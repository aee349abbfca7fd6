"""`open_rows`: the rows that a trained model is asked about, taken part by part.

Labels are not needed here, and left out where they are. Arrays of NumPy's files and tables of text (csv, tsv, jsonl)
are spooled to files of the job's own folder and read part by part, so that memory does not grow with their size. What
the other readers give is in memory as in training.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.builtin import builtin, mock
from cyxwiz.compute.data.columns import ASKING, Columns, choose, fault
from cyxwiz.compute.data.dataset import as_float32, check_size
from cyxwiz.compute.data.filed import Filed, filed_npy
from cyxwiz.compute.data.load import format_of, locate, read
from cyxwiz.compute.data.records import no_utf8
from cyxwiz.compute.data.text import BROKEN, body, delimiter_of, head, is_header, mark_of, no_text
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.tables import DAMAGED, is_number
from cyxwiz.graph.dataset_uri import check_dataset_uri
from cyxwiz.graph.values import no_json
from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_X = ("x", "features", "data")
_Y = ("y", "labels", "target")
_WORDS: Mapping[str | None, tuple[str, ...]] = {
    None: ("", "test", "train"), "train": ("train", ""), "test": ("test",), "validation": ("validation", "val"),
}  # fmt: skip
_PIECE = 8192  # rows turned into numbers at a time
_MAX_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rows:
    """The features are `x`, beside what other arrays an npz has; all n x …, as they stand in the files."""

    uri: str
    arrays: Mapping[str, Array | Filed]
    divisor: float = 1.0  # what training divides `x` by
    notes: tuple[Logged, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays["x"])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(array.shape[1:]) for name, array in self.arrays.items()}

    def take(self, start: int, stop: int) -> dict[str, Array]:
        """Those rows as float32, `x` divided. Raises CyxError INVALID for what is no finite number."""
        import numpy as np

        made: dict[str, Array] = {}
        for name, array in self.arrays.items():
            part = as_float32(array[start:stop])
            if not np.isfinite(part).all():
                row = int(np.argmin(np.isfinite(part).reshape(len(part), -1).all(axis=1)))
                raise invalid(
                    f"The dataset {self.uri} holds missing or infinite values in sample {start + row} (from 0); fill "
                    "or drop them.",
                    uri=self.uri,
                )
            made[name] = part / np.float32(self.divisor) if name == "x" and self.divisor != 1.0 else part
        return made


def open_rows(
    uri: str,
    folder: Path,
    *,
    wanted: Columns = ASKING,
    seed: int = 0,
    data_roots: Sequence[Path] = (),
    blob: Path | None = None,
) -> Rows:
    """The rows of that URI. `folder` is made for what is spooled; `wanted` says what the model reads.

    Raises:
        CyxError: as `load`; INVALID for no rows.
    """
    import numpy as np

    parsed = check_dataset_uri(uri)
    notes: list[Logged] = []
    try:
        if parsed.scheme in ("builtin", "mock"):
            made = builtin(uri, parsed.kind) if parsed.scheme == "builtin" else mock(uri, seed)
            return Rows(uri, {"x": made.features})
        path, kind = locate(uri, parsed, data_roots, blob)
        kind = format_of(uri, path, kind)
        folder.mkdir(parents=True, exist_ok=True)
        plain = not path.is_dir()
        arrays: dict[str, Array | Filed]
        if kind == "npz" and plain:
            arrays = _npz(uri, path, folder, parsed.options)
        elif kind == "npy":
            arrays = {"x": _npy(uri, path)}
        elif kind in ("csv", "tsv") and plain:
            mark = "\t" if kind == "tsv" else delimiter_of(path)
            arrays = {"x": _table(uri, path, folder, mark_of(parsed.options, mark), parsed.options, wanted, notes)}
        elif kind == "jsonl" and plain:
            try:
                arrays = {"x": _lines(uri, path, folder, parsed.options, wanted, notes)}
            except UnicodeDecodeError as error:
                raise no_utf8(uri, error.reason) from None
        else:
            raw = read(uri, path, kind, parsed.options, wanted)
            notes += raw.notes
            arrays = {"x": raw.features, **raw.fields}
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} cannot be read: {reason}; check the path.") from error
    x: Any = arrays["x"]
    if not len(x) or x.size == 0:
        raise invalid(f"The dataset {uri} has no samples with features.", uri=uri)
    columns: Any = x.as_columns() if isinstance(x, Filed) else x.reshape(len(x), -1) if x.ndim == 1 else x
    return Rows(uri, {**arrays, "x": columns}, 255.0 if x.dtype == np.uint8 else 1.0, tuple(notes))


# --- NumPy's files


def _npz(uri: str, path: Path, folder: Path, options: Mapping[str, str]) -> dict[str, Array | Filed]:
    """The features, and every other array as long that is no label and no split's; unpacked to files."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(uri, sum(entry.file_size for entry in archive.infolist()))
            there = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            split = options.get("split")
            named = [f"{x}_{word}" if word else x for word in _WORDS[split] for x in _X]
            x = next((name for name in named if name in there), None)
            if x is None:
                raise invalid(f"The dataset {uri} has no array {named[0]}; it has {list(there)[:10]}.", uri=uri)
            found: dict[str, Array | Filed] = {}
            for number, (name, entry) in enumerate(there.items()):
                if name != x and (name in _X + _Y or _is_split(name)):
                    continue
                spooled = folder / f"{number}.npy"
                with archive.open(entry) as source, spooled.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                found["x" if name == x else name] = _npy(uri, spooled)
    except DAMAGED as error:
        raise invalid(f"The dataset {uri} is no readable npz file: {str(error)[:200]}.", uri=uri) from error
    rows = len(found["x"])
    return {name: array for name, array in found.items() if name == "x" or (array.ndim and len(array) == rows)}


def _is_split(name: str) -> bool:
    return name.rpartition("_")[2] in ("train", "test", "val", "validation")


def _npy(uri: str, path: Path) -> Array | Filed:
    """The array of a file, or of x.npy (features, data) in a folder; whatever else lies there is left."""
    import numpy as np

    if path.is_dir():
        path = next((path / f"{name}.npy" for name in _X if (path / f"{name}.npy").is_file()), path / "x.npy")
    check_size(uri, path.stat().st_size)
    try:
        filed = filed_npy(path)
        array: Array | Filed = np.load(path, allow_pickle=False) if filed is None else filed
    except DAMAGED as error:
        raise invalid(f"The dataset {uri} is no readable npy file: {str(error)[:200]}.", uri=uri) from error
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        what = array.dtype if array.ndim else "a single value"
        raise invalid(f"The dataset {uri} holds {what}; rows of numbers are needed.", uri=uri)
    return array


# --- tables of text


def _table(
    uri: str, path: Path, folder: Path, mark: str, options: Mapping[str, str], wanted: Columns, notes: list[Logged]
) -> Filed:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        try:
            first, second, above = head(uri, lines, mark)
            header = is_header(first, second, options, notes)
            names = first if header else [str(index) for index in range(len(first))]
            chosen = choose(uri, names, options, wanted, named=header)
            notes += chosen.notes
            told = [names[index] for index in chosen.features]

            def numbers() -> Iterator[tuple[int, list[Any]]]:
                for number, row in body(uri, lines, mark, above + int(header), len(names)):
                    cells = [row[index] for index in chosen.features]
                    if "_" in (written := "".join(cells)) or not written.isascii():
                        _no_words(uri, number, cells, told)
                    yield number, cells

            return _spool(uri, folder / "x.bin", numbers(), told)
        except BROKEN as error:
            raise no_text(uri, error) from None


def _no_words(uri: str, number: int, cells: Sequence[str], names: Sequence[str]) -> None:
    """Refuses a cell that only Python takes for a number."""
    for cell, name in zip(cells, names, strict=True):
        if not is_number(cell):
            raise fault(uri, number, name, cell)


def _lines(
    uri: str, path: Path, folder: Path, options: Mapping[str, str], wanted: Columns, notes: list[Logged]
) -> Filed:
    with path.open(encoding="utf-8-sig") as lines:
        rows = _objects(uri, lines)
        one = next(rows, None)
        if one is None:
            raise invalid(f"The dataset {uri} holds no rows.", uri=uri)
        first = one[1]
        of_objects = isinstance(first, dict)
        names = list(first) if of_objects else [str(index) for index in range(len(first))]
        chosen = choose(uri, names, options, wanted, named=of_objects, by_name=of_objects)
        notes += chosen.notes
        picked = [names[at] for at in chosen.features]

        def numbers() -> Iterator[tuple[int, list[Any]]]:
            for number, row in itertools.chain([one], rows):
                yield number, _values(uri, number, row, picked, type(first))

        return _spool(uri, folder / "x.bin", numbers(), picked)


def _values(uri: str, number: int, row: Any, chosen: Sequence[str], kind: type) -> list[Any]:
    if not isinstance(row, kind):
        raise invalid(f"The dataset {uri}: row {number} is not of the same form as the first.", uri=uri)
    try:
        made = [row[name] if kind is dict else row[int(name)] for name in chosen]
    except (KeyError, IndexError):
        raise invalid(f"The dataset {uri}: row {number} lacks a column that the first row has.", uri=uri) from None
    return made[0] if len(made) == 1 and isinstance(made[0], list) else made


def _objects(uri: str, lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > _MAX_LINE:
            raise invalid(f"The dataset {uri} has a line of more than {_MAX_LINE} characters.", uri=uri)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise invalid(f"The dataset {uri}: line {number} is no JSON: {no_json(error)}.", uri=uri) from None
        if not isinstance(row, dict | list) or not row:
            raise invalid(f"The dataset {uri}: line {number} is no object or list with values.", uri=uri)
        yield number, row


def _spool(uri: str, path: Path, rows: Iterator[tuple[int, Any]], names: Sequence[str]) -> Filed:
    """Writes the rows as float32, piece by piece."""
    import numpy as np

    count, shape = 0, (0,)
    with path.open("wb") as file:
        for piece in _pieces(rows):
            array = _numbers(uri, piece, names)
            if count and array.shape[1:] != shape:
                raise invalid(f"The dataset {uri} has rows of different shapes from row {piece[0][0]} on.", uri=uri)
            shape = array.shape[1:]
            count += len(array)
            check_size(uri, count * math.prod(shape), "values")
            array.tofile(file)
    if not count:
        raise invalid(f"The dataset {uri} holds no rows.", uri=uri)
    return Filed(path, np.dtype(np.float32), (count, *shape))


def _pieces(rows: Iterator[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    piece: list[tuple[int, Any]] = []
    for row in rows:
        piece.append(row)
        if len(piece) == _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _numbers(uri: str, piece: list[tuple[int, Any]], names: Sequence[str]) -> Array:
    import numpy as np

    try:
        with np.errstate(over="ignore"):  # refused when it is taken
            return np.array([row for _, row in piece], dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        for number, row in piece:
            for at, value in enumerate(row):
                told = names[min(at, len(names) - 1)]
                if isinstance(value, str) and is_number(value):
                    continue
                if not isinstance(value, int | float | list):
                    raise fault(uri, number, told, value) from None
        raise invalid(f"The dataset {uri}: its rows from {piece[0][0]} on differ in shape.", uri=uri) from None
