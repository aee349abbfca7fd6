"""The log file of a local chain: frames that are on the disk before anything in them is answered.

A file begins with 8 bytes of magic, a u32 version and 8 random bytes, the file's salt. A frame is the salt, a u32
length, the CRC-32 of (length, body) and the body: a sequence of records, each a u32 length and its bytes. All integers
are little-endian. One frame is one group of records that were written together, and the next one is written after the
one before is on the disk. So an unreadable frame with nothing readable after it was being written when the power went:
it is cut. One with a readable frame after it is damage, and the file is refused.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.runtime.files import sync_directory

log = logging.getLogger(__name__)

MAGIC = b"CYXCHAIN"
VERSION = 1
MAX_FRAME_BYTES = 1 << 30
_HEADER = struct.Struct("<8sI8s")
_FRAME = struct.Struct("<8sII")
_LENGTH = struct.Struct("<I")


class Journal(Protocol):
    """Where a chain keeps its records.

    `commit` returns once all of them are durable, in their order; it is not called again before it returned. When it
    raises UNAVAILABLE, none of them is known to be there.
    """

    async def commit(self, records: Sequence[bytes]) -> None: ...

    def close(self) -> None: ...


class NoJournal:
    """For chains that live in memory only."""

    async def commit(self, records: Sequence[bytes]) -> None:
        del records

    def close(self) -> None: ...


class FileJournal:
    """A journal in one file, held by one process.

    Raises (all methods):
        CyxError: UNAVAILABLE when the disk refuses. After a frame could not be taken back, for good: the file must be
            read again from its start.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it.

        Raises:
            CyxError: CONFLICT when another process holds it, INVALID when it is no log of this version.
        """
        self.path = path
        self._broken: str | None = None
        new = not path.exists()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CyxError(Code.UNAVAILABLE, f"{path}: {error.strerror}") from None
        try:
            self._lock()
            size = os.fstat(self._fd).st_size
            if size < _HEADER.size:  # new, or its making was cut short
                self._salt = os.urandom(8)
                os.ftruncate(self._fd, 0)
                self._write(_HEADER.pack(MAGIC, VERSION, self._salt), 0)
                if new:
                    sync_directory(path.parent)
            else:
                self._salt = self._read_header()
            self._end = _HEADER.size
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise conflict(
                f"{self.path} is in use by another process: stop that one, or choose another --data-dir"
            ) from None

    def _read_header(self) -> bytes:
        magic, version, salt = _HEADER.unpack(os.pread(self._fd, _HEADER.size, 0))
        if magic != MAGIC:
            raise invalid(f"{self.path}: begins with {magic!r}, expected {MAGIC!r}: it is no log of a local chain")
        if version != VERSION:
            raise invalid(f"{self.path}: version {version}, this program reads {VERSION}; start a new chain elsewhere")
        return bytes(salt)

    def read(self) -> list[bytes]:
        """All records. A torn frame at the end is cut, with a line in the log; call it once, before `commit`.

        Raises:
            CyxError: INVALID when a frame in the middle is damaged.
        """
        data = self.path.read_bytes()
        records: list[bytes] = []
        offset = _HEADER.size
        while offset < len(data):
            body = self._frame_at(data, offset)
            if body is None:
                self._cut(data, offset)
                break
            records += _split(body)
            offset += _FRAME.size + len(body)
        self._end = min(offset, len(data))
        return records

    def _frame_at(self, data: bytes, offset: int) -> bytes | None:
        """The body of the frame there; None when it is not whole."""
        if offset + _FRAME.size > len(data):
            return None
        salt, length, crc = _FRAME.unpack_from(data, offset)
        body = data[offset + _FRAME.size : offset + _FRAME.size + length]
        if salt != self._salt or len(body) != length or zlib.crc32(_LENGTH.pack(length) + body) != crc:
            return None
        return body

    def _cut(self, data: bytes, offset: int) -> None:
        after = data.find(self._salt, offset + 1)
        while after >= 0:
            if self._frame_at(data, after) is not None:
                raise invalid(
                    f"{self.path} is damaged: bytes {offset} to {after} of {len(data)} cannot be read, and good ones "
                    "follow; restore the file from a backup, or start a new chain in another directory"
                )
            after = data.find(self._salt, after + 1)
        log.warning(
            "%s: the last %d bytes were being written when the program ended: cut", self.path, len(data) - offset
        )
        os.ftruncate(self._fd, offset)
        os.fsync(self._fd)

    async def commit(self, records: Sequence[bytes]) -> None:
        body = b"".join(_LENGTH.pack(len(record)) + record for record in records)
        if len(body) > MAX_FRAME_BYTES:
            raise invalid(f"{len(body)} bytes in one commit, at most {MAX_FRAME_BYTES}")
        frame = _FRAME.pack(self._salt, len(body), zlib.crc32(_LENGTH.pack(len(body)) + body)) + body
        if self._broken:
            raise self._refusal(self._broken)
        # Shielded: whoever is cancelled meanwhile must not leave a write behind that nobody waits for.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._append, frame))

    def _append(self, frame: bytes) -> None:
        try:
            self._write(frame, self._end)
        except OSError as error:
            self._take_back(error)
            raise self._refusal(str(error.strerror)) from None
        self._end += len(frame)

    def _write(self, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)
        os.fdatasync(self._fd)

    def _take_back(self, error: OSError) -> None:
        """So that what was refused is not there after a start either."""
        try:
            os.ftruncate(self._fd, self._end)
            os.fsync(self._fd)
        except OSError:
            self._broken = f"{error.strerror}; restart it once the disk is well"
            log.critical("%s can't be written: %s. The chain takes nothing more", self.path, error.strerror)

    def _refusal(self, why: str) -> CyxError:
        return CyxError(Code.UNAVAILABLE, f"the local chain can't write {self.path}: {why}")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _split(body: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(body):
        (length,) = _LENGTH.unpack_from(body, offset)
        yield body[offset + 4 : offset + 4 + length]
        offset += 4 + length
