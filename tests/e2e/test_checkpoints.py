"""Jobs that move between real processes end with the very weights of one that was left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.processes import LONG, Process, check_went_on, cyxwiz, submit, until, until_saved

pytestmark = pytest.mark.timeout(300)

JOB: dict[str, Any] = {
    **LONG,
    "epochs": 40,
    "model": {
        "layers": [
            {"type": "dense", "units": 256},
            {"type": "relu"},
            {"type": "dropout", "rate": 0.3},
            {"type": "dense", "units": 256},
            {"type": "relu"},
            {"type": "dense", "units": 10},
        ]
    },
    "checkpoint": {"every": "1 epoch"},
}


def weights(http: httpx.Client, job_id: str) -> str:
    return str(http.get(f"/api/jobs/{job_id}/result").json()["model_weights_hash"])


def child_of(process: Process) -> psutil.Process:
    """The child that trains: the one that used most of the processor."""
    return max(psutil.Process(process.popen.pid).children(recursive=True), key=lambda child: sum(child.cpu_times()[:2]))


def test_pulled_plugs_and_pauses_change_nothing(tmp_path: Path) -> None:
    fast = "scheduler.node_heartbeat_timeout_ms=3000"
    with cyxwiz("central", tmp_path / "central", fast) as central, central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
        flags, env = (f"node.central={central.ready['grpc']}",), {"CYXWIZ_NODE__JOIN_TOKEN": token}
        with cyxwiz("node", tmp_path / "one", *flags, env=env) as one:
            alone = submit(http, JOB)
            assert until(http, alone, "completed", "failed")["status"] == "completed"

            # its child is killed
            job_id = submit(http, JOB)
            at_first = until_saved(http, job_id, 4)
            child_of(one).kill()
            # its owner pauses it
            until(http, job_id, "running", epoch=10)
            assert http.post(f"/api/jobs/{job_id}/pause").status_code == 200
            paused = until(http, job_id, "paused")
            assert paused["retry_count"] == 1
            saved = http.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"]
            assert saved[0]["epoch"] >= 10
            assert [each["kept"] for each in saved[:3]] == [True, True, False]
            assert http.post(f"/api/jobs/{job_id}/resume").json()["status"] == "pending"
            # its machine is gone
            until(http, job_id, "running", epoch=saved[0]["epoch"] + 4)
            one.kill()
        with cyxwiz("node", tmp_path / "two", *flags, env=env):
            job = until(http, job_id, "completed", "failed")
            assert job["status"] == "completed", job
            assert (job["attempts"], job["retry_count"], job["node_losses"]) == (4, 1, 1)
            assert weights(http, job_id) == weights(http, alone)
            points = http.get(f"/api/jobs/{job_id}/metrics", params={"limit": 10000}).json()["metrics"]
            expected = http.get(f"/api/jobs/{alone}/metrics", params={"limit": 10000}).json()["metrics"]
            assert last_losses(points) == pytest.approx(last_losses(expected), rel=1e-6)
            check_went_on(http, job_id, JOB["epochs"], at_first)


def last_losses(points: list[dict[str, Any]]) -> list[float]:
    """The loss of each epoch, as last reported."""
    losses = {point["epoch"]: point["metrics"]["loss"] for point in points if point["epoch_ended"]}
    return [losses[epoch] for epoch in sorted(losses)]
