"""`ports.executor.Executor` that trains for real in a thread of this process, and can be made to lie about it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import Stopped, train
from cyxwiz.domain.errors import CyxError
from cyxwiz.ports.executor import Cancelled, Checkpointed, Failed, Preempted, Report, Run, Started, Work

Tamper = Callable[[Work, Report], list[Report]]
_one_at_a_time = threading.Lock()  # torch's generators are the process's


def honest(work: Work, report: Report) -> list[Report]:
    return [report]


class InlineRun:
    def __init__(self, work: Work, tamper: Tamper, loop: asyncio.AbstractEventLoop) -> None:
        self.work, self._tamper, self._loop = work, tamper, loop
        self._queue: asyncio.Queue[Report | None] = asyncio.Queue()
        self._orders = Orders()
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()

    def _say(self, report: Report) -> None:
        if isinstance(report, Checkpointed):  # a node takes the file before its run removes it
            kept = report.file.path.with_suffix(".kept")
            os.link(report.file.path, kept)
            report = replace(report, artefacts=(replace(report.file, path=kept),))
        for each in self._tamper(self.work, report):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, each)

    def _train(self) -> None:
        self._say(Started(1))
        try:
            with _one_at_a_time:
                end: Report = train(self.work, self._say, self._orders)
        except Stopped:
            end = Cancelled() if self._orders.cancelled else Preempted(0.0)
        except CyxError as error:
            end = Failed(str(error.code), error.message, retryable=error.retryable)
        except Exception as error:
            end = Failed("INTERNAL", repr(error))
        self._say(end)
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    async def reports(self) -> AsyncIterator[Report]:
        while (report := await self._queue.get()) is not None:
            yield report

    def preempt(self) -> None:
        self._orders.give("preempt")

    def answer(self, number: int, value: bytes) -> None:
        raise AssertionError("nothing was asked")

    def tell(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        self._orders.give(order, values)

    async def cancel(self) -> None:
        self._orders.give("cancel")
        await asyncio.to_thread(self.thread.join)


class InlineExecutor:
    """`runs` are all that it started; `tamper` sees each report before the node does, and says what it gets."""

    def __init__(self, tamper: Tamper = honest) -> None:
        self.tamper = tamper
        self.runs: list[InlineRun] = []

    async def start(self, work: Work) -> Run:
        run = InlineRun(work, self.tamper, asyncio.get_running_loop())
        self.runs.append(run)
        return run

    def warm(self) -> None:
        pass

    async def aclose(self) -> None:
        for run in self.runs:
            await run.cancel()
