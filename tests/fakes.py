"""Stand-ins for what is not under test; the real ones run in tests of their own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, Hardware
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

GIB = 2**30


def hardware(cores: int = 4, ram: int = 16 * GIB, gpus: tuple[int, ...] = ()) -> Hardware:
    """A machine with the given GPUs' memory sizes in bytes."""
    devices = [DeviceInfo(Device.CPU, "Test CPU", ram, ram, cores)]
    devices += [DeviceInfo(Device.CUDA, "Test GPU", size, size) for size in gpus]
    return Hardware("Test CPU", cores, ram, ram, tuple(devices))


class ScriptedRun:
    """A run whose epochs end when the test says so (`step`), or at once."""

    batches = 1  # of an epoch

    def __init__(self, work: Work, gate: asyncio.Semaphore | None, fail: Failed | None) -> None:
        self.work = work
        self._gate = gate
        self._fail = fail
        self._cancelled = asyncio.Event()
        self._preempted = asyncio.Event()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.saves = False  # a checkpoint, in place of the next epoch

    async def reports(self) -> AsyncIterator[Report]:
        yield Started(1)
        yield Logged("info", "started")
        yield FirstStep()
        first = int(self.work.resume.read_text()) if self.work.resume is not None else 1
        for epoch in range(first, self.work.epochs + 1):
            await self._wait()
            if self._cancelled.is_set():
                yield Cancelled()
                return
            if self._preempted.is_set():
                yield self._checkpoint(epoch)
                yield Preempted(1.0)
                return
            if self.saves:
                self.saves = False
                yield self._checkpoint(epoch)
                continue
            share = epoch / self.work.epochs
            metrics = {"loss": 1 / epoch, "accuracy": share, "val_loss": 1 / epoch, "val_accuracy": share}
            count = self.batches
            yield Progressed(epoch, self.work.epochs, count, count, share, metrics, float(epoch), 0.0, True)
        if self._fail is not None:
            yield self._fail
            return
        path = self.work.work_dir / "out" / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"weights of {self.work.job_id}".encode())
        yield Finished((artefact(path),), metrics, self.work.epochs, 1.5)

    async def _wait(self) -> None:
        if self._gate is None:
            return
        waits = [
            asyncio.ensure_future(wait()) for wait in (self._gate.acquire, self._cancelled.wait, self._preempted.wait)
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _checkpoint(self, epoch: int) -> Checkpointed:
        path = self.work.work_dir / "checkpoints" / f"{epoch}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(epoch))
        return Checkpointed((artefact(path),), epoch, 0, epoch - 1, (epoch - 1) / self.work.epochs, 1)

    def preempt(self) -> None:
        self._preempted.set()

    def tell(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        self.told.append((order, dict(values or {})))

    async def cancel(self) -> None:
        self._cancelled.set()


def artefact(path: Path) -> Artefact:
    data = path.read_bytes()
    return Artefact(path.name, path, hashlib.sha256(data).hexdigest(), len(data))


class ScriptedExecutor:
    """`ports.executor.Executor` without processes. With `gated`, each epoch waits for `step`."""

    def __init__(self, *, gated: bool = False, fail: Failed | None = None) -> None:
        self._gate = asyncio.Semaphore(0) if gated else None
        self.fail = fail
        self.runs: list[ScriptedRun] = []

    def step(self, epochs: int = 1) -> None:
        assert self._gate is not None
        for _ in range(epochs):
            self._gate.release()

    async def start(self, work: Work) -> Run:
        run = ScriptedRun(work, self._gate, self.fail)
        self.runs.append(run)
        return run

    def warm(self) -> None:
        pass

    async def aclose(self) -> None:
        for run in self.runs:
            await run.cancel()
