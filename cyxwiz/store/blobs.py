"""Blobs as files, named by the SHA-256 of what they hold.

`ab/cdef…` is whole and never changes; `incoming/` holds what is still on its way. Promised: a blob can be read only
when its bytes were checked and fsynced, its name too; one that is read as a whole is checked again, and goes to
`damaged/` when it is not what it was, so that it can be sent again. Refused: any name but 64 hex digits, so that none
leaves the folder. All disk work happens on threads. Several processes may share the folder: an upload holds a lock on
its file.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
import re
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, not_found
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")

CHUNK_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18  # of a file that is copied: a cache has them still when they are written
ABANDONED_SECONDS = 24 * 3600
_NAME = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"[0-9a-zA-Z-]{0,64}")


class FileBlobStore:
    """`ports.blobs.BlobStore` on a folder. Raises INVALID for one that can't be made or read."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root, self._incoming = root, root / "incoming"
        self._clock = clock
        try:
            with _plainly():
                self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._sweep()
        except OSError as error:
            raise invalid(f"{root}: blobs can't be kept there: {error.strerror}") from error

    async def size(self, sha256: str) -> int | None:
        return await _off_loop(_size, self._path(sha256))

    async def partial(self, sha256: str, owner: str = "") -> int:
        return await _off_loop(_size, self._partial(sha256, owner)) or 0

    async def begin(self, sha256: str, size: int, offset: int, owner: str = "") -> FileUpload:
        path, incoming = self._path(sha256), self._partial(sha256, owner)
        if size < 0 or not 0 <= offset <= size:
            raise invalid(f"An upload of {size} bytes can't begin at {offset}", size=size, offset=offset)
        return await _opened(lambda: FileUpload(sha256, path, incoming, size, offset), FileUpload.leave)

    async def read(self, sha256: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        path = self._path(sha256)
        source = await _opened(lambda: _Range(path, offset, length), _Range.leave)
        try:
            while data := await _off_loop(source.next):
                yield data
        finally:
            await _off_loop(source.leave)

    async def add_file(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        return await _off_loop(self._add_file, path, sha256)

    async def delete(self, sha256: str) -> None:
        await _off_loop(self._path(sha256).unlink, missing_ok=True)

    async def unfinished(self, owner: str) -> Sequence[int]:
        return await _off_loop(self._unfinished, owner)

    async def sweep(self) -> None:
        await _off_loop(self._sweep)

    def _path(self, sha256: str) -> Path:
        if not _NAME.fullmatch(sha256):
            raise invalid(f"{sha256[:80]!r} is no SHA-256 in hex (64 digits 0-9a-f)")
        return self._root / sha256[:2] / sha256[2:]

    def _partial(self, sha256: str, owner: str) -> Path:
        """Each owner's upload has a file of its own: nobody blocks or spoils another's by knowing the name."""
        self._path(sha256)
        if not _OWNER.fullmatch(owner):
            raise invalid(f"{owner[:80]!r} is no id that can own an upload")
        return self._incoming / (f"{sha256}.{owner}" if owner else sha256)

    def _add_file(self, path: Path, sha256: str | None) -> tuple[str, int]:
        copy = self._incoming / f"{uuid.uuid4()}.copy"
        digest, size = hashlib.sha256(), 0
        piece = memoryview(bytearray(_PIECE_BYTES))
        try:
            with path.open("rb", buffering=0) as source, open(_create(copy), "wb") as target:
                while count := source.readinto(piece):
                    digest.update(piece[:count])
                    target.write(piece[:count])
                    size += count
                target.flush()
                os.fsync(target.fileno())
            found = digest.hexdigest()
            if sha256 not in (None, found):
                raise invalid(f"{path.name} is not the content {sha256}: its SHA-256 is {found}")
            _publish(copy, self._path(found))
        finally:
            copy.unlink(missing_ok=True)
        return found, size

    def _unfinished(self, owner: str) -> list[int]:
        """Names are read first, and only what is the owner's is looked at."""
        names = [name for name in os.listdir(self._incoming) if name.endswith(f".{owner}")]
        return [size for name in names if (size := _size(self._incoming / name)) is not None]

    def _sweep(self) -> None:
        before = self._clock.now().timestamp() - ABANDONED_SECONDS
        for path in self._incoming.iterdir():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # another process sweeps too
            try:
                if os.fstat(fd).st_mtime < before and _locked(fd):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)


class _Range:
    """A part of a blob that is being read; all of it is checked on the way."""

    def __init__(self, path: Path, offset: int, length: int | None) -> None:
        self._at_work = threading.Lock()  # as FileUpload's
        self._left = False
        self._fd, self._end = _open_range(path, offset, length)
        self._offset, self._path = offset, path
        self._digest = hashlib.sha256() if offset == 0 and self._end == os.fstat(self._fd).st_size else None

    def next(self) -> bytes:
        """The next chunk; empty at the end, and once it was left."""
        with self._at_work:
            if self._left or self._offset >= self._end:
                self._check()
                return b""
            data = os.pread(self._fd, min(CHUNK_BYTES, self._end - self._offset), self._offset)
            if not data:
                raise CyxError(Code.INTERNAL, "A blob was cut short on disk")
            self._offset += len(data)
            if self._digest is not None:
                self._digest.update(data)
            if self._offset >= self._end:
                self._check()
            return data

    def _check(self) -> None:
        """Once all of it was read, and before its end is given away."""
        digest, self._digest = self._digest, None
        named = self._path.parent.name + self._path.name
        if digest is None or self._left or digest.hexdigest() == named:
            return
        if _is_at(self._fd, self._path):  # nobody has sent it again meanwhile
            aside = self._path.parent.parent / "damaged"
            aside.mkdir(mode=0o700, exist_ok=True)
            os.replace(self._path, aside / named)
        log.error("blob %s was damaged on the disk and is kept aside", named)
        raise CyxError(Code.INTERNAL, f"Blob {named} is damaged where it is stored: send it again", {"sha256": named})

    def leave(self) -> None:
        """Waits for the chunk that is being read."""
        with self._at_work:
            if not self._left:
                self._left = True
                os.close(self._fd)


class FileUpload:
    """`ports.blobs.Upload` into a file under `incoming`. Not for two tasks at a time."""

    def __init__(self, sha256: str, path: Path, incoming: Path, size: int, offset: int) -> None:
        if path.exists():
            raise CyxError(Code.EXISTS, f"Blob {sha256} is stored already", {"sha256": sha256})
        self._sha256 = sha256
        self._path, self._incoming, self._size = path, incoming, size
        # A caller that is cancelled leaves its thread at work: the descriptor must not be closed, and its number given
        # to another file, under that thread's hands.
        self._at_work = threading.Lock()
        self._fd: int | None = _create(incoming, exclusive=False)
        try:
            # The second look: the one who had the file may have published or dropped it before the lock was ours.
            if not _locked(self._fd) or not _is_at(self._fd, incoming):
                raise conflict(f"Blob {sha256} is being uploaded already, in another call", sha256=sha256)
            there = os.fstat(self._fd).st_size
            if offset > there:
                raise conflict(f"The upload has {there} bytes: it can't go on at {offset}", partial=there)
            os.ftruncate(self._fd, offset)
            self._digest = hashlib.sha256()
            for start in range(0, offset, CHUNK_BYTES):
                self._digest.update(os.pread(self._fd, min(CHUNK_BYTES, offset - start), start))
        except BaseException:
            self._close()
            raise
        self.offset = offset

    async def write(self, data: bytes) -> None:
        await _off_loop(self._write, data)

    async def commit(self) -> None:
        await _off_loop(self._commit)

    async def aclose(self) -> None:
        await _off_loop(self.leave)

    def _write(self, data: bytes) -> None:
        with self._at_work:
            fd = self._opened()
            if self.offset + len(data) > self._size:
                raise invalid(f"The upload was announced with {self._size} bytes; these are more", size=self._size)
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(fd, memoryview(data)[written:], self.offset + written)
            except OSError:
                os.ftruncate(fd, self.offset)
                raise
            self._digest.update(data)
            self.offset += len(data)

    def _commit(self) -> None:
        with self._at_work:
            fd = self._opened()
            found = self._digest.hexdigest()
            if self.offset != self._size or found != self._sha256:
                self._incoming.unlink(missing_ok=True)
                self._close()
                raise invalid(
                    f"The upload is not what it was announced as: {self.offset} of {self._size} bytes, SHA-256 {found}",
                    sha256=self._sha256,
                )
            os.fsync(fd)
            _publish(self._incoming, self._path)
            self._close()

    def leave(self) -> None:
        with self._at_work:
            self._close()

    def _opened(self) -> int:
        if self._fd is None:
            raise conflict("The upload is closed")
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _publish(source: Path, path: Path) -> None:
    """Gives a file that is durable its name, durably."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(path.parent.parent)
    os.replace(source, path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create(path: Path, *, exclusive: bool = True) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if exclusive else 0), 0o600)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _open_range(path: Path, offset: int, length: int | None) -> tuple[int, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise not_found("blob", path.parent.name + path.name) from None
    size = os.fstat(fd).st_size
    end = size if length is None else offset + length
    if not 0 <= offset <= end <= size:
        os.close(fd)
        raise invalid(f"The range {offset} to {end} is not within the blob's {size} bytes", size=size)
    return fd, end


async def _off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    def run() -> T:
        with _plainly():
            return work(*args, **kwargs)

    return await asyncio.to_thread(run)


async def _opened(opening: Callable[[], T], leave: Callable[[T], None]) -> T:
    """What is opened on a thread; if its caller is cancelled meanwhile, it is left once it is open."""

    def run() -> T:
        with _plainly():
            return opening()

    work = asyncio.get_running_loop().run_in_executor(None, run)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(lambda done: None if done.cancelled() or done.exception() else leave(done.result()))
        raise


@contextmanager
def _plainly() -> Iterator[Any]:
    """Turns what a disk says into a CyxError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise CyxError(Code.EXHAUSTED, "The disk of the blobs is full: nothing was stored. Make room.") from error
        raise
