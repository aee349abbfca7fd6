"""Several real nodes train one job; members are killed, and it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import LONG, Process, check_went_on, cyxwiz, submit, until, until_saved

pytestmark = pytest.mark.timeout(300)

JOB: dict[str, Any] = {
    **LONG,
    "epochs": 120,
    "batch_size": 16,
    "resources": {"nodes": 2},
    "checkpoint": {"every": "1 epoch"},
    "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
}
QUICK = ("scheduler.gang_replace_seconds=1.5", "scheduler.node_heartbeat_timeout_ms=3000")


def leases(http: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"/api/jobs/{job_id}/explain").json()["leases"]
    return found


def holder(http: httpx.Client, job_id: str, rank: int, nodes: dict[str, Process]) -> Process:
    live = {each["rank"]: each["node_id"] for each in leases(http, job_id) if each["state"] == "active"}
    return nodes.pop(live[rank])


def further(http: httpx.Client, job_id: str, attempts: int) -> dict[str, Any]:
    """The job once that many groups were formed and the last one has reported an epoch."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        points = http.get(f"/api/jobs/{job_id}/metrics", params={"limit": 10000}).json()["metrics"]
        if any(point["attempt"] == attempts and point["epoch_ended"] for point in points):
            found: dict[str, Any] = http.get(f"/api/jobs/{job_id}").json()
            return found
        time.sleep(0.1)
    raise AssertionError(f"no epoch of attempt {attempts}: {http.get(f'/api/jobs/{job_id}/explain').json()}")


def test_a_gang_loses_members_and_goes_on(tmp_path: Path) -> None:
    """Its first member's machine is gone: another takes its place. Then the other one's: it goes on alone."""
    with cyxwiz("central", tmp_path / "central", *QUICK) as central, central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
        flags, env = (f"node.central={central.ready['grpc']}",), {"CYXWIZ_NODE__JOIN_TOKEN": token}
        with (
            cyxwiz("node", tmp_path / "one", *flags, env=env) as one,
            cyxwiz("node", tmp_path / "two", *flags, env=env) as two,
            cyxwiz("node", tmp_path / "three", *flags, env=env) as three,
        ):
            nodes = {str(each.ready["node_id"]): each for each in (one, two, three)}
            job_id = submit(http, JOB)
            at_first = until_saved(http, job_id, 3)
            began = time.monotonic()
            holder(http, job_id, 0, nodes).kill()
            again = further(http, job_id, attempts=2)
            assert time.monotonic() - began < 60
            assert (again["node_losses"], again["retry_count"]) == (1, 0)
            assert [each["world"] for each in leases(http, job_id) if each["state"] == "active"] == [2, 2]

            assert http.post(f"/api/jobs/{job_id}/pause").status_code == 200
            until(http, job_id, "paused")
            saved = http.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"][0]
            assert not [each for each in leases(http, job_id) if each["state"] == "active"]
            assert http.post(f"/api/jobs/{job_id}/resume").status_code == 200
            until(http, job_id, "running", epoch=saved["epoch"] + 2)

            began = time.monotonic()
            holder(http, job_id, 1, nodes).kill()
            further(http, job_id, attempts=4)
            assert time.monotonic() - began < 60
            (left,) = [each for each in leases(http, job_id) if each["state"] == "active"]
            assert (left["rank"], left["world"]) == (0, 1)

            job = until(http, job_id, "completed", "failed")
            assert job["status"] == "completed", job
            assert (job["attempts"], job["node_losses"], job["retry_count"]) == (4, 2, 0)
            assert job["metrics"]["val_accuracy"] > 0.9
            check_went_on(http, job_id, JOB["epochs"], at_first)
