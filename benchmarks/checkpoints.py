"""What a checkpoint at the end of every epoch costs a job, against the same job without any.

Two figures: samples a second as a ratio, and the processor time that the checkpoints take, in the job's process, on the
node and at central, as a share of what the epochs take without them; of that, what the node and central take for one
checkpoint stands apart, as it does not drown in the noise of training. The job's process is looked at four times a
second as long as it lives. Its start and its import of torch are not counted: they are what a job of few epochs takes.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, cyxwiz, figures, median, pairs
from benchmarks.training import job_of, steady, write_data
from cyxwiz.client import Client

EPOCHS = 8
SHORT = 2  # epochs of a job that is nearly all start and end
SAMPLES = 24_000  # about 2 s an epoch on one core, for 6.4 MB a checkpoint
BOUND = 0.98
LOOK_SECONDS = 0.25
SETTLE_SECONDS = 2.0  # what the last job left is done


def main() -> list[dict[str, Any]]:
    count = pairs()
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        path = Path(directory) / "data.npz"
        write_data(path, SAMPLES)
        with cyxwiz("both", "node.max_concurrent_jobs=2", "node.warm_children=0") as process:
            saving, plain, short = asyncio.run(_measure(process, path, count))
    ratios = [one["rate"] / other["rate"] for one, other in zip(saving, plain, strict=True)]
    own = (median([each["cpu"] for each in plain]) - short) * EPOCHS / (EPOCHS - SHORT)
    shares = [(one["cpu"] - other["cpu"]) / own for one, other in zip(saving, plain, strict=True)]
    served = [(one["node"] - other["node"]) / (EPOCHS - 1) * 1e3 for one, other in zip(saving, plain, strict=True)]
    return [
        {
            "bench": "checkpoints",
            **figures(ratios),
            "bound": BOUND,
            "cpu_share": figures(shares, 4),
            "cpu_s_training": round(own, 2),
            "node_and_central_cpu_ms": figures(served, 1),
            "samples_per_s": [round(median([each["rate"] for each in row])) for row in (plain, saving)],
            "checkpoints": EPOCHS - 1,
            "pairs": count,
        }
    ]


async def _measure(
    process: Process, path: Path, count: int
) -> tuple[list[dict[str, float]], list[dict[str, float]], float]:
    saving: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    async with Client(data_dir=str(process.data_dir)) as client:
        uri = (await client.push_blob(path))["uri"]
        await _one(process, client, uri, SHORT, "none")  # opens the channels and brings the data to the node
        short = median([(await _one(process, client, uri, SHORT, "none"))["cpu"] for _ in range(3)])
        for pair in range(count):
            for every in ("none", "1 epoch") if pair % 2 else ("1 epoch", "none"):
                (plain if every == "none" else saving).append(await _one(process, client, uri, EPOCHS, every))
    return saving, plain, short


async def _one(process: Process, client: Client, uri: str, epochs: int, every: str) -> dict[str, float]:
    await asyncio.sleep(SETTLE_SECONDS)
    seen: dict[int, float] = {}
    before = process.cpu_seconds()
    watching = asyncio.create_task(_watch(process, seen))
    job = await client.submit(job_of(uri, epochs, every))
    rate = await steady(client, job["id"], SAMPLES)
    await asyncio.sleep(SETTLE_SECONDS)
    watching.cancel()
    served = process.cpu_seconds() - before
    return {"rate": rate, "cpu": sum(seen.values()) + served, "node": served}


async def _watch(process: Process, seen: dict[int, float]) -> None:
    """Keeps the processor time of each descendant, as it was last seen."""
    while True:
        seen.update(process.cpu_of_descendants())
        await asyncio.sleep(LOOK_SECONDS)
