"""Jobs on data that their node fetches, from the submit to the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from cyxwiz.client.blobs import pack
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.job import Job, data_key
from cyxwiz.domain.states import JobState
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services.jobfile import parse_jobfile
from tests.central import DIGITS, Central, central
from tests.fakes import ScriptedExecutor
from tests.mnist import mnist
from tests.nodes import local_link, node
from tests.webserver import Served, WebServer, webserver

CSV = b"1,2,0\n3,4,1\n5,6,0\n7,8,1\n"
OPEN = FetchSettings(allow_private_hosts=True, allow_http=True)
MLP = {"layers": [{"type": "dense", "units": 8}, {"type": "relu"}, {"type": "dense", "units": 2}]}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with webserver() as running:
        yield running


async def admin(server: Central) -> Principal:
    return await server.core.accounts.authenticate(server.key)


async def submit(server: Central, **changes: object) -> Job:
    spec = parse_jobfile({**DIGITS, "model": MLP, "epochs": 1, **changes})
    return (await server.core.jobs.submit(await admin(server), spec))[0]


async def until(server: Central, job: Job, *states: JobState, seconds: float = 60.0) -> Job:
    async with asyncio.timeout(seconds):
        async for update in server.core.watch.job(await admin(server), job.id):
            if update.job.state in states:
                return update.job
    raise AssertionError("the watch ended before the job got there")


async def messages(server: Central, job: Job) -> list[str]:
    return [line.message for line in await server.core.jobs.logs(await admin(server), job.id, 0, 100)]


async def test_a_job_trains_on_what_the_web_serves_and_the_node_is_known_to_hold_it(
    server: Central, web: WebServer, tmp_path: Path
) -> None:
    web.pages["/t.csv"] = Served(CSV, etag='"1"')
    uri = web.url("/t.csv#label=2")
    executor = ProcessExecutor(SystemClock(), choose("auto", tmp_path / "sandbox"), warm_children=0)
    async with node(tmp_path / "node", local_link(server), executor, fetch=OPEN) as agent:
        job = await until(server, await submit(server, dataset=uri), JobState.COMPLETED, JobState.FAILED)
        assert job.state is JobState.COMPLETED, job.error
        assert any(hashlib.sha256(CSV).hexdigest() in line for line in await messages(server, job))
        node_id = agent._identity.node_id
        async with asyncio.timeout(5):
            while data_key(uri) not in server.core.liveness.data_keys(node_id):
                await asyncio.sleep(0.02)
        _, verdicts = await server.core.jobs.plan(
            await admin(server), parse_jobfile({**DIGITS, "model": MLP, "dataset": uri})
        )
        assert verdicts[0].terms["data"] == 1.0
        again = await until(server, await submit(server, dataset=uri), JobState.COMPLETED)
        assert any("was on this node" in line for line in await messages(server, again))
    assert web.sent_bytes == len(CSV)


async def test_a_job_whose_data_are_not_there_fails_with_the_reason(
    server: Central, web: WebServer, tmp_path: Path
) -> None:
    async with node(tmp_path / "node", local_link(server), fetch=OPEN):
        job = await until(server, await submit(server, dataset=web.url("/none")), JobState.FAILED, JobState.COMPLETED)
    assert job.state is JobState.FAILED
    assert job.error_code == "NOT_FOUND"
    assert "404" in job.error


async def test_a_cancelled_job_ends_its_download(server: Central, web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, gate=asyncio.Event())
    executor = ScriptedExecutor()
    async with node(tmp_path / "node", local_link(server), executor, fetch=OPEN) as agent:
        job = await submit(server, dataset=web.url("/t.csv"))
        async with asyncio.timeout(10):
            while not web.requests:
                await asyncio.sleep(0.01)
        await server.core.jobs.cancel(await admin(server), job.id)
        async with asyncio.timeout(10):
            while agent.active or len(agent._data._tasks):
                await asyncio.sleep(0.02)
    assert executor.runs == []


async def test_a_pushed_folder_is_a_job_s_data_and_nobody_else_s(server: Central, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.csv").write_bytes(CSV)
    (folder / "data" / "test.csv").write_bytes(CSV[:12])
    pack(folder, tmp_path / "set.tar")
    sha256, size = await server.blobs.add_file(tmp_path / "set.tar")
    caller = await admin(server)
    await server.core.jobs.record_blob(sha256, size, owner=caller.id)
    executor = ScriptedExecutor()
    async with node(tmp_path / "node", local_link(server), executor):
        uri = f"blob://sha256/{sha256}?split=test"
        await until(server, await submit(server, dataset=uri), JobState.COMPLETED)
        path = executor.runs[0].work.dataset_path
        assert path is not None
        assert load(uri, blob=path).shape.samples == 2
        with pytest.raises(CyxError, match="not stored here"):
            await submit(server, dataset="BLOB://sha256/" + "0" * 64)


async def test_real_digits_are_learned(server: Central, web: WebServer, tmp_path: Path) -> None:
    """MNIST over HTTP with its hash, trained by a real child."""
    body = mnist().read_bytes()
    web.pages["/mnist.npz"] = Served(body)
    uri = web.url(f"/mnist.npz#sha256={hashlib.sha256(body).hexdigest()}")
    layers = [{"type": "flatten"}, {"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]
    executor = ProcessExecutor(SystemClock(), choose("auto", tmp_path / "sandbox"), warm_children=0)
    async with node(tmp_path / "node", local_link(server), executor, fetch=OPEN):
        job = await submit(server, dataset=uri, model={"layers": layers}, epochs=3)
        job = await until(server, job, JobState.COMPLETED, JobState.FAILED)
        assert job.state is JobState.COMPLETED, job.error
        result = await server.core.jobs.result(await admin(server), job.id)
    assert result.final_metrics["val_accuracy"] > 0.9, json.dumps(dict(result.final_metrics))


def test_the_digits_are_whole() -> None:
    with np.load(mnist()) as file:
        assert file["x"].shape == (10_000, 28, 28)
        assert file["x"].dtype == np.uint8
        assert np.bincount(file["y"]).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
