"""What nodes do moves their reputation: by cause, with bans, and with an explanation that adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Lease
from cyxwiz.domain.node import Node
from cyxwiz.domain.reputation import BANS, Cause, Kind, ReputationEntry, ReputationEvent, Standing
from cyxwiz.domain.states import JobState, NodeState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.scheduler.loops.reaper import LeaseReaper
from cyxwiz.services.api import Call
from cyxwiz.services.jobfile import parse_jobfile
from tests.contract.conftest import HandClock
from tests.wiring import JOB, Central, central, progress


class World:
    def __init__(self, house: Central, clock: HandClock, bob: Principal, admin: Principal) -> None:
        self.house, self.clock, self.bob, self.admin = house, clock, bob, admin

    async def begin(self, node_id: NodeId, spec: dict[str, Any] = JOB) -> Lease:
        """A job of bob's that runs there."""
        job, _ = await self.house.jobs.submit(self.bob, parse_jobfile(spec))
        lease = await self.house.lease(job.id, node_id)
        await self.house.report(lease, progress(1, loss=2.0))
        return lease

    async def node(self, node_id: NodeId) -> Node:
        return await self.house.nodes.get(node_id)

    async def score(self, node_id: NodeId) -> float:
        return round((await self.node(node_id)).standing.score, 6)

    async def entries(self, node_id: NodeId) -> list[ReputationEntry]:
        return list(await self.house.store.read(lambda tx: tx.reputation_entries(node_id, 100)))

    async def kinds(self, node_id: NodeId) -> list[Kind]:
        return [entry.kind for entry in await self.entries(node_id)]

    async def put(self, node_id: NodeId, score: float, **changes: Any) -> None:
        """The node with a score as of now."""

        def unit(tx: Any) -> None:
            node = tx.node(node_id)
            tx.save_node(node.with_standing(replace(node.standing, score=score, at=tx.now, **changes)))

        await self.house.store.write(unit)

    async def told(self, node_id: NodeId, *kinds: Kind) -> None:
        events = [ReputationEvent(kind) for kind in kinds]
        await self.house.store.write(lambda tx: self.house.nodes.reputation.record(tx, node_id, *events))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = HandClock()
    house = await central(tmp_path, clock=clock)
    bob, admin = await house.accounts.authenticate(house.bob), await house.accounts.authenticate(house.admin)
    yield World(house, clock, bob, admin)
    await house.aclose()


async def refusal(act: Any, code: Code) -> str:
    with pytest.raises(CyxError) as caught:
        await act
    assert caught.value.code is code, caught.value
    return caught.value.message


async def test_a_result_is_a_success_and_a_loss_that_fell_more(world: World) -> None:
    node_id = await world.house.node()
    assert await world.score(node_id) == 75.0
    lease = await world.begin(node_id)
    await world.house.report(lease, await world.house.finished(b"weights", loss=1.0), after=1)
    assert await world.score(node_id) == 76.5
    lease = await world.begin(node_id)
    await world.house.report(lease, await world.house.finished(b"others", loss=3.0), after=1)
    assert await world.score(node_id) == 77.5, "its loss rose: no more than a success"
    assert await world.kinds(node_id) == [Kind.SUCCESS, Kind.GOOD_METRICS, Kind.SUCCESS]
    assert (await world.node(node_id)).jobs_completed == 2


@pytest.mark.parametrize(
    ("retryable", "score", "cause", "failed"), [(False, 75.0, Cause.USER, 0), (True, 74.5, Cause.NODE, 1)]
)
async def test_a_failure_costs_whom_it_is_owed_to(
    world: World, retryable: bool, score: float, cause: Cause, failed: int
) -> None:
    node_id = await world.house.node()
    lease = await world.begin(node_id)
    await world.house.report(lease, pb.Failed(code="INVALID", message="no such column", retryable=retryable), after=1)
    assert await world.score(node_id) == score
    (entry,) = await world.entries(node_id)
    assert (entry.cause, entry.job_id, entry.note) == (cause, lease.job_id, "no such column")
    assert (await world.node(node_id)).jobs_failed == failed


async def test_what_a_script_did_is_not_its_nodes_fault_however_often_it_is_tried(world: World) -> None:
    await world.house.jobs.record_blob("5" * 64, 10, owner=world.bob.id)
    script = {"type": "training", "epochs": 4, "model": {"script": "main.py", "files": {"main.py": "5" * 64}}}
    broke = pb.Failed(code="INTERNAL", message="was killed by SIGKILL", retryable=True, by_script=True)
    node_id = await world.house.node()
    lease = await world.begin(node_id, script)
    await world.house.report(lease, broke, after=1)
    assert (await world.house.jobs.get(world.bob, lease.job_id)).state is JobState.PENDING
    assert await world.score(node_id) == 75.0
    (entry,) = await world.entries(node_id)
    assert (entry.cause, entry.note) == (Cause.USER, "was killed by SIGKILL")
    assert (await world.node(node_id)).jobs_failed == 0
    lease = await world.begin(node_id)
    await world.house.report(lease, broke, after=1)
    assert await world.score(node_id) == 74.5, "a declared model has no script to blame"


async def test_data_that_nobody_can_fetch_are_no_nodes_fault(world: World) -> None:
    """Anybody could lower its score otherwise by the address of a host that there is not."""
    node_id = await world.house.node()
    lost = pb.Failed(code="UNAVAILABLE", message="nowhere.invalid can't be reached", retryable=True)

    async def fails(dataset: str, *before: Any) -> float:
        job, _ = await world.house.jobs.submit(world.bob, parse_jobfile({**JOB, "dataset": dataset}))
        await world.house.report(await world.house.lease(job.id, node_id), *before, lost)
        return await world.score(node_id)

    assert await fails("https://nowhere.invalid/x.csv") == 75.0
    (entry,) = await world.entries(node_id)
    assert (entry.kind, entry.cause) == (Kind.UNREACHABLE, Cause.NETWORK)
    assert await fails("https://nowhere.invalid/x.csv", pb.FirstStep()) == 74.5, "a run that had its data"
    assert await fails("builtin:digits") == 74.0, "and one whose data are at hand"


async def test_an_index_of_packages_that_is_away_is_no_nodes_fault(world: World) -> None:
    await world.house.jobs.record_blob("5" * 64, 10, owner=world.bob.id)
    script = {"type": "training", "model": {"script": "main.py", "files": {"main.py": "5" * 64}}}
    node_id = await world.house.node()
    spec = parse_jobfile({**script, "requirements": "tiny==1 --hash=sha256:" + "0" * 64})
    job, _ = await world.house.jobs.submit(world.bob, spec)
    away = pb.Failed(code="UNAVAILABLE", message="does not reach its index of packages", retryable=True)
    await world.house.report(await world.house.lease(job.id, node_id), away)
    (entry,) = await world.entries(node_id)
    assert (entry.kind, entry.cause, entry.delta) == (Kind.UNREACHABLE, Cause.NETWORK, 0.0)


async def test_a_node_that_leaves_with_runs_is_at_fault_once_and_an_idle_one_is_not(world: World) -> None:
    idle, busy = await world.house.node("idle"), await world.house.node("busy")
    for _ in range(2):
        await world.begin(busy)
    for node_id in (idle, busy):
        await world.house.nodes.farewell(node_id, "going home")
    assert (await world.score(idle), await world.score(busy)) == (75.0, 70.0)
    assert await world.kinds(busy) == [Kind.DISCONNECT]


async def test_a_silent_node_is_charged_the_time_out_but_not_when_most_are_silent(world: World) -> None:
    reaper = LeaseReaper(world.house.store, world.clock, world.house.nodes)
    lonely = await world.house.node("lonely")
    await world.begin(lonely)
    world.clock.advance(31)
    await reaper.reap()
    (entry,) = await world.entries(lonely)
    assert (entry.kind, entry.cause, entry.delta) == (Kind.TIMEOUT, Cause.NETWORK, -2.0)
    many = [await world.house.node(f"n{number}") for number in range(3)]
    for node_id in many:
        await world.begin(node_id)
    world.clock.advance(31)
    await reaper.reap()
    for node_id in many:
        assert (await world.kinds(node_id), await world.score(node_id)) == ([Kind.OUTAGE], 75.0)
        assert (await world.node(node_id)).state is NodeState.OFFLINE


async def test_a_job_is_taken_from_a_node_that_is_there_and_never_ends_it(world: World) -> None:
    """It says that it runs, and beats, and that is all: the job would be its own for ever."""
    reaper = LeaseReaper(world.house.store, world.clock, world.house.nodes)
    honest, bad = await world.house.node("honest"), await world.house.node("bad")

    async def wait(minutes: int) -> None:
        for _ in range(minutes):
            world.clock.advance(60)
            for node_id in (honest, bad):
                world.house.nodes.liveness.heard(node_id)
            await reaper.once()

    spec = {**JOB, "resources": {"max_duration": "10m"}}
    held = [await world.begin(bad, spec), await world.begin(bad, {**spec, "dataset": "remote://mine"})]
    long = await world.begin(honest, {**spec, "resources": {"max_duration": "1h"}})
    await wait(89)
    assert [(await world.house.jobs.get(world.bob, each.job_id)).state for each in held] == [JobState.RUNNING] * 2
    await wait(3)  # 3 times 10 minutes and an hour, and the looks are a minute apart
    for each in held:
        job = await world.house.jobs.get(world.bob, each.job_id)
        assert (job.state, job.node_losses) == (JobState.PENDING, 1)
        assert "did not end it within 5400 seconds" in job.reason
    assert await world.kinds(bad) == [Kind.FAILURE], "not for the one that waits for its client"
    assert (await world.house.jobs.get(world.bob, long.job_id)).state is JobState.RUNNING
    assert await world.kinds(honest) == []


async def test_a_job_is_placed_by_the_score_of_now(world: World) -> None:
    node_id = await world.house.node()
    spec = parse_jobfile(JOB)

    async def reason() -> str | None:
        _, (verdict,) = await world.house.jobs.plan(world.bob, spec)
        return verdict.reason

    await world.put(node_id, 24.0)
    assert await reason() == "reputation below 25"
    world.clock.advance(10 * 3600)
    assert await world.score(node_id) > 25
    assert await reason() is None


async def test_strikes_ban_and_a_ban_takes_the_jobs_away_and_ends(world: World) -> None:
    node_id = await world.house.node()
    lease = await world.begin(node_id)
    await world.put(node_id, 51.0, strikes=2)
    await world.told(node_id, Kind.TIMEOUT)
    node = await world.node(node_id)
    assert (node.state, node.bans, node.strikes) == (NodeState.BANNED, 1, 3)
    assert node.banned_until == world.clock.now() + BANS[0]
    job = await world.house.jobs.get(world.admin, lease.job_id)
    assert (job.state, job.node_losses) == (JobState.PENDING, 1)
    events = await world.house.store.read(lambda tx: tx.events(0, frozenset({"nodes"}), 100))
    assert events[-1].kind == "node.banned"

    assert await world.house.nodes.end_bans() == 0
    world.clock.advance(BANS[0].total_seconds())
    assert await world.house.nodes.end_bans() == 1
    node = await world.node(node_id)
    assert (node.state, node.banned_until, node.strikes, node.bans) == (NodeState.OFFLINE, None, 0, 1)
    assert await world.score(node_id) == 25.0
    await world.put(node_id, 51.0, strikes=2)
    await world.told(node_id, Kind.TIMEOUT)
    assert (await world.node(node_id)).banned_until == world.clock.now() + BANS[1], "the second is longer"


async def test_bans_by_hand_follow_the_same_rules(world: World) -> None:
    nodes, node_id = world.house.nodes, await world.house.node()
    await refusal(nodes.unban(world.admin, node_id), Code.CONFLICT)
    await nodes.ban(world.admin, node_id, None)
    assert (await world.node(node_id)).state is NodeState.BANNED
    await refusal(nodes.unban(world.bob, node_id), Code.FORBIDDEN)
    unbanned = await nodes.unban(world.admin, node_id)
    assert (unbanned.state, unbanned.standing.score, unbanned.bans) == (NodeState.OFFLINE, 25.0, 1)
    assert [(e.kind, e.delta) for e in await world.entries(node_id)] == [(Kind.UNBAN, -50.0), (Kind.BAN, 0.0)]


async def test_a_complaint_counts_once_a_job_and_from_its_owner_alone(world: World) -> None:
    nodes = world.house.nodes
    node_id, other = await world.house.node(), await world.house.node("other")
    lease = await world.begin(node_id)
    alice = await world.house.accounts.authenticate(world.house.alice)
    await refusal(nodes.complain(alice, node_id, lease.job_id, "slow"), Code.FORBIDDEN)
    assert "never ran" in await refusal(nodes.complain(world.bob, other, lease.job_id, "slow"), Code.CONFLICT)
    assert (await nodes.complain(world.bob, node_id, lease.job_id, "slow")).standing.score == 65.0
    await refusal(nodes.complain(world.bob, node_id, lease.job_id, "slow"), Code.EXISTS)
    assert (await world.score(node_id), await world.score(other)) == (65.0, 75.0)
    (entry,) = await world.entries(node_id)
    assert (entry.job_id, entry.note, entry.by) == (lease.job_id, "slow", world.bob.id)
    late = await world.begin(other)
    await world.house.report(late, await world.house.finished(b"weights"), after=1)
    world.clock.advance(timedelta(days=31).total_seconds())
    assert "too late" in await refusal(nodes.complain(world.bob, other, late.job_id, "slow"), Code.CONFLICT)


async def test_the_explanation_adds_up_and_keeps_others_jobs_to_itself(world: World) -> None:
    node_id = await world.house.node()
    for number in range(12):
        lease = await world.begin(node_id)
        await world.house.report(lease, await world.house.finished(b"weights %d" % number, loss=1.0), after=1)
        world.clock.advance(7 * 3600)
    await world.told(node_id, Kind.REFUSED)
    seen: list[Any] = []
    for actor in (world.admin, world.bob, await world.house.accounts.authenticate(world.house.alice)):
        document = await world.house.api.get_node(Call(actor, node_id))
        account = document["reputation_account"]
        total = account["start"] + account["earlier"] + sum(event["counts"] for event in account["events"])
        assert total == pytest.approx(account["score"], abs=1e-4)
        assert account["score"] == pytest.approx(document["reputation"] * 100, abs=1e-3)
        assert account["earlier"] > 0, "there are more events than are listed"
        assert account["events"][0]["kind"] == "refused"
        seen.append({event["job_id"] for event in account["events"][1:]})
    assert None not in seen[0]
    assert None not in seen[1], "they are bob's own"
    assert seen[2] == {None}


async def test_an_unknown_node_is_nobody(world: World) -> None:
    await world.told(NodeId("00000000-0000-4000-8000-000000000001"), Kind.SUCCESS)
    assert (await world.node(await world.house.node())).standing == Standing()
