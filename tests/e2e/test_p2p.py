"""`cyxwiz submit --p2p` against real processes: straight, with TLS, and over central."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sklearn.datasets import load_digits

from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.protocol import job_pb2, job_pb2_grpc
from tests.e2e.processes import LONG, Process, cyxwiz, until
from tests.e2e.processes import submit as submit_rest
from tests.p2p import engine, serve_data

JOB = """
name = "streamed-digits"
dataset = "remote://data/digits.npz"
epochs = 12
batch_size = 128
[model]
layers = [{type = "dense", units = 32}, {type = "relu"}, {type = "dense", units = 10}]
[hyperparameters]
learning_rate = 0.01
"""


def submit(process: Process, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Submits streamed digits with --p2p; the job's document, and what was told meanwhile."""
    (folder / "data").mkdir()
    digits = load_digits()
    np.savez(folder / "data" / "digits.npz", x=(digits.data / 16).astype(np.float32), y=digits.target)
    (folder / "job.toml").write_text(JOB)
    command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(process.data_dir), "--output", "json", "submit"]
    command += [str(folder / "job.toml"), "--p2p", "--download", str(folder / "out"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr + process.log.read_text()[-2000:]
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    ("flags", "options", "told"),
    [
        ((), (), "connected to node"),
        (("node.address=0.0.0.0:0",), ("--p2p-way", "direct"), "connected to node"),
        (("node.advertise_address=127.0.0.1:1",), (), "over central"),
    ],
    ids=["direct", "tls", "relayed"],
)
def test_streamed_data_are_trained_on(
    tmp_path: Path, flags: tuple[str, ...], options: tuple[str, ...], told: str
) -> None:
    with cyxwiz("both", tmp_path / "data", *flags) as process:
        (tmp_path / "work").mkdir()
        job, notes = submit(process, tmp_path / "work", *options)
        assert job["status"] == "completed"
        assert job["dataset_uri"] == "remote://digits.npz"  # not where it lies on this machine
        assert told in notes
        assert ("over central" in notes) is (told == "over central")
        assert "running training\n" in notes  # and not why it waited before
        with process.http() as http:
            result = http.get(f"/api/jobs/{job['id']}/result").json()
        assert result["final_metrics"]["val_accuracy"] > 0.9
        weights = tmp_path / "work" / "out" / "model.safetensors"
        assert f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}" == result["model_weights_hash"]
        certificate = process.data_dir / "node" / "door.crt"
        assert certificate.exists() is ("0.0.0.0" in str(flags))
        host, _, port = process.ready["node"].rpartition(":")
        assert (host, int(port) > 0) == ("0.0.0.0" if "0.0.0.0" in str(flags) else "127.0.0.1", True)


def test_a_job_that_failed_before_anybody_connected_is_shown_with_its_error(tmp_path: Path) -> None:
    job = {"dataset": "builtin:digits", "hyperparameters": {"lr": 1000, "optimizer": "sgd", "loss": "MSELoss"}}
    (tmp_path / "job.json").write_text(json.dumps({**job, "model": {"layers": [{"type": "dense", "units": 10}]}}))
    with cyxwiz("both", tmp_path / "data") as process:
        command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(process.data_dir), "--output", "json", "submit"]
        command += [str(tmp_path / "job.json"), "--idempotency-key", "one"]
        for way in ("--wait", "--p2p"):
            done = subprocess.run([*command, way], capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 1, done.stderr
            assert "Training diverged" in json.loads(done.stdout)["error"]["message"]
    assert "no node has anything of it" in done.stderr


async def assignment(stub: Any, bearer: Any, job_id: str) -> job_pb2.NodeAssignment:
    request = job_pb2.GetJobStatusRequest(job_id=job_id)
    while not (answer := await stub.GetJobStatus(request, metadata=bearer)).HasField("node_assignment"):
        await asyncio.sleep(0.05)
    return answer.node_assignment


async def test_training_begins_before_its_data_are_there(tmp_path: Path) -> None:
    """The client answers two requests and no more until central knows of the first step; then it is killed and another
    one goes on. The result is that of the same data given as a file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = (rng.normal(size=(400, 12)) + y[:, None]).astype(np.float32)
    model = {"layers": [{"type": "dense", "units": 16}, {"type": "relu"}, {"type": "dense", "units": 3}]}
    job = {"epochs": 3, "batch_size": 32, "seed": 7, "model": model, "hyperparameters": {"validation_split": "0"}}
    (tmp_path / "roots").mkdir()
    np.savez(tmp_path / "roots" / "data.npz", x=x, y=y)
    with cyxwiz("both", tmp_path / "data", f"node.data_roots={tmp_path / 'roots'}") as process, process.http() as http:
        streamed = http.post("/api/jobs", json={**job, "dataset": "remote://mine"}).json()["id"]
        bearer = (("authorization", f"Bearer {process.key}"),)
        async with grpc.aio.insecure_channel(process.ready["grpc"]) as central, asyncio.timeout(90):
            given = await assignment(job_pb2_grpc.JobServiceStub(central), bearer, streamed)
            async with engine(given.node_endpoint, given.auth_token, streamed) as client:
                await client.connect()
                first = client.stream()
                serving = asyncio.ensure_future(serve_data(first, x, y, dict.fromkeys(range(3, 100))))
                while not http.get(f"/api/jobs/{streamed}").json()["first_step_at"]:
                    await asyncio.sleep(0.05)
                serving.cancel()
                first.call.cancel()
                asked = await serve_data(client.stream(), x, y)
        assert sum(map(len, asked)) == len(x) - 64
        until(http, streamed, "completed", seconds=20)
        of_file = http.post("/api/jobs", json={**job, "dataset": "file://npz/data.npz"}).json()["id"]
        until(http, of_file, "completed", seconds=30)
        figures = [http.get(f"/api/jobs/{each}/result").json()["final_metrics"] for each in (streamed, of_file)]
    for each in figures:
        each.pop("samples_per_second")
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)


async def test_commands_act_on_the_running_child(tmp_path: Path) -> None:
    """Built from the stubs alone: the rate changes, a checkpoint is saved, a pause is a pause for central as well."""
    with cyxwiz("both", tmp_path / "data") as process, process.http() as http:
        job_id = submit_rest(http, LONG)
        bearer = (("authorization", f"Bearer {process.key}"),)
        async with grpc.aio.insecure_channel(process.ready["grpc"]) as central, asyncio.timeout(90):
            stub = job_pb2_grpc.JobServiceStub(central)
            given = await assignment(stub, bearer, job_id)
            assert given.node_endpoint == process.ready["node"]
            async with engine(given.node_endpoint, given.auth_token, job_id) as client:
                connected = await client.connect()
                assert connected.capabilities.max_memory > 1 << 28
                assert (await client.send_job()).accepted
                stream = client.stream()
                await stream.until("progress", seconds=30)
                params = pb.UpdateHyperparameters(learning_rate=0.0005, batch_size=7)
                await stream.say(update_params=params)
                told = await stream.until("log", lambda log: "batch_size" in log.message)
                assert told.log.level == pb.LogMessage.ERROR
                await stream.until("log", lambda log: "0.0005" in log.message)
                rate = "learning_rate"
                changed = await stream.until("progress", lambda progress: rate in progress.metrics)
                assert changed.progress.metrics[rate] == pytest.approx(0.0005)
                await stream.say(request_checkpoint=True)
                first = (await stream.until("checkpoint", seconds=30)).checkpoint
                await stream.say(pause=True)
                await stream.until("log", lambda log: "paused" in log.message, seconds=30)
                until(http, job_id, "paused", seconds=20)
                await stream.say(resume=True)
                going_on = await stream.until(
                    "log", lambda log: "going on from a checkpoint" in log.message, seconds=30
                )
                assert going_on.job_id == job_id
                again = await stream.until("progress", lambda progress: rate in progress.metrics, seconds=30)
                assert again.progress.current_epoch >= first.epoch
                assert again.progress.metrics[rate] == pytest.approx(0.0005), "a resumed job forgot its rate"
                await stream.say(stop=True)
                assert not (await stream.until("complete")).complete.success
                assert await stream.end() is grpc.StatusCode.OK
                until(http, job_id, "cancelled", seconds=20)
