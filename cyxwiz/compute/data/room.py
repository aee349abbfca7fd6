"""`Room`: a folder in the node's data cache that somebody fills a piece at a time, within the cache's limit."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from cyxwiz.compute.data.cache import Cache


class Room:
    """One source's folder, for one user at a time: `leave` lets the next one in."""

    def __init__(self, cache: Cache, source: str, rooms: Rooms) -> None:
        self._cache, self._source, self._rooms = cache, source, rooms
        self.folder: Path = cache.incoming(source)

    async def reserve(self, size: int) -> None:
        """Makes room for all that the folder will hold. Raises EXHAUSTED when the limit does not allow it."""
        await self._cache.reserve(self._source, size)

    async def leave(self, *, keep: bool) -> None:
        """With `keep` what lies there stays for the next user, until the cache needs the room."""
        if not keep:
            await asyncio.to_thread(shutil.rmtree, self.folder, True)
        self._cache.end(self._source)
        self._rooms.left(self._source)


class Rooms:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._taken: dict[str, asyncio.Event] = {}  # by source; set when its user has left

    async def enter(self, source: str) -> Room:
        """Waits until an earlier user has left."""
        while (earlier := self._taken.get(source)) is not None:
            await earlier.wait()
        self._taken[source] = asyncio.Event()
        self._cache.begin(source)
        return Room(self._cache, source, self)

    def left(self, source: str) -> None:
        self._taken.pop(source).set()
