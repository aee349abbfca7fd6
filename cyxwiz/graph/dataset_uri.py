"""Which datasets a job may name, decided without touching any data.

`check_dataset_uri` refuses an unknown scheme, a wrong form or an unknown option as INVALID.
Whether the data are there, and whether a node may fetch them, is known to the node alone.

Options say how to read: `file://csv/a.csv?label=kind`. They follow `#`, or `?` where the scheme has no query of its own
(all but https and http).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.job import FETCHED
from cyxwiz.graph import values

MAX_URI = 2048


@dataclass(frozen=True, slots=True)
class DatasetUri:
    """The parts of a URI.

    | scheme | kind | rest |
    |---|---|---|
    | builtin | the set's name | |
    | mock | random | what follows |
    | file | one of FORMATS, auto, mnist, cifar10, cifar100 | the path |
    | blob | sha256 | 64 hex digits |
    | https, http | the host, with a port if given | path and query |
    | s3 | the bucket | the key, or a prefix that ends in a slash (or nothing) |
    | hf | datasets | owner/name[@revision][/path] |
    | ipfs | the content identifier | the path below it |
    | remote | client | the name under which the job's owner streams it |
    """

    scheme: str
    kind: str
    rest: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def fetched(self) -> bool:
        """Whether the node must bring the data in before a run may read them."""
        return self.scheme in ("blob", *FETCHED)


@dataclass(frozen=True, slots=True)
class DataShape:
    """`classes` is None for a regression; `targets` counts the numbers to predict (1 for a classification).

    `label_shape` is that of one sample's classes, (T,) when every step has one. `fields` are the shapes of further
    arrays that a model may read by name. `nominal` classes are kinds; others are whole numbers, which a model with one
    output and a loss on numbers learns as such. `standardized`: every column of the features is brought to mean 0 and
    deviation 1, unless the graph normalizes.
    """

    samples: int
    features: tuple[int, ...]
    classes: int | None
    targets: int = 1
    label_shape: tuple[int, ...] = ()
    fields: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    nominal: bool = False
    standardized: bool = False


BUILTIN: Mapping[str, DataShape] = MappingProxyType(
    {
        "digits": DataShape(1797, (64,), 10, nominal=True, standardized=True),
        "iris": DataShape(150, (4,), 3, nominal=True, standardized=True),
        "wine": DataShape(178, (13,), 3, nominal=True, standardized=True),
        "breast_cancer": DataShape(569, (30,), 2, nominal=True, standardized=True),
        "diabetes": DataShape(442, (10,), None, 1, standardized=True),
        "linnerud": DataShape(20, (3,), None, 3, standardized=True),
    }
)
MOCK = DataShape(1000, (784,), 10, nominal=True)
FORMATS = ("csv", "tsv", "json", "jsonl", "npy", "npz", "parquet", "images", "mnist", "cifar10", "cifar100")
SPLITS = ("train", "test", "validation")
MAX_SIDE = 4096

_FORMS = (
    "Use builtin:NAME, file://FORMAT/PATH, file:///PATH, blob://sha256/HEX, https://HOST/PATH, s3://BUCKET/KEY, "
    "hf://datasets/OWNER/NAME, ipfs://CID, remote://NAME or mock://NAME."
)
_OPTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "format": ("|".join(FORMATS), "one of " + ", ".join(FORMATS)),
        "label": (r"[^\x00-\x1f]{1,200}", "the name or the number (from 0) of a column"),
        "features": (r"[^\x00-\x1f]{1,1000}", "names or numbers of columns with commas between"),
        "header": ("true|false", "true or false"),
        "delimiter": (r"[,;|: \t]|tab|space|comma|semicolon", "one of , ; | : tab space"),
        "size": (r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}", f"WIDTHxHEIGHT, each at most {MAX_SIDE}"),
        "mode": ("L|RGB", "L or RGB"),
        "split": ("|".join(SPLITS), "one of " + ", ".join(SPLITS)),
        "sha256": (r"[0-9a-f]{64}", "64 lower-case hex digits"),
    }
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HF = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[A-Za-z0-9][\w.~-]{0,99})?(?:/[^/].*)?", re.ASCII)
_CID = re.compile(r"Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{58,100}")


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
    if scheme not in ("mock", "file", "blob", "remote", *FETCHED) or not rest.startswith("//"):
        raise invalid(f"The dataset URI {shown} has an unknown scheme. {_FORMS}", uri=shown)
    rest = rest[2:]
    if scheme == "mock":
        return DatasetUri("mock", "random", rest)
    if scheme == "remote":
        return _remote(rest, shown)
    rest, options = _options(scheme, rest, shown)
    if scheme in ("https", "http"):
        return _web(scheme, rest, options, shown)
    if scheme == "hf":
        return _hub(rest, options, shown)
    kind, _, rest = rest.partition("/")
    return {"blob": _blob, "file": _file, "s3": _s3, "ipfs": _ipfs}[scheme](kind, rest, options, shown)


def blob_digest(uri: str) -> str | None:
    """The SHA-256 that a `blob://` URI names, or None for a URI of another scheme or none at all."""
    try:
        parsed = check_dataset_uri(uri)
    except CyxError:
        return None
    return parsed.rest if parsed.scheme == "blob" else None


def content_digest(uri: str) -> str | None:
    """The SHA-256 that the data of a job must have, as its URI says: that of a blob, or of the option `sha256`."""
    try:
        parsed = check_dataset_uri(uri)
    except CyxError:
        return None
    return parsed.rest if parsed.scheme == "blob" else parsed.options.get("sha256")


def hub_parts(parsed: DatasetUri) -> tuple[str, str, str]:
    """(owner/name, revision, path) of an `hf://` URI; the revision is `main` unless one is named."""
    owner, _, rest = parsed.rest.partition("/")
    name, _, path = rest.partition("/")
    name, _, revision = name.partition("@")
    return f"{owner}/{name}", revision or "main", path.strip("/")


def _options(scheme: str, rest: str, shown: str) -> tuple[str, dict[str, str]]:
    marks = "#" if scheme in ("https", "http") else "?#"
    at = min((place for mark in marks if (place := rest.find(mark)) >= 0), default=len(rest))
    options: dict[str, str] = {}
    for pair in re.split("[&#]", rest[at + 1 :]):
        if not pair:
            continue
        key, _, value = pair.partition("=")
        value = unquote(value)
        if key not in _OPTIONS or (key == "sha256" and scheme not in FETCHED):
            raise invalid(
                f"The dataset URI {shown} has an unknown option {values.quote(key)}. Known: {', '.join(_OPTIONS)} "
                "(sha256 with https, s3, hf and ipfs only).",
                uri=shown,
                option=values.quote(key),
            )
        pattern, words = _OPTIONS[key]
        if key in options or not re.fullmatch(pattern, value) or (key == "size" and not _sides(value)):
            raise invalid(
                f"The dataset URI {shown}: the option {key} must be given once, as {words}.", uri=shown, option=key
            )
        options[key] = value
    return rest[:at], options


def _sides(size: str) -> bool:
    return all(int(side) <= MAX_SIDE for side in size.split("x"))


def _builtin(name: str, shown: str) -> DatasetUri:
    name = name.strip().lower().replace("-", "_")
    if name not in BUILTIN:
        known = ", ".join(BUILTIN)
        raise invalid(f"There is no built-in dataset {shown}. Known: {known}.", uri=shown, known=list(BUILTIN))
    return DatasetUri("builtin", name, "")


def _file(kind: str, rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    if not kind and rest.strip("/"):
        kind, rest = "auto", f"/{rest}"
    if kind not in (*FORMATS, "auto"):
        known = ", ".join(FORMATS)
        raise invalid(
            f"The dataset URI {shown} must be file:///PATH or file://FORMAT/PATH with one of {known}, auto.", uri=shown
        )
    if not rest.strip("/"):
        raise invalid(f"The dataset URI {shown} names no path after file://{kind}/.", uri=shown)
    return DatasetUri("file", kind, rest, options)


def _blob(kind: str, rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    if kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", rest):
        raise invalid(f"The dataset URI {shown} must be blob://sha256/ and 64 lower-case hex digits.", uri=shown)
    return DatasetUri("blob", kind, rest, options)


def _web(scheme: str, rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as error:
        raise invalid(f"The dataset URI {shown} is no URL: {error}.", uri=shown) from None
    if parts.username is not None or parts.password is not None:
        raise invalid(f"The dataset URI {shown} must not hold credentials: others can read it.", uri=shown)
    host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    if not _HOST.fullmatch(host) or port == 0 or " " in rest or not rest.isascii():
        raise invalid(f"The dataset URI {shown} must be {scheme}://HOST/PATH, percent-encoded.", uri=shown)
    return DatasetUri(scheme, parts.netloc, rest[len(parts.netloc) :] or "/", options)


def _s3(kind: str, rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    if not _BUCKET.fullmatch(kind) or len(rest.encode()) > 1024:
        raise invalid(
            f"The dataset URI {shown} must be s3://BUCKET/KEY with a bucket of 3 to 63 of a-z0-9.-", uri=shown
        )
    return DatasetUri("s3", kind, rest, options)


def _hub(rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    kind, _, rest = rest.partition("/")
    rest = rest.rstrip("/")
    if kind != "datasets" or not _HF.fullmatch(rest) or _climbs(rest):
        raise invalid(f"The dataset URI {shown} must be hf://datasets/OWNER/NAME[@REVISION][/PATH].", uri=shown)
    return DatasetUri("hf", kind, rest, options)


def _ipfs(kind: str, rest: str, options: dict[str, str], shown: str) -> DatasetUri:
    if not _CID.fullmatch(kind) or _climbs(rest):
        raise invalid(
            f"The dataset URI {shown} must be ipfs://CID[/PATH] with a CID of version 0 (Qm…) or 1 in base32 (b…).",
            uri=shown,
        )
    return DatasetUri("ipfs", kind, rest, options)


def _remote(rest: str, shown: str) -> DatasetUri:
    if not rest.strip("/"):
        raise invalid(f"The dataset URI {shown} must be remote://NAME, with any name.", uri=shown)
    return DatasetUri("remote", "client", rest)


def _climbs(path: str) -> bool:
    return any(part in ("", ".", "..") for part in path.split("/")[:-1]) or path.split("/")[-1] in (".", "..")


def known_shape(uri: DatasetUri) -> DataShape | None:
    """What is known of a dataset by its URI alone."""
    return BUILTIN.get(uri.kind) if uri.scheme == "builtin" else MOCK if uri.scheme == "mock" else None
