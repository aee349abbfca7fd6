"""What clients of `JobExecutionService` are told of a job's end, and when: central has it by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from cyxwiz.compute import agent as agents
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import MAX_METRICS
from cyxwiz.domain.states import JobState
from cyxwiz.ports.executor import Finished, Report, Run, Work
from tests.central import Central, central
from tests.fakes import ScriptedExecutor, ScriptedRun
from tests.integration.test_link import submit, until
from tests.integration.test_p2p import SavingExecutor, Scene, scene
from tests.nodes import grpc_link, p2p_node
from tests.p2p import assignment, engine


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


async def unreachable() -> Any:
    raise CyxError(Code.UNAVAILABLE, "cut")


async def cut_off(agent: Any) -> Callable[[], None]:
    """Takes central from the node, until what is returned is called."""
    dial, agent._link.open = agent._link.open, unreachable
    await agent._session.aclose()

    def back() -> None:
        agent._link.open = dial

    return back


async def trained(agent: Any) -> None:
    async with asyncio.timeout(10):
        while agent.active:
            await asyncio.sleep(0.01)


async def refused_weights(on: Scene) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await on.engine.download()
    return refused.value.code()


async def test_a_result_is_told_once_central_has_it(server: Central, tmp_path: Path) -> None:
    """A cancel in between takes everything back: nobody has the weights before."""
    async with scene(server, tmp_path, "direct", epochs=2) as on:
        stream = on.engine.stream()
        await stream.until("log")
        back = await cut_off(on.agent)
        on.executor.step(2)
        await stream.until("progress", lambda progress: progress.current_epoch == 2)
        await trained(on.agent)
        assert await refused_weights(on) is grpc.StatusCode.FAILED_PRECONDITION
        back()
        assert (await stream.until("complete")).complete.success
        await until(server, on.job, JobState.COMPLETED)
        assert (await on.engine.download())[-1].is_last_chunk
        assert "complete" not in stream.kinds[:-1]


async def test_a_cancel_that_central_has_first_counts(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=2) as on:
        stream = on.engine.stream()
        await stream.until("log")
        back = await cut_off(on.agent)
        on.executor.step(2)
        await trained(on.agent)
        await server.core.jobs.cancel(await server.core.accounts.authenticate(server.key), on.job.id, "enough")
        back()
        complete = (await stream.until("complete")).complete
        assert (complete.success, complete.result_hash) == (False, "")
        assert await stream.end() is grpc.StatusCode.OK
        assert await refused_weights(on) is grpc.StatusCode.NOT_FOUND


class BoastingRun(ScriptedRun):
    """Its result is one that central refuses."""

    async def reports(self) -> AsyncIterator[Report]:
        async for report in super().reports():
            wrong = isinstance(report, Finished)
            yield (
                replace(report, final_metrics=dict.fromkeys(map(str, range(MAX_METRICS + 1)), 1.0)) if wrong else report
            )


class BoastsOnce(SavingExecutor):
    async def start(self, work: Work) -> Run:
        if self.runs:
            return await super().start(work)
        self.runs.append(BoastingRun(work, self._gate, None))
        return cast(Run, self.runs[0])


async def test_a_result_that_central_refuses_is_no_end(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", executor=BoastsOnce(gated=True), epochs=1) as on:
        stream = on.engine.stream()
        on.executor.step(2)
        assert (await stream.until("error")).error.error_code == "MOVED"
        done = await until(server, on.job, JobState.COMPLETED)
        assert done.retry_count == 1
        assert "complete" not in stream.kinds


async def test_a_result_that_a_restart_came_before_is_told(
    server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "FLUSH_SECONDS", 0.1)
    executor = ScriptedExecutor(gated=True)
    async with p2p_node(tmp_path / "node", grpc_link(server), executor) as (agent, _, _):
        job = await until(server, await submit(server, epochs=2), JobState.RUNNING)
        await cut_off(agent)
        executor.step(2)
        await trained(agent)
    async with p2p_node(tmp_path / "node", grpc_link(server), executor) as (_, _, address):
        await until(server, job, JobState.COMPLETED)
        given = await assignment(server, job.id)
        async with engine(address, given.auth_token, job.id) as client:
            assert (await client.stream().until("complete")).complete.success
            assert b"".join(chunk.data for chunk in await client.download()) == f"weights of {job.id}".encode()


async def test_a_result_that_was_not_stored_is_no_success(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=1) as on:
        files, stream = on.agent._files, on.engine.stream()
        push = files.push

        async def full(*_: Any) -> None:
            files.push = push
            raise CyxError(Code.EXHAUSTED, "no room for it")

        files.push = full
        on.executor.step(2)
        error = (await stream.until("error")).error
        assert (error.error_code, error.recoverable) == ("TRAINING_FAILED", True)
        assert "no room for it" in error.error_message
        await until(server, on.job, JobState.COMPLETED)
        assert "complete" not in stream.kinds
