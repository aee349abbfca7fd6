"""Files on their way between a node and central."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import Checkpointed
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_SECONDS = (0.2, 5.0)  # the first wait, and the longest
# EXISTS: somebody stored the same content at the same time.
_HELD_UP = (Code.CONFLICT, Code.EXISTS, Code.EXHAUSTED, Code.UNAVAILABLE, Code.TIMEOUT, Code.UNAUTHENTICATED)


class Files:
    """Files between this node and central, tried again for as long as it takes.

    `renew` gets the node a new session token: it is called when central takes the present one no more.
    """

    def __init__(self, link: CentralLink, clock: Clock, renew: Callable[[], Awaitable[None]]) -> None:
        self._link, self._clock, self._renew = link, clock, renew

    async def push(self, path: Path, sha256: str | None, unwanted: Callable[[], bool]) -> tuple[str, int] | None:
        """Uploads a file: its SHA-256 and its size in bytes; None once it is `unwanted`.

        Raises:
            CyxError: what no later try would mend. OSError: the file can't be read, or somebody took it away.
        """
        return await self._move(lambda: self._link.push_blob(path, sha256), path, unwanted)

    async def fetch(self, sha256: str, path: Path, unwanted: Callable[[], bool]) -> bool:
        """Fetches a blob; False, without it, once it is `unwanted`.

        Raises:
            CyxError: what no later try would mend. OSError: the file can't be written.
        """

        async def move() -> bool:
            await self._link.fetch_blob(sha256, path)
            return True

        return await self._move(move, path, unwanted) is not None

    async def _move(self, move: Callable[[], Awaitable[T]], path: Path, unwanted: Callable[[], bool]) -> T | None:
        wait = RETRY_SECONDS[0]
        while not unwanted():
            token = self._link.session_token
            try:
                return await move()
            except FileNotFoundError:
                if not unwanted():  # else it was removed because nobody wants it
                    raise
            except CyxError as error:
                if error.code not in _HELD_UP:
                    raise
                log.info("the way of %s is held up: %s", path.name, error.message)
                if error.code is Code.UNAUTHENTICATED and token == self._link.session_token:
                    await self._renew()
                await self._clock.sleep(wait)
                wait = min(RETRY_SECONDS[1], wait * 2)
        return None


class CheckpointUploads:
    """A run's checkpoints, uploaded behind its back: the newest that waits goes next, older ones are left out.

    `written` is called with its SHA-256 and its size once a checkpoint's bytes are stored at central.
    """

    def __init__(
        self,
        files: Files,
        written: Callable[[Checkpointed, str, int], Awaitable[None]],
        unwanted: Callable[[], bool],
    ) -> None:
        self._files, self._written, self._unwanted = files, written, unwanted
        self._waiting: Checkpointed | None = None
        self._tasks = Tasks()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, saved: Checkpointed) -> None:
        if self._waiting is not None:
            self._waiting.file.path.unlink(missing_ok=True)
        self._waiting = saved
        if self._idle.is_set():
            self._idle.clear()
            spawn(self._work(), name=f"upload {saved.file.name}", group=self._tasks)

    async def _work(self) -> None:
        try:
            while (saved := self._waiting) is not None:
                self._waiting = None
                await self._upload(saved)
        finally:
            self._idle.set()

    async def _upload(self, saved: Checkpointed) -> None:
        try:
            if (stored := await self._files.push(saved.file.path, None, self._unwanted)) is not None:
                await self._written(saved, *stored)
        except (CyxError, OSError) as error:
            log.warning("the checkpoint %s is not kept: %s", saved.file.name, error)
        saved.file.path.unlink(missing_ok=True)

    async def settled(self) -> None:
        """Returns when nothing is on its way any more."""
        await self._idle.wait()

    async def aclose(self) -> None:
        await self._tasks.aclose()
