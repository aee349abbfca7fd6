"""`load`: a dataset's URI to arrays, read whole into memory.

Reads scikit-learn's bundled sets (`builtin:`), comma-separated files and MNIST's IDX files below the node's data
roots (`file://`), fetched blobs (`blob://`: npz with `x` and `y`, or CSV) and random data (`mock://`). In a CSV the
last column is the label: whole numbers from 0 are classes, anything else is a number to predict; a first line of words
is a header.

8-bit images are scaled from 0..255 to 0..1 and say so in `divisor`. Tables keep their units and ask with `standardize`
for the training part's mean and deviation to be taken out; so does `builtin:digits`, whose pixels run from 0 to 16.

Refuses with CyxError only, naming the URI and what to do; never unpickles; opens no `file://` path that leads outside
the data roots once symbolic links are resolved.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import struct
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.graph.dataset_uri import MOCK, DatasetUri, DataShape, check_dataset_uri

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_BYTES = 4 * 1024**3
MAX_CLASSES = 65_536


@dataclass(frozen=True, slots=True)
class Dataset:
    """Features as float32, labels as int64 classes (n) or float32 targets (n x targets)."""

    uri: str
    features: Array
    labels: Array
    classes: int | None
    standardize: bool = False
    divisor: float = 1.0  # what the features were divided by to fit 0..1

    @property
    def shape(self) -> DataShape:
        targets = 1 if self.classes is not None else int(self.labels.shape[1])
        return DataShape(len(self.features), tuple(self.features.shape[1:]), self.classes, targets)


def load(uri: str, *, seed: int = 0, data_roots: Sequence[Path] = (), blob: Path | None = None) -> Dataset:
    """The dataset of that URI; CyxError naming the URI when it cannot be read."""
    parsed = check_dataset_uri(uri)
    try:
        if parsed.scheme == "builtin":
            dataset = _builtin(uri, parsed.kind)
        elif parsed.scheme == "mock":
            dataset = _mock(uri, seed)
        elif parsed.scheme == "blob":
            dataset = _blob(uri, blob)
        else:
            path = _below_roots(uri, parsed, data_roots)
            dataset = _csv(uri, path) if parsed.kind == "csv" else _mnist(uri, path)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} cannot be read: {reason}; check the path.") from error
    except MemoryError as error:
        raise CyxError(Code.EXHAUSTED, f"The dataset {uri} does not fit this node's memory.") from error
    if len(dataset.features) < 2:
        raise invalid(f"The dataset {uri} has {len(dataset.features)} samples; at least 2 are needed.", uri=uri)
    return dataset


def _below_roots(uri: str, parsed: DatasetUri, roots: Sequence[Path]) -> Path:
    """The real path of a `file://` dataset. Whether a path outside the roots exists is not told."""
    if not roots:
        raise CyxError(
            Code.FORBIDDEN,
            f"The dataset {uri} is a local file, and this node serves none: set node.data_roots.",
            {"uri": uri},
        )
    allowed = [root.resolve() for root in roots]
    absolute = parsed.rest.startswith("/")
    candidates = [Path(parsed.rest)] if absolute else [root / parsed.rest for root in allowed]
    resolved = [candidate.resolve() for candidate in candidates]
    inside = [path for path in resolved if any(path.is_relative_to(root) for root in allowed)]
    if not inside:
        raise CyxError(Code.FORBIDDEN, f"The dataset {uri} lies outside this node's data roots.", {"uri": uri})
    for path in inside:
        if path.exists():
            return path
    raise CyxError(
        Code.NOT_FOUND, f"The dataset {uri} is not below this node's data roots; copy it there.", {"uri": uri}
    )


def _check_size(uri: str, size: int) -> None:
    if size > MAX_BYTES:
        raise invalid(f"The dataset {uri} has {size} bytes; at most {MAX_BYTES} are read.", uri=uri, bound=MAX_BYTES)


def _labelled(uri: str, features: Array, labels: Array, *, whole: bool, standardize: bool = False) -> Dataset:
    """Checks that features and labels are finite and go together; whole labels become classes, bytes are scaled."""
    import numpy as np

    if len(features) != len(labels):
        raise invalid(f"The dataset {uri} has {len(features)} samples but {len(labels)} labels.", uri=uri)
    if not len(features) or features.ndim < 2 or features[0].size == 0:
        raise invalid(f"The dataset {uri} has no samples with features.", uri=uri)
    divisor = 255.0 if features.dtype == np.uint8 else 1.0
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is refused
        features = np.ascontiguousarray(features, dtype=np.float32)
        targets = np.ascontiguousarray(labels.reshape(len(labels), -1), dtype=np.float32)
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise invalid(f"The dataset {uri} holds missing or infinite values; fill or drop them.", uri=uri)
    if not whole:
        return Dataset(uri, features / np.float32(divisor), targets, None, standardize, divisor)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise invalid(
            f"The dataset {uri} has whole labels from {low} to {high}; classes run from 0 to {MAX_CLASSES - 1}. "
            "Write numbers to predict with a decimal point.",
            uri=uri,
        )
    classes = labels.reshape(len(labels)).astype(np.int64)
    return Dataset(uri, features / np.float32(divisor), classes, max(2, high + 1), standardize, divisor)


# --- builtin:, mock:


def _builtin(uri: str, name: str) -> Dataset:
    """scikit-learn's bundled files, read without importing it: that import alone takes longer than a short job."""
    import numpy as np

    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} needs the package scikit-learn; install it on the node.")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"

    def table(file: str, **options: Any) -> Array:
        path = folder / file
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        return np.loadtxt(text.splitlines(), ndmin=2, **options)

    if name == "digits":
        raw = table("digits.csv.gz", delimiter=",")
        return _labelled(uri, raw[:, :-1], raw[:, -1], whole=True, standardize=True)
    if name == "diabetes":
        features, targets = table("diabetes_data_raw.csv.gz"), table("diabetes_target.csv.gz")
        return _labelled(uri, features, targets.reshape(-1, 1), whole=False, standardize=True)
    if name == "linnerud":
        exercise, body = table("linnerud_exercise.csv", skiprows=1), table("linnerud_physiological.csv", skiprows=1)
        return _labelled(uri, exercise, body, whole=False, standardize=True)
    raw = table({"wine": "wine_data.csv"}.get(name, f"{name}.csv"), delimiter=",", skiprows=1)
    return _labelled(uri, raw[:, :-1], raw[:, -1], whole=True, standardize=True)


def _mock(uri: str, seed: int) -> Dataset:
    import numpy as np

    digest = hashlib.sha256(f"{uri}|{seed}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    features = random.random((MOCK.samples, *MOCK.features), dtype=np.float32)
    return Dataset(uri, features, random.integers(0, MOCK.classes or 1, MOCK.samples, dtype=np.int64), MOCK.classes)


# --- files


def _csv(uri: str, path: Path) -> Dataset:
    import numpy as np

    _check_size(uri, path.stat().st_size)
    try:
        # From an open file: given a name, numpy would also unpack archives, past the limit of size.
        with path.open(encoding="utf-8-sig") as lines, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an empty table, which is refused below
            first = lines.readline(1_000_000)
            skip = 0 if all(_is_number(field) for field in first.split(",")) else 1
            options: dict[str, Any] = {"delimiter": ",", "skiprows": skip, "comments": None}
            lines.seek(0)
            raw = np.loadtxt(lines, ndmin=2, dtype=np.float64, **options)
            if raw.size == 0 or raw.shape[1] < 2:
                raise invalid(f"The dataset {uri} needs at least one feature column and a label column.", uri=uri)
            lines.seek(0)
            written = np.loadtxt(lines, ndmin=1, dtype=str, usecols=raw.shape[1] - 1, **options)
    except ValueError as error:  # also UnicodeDecodeError; numpy names row and column
        raise invalid(f"The dataset {uri} is no table of numbers: {str(error)[:200]}.", uri=uri) from error
    whole = all(text.strip().lstrip("+-").isdecimal() for text in written)
    return _labelled(uri, raw[:, :-1], raw[:, -1], whole=whole, standardize=True)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mnist(uri: str, folder: Path) -> Dataset:
    images = _idx(uri, _either(uri, folder, "train-images-idx3-ubyte", "train-images.idx3-ubyte"), 3)
    labels = _idx(uri, _either(uri, folder, "train-labels-idx1-ubyte", "train-labels.idx1-ubyte"), 1)
    return _labelled(uri, images, labels, whole=True)


def _either(uri: str, folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        if path.is_file() and path.resolve().is_relative_to(folder):
            return path
    raise CyxError(Code.NOT_FOUND, f"The dataset {uri} has no file {' or '.join(names)}.", {"uri": uri})


def _idx(uri: str, path: Path, rank: int) -> Array:
    """One IDX file of unsigned bytes: magic number 0, 0, 8, rank, then the sizes, all big-endian."""
    import numpy as np

    _check_size(uri, path.stat().st_size)
    raw = path.read_bytes()
    start = 4 + 4 * rank
    if len(raw) < start or raw[:4] != bytes((0, 0, 8, rank)):
        raise invalid(f"The dataset {uri}: {path.name} is no IDX file of {rank} dimensions of bytes.", uri=uri)
    sizes = struct.unpack(f">{rank}I", raw[4:start])
    wanted = 1
    for size in sizes:
        wanted *= size
    if len(raw) - start != wanted:
        raise invalid(
            f"The dataset {uri}: {path.name} holds {len(raw) - start} bytes of data, its header says {wanted}.", uri=uri
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(sizes)


def _blob(uri: str, path: Path | None) -> Dataset:
    if path is None:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} was not fetched to this node; submit the job again.")
    with path.open("rb") as file:
        start = file.read(4)
    return _npz(uri, path) if start == b"PK\x03\x04" else _csv(uri, path)


def _npz(uri: str, path: Path) -> Dataset:
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:  # the sizes after unpacking, before anything is unpacked
            _check_size(uri, sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            if not {"x", "y"} <= set(arrays.files):
                raise invalid(f"The dataset {uri} needs the arrays x and y; it has {arrays.files[:10]}.", uri=uri)
            features, labels = arrays["x"], arrays["y"]
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise invalid(f"The dataset {uri} is no readable npz file: {str(error)[:200]}.", uri=uri) from error
    for name, array in (("x", features), ("y", labels)):
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise invalid(f"The dataset {uri}: {name} holds {array.dtype}; numbers are needed.", uri=uri)
    features = features.reshape(len(features), -1) if features.ndim == 1 else features
    return _labelled(uri, features, labels, whole=labels.dtype.kind in "biu" and labels.size == len(labels))
