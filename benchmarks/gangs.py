"""Two nodes on one job against plain torchrun, and diloco's bytes against ddp's.

`gang_ddp`: the same model, data, global batch, optimizer and threads a process; torchrun runs what a person would
write, the platform two real nodes. Samples over the epochs after the first, interleaved, as ratios: by the processor's
time of all processes of a side, central and both nodes among them, as both members share this machine's cores; and by
the clock, which shows besides what other machines on its host take from it. 1.0 means that the platform costs nothing.

`gang_diloco`: the same job by ddp and by diloco for several seeds: bytes sent by a member as the kernel counts them,
and the accuracy on what was held out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.processes import Process, Processor, Took, cyxwiz, figures, median
from benchmarks.training import BATCH, FEATURES, SAMPLES
from cyxwiz.client import Client

PAIRS = int(os.environ.get("CYXWIZ_BENCH_PAIRS", "10"))
SEEDS = int(os.environ.get("CYXWIZ_BENCH_SEEDS", "5"))
EPOCHS = 8
# Few exchanges (24 in all) want less momentum than the 0.9 of the paper, which had hundreds.
DILOCO = {"sync_every": 150, "outer_momentum": 0.5}

TORCHRUN = """
import json, sys, time
import numpy as np, torch
import torch.distributed as dist
from torch import nn
path, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
data = np.load(path)
x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
ddp = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_fn = nn.CrossEntropyLoss()
shuffle = torch.Generator().manual_seed(0)
def epoch():
    p = torch.randperm(len(x), generator=shuffle)
    for i in range(0, len(x), batch):
        k = p[i:i + batch][rank::world]
        opt.zero_grad(set_to_none=True)
        loss_fn(ddp(x[k]), y[k]).backward()
        opt.step()
epoch()
dist.barrier()
began = time.time()
for _ in range(epochs):
    epoch()
dist.barrier()
if rank == 0:
    print(json.dumps([began, time.time()]), flush=True)
dist.destroy_process_group()
"""


def main() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory, two_nodes() as (process, other):
        yield asyncio.run(_ddp(process, other, Path(directory)))
        yield asyncio.run(_diloco(str(process.data_dir)))


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Process, Process]]:
    """Central with a node, and another node, each with one thread a job."""
    slots = f"node.max_concurrent_jobs={os.cpu_count() or 1}"
    with cyxwiz("both", slots, "node.name=one") as process:
        key = json.loads((process.data_dir / "client.json").read_text())["key"]
        answer = httpx.post(
            f"{process.ready['rest']}/api/node-tokens", json={}, headers={"Authorization": f"Bearer {key}"}
        )
        token = answer.raise_for_status().json()["token"]
        flags = (f"node.central={process.ready['grpc']}", f"node.join_token={token}", slots, "node.name=two")
        with cyxwiz("node", *flags) as other:
            yield process, other


async def _ddp(process: Process, other: Process, folder: Path) -> dict[str, Any]:
    import numpy as np

    path, script = folder / "data.npz", folder / "bare.py"
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, FEATURES), dtype=np.float32)
    np.savez(path, x=x, y=rng.integers(0, 10, SAMPLES))
    script.write_text(TORCHRUN)
    found: dict[str, list[Took]] = {"torchrun": [], "platform": []}
    async with Client(data_dir=str(process.data_dir)) as client:
        uri = (await client.push_blob(path))["uri"]
        for pair in range(PAIRS):
            for side in ("torchrun", "platform") if pair % 2 else ("platform", "torchrun"):
                await asyncio.sleep(6.0)  # the import of both nodes' warm children must not run beside a measurement
                if side == "torchrun":
                    took = await asyncio.to_thread(_torchrun, script, path)
                else:
                    with Processor(process.pid, other.pid) as processor:
                        took = processor.between(*await _platform(client, uri))
                found[side].append(took)
    both = list(zip(found["torchrun"], found["platform"], strict=True))
    return {
        "bench": "gang_ddp",
        "by_processor": figures([torchrun.processor / platform.processor for torchrun, platform in both]),
        "by_clock": figures([torchrun.clock / platform.clock for torchrun, platform in both]),
        **{f"{side}_processor_s": round(median([each.processor for each in took]), 2) for side, took in found.items()},
        **{f"{side}_clock_s": round(median([each.clock for each in took]), 2) for side, took in found.items()},
        "bound": 0.95,
        "members": 2,
        "pairs": PAIRS,
    }


def _torchrun(script: Path, path: Path) -> Took:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [*command, str(script), str(path), str(EPOCHS), str(BATCH)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with (
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as started,
        Processor(started.pid) as processor,
    ):
        said, _ = started.communicate()
    if started.returncode:
        raise RuntimeError(f"torchrun ended with {started.returncode}")
    return processor.between(*json.loads(said))


async def _platform(client: Client, uri: str) -> tuple[float, float]:
    """When the epochs after the first began and ended."""
    job = {
        "dataset": uri,
        "epochs": EPOCHS + 1,
        "batch_size": BATCH,
        "model": {"layers": [784, 512, 256, 10]},
        "hyperparameters": {"validation_split": 0, "learning_rate": 0.001},
        "resources": {"nodes": 2},
    }
    job_id = (await _done(client, job))["id"]
    points = [p for p in (await client.metrics(job_id))["metrics"] if p["epoch_ended"]]
    first, last = (datetime.fromisoformat(points[at]["at"]).timestamp() for at in (0, -1))
    return first, last


async def _diloco(data_dir: str) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {"ddp": [], "diloco": []}
    async with Client(data_dir=data_dir) as client:
        for seed in range(SEEDS):
            for strategy, seen in found.items():
                job = {
                    "dataset": "builtin:digits",
                    "seed": seed,
                    "epochs": 80,
                    "batch_size": 32,
                    "model": {"layers": [64, 128, 10]},
                    "hyperparameters": {"optimizer": "adamw", "learning_rate": 0.003, **DILOCO},
                    "resources": {"nodes": 2},
                    "strategy": strategy,
                }
                seen.append((await _done(client, job))["metrics"])
    bytes_ratios = [a["bytes_sent"] / b["bytes_sent"] for a, b in zip(found["ddp"], found["diloco"], strict=True)]
    gains = [b["val_accuracy"] - a["val_accuracy"] for a, b in zip(found["ddp"], found["diloco"], strict=True)]
    return {
        "bench": "gang_diloco",
        "times_fewer_bytes": round(median(bytes_ratios), 1),
        "ddp_bytes": round(median([each["bytes_sent"] for each in found["ddp"]])),
        "diloco_bytes": round(median([each["bytes_sent"] for each in found["diloco"]])),
        "ddp_val_accuracy": round(median([each["val_accuracy"] for each in found["ddp"]]), 4),
        "diloco_val_accuracy": round(median([each["val_accuracy"] for each in found["diloco"]]), 4),
        "median_difference": round(median(gains), 4),
        **DILOCO,
        "seeds": SEEDS,
    }


async def _done(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    done = await client.wait((await client.submit(job))["id"])
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    return done
