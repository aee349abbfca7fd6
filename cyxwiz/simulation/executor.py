"""`ports.executor.Executor` whose runs take virtual time and end as they were drawn to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import (
    Artefact,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    FirstStep,
    Logged,
    Preempted,
    Progressed,
    Report,
    Run,
    Started,
    Work,
)


class Ending(StrEnum):
    FINISHES = "finishes"
    BREAKS = "fails, another may not"
    WONT_START = "does not start"
    FAILS = "fails for good"


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for one run."""

    ending: Ending
    epoch_seconds: float
    last_epoch: int  # where a run that fails does so
    start_seconds: float = 0.1
    cancel_seconds: float = 0.2


class SimRun:
    """`ports.executor.Run`. It is alive from its start until its last report, its cancel or the crash of its node."""

    def __init__(self, work: Work, draw: Draw, clock: Clock, over: Callable[[SimRun], None]) -> None:
        self.work = work
        self.draw = draw
        self._clock = clock
        self._over = over
        self._cancelled = asyncio.Event()
        self._preempted = False

    async def reports(self) -> AsyncIterator[Report]:
        try:
            async for report in self._reports():
                yield report
        finally:
            self._over(self)

    def preempt(self) -> None:
        self._preempted = True

    def answer(self, number: int, value: bytes) -> None:
        """Simulated runs ask nothing."""

    def tell(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        """Nobody asks a simulated run for anything."""

    async def cancel(self) -> None:
        self._cancelled.set()

    async def _reports(self) -> AsyncIterator[Report]:
        work, draw = self.work, self.draw
        yield Started(1)
        yield FirstStep()
        first = int(work.resume.read_text()) if work.resume is not None else 1
        for epoch in range(first, work.epochs + 1):
            if await self._cancelled_within(draw.epoch_seconds):
                await self._clock.sleep(draw.cancel_seconds)
                yield Cancelled()
                return
            if draw.ending is not Ending.FINISHES and epoch == draw.last_epoch:
                yield Failed("INTERNAL", "drawn to fail", retryable=draw.ending is Ending.BREAKS)
                return
            if self._preempted or epoch % 2 == 0:
                yield self._checkpoint(epoch)
            if self._preempted:
                yield Preempted(epoch * draw.epoch_seconds)
                return
            if epoch % 2:
                yield Logged("info", f"epoch {epoch}")
            curve = {"loss": 1 / epoch, "token": float(work.work_dir.name.partition("-")[2])}
            yield Progressed(epoch, work.epochs, 1, 1, epoch / work.epochs, curve, 1.0, 1.0, True)
        yield Finished((self._weights(),), {"loss": 0.1}, work.epochs, work.epochs * draw.epoch_seconds)

    async def _cancelled_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._cancelled.wait()
        except TimeoutError:
            return False
        return True

    def _checkpoint(self, epoch: int) -> Checkpointed:
        path = self.work.work_dir / "checkpoints" / f"{epoch}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = str(epoch).encode()
        path.write_bytes(data)
        file = Artefact(path.name, path, "", len(data))
        return Checkpointed((file,), epoch, 0, epoch - 1, (epoch - 1) / self.work.epochs, 1)

    def _weights(self) -> Artefact:
        """A file that says which lease made it: its directory is named after the token."""
        path = weights_path(self.work.work_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = f"{self.work.job_id} {self.work.work_dir.name}".encode()
        path.write_bytes(data)
        return Artefact(path.name, path, hashlib.sha256(data).hexdigest(), len(data))


def weights_path(work_dir: Path) -> Path:
    return work_dir / "out" / "model.safetensors"


class SimExecutor:
    """One life of a node's executor. `draw` decides about each run; `alive` are the runs that are."""

    def __init__(self, clock: Clock, draw: Callable[[Work], Draw]) -> None:
        self.alive: dict[SimRun, None] = {}
        self._clock = clock
        self._draw = draw

    async def start(self, work: Work) -> Run:
        draw = self._draw(work)
        await self._clock.sleep(draw.start_seconds)
        if draw.ending is Ending.WONT_START:
            raise CyxError(Code.UNAVAILABLE, "drawn not to start", retryable=True)
        run = SimRun(work, draw, self._clock, self._over)
        self.alive[run] = None
        return run

    def warm(self) -> None:
        return

    def kill(self) -> None:
        """Children die with their node."""
        self.alive.clear()

    async def aclose(self) -> None:
        self.kill()

    def _over(self, run: SimRun) -> None:
        self.alive.pop(run, None)
