"""NumPy's files: `.npz` with named arrays, one `.npy`, or a folder of two. Pickles are refused."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cyxwiz.compute.data.dataset import Raw, check_size
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.tables import DAMAGED

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_PAIRS = (("x", "y"), ("features", "labels"), ("data", "target"))


def read_npz(uri: str, path: Path, options: Mapping[str, str]) -> Raw:
    """The arrays x and y; or x_train and y_train, x_test and y_test, as `split` says. Others as long go along."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:  # the sizes after unpacking, before anything is unpacked
            check_size(uri, sum(entry.file_size for entry in archive.infolist()))
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]  # no text beside them
            for entry in entries:
                with archive.open(entry) as member:
                    _check_promise(member, entry.file_size)
        with np.load(path, allow_pickle=False) as file:
            there = [entry.filename.removesuffix(".npy") for entry in entries]
            x, y = _pair(uri, there, options.get("split"))
            arrays = {name: file[name] for name in there if name in (x, y) or not _is_split(name)}
    except DAMAGED as error:
        raise invalid(f"The dataset {uri} is no readable npz file: {str(error)[:200]}.", uri=uri) from error
    features, labels = _numbers(uri, x, arrays.pop(x)), _numbers(uri, y, arrays.pop(y))
    further = {
        name: array
        for name, array in arrays.items()
        if array.dtype.kind in "biuf" and array.ndim and len(array) == len(features)
    }
    return _raw(uri, features, labels, further)


def read_npy(uri: str, path: Path, options: Mapping[str, str]) -> Raw:
    """A folder with x.npy and y.npy (or features and labels), or one array whose last column is the label."""
    import numpy as np

    if path.is_dir():
        there = [entry.stem for entry in sorted(path.glob("*.npy"))]
        x, y = _pair(uri, there, options.get("split"))
        return _raw(uri, _array(uri, path / f"{x}.npy"), _array(uri, path / f"{y}.npy"), {})
    if "split" in options:
        raise invalid(f"The dataset {uri} is one array and has no split; leave the option out.", uri=uri)
    table = _array(uri, path)
    if table.ndim != 2 or table.shape[1] < 2:
        raise invalid(
            f"The dataset {uri} has the shape {table.shape}; a table of rows with the label last is needed, or a "
            "folder with x.npy and y.npy.",
            uri=uri,
        )
    labels = table[:, -1]
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)  # in a table of one type whole labels are floating numbers, too
    return _raw(uri, table[:, :-1], labels, {})


def _is_split(name: str) -> bool:
    return name.rpartition("_")[2] in ("train", "test", "val", "validation")


def _pair(uri: str, there: list[str], split: str | None) -> tuple[str, str]:
    words = {None: ("", "train"), "train": ("train", ""), "test": ("test",), "validation": ("validation", "val")}[split]
    for word in words:
        for x, y in _PAIRS:
            pair = (f"{x}_{word}", f"{y}_{word}") if word else (x, y)
            if set(pair) <= set(there):
                return pair
    wanted = "the arrays x and y" if split is None else f"the arrays x_{split} and y_{split}"
    raise invalid(f"The dataset {uri} needs {wanted}; it has {there[:10]}.", uri=uri)


def _array(uri: str, path: Path) -> Array:
    import numpy as np

    check_size(uri, path.stat().st_size)
    try:
        with path.open("rb") as file:  # by its header: the shape decides how much is taken, the size what is there
            _check_promise(file, path.stat().st_size)
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False)
    except DAMAGED as error:
        raise invalid(
            f"The dataset {uri}: {path.name} is no readable npy file: {str(error)[:200]}.", uri=uri
        ) from error
    except MemoryError as error:
        raise CyxError(Code.EXHAUSTED, f"The dataset {uri} does not fit this node's memory.") from error
    return _numbers(uri, path.stem, array)


def _check_promise(file: IO[bytes], size: int) -> None:
    """Raises ValueError for an array whose header promises more than its file's `size`: room for it is taken first."""
    from numpy.lib import format as npy

    head = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = head(file)
    if not dtype.hasobject and file.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it ends before the {shape} values of {dtype} that it names")


def _numbers(uri: str, name: str, array: Any) -> Array:
    if array.dtype.kind == "U" and array.ndim:
        return array.astype(object)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        what = array.dtype if array.ndim else "a single value"
        raise invalid(f"The dataset {uri}: {name} holds {what}; rows of numbers are needed.", uri=uri)
    return array


def _raw(uri: str, features: Array, labels: Array, further: dict[str, Array]) -> Raw:
    check_size(uri, features.size, "values")
    if features.dtype == object:
        raise invalid(f"The dataset {uri} has features that are text; numbers are needed.", uri=uri)
    features = features.reshape(len(features), -1) if features.ndim == 1 else features
    if labels.dtype == object and labels.ndim != 1:
        raise invalid(f"The dataset {uri} has labels of the shape {labels.shape}; text needs one each.", uri=uri)
    return Raw(features, labels, fields=further)
