"""Real `cyxwiz run` processes with real sockets, for tests that pull plugs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "builtin:digits",
    "epochs": 20,
    "batch_size": 64,
    "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
}
# Long enough that a plug can be pulled in the middle on any machine.
LONG = {**DIGITS, "name": "long", "epochs": 200, "batch_size": 16, "model": {"layers": [64, 256, 256, 10]}}


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    ready: dict[str, Any]
    data_dir: Path
    log: Path

    def kill(self) -> None:
        """kill -9, as an accident would."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(30)

    @property
    def key(self) -> str:
        return str(json.loads((self.data_dir / "client.json").read_text())["key"])

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.ready["rest"], headers={"Authorization": f"Bearer {self.key}"}, timeout=10)


def free_port() -> int:
    """One that stays free: none of those that the kernel gives to whoever asks for any."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(15_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def cyxwiz(
    role: str,
    data_dir: Path,
    *flags: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    within: Sequence[str] = (),
) -> Generator[Process]:
    """Runs a role, by the command `within` if there is one; ends it, however it stands, when the block does."""
    data_dir.mkdir(exist_ok=True)
    ready, log = data_dir / "ready.json", data_dir / f"{role}.log"
    ready.unlink(missing_ok=True)
    # Two slots give each job one thread: tests run side by side, and threads that wait for a core cost most of it.
    defaults = (
        "server.grpc_address=127.0.0.1:0",
        "server.rest_address=127.0.0.1:0",
        "logging.format=text",
        "node.max_concurrent_jobs=2",
        "node.warm_children=0",  # each run shows its start, and no more is imported than is used
        *(f"node.{name}=127.0.0.1:0" for name in ("address", "terminal_address", "service_address")),
        "node.deployment_address=127.0.0.1:0",
    )
    sets = [part for flag in (*defaults, *flags) for part in ("--set", flag)]
    command = [*within, sys.executable, "-m", "cyxwiz", "run", "--role", role, "--data-dir", str(data_dir)]
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [*command, "--ready-file", str(ready), *sets],
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            cwd=cwd or data_dir,
        )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert popen.poll() is None, f"cyxwiz run --role {role} ended: {log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"not ready: {log.read_text()[-3000:]}"
            time.sleep(0.01)
        yield Process(popen, json.loads(ready.read_text()), data_dir, log)
    finally:
        if popen.poll() is None:
            popen.terminate()
            try:
                popen.wait(30)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()


def submit(http: httpx.Client, job: Mapping[str, Any]) -> str:
    response = http.post("/api/jobs", json=dict(job))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def until(http: httpx.Client, job_id: str, *wanted: str, epoch: int = 0, seconds: float = 200) -> dict[str, Any]:
    """Polls a job, also across restarts of central, until its status is one of `wanted` at `epoch` or later."""
    deadline = time.monotonic() + seconds
    job: dict[str, Any] = {}
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            response = http.get(f"/api/jobs/{job_id}")
            if response.status_code == 200:
                job = response.json()
                if job["status"] in wanted and job["current_epoch"] >= epoch:
                    return job
        time.sleep(0.05)
    raise AssertionError(f"job {job_id} is not {wanted} after {seconds} s: {job}")


def until_saved(http: httpx.Client, job_id: str, epoch: int) -> int:
    """The epoch in which the newest checkpoint of a running job goes on, once central has one of `epoch` or later."""
    until(http, job_id, "running", epoch=epoch)
    deadline = time.monotonic() + 60
    while not (saved := http.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"]) or saved[0]["epoch"] < epoch:
        assert time.monotonic() < deadline, f"no checkpoint of epoch {epoch}: {saved}"
        time.sleep(0.05)
    return int(saved[0]["epoch"])


def check_went_on(http: httpx.Client, job_id: str, epochs: int, saved: int) -> None:
    """Every one of `epochs` was done, and no attempt began before the checkpoint that goes on in epoch `saved`."""
    points = http.get(f"/api/jobs/{job_id}/metrics", params={"limit": 10000}).json()["metrics"]
    ended = [point["epoch"] for point in points if point["epoch_ended"]]
    assert set(ended) == set(range(1, epochs + 1))
    again_from = [now for before, now in itertools.pairwise(ended) if now <= before]
    assert all(epoch >= saved for epoch in again_from), f"it went back to {again_from}, from a checkpoint of {saved}"
