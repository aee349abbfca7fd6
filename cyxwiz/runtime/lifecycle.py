"""The contract of everything that runs for long, and the way a process of such things lives and dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from cyxwiz.domain.errors import CyxError

log = logging.getLogger(__name__)


class Service:
    """A loop with a start, a ready signal, a soft stop and a hard stop.

    A subclass writes `run`: it calls `self.ready()` once it can serve and returns soon after `self.stopping` is set.
    `start` returns when the loop is ready, or raises what it died of. `stop` asks softly, waits `grace` seconds and
    then cancels; it tolerates a service never started, a second stop and a stop from several tasks. A loop that dies
    on its own is told to the owner by `died`.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told = False  # its owner knows why it died

    @property
    def name(self) -> str:
        return type(self).__name__

    async def run(self) -> None:
        raise NotImplementedError

    def ready(self) -> None:
        self._ready.set()

    async def idle(self, seconds: float) -> None:
        """Waits that long on the loop's time, or until the service is asked to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self.stopping.wait()

    async def start(self) -> None:
        if self.stopping.is_set():
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.run(), name=self.name)
        waiter = asyncio.get_running_loop().create_task(self._ready.wait(), name=f"{self.name} ready")
        try:
            await asyncio.wait({self._task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if not self._task.done() or self._task.cancelled():
            return
        if (error := self._task.exception()) is not None:
            self._told = True
            raise error
        if not self._ready.is_set() and not self.stopping.is_set():
            raise RuntimeError(f"{self.name} ended before it was ready")

    async def stop(self, grace: float = 5.0) -> None:
        self.stopping.set()
        task = self._task
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=grace)
        if not done:
            log.warning("%s did not stop within %.1f s: cancelled", self.name, grace)
            task.cancel()
            await asyncio.wait({task})
        if not self._told and not task.cancelled() and (error := task.exception()) is not None:
            known = isinstance(error, CyxError)  # it says what it is about; where it was raised says nothing more
            log.error("%s ended with an error: %s", self.name, error, exc_info=None if known else error)

    async def died(self) -> BaseException:
        """Waits until the loop ends without having been asked to, and returns why."""
        assert self._task is not None, f"{self.name} was not started"
        await asyncio.wait({self._task})
        if self.stopping.is_set():
            await asyncio.Event().wait()  # a wanted end is no death: the owner cancels this wait
        if self._task.cancelled():
            return RuntimeError(f"{self.name} was cancelled")
        self._told = True
        return self._task.exception() or RuntimeError(f"{self.name} ended on its own")


async def first_death(*services: Service) -> BaseException:
    """Why the first of the services to die did."""
    tasks: set[asyncio.Task[Any]] = {
        asyncio.get_running_loop().create_task(service.died(), name=f"{service.name} watch") for service in services
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()  # type: ignore[no-any-return]
    finally:
        for task in tasks:
            task.cancel()
