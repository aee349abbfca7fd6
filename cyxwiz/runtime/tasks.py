"""Owned tasks: nothing runs in the background without a name and an owner that waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


def spawn(coro: Coroutine[Any, Any, Any], *, name: str, group: asyncio.TaskGroup | Tasks) -> asyncio.Task[Any]:
    """Starts a task that `group` owns."""
    return group.create_task(coro, name=name)


class Tasks:
    """A set of tasks whose owner outlives them: each failure is logged, `aclose` cancels and awaits the rest.

    Where a failure should end the siblings, use `asyncio.TaskGroup`.
    """

    def __init__(self) -> None:
        # A dict for its order: a set would cancel in another order each time.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
