"""A job of about a minute from submit to its result, against the bare script from exec to its end.

The bare script imports torch, loads the data, trains and writes the weights. The job does all that, in its sandbox,
with reports and the upload of its result; its child has torch imported already. 1.0 means that the platform costs
nothing.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import cores, cyxwiz, figures, median, pairs
from benchmarks.training import BARE, BATCH, job_of, write_data
from cyxwiz.client import Client

SECONDS = 60.0
BOUND = 0.9
SAVE = "\nfrom safetensors.torch import save_file\nsave_file(model.state_dict(), path + '.safetensors')\n"
TRIAL_EPOCHS = 10


def main() -> list[dict[str, Any]]:
    count, threads = pairs(), cores()
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        path = Path(directory) / "data.npz"
        write_data(path)
        epochs = _epochs(path, threads)
        with cyxwiz("both", "node.max_concurrent_jobs=1") as process:
            bare, platform = asyncio.run(_measure(str(process.data_dir), path, epochs, threads, count))
    return [
        {
            "bench": "whole_job",
            **figures([one / other for one, other in zip(bare, platform, strict=True)]),
            "bound": BOUND,
            "bare_s": round(median(bare), 2),
            "platform_s": round(median(platform), 2),
            "epochs": epochs,
            "threads": threads,
            "pairs": count,
        }
    ]


def _epochs(path: Path, threads: int) -> int:
    """As many as make a bare script of about a minute."""
    short, longer = _bare(path, 1, threads), _bare(path, 1 + TRIAL_EPOCHS, threads)
    return max(2, round(SECONDS / ((longer - short) / TRIAL_EPOCHS)))


def _bare(path: Path, epochs: int, threads: int) -> float:
    """`BARE` trains one epoch more than it is told."""
    command = [sys.executable, "-c", BARE + SAVE, str(path), str(epochs - 1), str(BATCH), str(threads)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _measure(data_dir: str, path: Path, epochs: int, threads: int, count: int) -> tuple[list[float], list[float]]:
    found: dict[str, list[float]] = {"bare": [], "platform": []}
    async with Client(data_dir=data_dir) as client:
        uri = (await client.push_blob(path))["uri"]
        for pair in range(count):
            for which in ("bare", "platform") if pair % 2 else ("platform", "bare"):
                await asyncio.sleep(4.0)  # the warm child is there again
                if which == "bare":
                    found[which].append(await asyncio.to_thread(_bare, path, epochs, threads))
                else:
                    found[which].append(await _platform(client, uri, epochs))
            took = ", ".join(f"{which} {seconds[-1]:.2f} s" for which, seconds in found.items())
            print(f"pair {pair + 1}: {took}", file=sys.stderr, flush=True)
    return found["bare"], found["platform"]


async def _platform(client: Client, uri: str, epochs: int) -> float:
    began = time.perf_counter()
    job = await client.submit(job_of(uri, epochs))
    done = await client.wait(job["id"])
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    return time.perf_counter() - began
