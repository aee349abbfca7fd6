"""How fast the data directory's disk writes and reads: random bytes, flushed to the device, checked when read back.

The read goes around the page cache (O_DIRECT) where the file system allows that. Where it does not, the kernel is asked
to drop the file's pages first; it may keep some, which `direct` tells.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cyxwiz.domain.errors import Code, CyxError

CHUNK = 4 << 20
MOST = 256 << 20
LEAST_FREE = 1 << 30


@dataclass(frozen=True, slots=True)
class DiskResult:
    bytes: int
    write_mb_per_second: float  # 1e6 bytes a second, the flush included
    read_mb_per_second: float
    direct: bool  # the read went around the page cache


def run(directory: Path, seed: int, seconds: float, clock: Callable[[], float] = perf_counter) -> DiskResult:
    """Writes up to 256 MiB for at most half of `seconds`, reads them back, removes them.

    Raises EXHAUSTED without a GiB of free space, INTERNAL when other bytes come back, UNAVAILABLE when the disk fails.
    """
    path = directory / f"bench.{os.getpid()}.partial"
    try:
        status = os.statvfs(directory)
        if status.f_bavail * status.f_frsize < LEAST_FREE:
            raise CyxError(Code.EXHAUSTED, f"{directory}: less than 1 GiB is free: the disk is not measured")
        try:
            count, wrote = _write(path, seed, seconds / 2, clock)
            read, direct = _read(path, seed, count, clock)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CyxError(Code.UNAVAILABLE, f"{directory}: the disk can't be measured: {error.strerror}") from None
    size = count * CHUNK
    return DiskResult(size, size / wrote / 1e6, size / read / 1e6, direct)


def _chunk(seed: int, index: int) -> bytes:
    """Different for every index, and nothing that a file system could compress or find twice."""
    return random.Random(f"{seed}:{index}").randbytes(CHUNK)  # noqa: S311  no secret


def _write(path: Path, seed: int, seconds: float, clock: Callable[[], float]) -> tuple[int, float]:
    """(chunks, seconds of writing)"""
    spent, count = 0.0, 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while count * CHUNK < MOST and (count < 4 or spent < seconds):
            data = memoryview(_chunk(seed, count))
            start = clock()
            while data:
                data = data[os.write(descriptor, data) :]
            spent += clock() - start
            count += 1
        start = clock()
        os.fsync(descriptor)
        return count, spent + clock() - start
    finally:
        os.close(descriptor)


def _read(path: Path, seed: int, count: int, clock: Callable[[], float]) -> tuple[float, bool]:
    """(seconds of reading, whether around the cache)"""
    descriptor, direct = _open(path)
    spent = 0.0
    try:
        with mmap.mmap(-1, CHUNK) as buffer:  # whole pages, as O_DIRECT asks
            for index in range(count):
                start = clock()
                got = os.readv(descriptor, [buffer])
                spent += clock() - start
                if got != CHUNK or buffer[:] != _chunk(seed, index):
                    raise CyxError(Code.INTERNAL, f"{path.parent}: the disk gave back other bytes than were written")
    finally:
        os.close(descriptor)
    return spent, direct


def _open(path: Path) -> tuple[int, bool]:
    if sys.platform == "linux":
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECT), True
        except OSError:
            pass  # tmpfs and some others refuse it
    descriptor = os.open(path, os.O_RDONLY)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor, False
