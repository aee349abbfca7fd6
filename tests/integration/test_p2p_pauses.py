"""Pausing over `JobExecutionService` a job that is between two runs: what is answered is what central did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2
from cyxwiz.ports.executor import Failed, Run, Work
from cyxwiz.protocol import execution_pb2 as pb
from tests.central import Central, central
from tests.integration.test_link import until
from tests.integration.test_p2p import SavingExecutor, Scene, paused, scene


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


async def pause(on: Scene) -> pb.PauseTrainingResponse:
    return await on.engine.stub.PauseTraining(pb.PauseTrainingRequest(job_id=on.job.id), metadata=on.engine.metadata)


async def resume(on: Scene) -> None:
    await on.engine.stub.ResumeTraining(pb.ResumeTrainingRequest(job_id=on.job.id), metadata=on.engine.metadata)


async def test_what_was_resumed_is_paused_before_it_has_a_node(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=4) as on:
        stream = await paused(on)
        owner = await server.core.accounts.authenticate(server.key)
        await server.core.nodes.cordon(owner, on.agent._identity.node_id, on=True)
        await resume(on)
        await until(server, on.job, JobState.PENDING)
        answer = await pause(on)
        assert (answer.success, answer.message) == (True, "paused")
        assert (await until(server, on.job, JobState.PAUSED)).attempts == 1
        await stream.until("log", lambda log: "paused" in log.message)
        assert (await pause(on)).success, "again it is paused already"
        await server.core.nodes.cordon(owner, on.agent._identity.node_id, on=False)
        await resume(on)
        on.executor.step(4)
        assert (await stream.until("complete")).complete.success


async def test_what_was_resumed_is_paused_on_its_way_back(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=4) as on:
        stream = await paused(on)
        agent, hub = on.agent, on.agent._p2p
        take, cancel, answered = agent._take, agent._cancel, hub.answered
        assigned, cancelled, stale = list[Any](), list[Any](), asyncio.Event()

        async def late(*given: Any) -> None:
            assigned.append(given)

        def listening(answer: link_pb2.OwnerAnswer) -> None:
            answered(answer)
            if answer.code == Code.STALE:
                stale.set()

        agent._take, agent._cancel, hub.answered = late, cancelled.append, listening
        await resume(on)
        await until(server, on.job, JobState.ASSIGNED)
        asking = asyncio.ensure_future(pause(on))
        await asyncio.wait_for(stale.wait(), 10)
        agent._take, agent._cancel = take, cancel
        for given in assigned:
            await take(*given)
        for message in cancelled:
            cancel(message)
        assert (await asking).success
        await until(server, on.job, JobState.PAUSED)
        await resume(on)
        on.executor.step(4)
        assert (await stream.until("complete")).complete.success


class Slow(SavingExecutor):
    """Its runs are long in starting."""

    async def start(self, work: Work) -> Run:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")


async def test_a_report_that_crosses_a_pause_ends_no_stream(server: Central, tmp_path: Path) -> None:
    """Its lease is over for central by then, which has told the node so already."""
    async with scene(server, tmp_path, "direct", executor=Slow(gated=True)) as on:
        stream = on.engine.stream()
        (record,) = on.agent._records.values()
        assert (await pause(on)).success
        late = link_pb2.Report(job_id=on.job.id, token=record.assign.token, seq=1, at_ms=1)
        late.started.SetInParent()
        await on.agent._session.send(link_pb2.NodeMessage(report=late))
        await resume(on)  # what central says of the report comes before its answer
        assert (await pause(on)).success
        owner = await server.core.accounts.authenticate(server.key)
        await server.core.jobs.cancel(owner, on.job.id, "enough")
        assert (await stream.until("complete")).complete.final_metrics["stopped_by_user"]
        assert "error" not in stream.kinds


async def test_a_failure_that_crosses_a_pause_is_told_by_central(server: Central, tmp_path: Path) -> None:
    """The run whose lease was ended can't fetch what it starts from, and that is no failure of the job."""

    class Fails(Slow):
        async def start(self, work: Work) -> Run:
            await failing.wait()
            raise CyxError(Code.NOT_FOUND, "Blob not found")

    failing = asyncio.Event()
    async with scene(server, tmp_path, "direct", executor=Fails(gated=True)) as on:
        stream, agent = on.engine.stream(), on.agent
        (record,) = agent._records.values()
        cancel, cancelled = agent._cancel, list[Any]()
        agent._cancel = cancelled.append
        asking = asyncio.ensure_future(pause(on))
        async with asyncio.timeout(10):
            while not cancelled:
                await asyncio.sleep(0.01)
            failing.set()
            while not record.ended:
                await asyncio.sleep(0.01)
        cancel(cancelled[0])  # the failure came before the word that the lease is over
        assert (await asking).success
        await until(server, on.job, JobState.PAUSED)
        await stream.until("log", lambda log: "paused" in log.message)
        assert "error" not in stream.kinds


async def test_a_failure_is_told(server: Central, tmp_path: Path) -> None:
    failed = Failed("TRAINING_FAILED", "the loss is no number", retryable=False)
    async with scene(server, tmp_path, "direct", executor=SavingExecutor(gated=True, fail=failed), epochs=1) as on:
        stream = on.engine.stream()
        on.executor.step(1)
        error = (await stream.until("error")).error
        assert (error.error_message, error.recoverable) == ("the loss is no number", False)
        assert await stream.end() is grpc.StatusCode.OK
        await until(server, on.job, JobState.FAILED)
