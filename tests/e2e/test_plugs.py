"""Plugs pulled on real processes: each job still ends in one result."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import DIGITS, LONG, cyxwiz, free_port, submit, until

pytestmark = pytest.mark.timeout(300)
FAST = "scheduler.node_heartbeat_timeout_ms=3000"


def test_both_roles_in_one_process_over_a_relative_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with cyxwiz("both", Path("both"), cwd=tmp_path) as both, both.http() as http:
        job = until(http, submit(http, DIGITS), "completed", "failed")
        assert job["status"] == "completed", job
        assert job["metrics"]["val_accuracy"] >= 0.95
        result = http.get(f"/api/jobs/{job['id']}/result").json()
        weights = http.get(f"/api/blobs/{result['files'][0]['sha256']}")
        assert len(weights.content) == result["model_size"]
        assert both.stop() == 0


def test_separate_processes_and_a_join_token(tmp_path: Path) -> None:
    with cyxwiz("central", tmp_path / "central") as central, central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
        where = f"node.central={central.ready['grpc']}"
        with cyxwiz("node", tmp_path / "node", where, env={"CYXWIZ_NODE__JOIN_TOKEN": token}) as node:
            job = until(http, submit(http, DIGITS), "completed", "failed")
            assert job["status"] == "completed", job
            assert job["assigned_node_id"] == node.ready["node_id"]
            assert node.stop() == 0
            assert http.get("/api/stats").json()["online_nodes"] == 0, "it said good-bye"
        with cyxwiz("node", tmp_path / "node", where) as again:
            assert again.ready["node_id"] == node.ready["node_id"], "its key is enough from now on"
            job = until(http, submit(http, DIGITS), "completed")


@pytest.mark.parametrize(
    ("token", "said"), [("", "set node.join_token_file"), ("cyxjoin_unknown", "Unknown or revoked join token")]
)
def test_a_node_that_may_not_join_is_never_ready_and_says_what_to_do(tmp_path: Path, token: str, said: str) -> None:
    with cyxwiz("central", tmp_path / "central") as central:
        flags = [f"node.central={central.ready['grpc']}", f"node.join_token={token}"]
        with pytest.raises(AssertionError, match="ended"), cyxwiz("node", tmp_path / "node", *flags):
            pass
    text = (tmp_path / "node" / "node.log").read_text()
    assert said in text
    assert "cyxwiz node token create" in text
    assert "ready" not in text.splitlines()
    assert "Traceback" not in text
    assert not (tmp_path / "node" / "ready.json").exists()


def test_a_node_waits_for_central_and_takes_its_ready_file_away_when_it_may_not_join(tmp_path: Path) -> None:
    port = free_port()
    with cyxwiz("node", tmp_path / "node", f"node.central=127.0.0.1:{port}") as node:
        assert (tmp_path / "node" / "ready.json").exists()
        with cyxwiz("central", tmp_path / "central", f"server.grpc_address=127.0.0.1:{port}"):
            assert node.popen.wait(30) == 4
        assert not (tmp_path / "node" / "ready.json").exists()


def test_kill_9_of_central_mid_job(tmp_path: Path) -> None:
    grpc, rest = free_port(), free_port()
    flags = (f"server.grpc_address=127.0.0.1:{grpc}", f"server.rest_address=127.0.0.1:{rest}")
    data = tmp_path / "central"
    with cyxwiz("central", data, *flags) as central:
        key = central.http()
        token = key.post("/api/node-tokens", json={}).json()["token"]
        where = f"node.central=127.0.0.1:{grpc}"
        with cyxwiz("node", tmp_path / "node", where, env={"CYXWIZ_NODE__JOIN_TOKEN": token}):
            with central.http() as http:
                job_id = submit(http, LONG)
                until(http, job_id, "running", epoch=2)
            central.kill()
            time.sleep(1.0)  # the node trains on, alone
            with cyxwiz("central", data, *flags) as again, again.http() as http:
                job = until(http, job_id, "completed", "failed", "cancelled", seconds=250)
                assert job["status"] == "completed", job
                assert job["attempts"] == 1
                points = http.get(f"/api/jobs/{job_id}/metrics", params={"limit": 10000}).json()["metrics"]
                epochs = [point["epoch"] for point in points if point["epoch_ended"]]
                assert epochs == list(range(1, LONG["epochs"] + 1)), "no epoch lost, none twice"
        key.close()


@pytest.mark.parametrize("comes_back", [True, False])
def test_kill_9_of_the_node_mid_job(tmp_path: Path, comes_back: bool) -> None:
    with cyxwiz("central", tmp_path / "central", FAST) as central, central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
        flags, env = (f"node.central={central.ready['grpc']}",), {"CYXWIZ_NODE__JOIN_TOKEN": token}
        with cyxwiz("node", tmp_path / "one", *flags, env=env) as one:
            job_id = submit(http, {**LONG, "epochs": 60})
            until(http, job_id, "running", epoch=2)
            children = psutil.Process(one.popen.pid).children(recursive=True)
            one.kill()
            _, alive = psutil.wait_procs(children, timeout=5)
            assert not alive, "a child outlived its node"
        name = "one" if comes_back else "two"
        with cyxwiz("node", tmp_path / name, *flags, env=env):
            job = until(http, job_id, "completed", "failed", "cancelled", seconds=250)
            assert job["status"] == "completed", job
            assert job["attempts"] == 2
            assert job["retry_count"] == 0, "a lost node is no fault of the job"


def test_cancel_ends_the_child_within_two_seconds(tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        job_id = submit(http, LONG)
        until(http, job_id, "running", epoch=1)
        children = psutil.Process(both.popen.pid).children(recursive=True)
        assert children
        began = time.monotonic()
        assert http.post(f"/api/jobs/{job_id}/cancel", json={}).json()["status"] == "cancelled"
        while any(alive(child) for child in children):
            assert time.monotonic() - began < 2
            time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    """A process that ended is a zombie until its parent, which may be anybody's, looks after it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_central_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with cyxwiz("central", tmp_path / "one"):
        import subprocess
        import sys

        command = [sys.executable, "-m", "cyxwiz", "run", "--role", "central", "--data-dir", str(tmp_path / "one")]
        flags = ["--set", "server.grpc_address=127.0.0.1:0", "--set", "server.rest_address=127.0.0.1:0"]
        second = subprocess.run([*command, *flags], capture_output=True, timeout=30, check=False)
        assert second.returncode == 1
        assert b"Another central runs" in second.stderr


@pytest.mark.parametrize(("role", "setting"), [("central", "server.grpc_address"), ("node", "node.address")])
def test_an_address_in_use_is_one_line(tmp_path: Path, role: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = f"{setting}=127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(AssertionError, match="ended"),
            cyxwiz(role, tmp_path, "server.rest_address=127.0.0.1:0", used, "logging.level=error"),
        ):
            pass
    said = (tmp_path / f"{role}.log").read_text()
    assert re.fullmatch(r"error: Can't listen on [^\n]*\n", said), said


def test_signals(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with cyxwiz("both", tmp_path / str(int(number))) as both:
            os.kill(both.popen.pid, number)
            assert both.popen.wait(20) == 0
        lines = both.log.read_text().splitlines()
        assert "ready" in lines
        assert not psutil.pid_exists(both.popen.pid)
