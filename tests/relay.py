"""A port in the test's own loop that passes on what comes to another, and closes at its end whatever it opened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_READ = 16384


class Relay:
    """Carries connections to `target`, a port of 127.0.0.1 that may be set once it is known.

    `answered` counts the bytes of answers, one entry a connection. Each connection takes `delay` seconds until it is
    carried; the first is cut after `cut_after` bytes of answers, where that is given.
    """

    def __init__(self, target: int, delay: float, cut_after: int | None) -> None:
        self.target = target
        self.answered: list[int] = []
        self.port = 0
        self._delay = delay
        self._cut_after = cut_after
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            await asyncio.sleep(self._delay)
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(back)
            self.answered.append(0)
            await asyncio.gather(self._pipe(reader, back, None), self._pipe(there, writer, len(self.answered) - 1))
        finally:
            self._tasks.discard(task)
            for each in writers:
                each.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if index is not None:
                    self.answered[index] += len(data)
                    if index == 0 and self._cut_after is not None and self.answered[0] > self._cut_after:
                        break
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def relay(target: int = 0, *, delay: float = 0.0, cut_after: int | None = None) -> AsyncIterator[Relay]:
    carrying = Relay(target, delay, cut_after)
    async with await asyncio.start_server(carrying.serve, "127.0.0.1", 0) as server:
        carrying.port = server.sockets[0].getsockname()[1]
        try:
            yield carrying
        finally:
            await carrying.aclose()
