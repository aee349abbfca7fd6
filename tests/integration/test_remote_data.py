"""`remote://`: a client streams the data, a real child trains on all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.p2p import remote
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.states import JobState
from cyxwiz.ports.executor import Cancelled, Executor, Preempted, Report, Started, Wanted, Work
from cyxwiz.services.jobfile import parse_jobfile
from tests.central import Central, central
from tests.fakes import ScriptedExecutor, ScriptedRun
from tests.integration.test_link import admin, submit, until
from tests.nodes import grpc_link, local_link, node, p2p_node
from tests.p2p import Engine, assignment, batch_of, engine, info_of, serve_data
from tests.training import InlineExecutor

SAMPLES, BATCH = 50, 8


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=3000") as running:
        yield running


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(SAMPLES) % 3
    return (rng.normal(size=(SAMPLES, 2, 2)) + y[:, None, None]).astype(np.float32), y


class AskingRun(ScriptedRun):
    """Wants all rows, the last one first, and begins when they are there; then it has `x` and `y`."""

    def __init__(self, *args: Any, rubbish: bool) -> None:
        super().__init__(*args)
        self._rubbish = rubbish
        self._news = asyncio.Event()
        self.counts: list[int] = []

    async def reports(self) -> AsyncIterator[Report]:
        folder = self.work.dataset_path
        assert folder is not None
        samples = len(np.load(folder / "y.npy", mmap_mode="r"))
        order = np.arange(samples, dtype="<u4")[::-1] + self._rubbish
        yield Started(1)
        for part in np.split(order, [7]):  # named in two goes
            yield Wanted(part.tobytes())
        while not self.counts or self.counts[-1] < samples:
            self._news.clear()
            waits = [asyncio.ensure_future(e.wait()) for e in (self._news, self._cancelled, self._preempted)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
            if self._cancelled.is_set() or self._preempted.is_set():
                yield Cancelled() if self._cancelled.is_set() else Preempted(0.0)
                return
        self.x, self.y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
        async for report in super().reports():
            yield report

    def tell(self, order: str, values: Any = None) -> None:
        if order == "fed":
            self.counts.append(values["count"])
            self._news.set()
        else:
            super().tell(order, values)


class Keeping(ScriptedExecutor):
    """Its runs want what is streamed; a file that the client gave is kept as `given`."""

    def __init__(self, *, gated: bool = False, rubbish: bool = False) -> None:
        super().__init__(gated=gated)
        self._rubbish = rubbish

    async def start(self, work: Work) -> Any:
        assert work.dataset_path is not None
        if work.streamed:
            run = AskingRun(work, self._gate, self.fail, rubbish=self._rubbish)
            self.runs.append(run)
            return run
        if work.dataset_path.is_dir():
            self.whole = np.load(work.dataset_path / "x.npy"), np.load(work.dataset_path / "y.npy")
        else:
            self.given = work.dataset_path.read_bytes()
        return await super().start(work)

    def fed(self, run: int) -> int:
        """How many rows that run was told are there."""
        return max(self.runs[run].counts, default=0)  # type: ignore[attr-defined]

    @property
    def x(self) -> Any:
        return self.runs[-1].x  # type: ignore[attr-defined]

    @property
    def y(self) -> Any:
        return self.runs[-1].y  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def waiting(
    server: Central,
    tmp_path: Path,
    executor: Executor,
    *,
    relayed: bool = False,
    fetch: FetchSettings | None = None,
) -> AsyncIterator[tuple[Any, Engine]]:
    link = local_link(server) if relayed else grpc_link(server)
    async with p2p_node(tmp_path / "node", link, executor, fetch=fetch) as (_, _, address):
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
    assert [index for batch in asked for index in batch] == list(range(SAMPLES))[::-1], "in the order of the child"
    assert max(map(len, asked)) == BATCH
    assert np.array_equal(executor.x, x)
    assert np.array_equal(executor.y, y)
    counts = executor.runs[0].counts  # type: ignore[attr-defined]
    assert counts == sorted(counts)
    assert len(counts) > 1, "the child is told while it comes"
    assert not list((tmp_path / "node" / "cache" / "incoming").iterdir()), "the job is over: nobody needs its data"


async def test_a_job_that_comes_back_has_its_data_still(server: Central, tmp_path: Path) -> None:
    """Also when only a part had come: just the rest is asked for."""
    executor = Keeping(gated=True)
    x, y = data()
    async with waiting(server, tmp_path, executor) as (job, client):
        first = client.stream()
        serving = asyncio.ensure_future(serve_data(first, x, y, dict.fromkeys(range(4, 100))))
        async with asyncio.timeout(15):
            while not executor.runs or executor.fed(0) < 3 * BATCH - 1:  # the first request may be for 7
                await asyncio.sleep(0.02)
        await first.say(pause=True)
        await until(server, job, JobState.PAUSED)
        serving.cancel()
        first.call.cancel()
        second = client.stream()
        serving = asyncio.ensure_future(serve_data(second, x, y))
        await second.say(resume=True)
        executor.step(1)
        async with asyncio.timeout(15):
            while len(executor.runs) < 2 or executor.fed(1) < SAMPLES:
                await asyncio.sleep(0.02)
        await second.say(pause=True)
        await until(server, job, JobState.PAUSED)
        executor.step(3)
        await second.say(resume=True)
        asked = await serving
        await until(server, job, JobState.COMPLETED)
    assert sorted(index for batch in asked for index in batch) == list(range(SAMPLES - executor.fed(0)))
    assert np.array_equal(executor.x, x)
    assert len(executor.runs) == 3


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
    assert len(executor.runs) == 1
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
        assert len(executor.runs) == 1


async def test_a_file_can_come_with_the_job(server: Central, tmp_path: Path) -> None:
    executor = Keeping()
    async with waiting(server, tmp_path, executor) as (job, client):
        assert (await client.send_job(initial_dataset=b"1,2,3,4,0\n")).accepted
        await until(server, job, JobState.COMPLETED)
    assert executor.given == b"1,2,3,4,0\n"


async def test_no_file_takes_the_place_of_what_is_streamed(server: Central, tmp_path: Path) -> None:
    async with waiting(server, tmp_path, Keeping()) as (_, client):
        stream = client.stream()
        serving = asyncio.ensure_future(serve_data(stream, *data(), dict.fromkeys(range(3, 100))))
        await asyncio.wait({asyncio.ensure_future(asked_for(stream, 3))})
        answer = await client.send_job(initial_dataset=b"1,2,3,4,0\n")
        assert "being streamed" in answer.rejection_reason
        serving.cancel()


async def asked_for(stream: Any, number: int) -> None:
    async with asyncio.timeout(15):
        while not any(update.batch_request.request_id >= number for update in stream.seen):
            await asyncio.sleep(0.02)


async def test_no_more_is_under_way_than_the_window_takes(
    server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data()
    row = x[0].nbytes + 4
    monkeypatch.setattr(remote, "WINDOW_BYTES", 3 * BATCH * row)
    async with waiting(server, tmp_path, Keeping()) as (_, client):
        stream = client.stream()
        most = 0
        open_requests: list[Any] = []
        async with asyncio.timeout(15):
            while True:
                try:
                    async with asyncio.timeout(0.3):
                        update = await stream.call.read()
                except TimeoutError:  # it waits for answers: the oldest gets one
                    break
                if update.HasField("batch_request"):
                    open_requests.append(update.batch_request)
                    most = max(most, sum(len(each.sample_indices) for each in open_requests))
                elif update.HasField("dataset_info_request"):
                    await stream.say(dataset_info_response=info_of(x, y))
        assert most * row == 3 * BATCH * row


async def test_a_slow_client_is_asked_once(server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last answer comes long after it was asked for, but none of them long after the one before."""
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.6)
    x, y = data()
    executor = Keeping()
    async with waiting(server, tmp_path, executor) as (job, client):
        stream = client.stream()
        requests: list[Any] = []

        async def answer() -> None:
            for number in range(-(-SAMPLES // BATCH)):
                await asyncio.sleep(0.3)
                index = list(requests[number].sample_indices)
                await stream.say(batch_response=batch_of(requests[number].request_id, x[index], y[index]))

        await stream.until("dataset_info_request")
        await stream.say(dataset_info_response=info_of(x, y))
        answering = asyncio.ensure_future(answer())
        async with asyncio.timeout(15):
            while (update := await stream.call.read()) and not update.HasField("complete"):
                if update.HasField("batch_request"):
                    requests.append(update.batch_request)
        await answering
        await until(server, job, JobState.COMPLETED)
    assert sorted(index for each in requests for index in each.sample_indices) == list(range(SAMPLES))


async def test_what_the_cache_has_no_room_for_is_refused(server: Central, tmp_path: Path) -> None:
    executor = Keeping()
    async with waiting(server, tmp_path, executor, fetch=FetchSettings(cache_bytes=500)) as (_, client):
        stream = client.stream()
        await serve_data(stream, *data())
        error = stream.seen[-1].error
        assert "node.data_cache_bytes" in error.error_message
        assert error.recoverable, "another node may have room"
    assert not executor.runs


async def test_a_child_that_asks_for_what_is_not_there_fails(server: Central, tmp_path: Path) -> None:
    async with waiting(server, tmp_path, Keeping(rubbish=True)) as (job, client):
        stream = client.stream()
        await serve_data(stream, *data())
        failed = await until(server, job, JobState.FAILED)
        assert failed.error_code == "INTERNAL"


async def test_the_jobs_log_says_what_it_waits_for(
    server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ALONE_SECONDS", 0.05)
    executor = Keeping(gated=True)
    x, y = data()
    async with waiting(server, tmp_path, executor) as (job, client):
        first = client.stream()
        serving = asyncio.ensure_future(serve_data(first, x, y, dict.fromkeys(range(3, 100))))
        await asked_for(first, 4)
        serving.cancel()
        first.call.cancel()
        await asyncio.sleep(0.3)
        second = client.stream()
        serving = asyncio.ensure_future(serve_data(second, x, y))
        await logged(second, f"all {SAMPLES} samples are here: no client is needed for them")
        executor.step(10)
        await serving
        await until(server, job, JobState.COMPLETED)
    logs = logs_of(second)
    assert [log for log in logs if "waiting for a client" in log][-1].endswith(f"16 of {SAMPLES} samples are here")
    assert logs.index("a client streams the data") > 0


def logs_of(stream: Any) -> list[str]:
    return [update.log.message for update in stream.seen if update.HasField("log")]


async def logged(stream: Any, message: str) -> None:
    async with asyncio.timeout(15):
        while message not in logs_of(stream):
            await asyncio.sleep(0.02)


async def test_other_work_begins_with_the_last_sample(server: Central, tmp_path: Path) -> None:
    executor = Keeping()
    x, y = data()
    async with p2p_node(tmp_path / "node", grpc_link(server), executor) as (_, _, address):
        fields = {"type": "preprocessing", "steps": [{"type": "standardize"}], "batch_size": BATCH}
        spec = parse_jobfile({"dataset": "remote://mine", **fields})
        job = (await server.core.jobs.submit(await admin(server), spec))[0]
        given = await assignment(server, job.id)
        async with engine(address, given.auth_token, job.id) as client:
            await client.connect()
            asked = await serve_data(client.stream(), x, y)
        await until(server, job, JobState.COMPLETED)
    assert sum(map(len, asked)) == SAMPLES
    assert np.array_equal(executor.whole[0], x)
    assert np.array_equal(executor.whole[1], y)


MODEL = {"layers": [{"type": "dense", "units": 8}, {"type": "dropout"}, {"type": "dense", "units": 3}]}


async def trained(
    server: Central, folder: Path, x: Any, y: Any, executor: Executor, broken: Any = None
) -> tuple[Any, list[list[int]]]:
    """A job's last update, and what was asked for. With `broken` a part is never answered there, and the node stops:
    the job goes on at another one."""
    asked: list[list[int]] = []
    job: Any = None
    stream: Any = None
    for number, wrong in enumerate([broken, None] if broken else [None]):
        name = f"{'moved' if broken else 'whole'}{number}"
        there = p2p_node(folder / name, grpc_link(server), executor, name=name, grace=5.0)
        async with there as (_, _, address):
            fields = {"dataset": "remote://mine", "batch_size": BATCH, "seed": 5, "epochs": 3, "model": MODEL}
            job = job or await submit(server, **fields)
            given = await assignment(server, job.id)
            while broken and number and given.node_endpoint != address:
                await asyncio.sleep(0.05)
                given = await assignment(server, job.id)
            async with engine(address, given.auth_token, job.id) as client:
                await client.connect()
                stream = client.stream()
                serving = asyncio.ensure_future(serve_data(stream, x, y, wrong))
                if wrong:
                    await asked_for(stream, min(wrong))
                    async with asyncio.timeout(15):
                        while (await server.core.jobs.get(await admin(server), job.id)).first_step_at is None:
                            await asyncio.sleep(0.02)
                    serving.cancel()
                else:
                    asked = await serving
    await until(server, job, JobState.COMPLETED)
    return stream.seen[-1].complete, asked


async def test_on_another_node_the_losses_are_those_of_an_uninterrupted_run(server: Central, tmp_path: Path) -> None:
    x, y = data()
    whole, once = await trained(server, tmp_path, x, y, InlineExecutor())
    moved, again = await trained(server, tmp_path, x, y, InlineExecutor(), dict.fromkeys(range(4, 100)))
    figures = [
        {name: value for name, value in each.final_metrics.items() if name != "samples_per_second"}
        for each in (whole, moved)
    ]
    assert {"loss", "val_loss"} <= set(figures[0])
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    order = [index for batch in once for index in batch]
    held = SAMPLES // 5
    going_on = [index for batch in again for index in batch]
    done = order.index(going_on[0])
    assert 0 < done <= 3 * BATCH, "what the first node had trained on"
    assert going_on == [*order[done:-held], *order[-held:], *order[:done]]


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


def test_data_that_nobody_streamed_are_no_data() -> None:
    with pytest.raises(CyxError) as refused:
        load("remote://mine")
    assert refused.value.code is Code.UNAVAILABLE
