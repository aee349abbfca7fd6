"""Real processes for the benchmarks: a `cyxwiz run` in a throw-away data directory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Process:
    ready: dict[str, Any]
    data_dir: Path
    seconds_to_ready: float
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of the process alone, its children not counted."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def rss_mb(self) -> float:
        """Resident memory of the process alone, its children not counted, in 10^6 bytes."""
        return psutil.Process(self.pid).memory_info().rss / 1e6


@dataclass(frozen=True)
class Took:
    """Seconds."""

    clock: float
    processor: float


class Processor:
    """The processor's seconds of some processes and all that descend from them, looked at now and then."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._seen: dict[int, float] = {}
        self._samples: list[tuple[float, float]] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Processor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            for root in self._roots:
                with contextlib.suppress(psutil.NoSuchProcess):
                    top = psutil.Process(root)
                    for each in (top, *top.children(recursive=True)):
                        with contextlib.suppress(psutil.NoSuchProcess):
                            times = each.cpu_times()
                            self._seen[each.pid] = times.user + times.system
            self._samples.append((time.time(), sum(self._seen.values())))

    def between(self, began: float, ended: float) -> Took:
        """`began` and `ended` by `time.time()`."""
        import numpy as np

        times, seconds = zip(*self._samples, strict=True)
        first, last = np.interp([began, ended], times, seconds)
        return Took(ended - began, float(last - first))


@contextlib.contextmanager
def cyxwiz(role: str, *flags: str, data_dir: Path | None = None) -> Generator[Process]:
    """Runs a role until the block ends; measures from exec to the ready file."""
    with contextlib.ExitStack() as stack:
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cyxwiz-bench-")))
        ready = directory / "ready.json"
        ready.unlink(missing_ok=True)
        sets = [
            f"--set={flag}" for flag in ("server.grpc_address=127.0.0.1:0", "server.rest_address=127.0.0.1:0", *flags)
        ]
        command = [sys.executable, "-m", "cyxwiz", "run", "--role", role, "--data-dir", str(directory)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), *sets], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not ready.exists():
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError(f"cyxwiz run --role {role} did not get ready")
                time.sleep(0.002)
            took = time.perf_counter() - began
            yield Process(json.loads(ready.read_text()), directory, took, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def pairs(usual: int = 10) -> int:
    """How many interleaved pairs to take: CYXWIZ_BENCH_PAIRS for a quick look."""
    return int(os.environ.get("CYXWIZ_BENCH_PAIRS", usual))


def cores() -> int:
    """Those that this process may use."""
    return len(psutil.Process().cpu_affinity())


def figures(values: list[float], digits: int = 3) -> dict[str, Any]:
    """The median with its interval, as a row has them."""
    low, high = bootstrap_interval(values)
    return {"median": round(median(values), digits), "interval_95": [round(low, digits), round(high, digits)]}


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def bootstrap_interval(values: list[float], *, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the median, by resampling."""
    import random

    draw = random.Random(seed)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]
