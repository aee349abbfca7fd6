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
from tests.p2p import engine

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
        with process.http() as http:
            result = http.get(f"/api/jobs/{job['id']}/result").json()
        assert result["final_metrics"]["val_accuracy"] > 0.9
        weights = tmp_path / "work" / "out" / "model.safetensors"
        assert f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}" == result["model_weights_hash"]
        certificate = process.data_dir / "node" / "door.crt"
        assert certificate.exists() is ("0.0.0.0" in str(flags))
        host, _, port = process.ready["node"].rpartition(":")
        assert (host, int(port) > 0) == ("0.0.0.0" if "0.0.0.0" in str(flags) else "127.0.0.1", True)


async def test_commands_act_on_the_running_child(tmp_path: Path) -> None:
    """Built from the stubs alone: the rate changes, a checkpoint is saved, a pause is a pause for central as well."""
    with cyxwiz("both", tmp_path / "data") as process, process.http() as http:
        job_id = submit_rest(http, LONG)
        bearer = (("authorization", f"Bearer {process.key}"),)
        async with grpc.aio.insecure_channel(process.ready["grpc"]) as central, asyncio.timeout(90):
            stub = job_pb2_grpc.JobServiceStub(central)
            request = job_pb2.GetJobStatusRequest(job_id=job_id)
            while not (answer := await stub.GetJobStatus(request, metadata=bearer)).HasField("node_assignment"):
                await asyncio.sleep(0.05)
            given = answer.node_assignment
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
