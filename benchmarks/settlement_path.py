"""What money adds to a job's critical path: submit to running, and running to completed, with each ledger.

Three `cyxwiz run --role both` stand side by side, with no ledger, with credits and with the chain in process. Each
round gives each of them the same job, in turn; a round's differences to "none" are its pairs. Settlement itself comes
after completed, so running to completed is what the assignment of the node costs the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

from benchmarks.dispatch import JOB
from benchmarks.processes import cyxwiz, figures, pairs
from cyxwiz.client import Client

LEDGERS = ("none", "credits", "localnet")
BOUND_MS = 5
SETTLE_SECONDS = 3.0  # a warm child is ready again, and what the last job cost is settled
Spans = dict[str, list[tuple[float, float]]]


def main() -> list[dict[str, Any]]:
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        places = {name: stack.enter_context(cyxwiz("both", f"ledger.backend={name}")) for name in LEDGERS}
        spans = asyncio.run(_measure({name: str(place.data_dir) for name, place in places.items()}, pairs(20)))
    return [_row(name, spans, load) for name in LEDGERS[1:]]


def _row(name: str, spans: Spans, load: float) -> dict[str, Any]:
    none, ours = spans["none"], spans[name]
    return {
        "bench": "settlement_path",
        "ledger": name,
        "submit_to_running_ms": {each: figures([span[0] for span in spans[each]], 2) for each in ("none", name)},
        # The least is what others on the machine disturb least.
        "least_to_running_ms": {each: round(min(span[0] for span in spans[each]), 2) for each in ("none", name)},
        "added_to_running_ms": figures([mine[0] - bare[0] for bare, mine in zip(none, ours, strict=True)], 2),
        "added_to_completed_ms": figures([mine[1] - bare[1] for bare, mine in zip(none, ours, strict=True)], 2),
        "bound_ms": BOUND_MS,
        "pairs": len(none),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
    }


async def _measure(data_dirs: dict[str, str], rounds: int) -> Spans:
    """(milliseconds from submit to running, and from running to completed) of each round, the first left out."""
    spans: Spans = {name: [] for name in LEDGERS}
    async with contextlib.AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(Client(data_dir=at)) for name, at in data_dirs.items()}
        for number in range(rounds + 1):
            first = number % len(LEDGERS)
            for name in LEDGERS[first:] + LEDGERS[:first]:
                await asyncio.sleep(SETTLE_SECONDS)
                spans[name].append(await _one(clients[name]))
    return {name: found[1:] for name, found in spans.items()}


async def _one(client: Client) -> tuple[float, float]:
    began = time.perf_counter()
    job = await client.submit(JOB)
    running = 0.0
    async for update in client.watch(job["id"]):
        status = update["job"]["status"]
        if status in ("running", "completed") and not running:
            running = time.perf_counter()
        if status == "completed":
            return (running - began) * 1000, (time.perf_counter() - running) * 1000
    raise RuntimeError(f"job {job['id']} was not watched to its end")
