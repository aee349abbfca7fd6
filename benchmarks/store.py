"""Commits of the store against raw sqlite3 with the same durability, on the same disk, in the same run."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import median
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.job import Job, JobSpec, JobType
from cyxwiz.ports.store import Store
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.engine import open_store

COMMITS = 2000
WRITERS = 64
ROUNDS = 3


def main() -> list[dict[str, Any]]:
    raw: list[float] = []
    one: list[float] = []
    many: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
            raw.append(_raw(Path(directory)))
            sequential, concurrent = asyncio.run(_ours(Path(directory)))
            one.append(sequential)
            many.append(concurrent)
    floor = median(raw)
    return [
        {
            "bench": "store",
            "raw_sqlite_commits_per_s": round(floor),
            "add_job_sequential_per_s": round(median(one)),
            "ratio_sequential": round(median(one) / floor, 3),
            f"add_job_{WRITERS}_writers_per_s": round(median(many)),
            "ratio_concurrent": round(median(many) / floor, 3),
        }
    ]


def _raw(directory: Path) -> float:
    db = sqlite3.connect(directory / "raw.db", isolation_level=None)
    db.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE job (id TEXT PRIMARY KEY, spec TEXT)"
    )
    began = time.perf_counter()
    for index in range(COMMITS):
        db.execute("BEGIN")
        db.execute("INSERT INTO job VALUES (?, ?)", (f"job-{index}", "{}" * 100))
        db.execute("COMMIT")
    took = time.perf_counter() - began
    db.close()
    return COMMITS / took


async def _ours(directory: Path) -> tuple[float, float]:
    clock, bus = SystemClock(), LocalBus()
    store = await open_store(Database(), directory, clock=clock, bus=bus)
    try:
        began = time.perf_counter()
        for _ in range(COMMITS):
            await _add(store, clock)
        sequential = COMMITS / (time.perf_counter() - began)

        async def writer() -> None:
            for _ in range(COMMITS // WRITERS):
                await _add(store, clock)

        began = time.perf_counter()
        await asyncio.gather(*(writer() for _ in range(WRITERS)))
        concurrent = COMMITS // WRITERS * WRITERS / (time.perf_counter() - began)
        return sequential, concurrent
    finally:
        await store.aclose()


async def _add(store: Store, clock: SystemClock) -> None:
    spec = JobSpec(name="bench", type=JobType.TRAINING, dataset_uri="builtin:iris", model='{"layers": [4, 3]}')
    job = Job(id=JobId(new_id()), owner_id=UserId("bench"), spec=spec, created_at=clock.now())
    await store.write(lambda tx: tx.add_job(job))
