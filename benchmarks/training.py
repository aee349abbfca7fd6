"""Training through the platform against the bare loop: samples a second, interleaved, as a ratio.

The bare loop is what a person would write: the same model, data, batch size, optimizer and threads, in a process of its
own, timed over the epochs. Through the platform it is the wall time between the job's first step and its last epoch, as
central has it, with reports, journal, store and everything. 1.0 means that the platform costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import cores, cyxwiz, figures, median, pairs
from cyxwiz.client import Client

BOUND = 0.98
EPOCHS = 12
BATCH = 64
SAMPLES = 8000
FEATURES = 784

BARE = """
import json, sys, time
import numpy as np, torch
from torch import nn
path, epochs, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
data = np.load(path)
x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
def epoch():
    p = torch.randperm(len(x))
    for i in range(0, len(x), batch):
        k = p[i:i + batch]
        opt.zero_grad(set_to_none=True)
        loss_fn(model(x[k]), y[k]).backward()
        opt.step()
epoch()
began = time.perf_counter()
for _ in range(epochs):
    epoch()
print(json.dumps(epochs * len(x) / (time.perf_counter() - began)))
"""


def write_data(path: Path, samples: int = SAMPLES) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((samples, FEATURES), dtype=np.float32)
    np.savez(path, x=x, y=rng.integers(0, 10, samples))


def job_of(uri: str, epochs: int, checkpoint: str = "none") -> dict[str, Any]:
    """The bare loop's model and data as a job."""
    return {
        "dataset": uri,
        "epochs": epochs,
        "batch_size": BATCH,
        "model": {"layers": [784, 512, 256, 10]},
        "hyperparameters": {"validation_split": 0, "learning_rate": 0.001},
        "checkpoint": {"every": checkpoint},
    }


async def steady(client: Client, job_id: str, samples: int) -> float:
    """Samples a second of a job from the end of its first epoch to the end of its last, as central has them."""
    done = await client.wait(job_id)
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    points = [p for p in (await client.metrics(job_id))["metrics"] if p["epoch_ended"]]
    first, last = points[0], points[-1]
    return (last["epoch"] - first["epoch"]) * samples / (_seconds(last["at"]) - _seconds(first["at"]))


def main() -> list[dict[str, Any]]:
    count = pairs()
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        path = Path(directory) / "data.npz"
        write_data(path)
        with cyxwiz("both", "node.max_concurrent_jobs=1") as process:
            threads = cores()
            ratios, bare, platform = asyncio.run(_pairs(str(process.data_dir), path, threads, count))
    return [
        {
            "bench": "training",
            **figures(ratios),
            "bound": BOUND,
            "bare_samples_per_s": round(median(bare)),
            "platform_samples_per_s": round(median(platform)),
            "threads": threads,
            "pairs": count,
        }
    ]


async def _pairs(data_dir: str, path: Path, threads: int, count: int) -> tuple[list[float], list[float], list[float]]:
    ratios: list[float] = []
    bare: list[float] = []
    platform: list[float] = []
    async with Client(data_dir=data_dir) as client:
        uri = (await client.push_blob(path))["uri"]
        for pair in range(count):
            order = (_bare, _platform) if pair % 2 else (_platform, _bare)
            found: dict[Any, float] = {}
            for measure in order:
                await asyncio.sleep(4.0)  # the warm child is there again: its import must not run beside a measurement
                found[measure] = await measure(client, uri, path, threads)
            bare.append(found[_bare])
            platform.append(found[_platform])
            ratios.append(found[_platform] / found[_bare])
    return ratios, bare, platform


async def _bare(client: Client, uri: str, path: Path, threads: int) -> float:
    command = [sys.executable, "-c", BARE, str(path), str(EPOCHS), str(BATCH), str(threads)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    return float(json.loads(done.stdout))


async def _platform(client: Client, uri: str, path: Path, threads: int) -> float:
    job = await client.submit(job_of(uri, EPOCHS + 1))
    return await steady(client, job["id"], SAMPLES)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
