"""Finding a data set's files without leaving its folder, and telling what they are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyxwiz.domain.errors import Code, CyxError, invalid

MAX_FILES = 2_000_000
MAX_DEPTH = 16
_MARK = b"\xef\xbb\xbf"  # with which a text in UTF-8 may begin
_LINE = 16 * 1024 * 1024  # bytes of a line that are looked at
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".txt": "csv", ".json": "json", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".npy": "npy", ".npz": "npz", ".parquet": "parquet",
}  # fmt: skip
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
SPLIT_NAMES = {name: split for split, names in _SPLITS.items() for name in names}


def missing(uri: str, names: Sequence[str]) -> CyxError:
    return CyxError(Code.NOT_FOUND, f"The dataset {uri} has no file {' or '.join(names)}.", {"uri": uri})


def inside(folder: Path, path: Path) -> bool:
    """Whether the path stays in the folder once symbolic links are resolved."""
    return path.resolve().is_relative_to(folder.resolve())


def walk(uri: str, folder: Path) -> Iterator[Path]:
    """Every regular file below the folder, in sorted order; hidden ones and symbolic links are passed over."""
    count = 0

    def scan(directory: Path, depth: int) -> Iterator[Path]:
        nonlocal count
        if depth > MAX_DEPTH:
            raise invalid(f"The dataset {uri} has folders more than {MAX_DEPTH} deep.", uri=uri)
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            count += 1
            if count > MAX_FILES:
                raise invalid(f"The dataset {uri} has more than {MAX_FILES} files.", uri=uri)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from scan(Path(entry.path), depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)

    return scan(folder, 0)


def split_of(name: str) -> str | None:
    """The split that a file's path names, as `data/train-00000-of-00002.parquet` or `test/a.csv` do."""
    words = name.lower().replace("\\", "/").rpartition(".")[0].split("/")
    for word in reversed(words):
        for part in (word, word.partition("-")[0], word.partition("_")[0], word.rpartition("_")[2]):
            if part in SPLIT_NAMES:
                return SPLIT_NAMES[part]
    return None


def detect_file(uri: str, path: Path) -> str:
    """A file's format by the ending of its name, else by how it starts."""
    known = SUFFIXES.get(path.suffix.lower())
    if known is not None:
        return known
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"\x1f\x8b"):
        raise invalid(f"The dataset {uri} is gzipped; unpack it first.", uri=uri)
    text = start.removeprefix(_MARK).lstrip()
    if text.startswith((b"[", b"{")):
        return "jsonl" if _is_lines(path) else "json"
    return "csv"


def _is_lines(path: Path) -> bool:
    """Whether the first line holds a whole object or list, and the next starts like it."""
    with path.open("rb") as file:
        lines = (line.removeprefix(_MARK).strip() for line in iter(lambda: file.readline(_LINE), b""))
        first, second = [*itertools.islice((line for line in lines if line), 2), b"", b""][:2]
    return first[-1:] == {b"[": b"]", b"{": b"}"}.get(first[:1]) and first[:1] == second[:1]


def unwrapped(folder: Path) -> Path:
    """The folder that the data lie in, below those that hold nothing but one folder and perhaps a text about it, as
    archives have them. One that names a split or holds pictures, a class's own, stays where it is."""
    for _ in range(MAX_DEPTH):
        there = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        inner = [entry for entry in there if entry.is_dir() and not entry.is_symlink()]
        if len(inner) != 1 or not all(_tells(entry) for entry in there if entry not in inner):
            return folder
        if inner[0].name.lower() in SPLIT_NAMES or _has_pictures(inner[0]):
            return folder
        folder = inner[0]
    return folder


def _tells(path: Path) -> bool:
    """Whether the file is no data but a text about them."""
    return path.suffix.lower() in (".txt", ".md", ".html") or path.stem.lower() in ("readme", "license")


def _has_pictures(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGES for entry in folder.iterdir())


def detect_folder(uri: str, folder: Path) -> str:
    """A folder's format: MNIST, CIFAR, arrays or images by their names, else that of its only kind of file."""
    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    if any(name.startswith(("train-images", "t10k-images")) for name in names):
        return "mnist"
    if names & {"data_batch_1.bin", "test_batch.bin"}:
        return "cifar10"
    if names & {"train.bin", "test.bin"}:
        return "cifar100"
    kinds: dict[str, int] = {}
    for path in walk(uri, folder):
        suffix = path.suffix.lower()
        kind = "images" if suffix in IMAGES else SUFFIXES.get(suffix, "") if suffix != ".txt" else ""
        kinds[kind] = kinds.get(kind, 0) + 1
    kinds.pop("", None)
    if "images" in kinds:
        return "images"
    if len(kinds) == 1:
        return next(iter(kinds))
    if not kinds:
        raise invalid(f"The dataset {uri} holds no file of a known format.", uri=uri)
    raise invalid(
        f"The dataset {uri} holds files of several formats ({', '.join(sorted(kinds))}); say which with ?format=.",
        uri=uri,
    )
