"""Pausing over `JobExecutionService` a job that is between two runs: what is answered is what central did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2
from cyxwiz.protocol import execution_pb2 as pb
from tests.central import Central, central
from tests.integration.test_link import until
from tests.integration.test_p2p import Scene, paused, scene


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
        await paused(on)
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
