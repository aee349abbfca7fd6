"""Archives that were fetched: gzip and tar, to plain files below one folder.

From a tar only regular files and folders come, each below the target by a plain relative path; anything else, such as a
link or a device, is refused. Bytes and files are bounded while they are written, whatever the archive says of itself.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from cyxwiz.compute.data.files import MAX_DEPTH, MAX_FILES
from cyxwiz.domain.errors import CyxError, invalid

_CHUNK = 1 << 20
FOLDER_BYTES = 4096  # what a folder counts as
_BAD = (
    tarfile.TarError, FileExistsError, NotADirectoryError, IsADirectoryError, EOFError, ValueError, OverflowError,
    RecursionError,
)  # fmt: skip
_LONGEST_READ = 4 << 20  # tarfile reads a header's extension at once, as long as it says it is


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def gunzip(uri: str, path: Path, target: Path, limit: int) -> None:
    written = 0
    try:
        with gzip.open(path) as source, target.open("xb") as file:
            while data := source.read(_CHUNK):
                written += len(data)
                if written > limit:
                    raise _too_large(uri, limit)
                file.write(data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise invalid(f"The dataset {uri} is no whole gzip file: {error}.", uri=uri) from error


def untar(uri: str, path: Path, target: Path, limit: int) -> None:
    """Writes the archive's files below `target`, which is made."""
    target.mkdir()
    written = count = 0

    def make(folder: Path) -> None:
        nonlocal written, count
        if folder.is_dir():
            return
        missing = [each for each in (folder, *folder.parents) if each.is_relative_to(target) and not each.is_dir()]
        for each in reversed(missing):
            each.mkdir()
            written, count = written + FOLDER_BYTES, count + 1
            check()

    def check() -> None:
        if count > MAX_FILES:
            raise invalid(f"The dataset {uri} has more than {MAX_FILES} files and folders.", uri=uri)
        if written > limit:
            raise _too_large(uri, limit)

    try:
        with path.open("rb") as raw, tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:  # type: ignore[arg-type]
            for member in archive:
                count += 1
                check()
                place = target.joinpath(*safe_parts(uri, member.name))
                if member.isdir():
                    make(place)
                    continue
                source = archive.extractfile(member) if member.isreg() else None
                if source is None:
                    raise invalid(f"The dataset {uri}: {member.name!r} in the archive is no plain file.", uri=uri)
                make(place.parent)
                with place.open("xb") as file:
                    while data := source.read(_CHUNK):
                        written += len(data)
                        check()
                        file.write(data)
    except _BAD as error:
        raise invalid(f"The dataset {uri} is no whole archive: {str(error)[:200]}.", uri=uri) from error


def safe_parts(uri: str, name: str) -> tuple[str, ...]:
    """The parts of a plain relative path. Raises INVALID for any other name."""
    parts = PurePosixPath(name).parts
    bad = any(part in ("..", "/") or "\\" in part or "\0" in part or len(os.fsencode(part)) > 255 for part in parts)
    if bad or len(parts) > MAX_DEPTH or name.startswith("/"):
        raise invalid(f"The dataset {uri} has a file named {name[:200]!r}, which is no plain relative path.", uri=uri)
    return parts


class _Bounded:
    """A file that is not read far at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell
        self.seek = file.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a part of {size} bytes where a header belongs")
        return self._file.read(size)


def _too_large(uri: str, limit: int) -> CyxError:
    return invalid(
        f"The dataset {uri} has more than {limit} bytes unpacked (node.max_dataset_bytes).", uri=uri, bound=limit
    )
