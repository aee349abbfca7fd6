"""`load`: a dataset's URI to arrays, read whole into memory.

Reads scikit-learn's bundled sets (`builtin:`), random data (`mock://`), files below the node's data roots (`file://`)
and whatever the node has fetched (`blob://`, `https://`, `s3://`, `hf://`, `ipfs://`: a file or a folder) or was
streamed by a client (`remote://`). The format is what the URI says, else what the files are.

8-bit images are scaled from 0..255 to 0..1 and say so in `divisor`. Tables keep their units and ask with `standardize`
for the training part's mean and deviation to be taken out.

Refuses with CyxError only, naming the URI and what to do; never unpickles; opens no `file://` path that leads outside
the data roots once symbolic links are resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cyxwiz.compute.data.arrays import read_npy, read_npz
from cyxwiz.compute.data.binary import read_cifar10, read_cifar100, read_mnist
from cyxwiz.compute.data.builtin import builtin, mock
from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.compute.data.dataset import Dataset, Raw, joined, labelled
from cyxwiz.compute.data.files import SUFFIXES, detect_file, detect_folder, split_of, unwrapped, walk
from cyxwiz.compute.data.images import read_images
from cyxwiz.compute.data.parquet import read_parquet
from cyxwiz.compute.data.records import read_json, read_jsonl
from cyxwiz.compute.data.streamed import read_info
from cyxwiz.compute.data.text import delimiter_of, read_text
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.graph.dataset_uri import DatasetUri, check_dataset_uri
from cyxwiz.graph.fit import labels_for

Reader = Callable[[str, Path, Mapping[str, str]], Raw]
TableReader = Callable[[str, Path, Mapping[str, str], Columns], Raw]


def load(
    uri: str,
    *,
    seed: int = 0,
    data_roots: Sequence[Path] = (),
    blob: Path | None = None,
    wanted: Columns = TRAINING,
    loss: str = "",
    least: int = 2,
) -> Dataset:
    """The dataset of that URI, `blob` being what the node fetched for it and `loss` the one that the job names, which
    decides how labels are read. CyxError when it cannot be read, or has less than `least` samples."""
    reads = labels_for(loss)
    parsed = check_dataset_uri(uri)
    try:
        if parsed.scheme == "builtin":
            dataset = builtin(uri, parsed.kind)
        elif parsed.scheme == "mock":
            dataset = mock(uri, seed)
        elif parsed.scheme == "remote":
            dataset = _streamed(uri, _fetched(uri, blob), parsed.options, wanted, reads)
        else:
            path, kind = locate(uri, parsed, data_roots, blob)
            dataset = labelled(uri, read(uri, path, kind, parsed.options, wanted), reads)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} cannot be read: {reason}; check the path.") from error
    except MemoryError as error:
        raise CyxError(Code.EXHAUSTED, f"The dataset {uri} does not fit this node's memory.") from error
    if len(dataset.features) < least:
        raise invalid(f"The dataset {uri} has {len(dataset.features)} samples; at least {least} are needed.", uri=uri)
    return dataset


def locate(uri: str, parsed: DatasetUri, data_roots: Sequence[Path], blob: Path | None) -> tuple[Path, str]:
    """Where a dataset of files lies, and the format that its URI states or `auto`. Raises CyxError as `load`."""
    path = _fetched(uri, blob) if parsed.fetched else _below_roots(uri, parsed, data_roots)
    path = unwrapped(path) if path.is_dir() else path
    return path, parsed.options.get("format", parsed.kind if parsed.scheme == "file" else "auto")


def format_of(uri: str, path: Path, kind: str) -> str:
    """The format `kind`; `auto` looks at what is there."""
    if kind != "auto":
        return kind
    return detect_folder(uri, path) if path.is_dir() else detect_file(uri, path)


def read(uri: str, path: Path, kind: str, options: Mapping[str, str], wanted: Columns = TRAINING) -> Raw:
    """A file or a folder of the format `kind`; auto finds out."""
    folder = path.is_dir()
    kind = format_of(uri, path, kind)
    if kind in (*_FOLDERS, "images"):
        if not folder and kind != "npy":
            raise invalid(f"The dataset {uri} is one file; {kind} is a folder.", uri=uri)
        if kind == "images":
            return read_images(uri, path, options, wanted)
        if folder or kind != "npy":
            return _FOLDERS[kind](uri, path, options)
    if folder:
        return _shards(uri, path, kind, options, wanted)
    if "split" in options and kind != "npz":
        raise invalid(f"The dataset {uri} is one file and has no split; leave the option out.", uri=uri)
    return _file(uri, path, kind, options, wanted)


def _file(uri: str, path: Path, kind: str, options: Mapping[str, str], wanted: Columns) -> Raw:
    if kind in _TABLES:
        return _TABLES[kind](uri, path, options, wanted)
    return _ARRAYS[kind](uri, path, options)


def _shards(uri: str, folder: Path, kind: str, options: Mapping[str, str], wanted: Columns) -> Raw:
    """All files of one format and split; those of several folders are several sets, and refused."""
    suffixes = [suffix for suffix, name in SUFFIXES.items() if name == kind and suffix != ".txt"]
    files = [path for path in walk(uri, folder) if path.suffix.lower() in suffixes]
    splits = {path: split_of(path.relative_to(folder).as_posix()) for path in files}
    there = {split for split in splits.values() if split is not None}
    split = options.get("split")
    if split is None and there:
        split = "train" if "train" in there else None
    if split is not None and split not in there:
        raise invalid(f"The dataset {uri} has no split {split}; it has {sorted(there) or 'none'}.", uri=uri)
    files = [path for path in files if split is None or splits[path] == split]
    folders = sorted({path.parent.relative_to(folder).as_posix() for path in files})
    if len(folders) > 1 or (split is None and len(there) > 1):
        raise invalid(
            f"The dataset {uri} holds several sets: {', '.join(folders[:10])}. Add the folder's path to the URI, or "
            "name a split with ?split=.",
            uri=uri,
        )
    if not files:
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} has no file of the format {kind}.", {"uri": uri})
    inner = {key: value for key, value in options.items() if key != "split"}
    first = _file(uri, files[0], kind, inner, wanted)
    if first.columns.features:  # the others have the same columns, maybe in another order
        wanted = replace(wanted, features=first.columns.features, label=first.columns.label)
    return joined([first, *(_file(uri, path, kind, inner, wanted) for path in files[1:])], uri)


def _csv(uri: str, path: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    return read_text(uri, path, delimiter_of(path), options, wanted)


def _tsv(uri: str, path: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    return read_text(uri, path, "\t", options, wanted)


_TABLES: Mapping[str, TableReader] = {
    "csv": _csv,
    "tsv": _tsv,
    "json": read_json,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
_ARRAYS: Mapping[str, Reader] = {"npy": read_npy, "npz": read_npz}
_FOLDERS: Mapping[str, Reader] = {
    "mnist": read_mnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "npy": read_npy,
}


def _streamed(uri: str, path: Path, options: Mapping[str, str], wanted: Columns, reads: str) -> Dataset:
    """What a client streamed: a folder of x.npy and y.npy with what it said of the classes, or its file."""
    if not path.is_dir():
        return labelled(uri, read(uri, path, options.get("format", "auto"), options, wanted), reads)
    dataset = labelled(uri, read(uri, path, "npy", {}))
    said = read_info(path)
    classes = max(dataset.classes or 0, said.classes)
    return replace(dataset, classes=classes, class_names=said.names, streamed=True)


def _fetched(uri: str, path: Path | None) -> Path:
    if path is None:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} was not fetched to this node; submit the job again.")
    return path


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
    there = [path for path in inside if path.exists()]
    for path in there:
        if path.is_file() or path.is_dir():
            return path
    if there:  # whoever opens a pipe waits for somebody who writes
        raise invalid(f"The dataset {uri} is neither a file nor a folder.", uri=uri)
    raise CyxError(
        Code.NOT_FOUND, f"The dataset {uri} is not below this node's data roots; copy it there.", {"uri": uri}
    )
