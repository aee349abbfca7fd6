"""`make bench`, or `python -m benchmarks NAME …`: one JSON object a line, kept in benchmarks/results/ as well."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

NAMES = (
    "startup",
    "store",
    "dispatch",
    "training",
    "whole_job",
    "checkpoints",
    "first_batch",
    "log_stream",
    "remote_data",
    "gangs",
    "settlement",
    "settlement_path",
)


def main() -> int:
    wanted = sys.argv[1:] or list(NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"unknown benchmark {unknown[0]}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    with (results / f"{now:%Y-%m-%dT%H%M%S}.jsonl").open("w") as file:
        for name in wanted:
            for row in importlib.import_module(f"benchmarks.{name}").main():
                line = json.dumps({**row, "python": platform.python_version(), "at": now.isoformat(timespec="seconds")})
                print(line, flush=True)
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
