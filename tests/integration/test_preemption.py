"""A job of higher priority waits: one of lower priority saves itself, makes room and goes on when there is some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.job import Intent, Job
from cyxwiz.domain.states import JobState
from cyxwiz.scheduler.preemption import MAKING_ROOM
from cyxwiz.services import views
from cyxwiz.services.jobfile import parse_jobfile
from tests.central import DIGITS, Central, central
from tests.fakes import ScriptedExecutor
from tests.integration.test_link import admin, until
from tests.integration.test_pausing import at_epoch
from tests.nodes import local_link, node

FAST = ("scheduler.preempt_after_seconds=0.2", "scheduler.preempt_least_seconds=0")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, *FAST) as running:
        yield running


async def submit(server: Central, priority: str, who: Principal | None = None, **changes: Any) -> Job:
    spec = parse_jobfile({**DIGITS, "epochs": 4, "priority": priority, **changes})
    return (await server.core.jobs.submit(who or await admin(server), spec))[0]


async def test_a_job_does_not_keep_itself_from_its_node(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor):
        running = await submit(server, "low")
        executor.step(1)
        await at_epoch(server, running, 1)
        explained = views.explanation(await server.core.jobs.explain(actor, running.id))
        assert [(each["feasible"], each["reason"]) for each in explained["nodes"]] == [(True, None)]
        executor.step(3)
        await until(server, running, JobState.COMPLETED)


async def test_it_gives_way_and_goes_on_from_where_it_was(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor):
        low = await submit(server, "low")
        executor.step(2)
        await at_epoch(server, low, 2)
        urgent = await submit(server, "critical")
        await until(server, urgent, JobState.RUNNING)
        aside = await server.core.jobs.get(actor, low.id)
        assert (aside.state, aside.intent, aside.retry_count, aside.node_losses) == (JobState.PENDING, Intent.RUN, 0, 0)
        told = f"gave way to job {urgent.id} of critical priority"
        explained = views.explanation(await server.core.jobs.explain(actor, low.id))
        assert explained["leases"][0]["end_reason"] == f"preempted: {told}"
        (saved,) = (await server.core.jobs.checkpoints(actor, low.id, 0, 10)).items
        assert saved.progress == 0.5
        executor.step(4)
        await until(server, urgent, JobState.COMPLETED)
        executor.step(2)
        done = await until(server, low, JobState.COMPLETED)
    assert (done.attempts, done.created_at) == (2, low.created_at)
    assert [run.work.job_id for run in executor.runs] == [low.id, urgent.id, low.id]
    assert executor.runs[2].work.resume is not None
    curve = await server.core.jobs.metrics(actor, low.id, 0, 100)
    assert [point.epoch for point in curve] == [1, 2, 3, 4]
    events = await server.core.store.read(lambda tx: tx.events(0, frozenset({f"job:{low.id}"}), 100))
    (preempted,) = [each.data for each in events if each.kind == "job.preempted"]
    assert (preempted["by"], preempted["reason"]) == ("scheduler", told)
    kinds = [each.kind for each in events]
    assert kinds.index("job.preempted") < kinds.index("job.checkpointed") < kinds.index("job.requeued")


async def test_as_often_as_is_allowed_and_no_more(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor):
        low = await submit(server, "low", epochs=50)
        for _ in range(3):
            await until(server, low, JobState.RUNNING)
            urgent = await submit(server, "high")
            await until(server, urgent, JobState.RUNNING)
            executor.step(4)
            await until(server, urgent, JobState.COMPLETED)
        await until(server, low, JobState.RUNNING)
        last = await submit(server, "critical")
        await asyncio.sleep(0.6)
        seen = await server.core.jobs.get(actor, last.id)
        assert (seen.state, seen.reason) == (JobState.PENDING, "no node can take it: all slots busy (1 node)")
        assert (await server.core.jobs.get(actor, low.id)).intent is Intent.RUN


@pytest.mark.parametrize(("scope", "given_way"), [("off", False), ("own", False), ("priority", True)])
async def test_for_whom(tmp_path: Path, scope: str, given_way: bool) -> None:
    executor = ScriptedExecutor(gated=True)
    async with central(tmp_path, *FAST, f"scheduler.preemption={scope}") as server:
        alice, _ = await server.user("alice")
        async with node(tmp_path / "node", local_link(server), executor):
            low = await submit(server, "low")
            await until(server, low, JobState.RUNNING)
            urgent = await submit(server, "critical", alice)
            await asyncio.sleep(0.8)
            states = [(await server.core.jobs.get(await admin(server), job.id)).state for job in (low, urgent)]
    expected = [JobState.PENDING, JobState.RUNNING] if given_way else [JobState.RUNNING, JobState.PENDING]
    assert states == expected


async def test_who_waits_is_told_that_room_is_made(server: Central, tmp_path: Path) -> None:
    executor, actor = ScriptedExecutor(gated=True), await admin(server)
    async with node(tmp_path / "node", local_link(server), executor) as agent:
        low = await submit(server, "low")
        await until(server, low, JobState.RUNNING)
        agent._preempt = lambda preempt: None  # type: ignore[method-assign]  # it takes its time
        urgent, behind = await submit(server, "critical"), await submit(server, "critical")
        async with asyncio.timeout(10):
            while (await server.core.jobs.get(actor, urgent.id)).reason != MAKING_ROOM:
                await asyncio.sleep(0.02)
        assert (await server.core.jobs.get(actor, low.id)).intent is Intent.MOVE
        assert "all slots busy" in (await server.core.jobs.get(actor, behind.id)).reason
        # cancelled meanwhile: the other one gets the room, and nobody is asked again
        await server.core.jobs.cancel(actor, urgent.id)
        async with asyncio.timeout(10):
            while (await server.core.jobs.get(actor, behind.id)).reason != MAKING_ROOM:
                await asyncio.sleep(0.02)
        events = await server.core.store.read(lambda tx: tx.events(0, frozenset({f"job:{low.id}"}), 100))
        assert [each.kind for each in events].count("job.preempted") == 1
