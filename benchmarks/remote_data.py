"""Data that the job's owner streams to the node (`remote://`): submit to the first step, and what memory it takes.

The engine is this process; central and node are another one, on the same machine. Two sizes of data are trained on in
turns: where training begins with the first batches, its first step does not wait for the last one, and the first step
of the large set comes as soon as that of the small one. `node_growth_mb` is what the process of central and node took
at its peak beyond what it had before the job; `child_mb` the peak of what the job's process can't drop (anonymous and
shared pages).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.processes import Process, cyxwiz, figures, pairs
from cyxwiz.client import Client, P2PSession

if TYPE_CHECKING:
    from cyxwiz.client import LocalData

FEATURES, BATCH = 784, 128
SIZES = {"small": 2_048, "large": 65_536}  # samples: 6.4 and 205.5 MB
JOB = {
    "dataset": "remote://random",
    "epochs": 1,
    "batch_size": BATCH,
    "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
}
SETTLE_SECONDS = 4.0  # a warm child is ready again, and the machine idle
LOOK_SECONDS = 0.02


def main() -> list[dict[str, Any]]:
    count = pairs(5)
    with cyxwiz("both") as process:
        taken = asyncio.run(_measure(process, count))
    return [
        {
            "bench": "remote_data",
            "megabytes": round(samples * FEATURES * 4 / 1e6, 1),
            **{name: figures([each[name] for each in taken[size]]) for name in taken[size][0]},
            "rounds": count,
        }
        for size, samples in SIZES.items()
    ]


async def _measure(process: Process, count: int) -> dict[str, list[dict[str, float]]]:
    taken: dict[str, list[dict[str, float]]] = {size: [] for size in SIZES}
    data = {size: _random(samples) for size, samples in SIZES.items()}
    async with Client(data_dir=str(process.data_dir)) as client:
        await _job(process, client, data["small"])  # opens the channels and fills caches
        for _ in range(count):
            for size, each in data.items():
                await asyncio.sleep(SETTLE_SECONDS)
                taken[size].append(await _job(process, client, each))
    return taken


def _random(samples: int) -> LocalData:
    import numpy as np

    from cyxwiz.client import LocalData

    rng = np.random.default_rng(0)
    x = rng.random((samples, FEATURES), dtype=np.float32)
    return LocalData(x, rng.integers(0, 10, samples).astype("<i4"))


async def _job(process: Process, client: Client, data: LocalData) -> dict[str, float]:
    before = process.rss_mb()
    began = time.time()
    job = await client.submit(JOB)
    watching = asyncio.ensure_future(_watch(process))
    async with P2PSession(client, job["id"], data=data) as session:
        await session.send_job()
        async with contextlib.aclosing(session.follow()) as updates:
            async for _ in updates:
                pass
    done = await client.wait(job["id"])
    watching.cancel()
    node, child = await watching
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    first = datetime.fromisoformat(done["first_step_at"]).timestamp() - began
    return {
        "first_step_s": first,
        "whole_s": time.time() - began,
        "node_growth_mb": max(0.0, node - before),
        "child_mb": child,
    }


async def _watch(process: Process) -> tuple[float, float]:
    """(peak of the node's process, peak of the largest descendant's own pages) in 10^6 bytes, until it is cancelled."""
    node = child = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            node = max(node, process.rss_mb())
            for each in psutil.Process(process.pid).children(recursive=True):
                child = max(child, _own_mb(each.pid))
            await asyncio.sleep(LOOK_SECONDS)
    return node, child


def _own_mb(pid: int) -> float:
    """Anonymous and shared pages of a process; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return (sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)) * 1024 / 1e6
