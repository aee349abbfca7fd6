"""What a checkpoint at the end of every epoch costs a job.

Jobs save after every second epoch, so that epochs in which a state is written, sent and stored stand between epochs in
which nothing is: each is compared with its two neighbours, which no change of the machine's pace comes between. What
training waits for before such an epoch, the copy of its state, is timed by itself and added. Jobs that save nothing are
looked at in the same way, as a control of the measure.

The processor's time is told as a share of what an epoch without a checkpoint takes of it: the copy and the thread that
writes, timed by themselves, and what node and central take for one checkpoint, beside jobs without.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, Processor, cyxwiz, figures, median, pairs
from benchmarks.training import job_of, write_data
from cyxwiz.client import Client

EPOCHS = 13
EVERY = 2
SAMPLES = 24_000  # about 1.2 s an epoch, for 6.4 MB a checkpoint
BOUND = 0.98
REPEATS = 40
SETTLE_SECONDS = 2.0  # what the last job left is done


def main() -> list[dict[str, Any]]:
    count = pairs()
    copying, writing = _pieces()
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        path = Path(directory) / "data.npz"
        write_data(path, SAMPLES)
        with cyxwiz("both", "node.max_concurrent_jobs=2", "node.warm_children=0") as process:
            saving, plain = asyncio.run(_measure(process, path, count))
    served = [(one.served - other.served) / (EPOCHS // EVERY) for one, other in zip(saving, plain, strict=True)]
    epoch = median([job.processor for job in plain])
    shares = [(each + copying + writing) / epoch for each in served]
    return [
        {
            "bench": "checkpoints",
            **figures([ratio for job in saving for ratio in job.ratios(copying)], 4),
            "bound": BOUND,
            "control": figures([ratio for job in plain for ratio in job.ratios(0.0)], 4),
            "cpu_share": figures(shares, 4),
            "cpu_share_bound": round(1 - BOUND, 2),
            "epoch_s": round(median([seconds for job in plain for seconds in job.epochs.values()]), 3),
            "epoch_cpu_s": round(epoch, 3),
            "copy_ms": round(copying * 1e3, 1),
            "write_cpu_ms": round(writing * 1e3, 1),
            "node_and_central_cpu_ms": figures([each * 1e3 for each in served], 1),
            "jobs": [len(saving), len(plain)],
        }
    ]


class _Job:
    """The seconds of its epochs by number, from 2; of the processor's, those of node and central meanwhile, and those
    of all processes in an epoch."""

    def __init__(self, epochs: dict[int, float], served: float, processor: float) -> None:
        self.epochs, self.served, self.processor = epochs, served, processor

    def ratios(self, waited: float) -> list[float]:
        """Samples a second in each epoch after one of those with a checkpoint, beside its neighbours'."""
        found: list[float] = []
        for epoch, seconds in self.epochs.items():
            before, after = self.epochs.get(epoch - 1), self.epochs.get(epoch + 1)
            if (epoch - 1) % EVERY == 0 and before and after:
                found.append((before + after) / 2 / (seconds + waited))
        return found


async def _measure(process: Process, path: Path, count: int) -> tuple[list[_Job], list[_Job]]:
    saving: list[_Job] = []
    plain: list[_Job] = []
    async with Client(data_dir=str(process.data_dir)) as client:
        uri = (await client.push_blob(path))["uri"]
        await _one(process, client, uri, "none")  # opens the channels and brings the data to the node
        for pair in range(count):
            for every in ("none", f"{EVERY} epochs") if pair % 2 else (f"{EVERY} epochs", "none"):
                (plain if every == "none" else saving).append(await _one(process, client, uri, every))
    return saving, plain


async def _one(process: Process, client: Client, uri: str, every: str) -> _Job:
    await asyncio.sleep(SETTLE_SECONDS)
    before = process.cpu_seconds()
    with Processor(process.pid) as processor:
        job = await client.submit(job_of(uri, EPOCHS, every))
        done = await client.wait(job["id"])
        if done["status"] != "completed":
            raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
        await asyncio.sleep(SETTLE_SECONDS)
    served = process.cpu_seconds() - before
    points = [each for each in (await client.metrics(job["id"]))["metrics"] if each["epoch_ended"]]
    first, last = (datetime.fromisoformat(points[at]["at"]).timestamp() for at in (0, -1))
    in_epoch = processor.between(first, last).processor / (len(points) - 1)
    # As the job's process has it: points are sent together, and central's time is that of their arrival.
    epochs = {each["epoch"]: SAMPLES / each["metrics"]["samples_per_second"] for each in points}
    return _Job({epoch: seconds for epoch, seconds in epochs.items() if epoch > 1}, served, in_epoch)


def _pieces() -> tuple[float, float]:
    """Seconds of the copy, which training waits for, and of the processor in the thread that proves and writes it."""
    import torch
    from torch import nn

    from cyxwiz.compute import checkpoint
    from cyxwiz.compute.chain import state_digest

    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(torch.rand(64, 784)).sum().backward()
    optimizer.step()
    place = checkpoint.Place(2, 0, 1, 0.5)
    told: dict[str, Any] = {"schedule": {}, "precision": {}, "best": {}}

    def take() -> checkpoint.State:
        return checkpoint.snapshot(place, 1, model, optimizer, {"cpu": torch.get_rng_state()}, told, {})

    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:

        def write() -> None:
            state = take()
            began.append(time.thread_time())
            checkpoint.write(Path(directory) / "state.safetensors", state, "job", state_digest(state))

        began: list[float] = []
        return _median_of(take, time.perf_counter), _median_of(write, time.thread_time, began)


def _median_of(do: Callable[[], object], now: Callable[[], float], began: list[float] | None = None) -> float:
    """`do`'s time; from what it adds to `began`, where it does."""
    took: list[float] = []
    for _ in range(REPEATS):
        start = now()
        do()
        took.append(now() - (began[-1] if began else start))
    return median(took)
