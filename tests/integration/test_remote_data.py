"""`remote://`: a client streams the data, a real child trains on all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyxwiz.compute.p2p import remote
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.states import JobState
from cyxwiz.ports.executor import Work
from tests.central import Central, central
from tests.fakes import ScriptedExecutor
from tests.integration.test_link import admin, submit, until
from tests.nodes import grpc_link, local_link, node, p2p_node
from tests.p2p import Engine, assignment, engine, serve_data

SAMPLES, BATCH = 50, 8


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=3000") as running:
        yield running


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(SAMPLES) % 3
    return (rng.normal(size=(SAMPLES, 2, 2)) + y[:, None, None]).astype(np.float32), y


class Keeping(ScriptedExecutor):
    """Keeps what the run was given to read."""

    async def start(self, work: Work) -> Any:
        assert work.dataset_path is not None
        if work.dataset_path.is_dir():
            self.x, self.y = np.load(work.dataset_path / "x.npy"), np.load(work.dataset_path / "y.npy")
        else:
            self.given = work.dataset_path.read_bytes()
        return await super().start(work)


@contextlib.asynccontextmanager
async def waiting(
    server: Central, tmp_path: Path, executor: ScriptedExecutor, *, relayed: bool = False
) -> AsyncIterator[tuple[Any, Engine]]:
    link = local_link(server) if relayed else grpc_link(server)
    async with p2p_node(tmp_path / "node", link, executor) as (_, _, address):
        job = await submit(server, dataset="remote://mine", batch_size=BATCH, model={"layers": [4, 3]})
        given = await assignment(server, job.id)
        async with engine(server.address if relayed else address, given.auth_token, job.id) as client:
            await client.connect()
            assert (await client.send_job()).accepted
            yield job, client


@pytest.mark.parametrize("relayed", [False, True])
async def test_every_sample_is_asked_for_once(server: Central, tmp_path: Path, relayed: bool) -> None:
    executor = Keeping()
    x, y = data()
    async with waiting(server, tmp_path, executor, relayed=relayed) as (job, client):
        await asyncio.sleep(0.2)
        assert not executor.runs, "it waits for its client"
        assert (await server.core.jobs.get(await admin(server), job.id)).state is JobState.ASSIGNED
        stream = client.stream()
        asked = await serve_data(stream, x, y)
        assert stream.kinds[-1] == "complete"
        await until(server, job, JobState.COMPLETED)
    assert sorted(index for batch in asked for index in batch) == list(range(SAMPLES))
    assert max(map(len, asked)) == BATCH
    assert np.array_equal(executor.x, x)
    assert np.array_equal(executor.y, y)


async def test_a_job_that_goes_on_asks_again(server: Central, tmp_path: Path) -> None:
    executor = Keeping(gated=True)
    x, y = data()
    async with waiting(server, tmp_path, executor) as (job, client):
        first, second = client.stream(), client.stream()
        serving = asyncio.ensure_future(serve_data(second, x, y))
        executor.step(1)
        await first.until("progress")
        await first.say(pause=True)
        await until(server, job, JobState.PAUSED)
        await first.say(resume=True)
        executor.step(3)
        asked = await serving
        await until(server, job, JobState.COMPLETED)
    assert sorted(index for batch in asked for index in batch) == sorted([*range(SAMPLES)] * 2)
    assert executor.runs[1].work.resume is not None


async def test_another_client_goes_on_where_the_first_left(
    server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.2)
    executor = Keeping()
    x, y = data()
    async with waiting(server, tmp_path, executor) as (job, client):
        first = client.stream()
        # One answer is lost and repeated; then the client goes silent and away.
        serving = asyncio.ensure_future(serve_data(first, x, y, {2: None, **dict.fromkeys(range(4, 100))}))
        async with asyncio.timeout(20):
            while not any(update.batch_request.request_id >= 6 for update in first.seen):
                await asyncio.sleep(0.02)
        serving.cancel()
        first.call.cancel()
        asked = await serve_data(client.stream(), x, y)
        await until(server, job, JobState.COMPLETED)
    assert 0 < len(asked) < -(-SAMPLES // BATCH), "what had come is not asked for again"
    assert np.array_equal(executor.x, x)
    assert np.array_equal(executor.y, y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_shape": [1]}, "shape"),
        ({"label_shape": [3, 3]}, "labels"),
        ({"images": b"1234"}, "bytes"),
        ({"labels": np.full(BATCH, 7, "<i4").tobytes()}, "classes"),
        ({"images": np.full((BATCH, 2, 2), np.nan, "<f4").tobytes()}, "infinite"),
        ({"status": 2, "error": {"code": 1001, "message": "no such data"}}, "no such data"),
    ],
)
async def test_wrong_answers_fail_the_job(server: Central, tmp_path: Path, change: Any, words: str) -> None:
    executor = Keeping()
    x, y = data()
    async with waiting(server, tmp_path, executor) as (job, client):
        stream = client.stream()
        await serve_data(stream, x, y, {1: change})
        error = stream.seen[-1].error
        assert words in error.error_message
        assert not error.recoverable
        failed = await until(server, job, JobState.FAILED)
        assert failed.error_code == "INVALID"
    assert not executor.runs


async def test_a_file_can_come_with_the_job(server: Central, tmp_path: Path) -> None:
    executor = Keeping()
    async with waiting(server, tmp_path, executor) as (job, client):
        assert (await client.send_job(initial_dataset=b"1,2,3,4,0\n")).accepted
        await until(server, job, JobState.COMPLETED)
    assert executor.given == b"1,2,3,4,0\n"


async def test_what_waits_can_be_paused_cancelled_and_drained(server: Central, tmp_path: Path) -> None:
    executor = Keeping()
    async with waiting(server, tmp_path, executor) as (job, client):
        stream = client.stream()
        await stream.until("dataset_info_request")
        await stream.say(pause=True)
        await until(server, job, JobState.PAUSED)
        await stream.until("log", lambda log: "paused" in log.message)
        await stream.say(resume=True)
        await stream.until("dataset_info_request")
        await stream.say(stop=True)
        assert not (await stream.until("complete")).complete.success
        await until(server, job, JobState.CANCELLED)
    assert not executor.runs


async def test_only_nodes_with_a_door_get_such_jobs(server: Central, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server)):
        job = await submit(server, dataset="remote://mine")
        explained = await server.core.jobs.explain(await admin(server), job.id)
        assert [verdict.reason for verdict in explained.verdicts] == [
            "serves no clients itself, as remote:// data need"
        ]


def test_streamed_arrays_are_read_with_what_was_said_of_the_classes(tmp_path: Path) -> None:
    from cyxwiz.compute.data.load import load

    x, y = data()
    info = remote.Info(SAMPLES, (2, 2), 5, ("a", "b", "c", "d", "e"))
    features, labels = remote._lay_out(tmp_path, info)
    features[:], labels[:] = x, y
    remote._finish(tmp_path, info, features, labels)
    loaded = load("remote://mine", blob=tmp_path)
    assert (loaded.classes, loaded.class_names) == (5, ("a", "b", "c", "d", "e"))
    assert np.array_equal(loaded.features, x)
    assert np.array_equal(loaded.labels, y)
    with pytest.raises(CyxError) as refused:
        load("remote://mine")
    assert refused.value.code is Code.UNAVAILABLE
