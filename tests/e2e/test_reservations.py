"""A reservation against a real process: reserve, reach the node, run two jobs in the slot, release."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2
from cyxwiz.protocol import reservation_pb2 as pb
from tests.e2e.processes import Process, cyxwiz
from tests.integration.test_grpc_reservations import Engine as Booker
from tests.p2p import engine

MODEL = '{"layers": [{"type": "dense", "units": 32}, {"type": "relu"}, {"type": "dense", "units": 10}]}'
CONFIG = {"job_type": 1, "model_definition": MODEL, "dataset_uri": "builtin:digits", "epochs": 3, "required_device": 1}


def command(process: Process, *args: str) -> Any:
    line = [sys.executable, "-m", "cyxwiz", "--data-dir", str(process.data_dir), "--output", "json", *args]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_two_jobs_in_one_reservation(tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "data") as process, process.http() as http:
        (node,) = http.get("/api/nodes").json()["nodes"]
        async with grpc.aio.insecure_channel(process.ready["grpc"]) as channel, asyncio.timeout(100):
            book = Booker(channel, process.key)
            made = await book.reserve(node["id"], job_config=job_pb2.JobConfig(**CONFIG))
            assert made.status == common.STATUS_SUCCESS, made.error
            assert made.node_endpoint == process.ready["node"]
            assert http.get(f"/api/nodes/{node['id']}").json()["status"] == "busy"
            async with engine(made.node_endpoint, made.p2p_auth_token, made.job_id) as client:
                assert (await client.connect()).status == common.STATUS_SUCCESS
                assert (await client.send_job(config=job_pb2.JobConfig(**CONFIG))).accepted
                stream = client.stream()
                first = await stream.until("complete", seconds=60)
                await book("EngineHeartbeat", reservation_id=made.reservation_id, job_id=first.job_id)
                await stream.say(new_job_config=job_pb2.JobConfig(**{**CONFIG, "epochs": 4}))
                second = await stream.until("complete", seconds=60)
                assert (first.job_id, first.complete.total_epochs_completed) == (made.job_id, 3)
                assert second.complete.total_epochs_completed == 4
            shown = await asyncio.to_thread(command, process, "reservations", "show", made.reservation_id)
            assert (shown["status"], shown["jobs_completed"]) == ("active", 2)
            released = await book("ReleaseReservation", reservation_id=made.reservation_id)
            assert released.payment_released + released.refund_amount == made.escrow_amount
            for job_id in (first.job_id, second.job_id):
                job = http.get(f"/api/jobs/{job_id}").json()
                assert (job["status"], job["reservation_id"]) == ("completed", made.reservation_id)
            one = (await book("GetReservation", reservation_id=made.reservation_id)).reservation
            assert (one.status, one.jobs_completed) == (pb.RESERVATION_CANCELLED, 2)
        again = command(process, "reservations", "create", node["id"], "--minutes", "10")
        assert (again["status"], again["p2p"]["node_endpoint"]) == ("pending", process.ready["node"])
        assert [each["id"] for each in command(process, "reservations", "list", "--active")["reservations"]] == [
            again["id"]
        ]
        assert command(process, "reservations", "extend", again["id"], "--minutes", "5")["duration_minutes"] == 15
        assert command(process, "reservations", "release", again["id"])["status"] == "cancelled"
