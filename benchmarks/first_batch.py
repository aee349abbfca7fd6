"""Submit to the first batch, warm and cold.

Warm: a child waits with torch imported. Cold: none waits, and the job's child imports torch itself; beside it, what an
interpreter takes for that import alone, and for the first step of a bare script: PyTorch imports nearly as much again
with its first optimizer. Times are wall times from just before the submit until the node's own
word that the first step was taken; all of it is on one machine and one clock.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

from benchmarks.processes import cyxwiz, figures, pairs
from cyxwiz.client import Client

JOB = {
    "dataset": "builtin:digits",
    "epochs": 1,
    "batch_size": 32,
    "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
}
IMPORT = "import torch"
BARE = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters())
model(torch.rand(32, 64)).sum().backward()
optimizer.step()
"""
SETTLE_SECONDS = 4.0  # a warm child is ready again, and the machine idle
BOUND_WARM, BOUND_COLD = 1.5, 1.0


def main() -> list[dict[str, Any]]:
    count = pairs()
    with cyxwiz("both") as warm, cyxwiz("both", "node.warm_children=0") as cold:
        taken = asyncio.run(_measure(str(warm.data_dir), str(cold.data_dir), count))
    beyond = {
        floor: [whole - part for whole, part in zip(taken["cold"], taken[floor], strict=True)]
        for floor in ("import", "bare")
    }
    return [
        {"bench": "first_batch", "child": "warm", **figures(taken["warm"]), "bound_s": BOUND_WARM, "pairs": count},
        {
            "bench": "first_batch",
            "child": "cold",
            **figures(taken["cold"]),
            "import_s": figures(taken["import"]),
            "beyond_import_s": figures(beyond["import"]),
            "bound_beyond_import_s": BOUND_COLD,
            "bare_first_step_s": figures(taken["bare"]),
            "beyond_bare_first_step_s": figures(beyond["bare"]),
            "pairs": count,
        },
    ]


async def _measure(warm: str, cold: str, count: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {"warm": [], "cold": [], "import": [], "bare": []}
    async with Client(data_dir=warm) as warm_client, Client(data_dir=cold) as cold_client:
        await _first_batch(warm_client)  # opens the channels and fills caches
        await _first_batch(cold_client)
        for _ in range(count):
            await asyncio.sleep(SETTLE_SECONDS)
            taken["warm"].append(await _first_batch(warm_client))
            await asyncio.sleep(SETTLE_SECONDS)
            taken["import"].append(await asyncio.to_thread(_run, IMPORT))
            taken["cold"].append(await _first_batch(cold_client))
            taken["bare"].append(await asyncio.to_thread(_run, BARE))
    return taken


async def _first_batch(client: Client) -> float:
    began = time.time()
    job = await client.submit(JOB)
    done = await client.wait(job["id"])
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    return datetime.fromisoformat(done["first_step_at"]).timestamp() - began


def _run(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began
