"""From exec to ready, and what central alone holds in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import cyxwiz, median

RUNS = 5


def main() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for role, bound in (("central", 1.5), ("both", 3.0)):
        first: list[float] = []
        again: list[float] = []
        memory: list[float] = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
                with cyxwiz(role, data_dir=Path(directory)) as process:
                    first.append(process.seconds_to_ready)
                    memory.append(process.rss_mb())
                with cyxwiz(role, data_dir=Path(directory)) as process:
                    again.append(process.seconds_to_ready)
        rows.append(
            {
                "bench": "startup",
                "role": role,
                "first_start_s": round(median(first), 3),
                "later_start_s": round(median(again), 3),
                "bound_s": bound,
                "rss_mb": round(median(memory), 1),
                "runs": RUNS,
            }
        )
    return rows
