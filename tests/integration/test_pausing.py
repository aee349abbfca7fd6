"""Pause, resume, preempt and drain through a real central and a real agent: a job goes on from where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Job
from cyxwiz.domain.states import JobState
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.scheduler.loops.housekeeper import BlobCollector
from tests.central import Central, central
from tests.fakes import ScriptedExecutor
from tests.integration.test_link import admin, submit, until
from tests.nodes import grpc_link, local_link, node

Link = Callable[..., CentralLink]


@pytest.fixture(params=["grpc", "local"])
def link(request: pytest.FixtureRequest) -> Link:
    return grpc_link if request.param == "grpc" else local_link


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


async def at_epoch(server: Central, job: Job, epoch: int) -> Job:
    async with asyncio.timeout(10):
        async for update in server.core.watch.job(await admin(server), job.id):
            if update.job.epoch >= epoch and update.job.state is JobState.RUNNING:
                return update.job
    raise AssertionError("the watch ended before the job got there")


async def kinds(server: Central, job: Job) -> list[str]:
    events = await server.core.store.read(lambda tx: tx.events(0, frozenset({f"job:{job.id}"}), 100))
    return [event.kind for event in events]


async def test_a_paused_job_goes_on_elsewhere_from_where_it_was(server: Central, link: Link, tmp_path: Path) -> None:
    first, second = ScriptedExecutor(gated=True), ScriptedExecutor(gated=True)
    actor = await admin(server)
    async with node(tmp_path / "one", link(server), first, name="one"):
        job = await submit(server, epochs=6)
        first.step(2)
        await at_epoch(server, job, 2)
        pausing = await server.core.jobs.pause(actor, job.id)
        assert (pausing.state, str(pausing.intent)) == (JobState.RUNNING, "pause")
        paused = await until(server, job, JobState.PAUSED)
        assert paused.node_id is None
        assert paused.retry_count == paused.node_losses == 0
        assert 0 < paused.compute_seconds <= 1.0
    (saved,) = (await server.core.jobs.checkpoints(actor, job.id, 0, 10)).items
    assert (saved.epoch, saved.progress, saved.kept) == (3, 2 / 6, True)
    async with node(tmp_path / "two", link(server), second, name="two"):
        await asyncio.sleep(0.05)  # a free node is there: it must not get what is paused
        assert not second.runs
        await server.core.jobs.resume(actor, job.id)
        second.step(4)
        done = await until(server, job, JobState.COMPLETED)
    assert second.runs[0].work.resume is not None
    assert done.attempts == 2
    assert paused.compute_seconds < done.compute_seconds <= 2.5, "no more than its nodes had it"
    curve = await server.core.jobs.metrics(actor, job.id, 0, 100)
    assert [point.epoch for point in curve] == [1, 2, 3, 4, 5, 6]
    told = await kinds(server, job)
    expected = ["job.checkpointed", "job.paused", "job.resumed", "job.assigned", "job.started", "job.completed"]
    assert told[-6:] == expected


async def test_pausing_what_waits_and_resuming_it(server: Central, tmp_path: Path) -> None:
    actor, job = await admin(server), await submit(server)
    paused = await server.core.jobs.pause(actor, job.id)
    assert (paused.state, paused.reason) == (JobState.PAUSED, "paused by admin")
    with pytest.raises(CyxError) as caught:
        await server.core.jobs.pause(actor, job.id)
    assert caught.value.code is Code.CONFLICT
    async with node(tmp_path / "node", local_link(server)):
        await server.core.jobs.resume(actor, job.id)
        await until(server, job, JobState.COMPLETED)
    for act in (server.core.jobs.pause, server.core.jobs.resume):
        with pytest.raises(CyxError) as caught:
            await act(actor, job.id)
        assert caught.value.code is Code.CONFLICT


async def test_resuming_a_job_that_is_still_saving(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor):
        job = await submit(server)
        executor.step()
        await at_epoch(server, job, 1)
        await server.core.jobs.pause(actor, job.id)
        await server.core.jobs.resume(actor, job.id)
        executor.step(10)
        done = await until(server, job, JobState.COMPLETED)
    assert done.retry_count == 0


async def test_who_may_pause(server: Central) -> None:
    job = await submit(server)
    stranger, _ = await server.user("mallory")
    for act in (server.core.jobs.pause, server.core.jobs.resume):
        with pytest.raises(CyxError) as caught:
            await act(stranger, job.id)
        assert caught.value.code is Code.FORBIDDEN
    with pytest.raises(CyxError) as caught:
        await server.core.jobs.preempt(stranger, job.id, "")
    assert caught.value.code is Code.FORBIDDEN
    with pytest.raises(CyxError) as caught:
        await server.core.jobs.preempt(await admin(server), job.id, "")
    assert caught.value.code is Code.CONFLICT, "no node has it"


@pytest.mark.parametrize("how", ["preempt", "drain", "stop"])
async def test_a_job_moves_to_another_node(server: Central, link: Link, tmp_path: Path, how: str) -> None:
    first, second = ScriptedExecutor(gated=True), ScriptedExecutor()
    actor = await admin(server)
    async with node(tmp_path / "one", link(server), first, name="one", grace=5) as agent:
        job = await submit(server)
        first.step(1)
        await at_epoch(server, job, 1)
        async with node(tmp_path / "two", link(server), second, name="two"):
            if how == "preempt":
                await server.core.jobs.preempt(actor, job.id, "somebody pays more")
            elif how == "drain":
                await server.core.nodes.cordon(actor, agent._identity.node_id, on=True)
            else:
                await agent.stop(5)
            done = await until(server, job, JobState.COMPLETED)
    assert [run.work.resume is not None for run in second.runs] == [True]
    assert (done.attempts, done.retry_count, done.node_losses) == (2, 0, 0)
    leases = await server.core.store.read(lambda tx: tx.leases_of(job.id))
    assert leases[0].end_reason.startswith("preempted: "), leases[0]


async def test_a_preempted_job_of_a_node_that_is_cut_off_pauses_all_the_same(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor) as agent:
        job = await submit(server)
        executor.step()
        await at_epoch(server, job, 1)
        agent._preempt = lambda preempt: None  # type: ignore[method-assign]  # it never hears of it
        await server.core.jobs.pause(actor, job.id)
    # the node is gone without a checkpoint: what its owner wanted holds
    paused = await until(server, job, JobState.PAUSED)
    assert str(paused.intent) == "run"


async def test_bytes_of_checkpoints_go_when_the_job_is_done(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor):
        job = await submit(server, epochs=6)
        for number in range(1, 4):
            async with asyncio.timeout(20):
                while (now := await server.core.jobs.get(actor, job.id)).attempts < number or str(now.intent) != "run":
                    await asyncio.sleep(0.01)  # the lease before may still be ending
                await until(server, job, JobState.RUNNING)
                await server.core.jobs.preempt(actor, job.id, "")
                while len((await server.core.jobs.checkpoints(actor, job.id, 0, 10)).items) < number:
                    await asyncio.sleep(0.01)
        saved = (await server.core.jobs.checkpoints(actor, job.id, 0, 10)).items
        assert [each.kept for each in saved] == [True, True, False]
        executor.step(20)
        await until(server, job, JobState.COMPLETED)
    saved = (await server.core.jobs.checkpoints(actor, job.id, 0, 10)).items
    assert not any(each.kept for each in saved)
    collector = BlobCollector(server.core.store, server.blobs)
    assert await collector.collect() == 0, "a node may still be fetching one"
    entries = await server.core.store.read(lambda tx: [tx.now, *tx.due_outbox("drop_blob", 10)])
    assert len(entries) == 1
    await server.core.store.write(make_due)
    assert await collector.collect() == len({each.sha256 for each in saved})
    assert [await server.blobs.size(each.sha256) for each in saved] == [None] * 3
    result = await server.core.jobs.result(actor, job.id)
    assert await server.blobs.size(result.files[0].sha256) is not None


def make_due(tx: object) -> None:
    from sqlalchemy import text

    tx.connection.execute(text("UPDATE outbox SET due_at = 0"))  # type: ignore[attr-defined]
