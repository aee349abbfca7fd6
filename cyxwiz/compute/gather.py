"""`gathered`: a run's reports, as many at a time as came while the last ones were being written.

A report costs the node a durable transaction and central another one. A script that says 1,000 lines and points a
second would be held back by them one by one; together they cost little.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from cyxwiz.ports.executor import Logged, Progressed, Report
from cyxwiz.runtime.tasks import Tasks, spawn

WAIT_SECONDS = 0.1  # how long lines and points may wait for others; nothing else waits
AT_ONCE = 500  # read ahead at most: beyond, whoever talks waits


async def gathered(reports: AsyncIterator[Report], name: str) -> AsyncGenerator[list[Report]]:
    """All reports in order, in lists that are never empty. Raises what `reports` raises, after all before it."""
    waiting: list[Report] = []
    news, urgent, room = asyncio.Event(), asyncio.Event(), asyncio.Event()
    over = False
    fault: Exception | None = None

    async def read() -> None:
        nonlocal over, fault
        try:
            async for report in reports:
                waiting.append(report)
                news.set()
                if not isinstance(report, Logged | Progressed) or len(waiting) >= AT_ONCE:
                    urgent.set()
                if len(waiting) >= AT_ONCE:
                    room.clear()
                    await room.wait()
        except Exception as error:
            fault = error
        over = True
        news.set()
        urgent.set()

    tasks = Tasks()
    spawn(read(), name=f"reports of {name}", group=tasks)
    try:
        while True:
            await news.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await urgent.wait()
            batch = waiting.copy()
            waiting.clear()
            news.clear()
            urgent.clear()
            room.set()
            if batch:
                yield batch
            if over and not waiting:
                break
        if fault is not None:
            raise fault
    finally:
        await tasks.aclose()
