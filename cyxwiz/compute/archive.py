"""Archives: gzip and tar to plain files below one folder, and a folder as a tar.

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


def gunzip(what: str, path: Path, target: Path, limit: int, setting: str = "") -> None:
    """Writes the file's content to `target`. `what` begins the sentences of errors, `setting` names what bounds it."""
    written = 0
    try:
        with gzip.open(path) as source, target.open("xb") as file:
            while data := source.read(_CHUNK):
                written += len(data)
                if written > limit:
                    raise _too_large(what, limit, setting)
                file.write(data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise invalid(f"{what} is no whole gzip file: {error}.") from error


def untar(what: str, path: Path, target: Path, limit: int, setting: str = "") -> None:
    """Writes the archive's files below `target`, which is made. `what` and `setting` as in `gunzip`."""
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
            raise invalid(f"{what} has more than {MAX_FILES} files and folders.")
        if written > limit:
            raise _too_large(what, limit, setting)

    try:
        with path.open("rb") as raw, tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:  # type: ignore[arg-type]
            for member in archive:
                count += 1
                check()
                place = target.joinpath(*safe_parts(what, member.name))
                if member.isdir():
                    make(place)
                    continue
                source = archive.extractfile(member) if member.isreg() else None
                if source is None:
                    raise invalid(f"{what}: {member.name!r} in the archive is no plain file.")
                make(place.parent)
                with place.open("xb") as file:
                    while data := source.read(_CHUNK):
                        written += len(data)
                        check()
                        file.write(data)
    except _BAD as error:
        raise invalid(f"{what} is no whole archive: {str(error)[:200]}.") from error


def safe_parts(what: str, name: str) -> tuple[str, ...]:
    """The parts of a plain relative path. Raises INVALID for any other name."""
    parts = PurePosixPath(name).parts
    bad = any(part in ("..", "/") or "\\" in part or "\0" in part or len(os.fsencode(part)) > 255 for part in parts)
    if bad or len(parts) > MAX_DEPTH or name.startswith("/"):
        raise invalid(f"{what} has a file named {name[:200]!r}, which is no plain relative path.")
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


def _too_large(what: str, limit: int, setting: str) -> CyxError:
    by = f" ({setting})" if setting else ""
    return invalid(f"{what} has more than {limit} bytes unpacked, which is all that is taken of it{by}.", bound=limit)


def tar(folder: Path, archive: Path, top: str = "") -> Path:
    """The plain files below a folder, in the order of their names, without owners and times; below `top` if given."""
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as into:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            member = tarfile.TarInfo((PurePosixPath(top) / path.relative_to(folder).as_posix()).as_posix())
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as file:
                into.addfile(member, file)
    return archive
