"""The only home of time: the system's clock, and virtual time for tests and simulation.

On a `VirtualLoop` all of asyncio runs on virtual time: when nothing is ready the clock jumps to the next timer. A test
of an hour takes milliseconds, and the same program with the same seed takes the same steps.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from datetime import UTC, datetime, timedelta
from typing import Any


class SystemClock:
    """`ports.clock.Clock` on the machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class VirtualClock:
    """`ports.clock.Clock` that counts the running loop's time from a fixed instant."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class Deadlock(RuntimeError):
    """Every task waits for something that no timer will bring."""


class _JumpingSelector(selectors.BaseSelector):
    """Never blocks: a wait for the next timer moves the virtual clock there instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("no task is ready and no timer is set: something waits for ever")
            # At least the next number there is: after years of virtual time a short wait is below its resolution.
            self.now = max(self.now + timeout, math.nextafter(self.now, math.inf)) if timeout > 0 else self.now
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. Threads and sockets don't belong on it: their time is real."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)
        # Timers closer together than this run in one pass; 0 keeps every instant apart.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.now
