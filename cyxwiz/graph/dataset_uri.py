"""Which datasets a job may name, decided without touching any data.

`check_dataset_uri` refuses an unknown scheme or set as INVALID and a scheme of later versions as UNSUPPORTED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import values

MAX_URI = 2048


@dataclass(frozen=True, slots=True)
class DatasetUri:
    """`scheme` is builtin, mock, file or blob; `kind` the builtin's name, csv, mnist or sha256; `rest` what follows."""

    scheme: str
    kind: str
    rest: str


@dataclass(frozen=True, slots=True)
class DataShape:
    """`classes` is None for a regression; `targets` counts the numbers to predict (1 for a classification).

    `label_shape` is that of one sample's classes, (T,) when every step has one. `fields` are the shapes of further
    arrays that a model may read by name.
    """

    samples: int
    features: tuple[int, ...]
    classes: int | None
    targets: int = 1
    label_shape: tuple[int, ...] = ()
    fields: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


BUILTIN: Mapping[str, DataShape] = MappingProxyType(
    {
        "digits": DataShape(1797, (64,), 10),
        "iris": DataShape(150, (4,), 3),
        "wine": DataShape(178, (13,), 3),
        "breast_cancer": DataShape(569, (30,), 2),
        "diabetes": DataShape(442, (10,), None, 1),
        "linnerud": DataShape(20, (3,), None, 3),
    }
)
MOCK = DataShape(1000, (784,), 10)

_LATER = ("https", "http", "s3", "hf", "ipfs", "remote")
_FILES = ("csv", "mnist")
_FORMS = "Use builtin:NAME, file://csv/PATH, file://mnist/DIRECTORY, blob://sha256/HEX or mock://NAME."


def check_dataset_uri(uri: str) -> DatasetUri:
    """The parts of a dataset's URI; CyxError INVALID or UNSUPPORTED, naming the URI and what to write instead."""
    shown = values.quote(uri)
    if not isinstance(uri, str) or not uri.strip() or len(uri) > MAX_URI or not uri.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid(f"The dataset URI {shown} is empty, too long or not printable. {_FORMS}", uri=shown)
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if not colon:
        raise invalid(f"The dataset URI {shown} has no scheme. {_FORMS}", uri=shown)
    if scheme == "builtin":
        return _builtin(rest.removeprefix("//"), shown)
    if scheme in _LATER:
        raise unsupported(f"Datasets of {scheme}:// ({shown}) cannot be read yet. {_FORMS}", uri=shown, scheme=scheme)
    if scheme not in ("mock", "file", "blob") or not rest.startswith("//"):
        raise invalid(f"The dataset URI {shown} has an unknown scheme. {_FORMS}", uri=shown)
    rest = rest[2:]
    if scheme == "mock":
        return DatasetUri("mock", "random", rest)
    kind, _, rest = rest.partition("/")
    return _blob(kind, rest, shown) if scheme == "blob" else _file(kind, rest, shown)


def _builtin(name: str, shown: str) -> DatasetUri:
    name = name.strip().lower().replace("-", "_")
    if name not in BUILTIN:
        known = ", ".join(BUILTIN)
        raise invalid(f"There is no built-in dataset {shown}. Known: {known}.", uri=shown, known=list(BUILTIN))
    return DatasetUri("builtin", name, "")


def _file(kind: str, rest: str, shown: str) -> DatasetUri:
    if kind == "cifar10":
        raise unsupported(f"file://cifar10 ({shown}) cannot be read yet. {_FORMS}", uri=shown, scheme="file://cifar10")
    if kind not in _FILES:
        raise invalid(f"The dataset URI {shown} must start with file://csv/ or file://mnist/.", uri=shown)
    if not rest.strip("/"):
        raise invalid(f"The dataset URI {shown} names no path after file://{kind}/.", uri=shown)
    return DatasetUri("file", kind, rest)


def _blob(kind: str, rest: str, shown: str) -> DatasetUri:
    if kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", rest):
        raise invalid(f"The dataset URI {shown} must be blob://sha256/ and 64 lower-case hex digits.", uri=shown)
    return DatasetUri("blob", kind, rest)


def known_shape(uri: DatasetUri) -> DataShape | None:
    """What is known of a dataset by its URI alone."""
    return BUILTIN.get(uri.kind) if uri.scheme == "builtin" else MOCK if uri.scheme == "mock" else None
