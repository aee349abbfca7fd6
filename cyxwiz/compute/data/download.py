"""One file from the web to the disk: resumed where it was cut, and bounded.

A partial file lies beside a note of what it is a part of (the server's ETag or Last-Modified) and of how much of it was
fsynced: only that much is trusted when a later attempt goes on, also one of a later process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cyxwiz.compute.data.web import Cut, Web
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.clock import Clock

CHUNK_BYTES = 1 << 20
SYNC_BYTES = 64 << 20
PROGRESS_BYTES = 64 << 10  # an attempt that brought less counts as a failed one
TRIES = 5
WAIT_SECONDS = (0.25, 4.0)  # before the second attempt, and the longest

Room = Callable[[int], Awaitable[None]]
"""Called with the bytes that the file will have; raises EXHAUSTED when there is no room for them."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a server says of a file's version; empty where it says nothing."""

    etag: str = ""
    modified: str = ""

    def if_range(self) -> str:
        """A strong validator: a weak ETag does not tell whether bytes are the same."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def if_changed(self) -> dict[str, str]:
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified} if self.modified else {}


class Partial:
    """A file that is being written, and its note."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_suffix(".json")
        self._file: IO[bytes] | None = None
        self.validator = ""
        self.size = 0
        self._synced = 0

    def open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        try:
            note = json.loads(self._note.read_text())
            self.validator, self._synced = str(note["validator"]), int(note["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            self.validator, self._synced = "", 0
        there = self._file.tell()
        self.size = self._synced if self.validator and 0 <= self._synced <= there else 0
        if there != self.size:
            self._file.truncate(self.size)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self.size += len(data)
        if self.size - self._synced >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = self.size
        write_durably(self._note, json.dumps({"validator": self.validator, "bytes": self.size}).encode())

    def reset(self) -> None:
        assert self._file is not None
        self._file.truncate(0)
        self.size = self._synced = 0
        self.validator = ""

    def suspend(self) -> None:
        """Closes the file; what it holds of a known version can be gone on with."""
        if self._file is None:
            return
        try:
            if self.validator and self.size > self._synced:
                self.sync()
        finally:
            self._file.close()
            self._file = None

    def publish(self, target: Path) -> None:
        """The whole file, fsynced, under its name."""
        self.sync()
        self.suspend()
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a small file so that it is there whole or not at all, also after a loss of power."""
    partial = path.with_name(f"{path.name}.new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


async def download(
    web: Web,
    clock: Clock,
    uri: str,
    url: Callable[[], str],
    target: Path,
    partial: Partial,
    *,
    limit: int,
    room: Room,
    known: Version | None = None,
    trusted: bool = False,
) -> Version | None:
    """Brings one file to `target`; None if the server says that it is still the version `known`.

    `url` is asked before each attempt, as signed addresses expire.

    Raises:
        CyxError: UNAVAILABLE (retryable) after TRIES attempts without progress; INVALID for a file above `limit`.
    """
    wait, failures = WAIT_SECONDS[0], 0
    await asyncio.to_thread(partial.open)
    try:
        while True:
            before = partial.size
            try:
                found = await _attempt(web, uri, url(), partial, limit, room, known, trusted)
            except Cut as error:
                if partial.size - before >= PROGRESS_BYTES:
                    wait, failures = WAIT_SECONDS[0], 0
                failures += 1
                if failures >= TRIES:
                    raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} can't be fetched: {error}.") from None
                await clock.sleep(wait)
                wait = min(WAIT_SECONDS[1], wait * 2)
                continue
            if found is not None:
                await asyncio.to_thread(partial.publish, target)
            return found
    except OSError as error:
        raise CyxError(Code.EXHAUSTED, f"The dataset {uri} can't be stored on the node: {error.strerror}.") from error
    finally:
        await asyncio.to_thread(partial.suspend)


async def _attempt(
    web: Web, uri: str, url: str, partial: Partial, limit: int, room: Room, known: Version | None, trusted: bool
) -> Version | None:
    if partial.size and not partial.validator:
        await asyncio.to_thread(partial.reset)  # nothing tells whether the rest would be of the same version
    resuming = partial.size > 0
    headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.validator} if resuming else {}
    if not resuming and known is not None:
        headers = known.if_changed()
    async with web.get(uri, url, headers, trusted=trusted) as response:
        if response.status_code == 304 and known is not None and not resuming:
            return None
        total = _total(response, partial.size)
        if total is None or response.status_code not in (200, 206):
            await asyncio.to_thread(partial.reset)
            raise Cut(f"the server answers {response.status_code} to the request for the rest")
        if response.status_code == 200 and partial.size:
            await asyncio.to_thread(partial.reset)  # it has another version now
        version = Version(_plain(response, "etag"), _plain(response, "last-modified"))
        partial.validator = version.if_range()
        _bound(uri, total, limit)
        await room(max(total, 0))
        buffer = bytearray()  # many small parts are written at once; what is in it when the stream breaks, too
        try:
            async for data in response.aiter_raw():
                buffer += data
                if len(buffer) >= CHUNK_BYTES:
                    await _flush(uri, buffer, partial, limit, room if total < 0 else None)
        finally:
            await _flush(uri, buffer, partial, limit, room if total < 0 else None)
        if 0 <= total != partial.size:
            raise Cut(f"{partial.size} bytes of {total} came")
        return version


def _plain(response: Any, name: str) -> str:
    """A header that can be sent back; empty if it can't be, which is as if the server had not sent it."""
    value = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() and len(value) <= 512 else ""


async def _flush(uri: str, buffer: bytearray, partial: Partial, limit: int, room: Room | None) -> None:
    size = partial.size + len(buffer)
    _bound(uri, size, limit)
    if room is not None:
        await room(size)
    data = bytes(buffer)
    buffer.clear()
    await asyncio.to_thread(partial.write, data)


def _total(response: Any, have: int) -> int | None:
    """The whole file's bytes, -1 if the server does not say; None if the answer is not the part asked for."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("content-range", ""))
        if not found or int(found[1]) != have or int(found[2]) != int(found[3]) - 1:
            return None
        return int(found[3])
    length = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 19 else -1


def _bound(uri: str, size: int, limit: int) -> None:
    if size > limit:
        raise invalid(
            f"The dataset {uri} has {size} bytes or more; this node takes at most {limit} (node.max_dataset_bytes).",
            uri=uri,
            bound=limit,
        )
