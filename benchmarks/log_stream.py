"""A script that trains and says 1,000 lines a second, against the same script in silence: the time of its steps.

950 printed lines and 50 points of metrics a second. The script times its own steps, without the time that it prints in:
what is compared is what the stream does to the machine around it. Its steps' processor time stands beside it, for the
two share the cores with whoever carries the lines. All that was said must be there at the end.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, cyxwiz, figures, median, pairs
from cyxwiz.client import Client

SECONDS = 15
SCRIPT = """
import json, sys, time
import torch
from torch import nn
import cyxwiz.job as job

seconds, lines, points = int(job.params["seconds"]), int(job.params["lines"]), int(job.params["points"])
torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.rand(64, 784), torch.randint(0, 10, (64,))
model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
opt = torch.optim.Adam(model.parameters())
loss_of = nn.CrossEntropyLoss()

def step():
    opt.zero_grad(set_to_none=True)
    loss = loss_of(model(x), y)
    loss.backward()
    opt.step()
    return loss

for _ in range(200):
    step()
steps, printed, told, inside, used, talking = 0, 0, 0, 0.0, 0.0, 0.0
began = time.perf_counter()
while (now := time.perf_counter() - began) < seconds:
    cpu, clock = time.thread_time(), time.perf_counter()
    for _ in range(4):
        loss = step()
    inside += time.perf_counter() - clock
    used += time.thread_time() - cpu
    steps += 4
    clock = time.perf_counter()
    while printed < now * lines:
        printed += 1
        print("line", printed, "of a job that has much to say about step", steps)
    while told < now * points:
        told += 1
        job.report(told, {"loss": float(loss)}, of=seconds * points + 100)
    talking += time.perf_counter() - clock
(job.out_dir / "figures.json").write_text(json.dumps({
    "printed": printed, "told": told, "step_ms": 1000 * inside / steps, "step_cpu_ms": 1000 * used / steps,
    "talking": talking / seconds,
}))
"""
LOUD, SILENT = {"lines": "950", "points": "50"}, {"lines": "0", "points": "0"}


def main() -> list[dict[str, Any]]:
    count = pairs()
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        script = Path(directory) / "noise.py"
        script.write_text(SCRIPT)
        with cyxwiz("both", "node.max_concurrent_jobs=2") as process:
            rows = asyncio.run(_measure(process, script, count))
    loud, silent = rows
    wall = [still["step_ms"] / each["step_ms"] for each, still in zip(loud, silent, strict=True)]
    cpu = [still["step_cpu_ms"] / each["step_cpu_ms"] for each, still in zip(loud, silent, strict=True)]
    return [
        {
            "bench": "log_stream",
            **figures(wall),
            "cpu_ratio": figures(cpu),
            "step_ms": [round(median([each["step_ms"] for each in row]), 3) for row in (silent, loud)],
            "platform_cores": [round(median([each["cores"] for each in row]), 3) for row in (silent, loud)],
            "script_talks": round(median([each["talking"] for each in loud]), 4),
            "seconds_until_completed": round(median([each["after"] for each in loud]), 2),
            "pairs": count,
        }
    ]


async def _measure(process: Process, script: Path, count: int) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    loud: list[dict[str, float]] = []
    silent: list[dict[str, float]] = []
    async with Client(data_dir=str(process.data_dir)) as client:
        for pair in range(count):
            for kind in (LOUD, SILENT) if pair % 2 else (SILENT, LOUD):
                await asyncio.sleep(4.0)  # the warm child is there again
                (loud if kind is LOUD else silent).append(await _one(process, client, script, kind))
    return loud, silent


async def _one(process: Process, client: Client, script: Path, kind: dict[str, str]) -> dict[str, float]:
    job = script.with_suffix(".json")
    hyperparameters = {"seconds": str(SECONDS), **kind}
    job.write_text(json.dumps({"model": {"script": script.name}, "epochs": 1, "hyperparameters": hyperparameters}))
    cpu, began = process.cpu_seconds(), time.perf_counter()
    made = await client.submit(job)
    done = await client.wait(made["id"])
    took, cpu = time.perf_counter() - began, process.cpu_seconds() - cpu
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
        paths = await client.download(made["id"], directory)
        found: dict[str, float] = json.loads(next(path for path in paths if path.name == "figures.json").read_text())
    await _all_there(client, made["id"], int(found["printed"]), int(found["told"]))
    return {**found, "cores": cpu / took, "after": took - SECONDS}


async def _all_there(client: Client, job_id: str, printed: int, told: int) -> None:
    lines = points = after = 0
    while page := (await client.logs(job_id, after=after, limit=1000))["logs"]:
        lines += sum(line["message"].startswith("line ") for line in page)
        after = page[-1]["offset"]
    after = 0
    while page := (await client.metrics(job_id, after=after, limit=1000))["metrics"]:
        points += len(page)
        after = page[-1]["offset"]
    if (lines, points) != (printed, told):
        raise RuntimeError(f"{printed} lines and {told} points were said; {lines} and {points} are there")
