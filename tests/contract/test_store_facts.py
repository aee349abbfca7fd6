"""Every store: events, idempotency keys and owed effects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.events import JobCompleted, JobStarted, JobSubmitted, NodeJoined
from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.reputation import Cause, Kind, ReputationEntry
from cyxwiz.domain.states import JobState
from cyxwiz.ports.store import JobQuery, Store, Tx
from tests.contract.conftest import Backend, HandClock
from tests.contract.make import OWNER, START, job, node

NODE = NodeId("22222222-2222-4222-8222-222222222222")
HOUR = timedelta(hours=1)


async def test_events_by_topic_in_order(store: Store, clock: HandClock) -> None:
    assert await store.read(lambda tx: (tx.first_seq(), tx.last_seq())) == (1, 0)
    a, b = job(), job()
    await store.write(lambda tx: tx.emit(JobSubmitted(a.id, OWNER, "a"), private_to=OWNER))
    await store.write(lambda tx: [tx.emit(JobSubmitted(b.id, OWNER)), tx.emit(JobStarted(a.id, OWNER, "node"))])
    await store.write(lambda tx: tx.emit(NodeJoined(NODE, "n")))

    async def kinds(*topics: str, after: int = 0, limit: int = 100) -> list[str]:
        return [e.kind for e in await store.read(lambda tx: tx.events(after, frozenset(topics), limit))]

    every = await store.read(lambda tx: tx.events(0, frozenset(), 100))
    assert [e.seq for e in every] == sorted({e.seq for e in every})
    assert every[0].topics == ("jobs", f"job:{a.id}")
    assert (every[0].owner_id, every[1].owner_id) == (OWNER, "")
    assert every[0].data == {"job_id": a.id, "owner_id": OWNER, "name": "a"}
    assert every[0].at == clock.now()
    assert await kinds("*") == ["job.submitted", "job.submitted", "job.started", "node.joined"]
    assert await kinds("jobs") == ["job.submitted", "job.submitted", "job.started"]
    assert await kinds(f"job:{a.id}") == ["job.submitted", "job.started"]
    assert await kinds(f"job:{a.id}", after=every[0].seq) == ["job.started"]
    assert await kinds("jobs", f"job:{a.id}", "nodes", limit=4) == [e.kind for e in every]
    assert await kinds("nodes", f"job:{b.id}", limit=1) == ["job.submitted"]
    assert await store.read(lambda tx: tx.last_seq()) == every[-1].seq


async def test_pruned_events_leave_their_place(store: Store, clock: HandClock) -> None:
    given = job()
    for _ in range(3):
        await store.write(lambda tx: tx.emit(JobSubmitted(given.id, OWNER)))
        clock.advance(10)
    seqs = [e.seq for e in await store.read(lambda tx: tx.events(0, frozenset(), 9))]
    assert await store.write(lambda tx: tx.prune_events(START + timedelta(seconds=10))) == 1
    assert await store.read(lambda tx: (tx.first_seq(), tx.last_seq())) == (seqs[1], seqs[2])
    assert await store.write(lambda tx: tx.prune_events(clock.now())) == 1
    assert await store.read(lambda tx: (tx.first_seq(), tx.last_seq())) == (seqs[2], seqs[2])
    await store.write(lambda tx: tx.emit(JobCompleted(given.id, OWNER)))
    assert await store.read(lambda tx: tx.last_seq()) > seqs[2]


async def test_topics_are_published_after_the_commit_only(backend: Backend) -> None:
    store = await backend.open()
    woken = backend.bus.subscribe("jobs", "mine")
    given = job()

    def fails(tx: Tx) -> None:
        tx.emit(JobSubmitted(given.id, OWNER))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(fails)
    assert await woken.changed(0) == frozenset()
    await store.write(lambda tx: [tx.emit(JobSubmitted(given.id, OWNER)), tx.hint("mine", "other")])
    assert await woken.changed(0) == {"jobs", "mine"}


async def test_idempotency_keys(store: Store, clock: HandClock) -> None:
    await store.write(lambda tx: tx.remember("submit", "key", "digest", "answer"))
    assert await store.read(lambda tx: tx.remembered("submit", "key")) == ("digest", "answer")
    assert await store.read(lambda tx: tx.remembered("cancel", "key")) is None
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: [tx.add_job(job()), tx.remember("submit", "key", "other", "x")])
    assert caught.value.code is Code.EXISTS
    assert (await store.read(lambda tx: tx.jobs(JobQuery()))).total == 0
    clock.advance(60)
    assert await store.write(lambda tx: tx.prune_idempotency(clock.now())) == 1
    assert await store.read(lambda tx: tx.remembered("submit", "key")) is None


async def test_outbox(store: Store, clock: HandClock) -> None:
    await store.write(lambda tx: tx.add_outbox("hook", "b", {"n": 2}, START + timedelta(seconds=5)))
    await store.write(lambda tx: [tx.add_outbox("hook", "a", {"n": 1}, START) for _ in range(2)])
    await store.write(lambda tx: tx.add_outbox("push", "a", {}, START))
    (due,) = await store.write(lambda tx: tx.due_outbox("hook", 9))
    assert (due.kind, due.key, due.payload, due.due_at) == ("hook", "a", {"n": 1}, START)
    clock.advance(10)
    found = await store.write(lambda tx: tx.due_outbox("hook", 9))
    assert [each.key for each in found] == ["a", "b"]
    await store.write(lambda tx: tx.finish_outbox(due.id))
    assert [each.key for each in await store.write(lambda tx: tx.due_outbox("hook", 9))] == ["b"]


async def test_what_moved_a_reputation_is_kept_in_order_and_a_complaint_once(store: Store, clock: HandClock) -> None:
    rig, other = node("rig", strikes=2, bans=1, reputation_at=START), node("other")
    given = job()
    await store.write(lambda tx: [tx.add_node(rig), tx.add_node(other)])
    found = await store.read(lambda tx: tx.node(rig.id))
    assert found is not None
    assert found.standing == rig.standing

    def entry(kind: Kind, **more: Any) -> ReputationEntry:
        return ReputationEntry(rig.id, clock.now(), kind, Cause.NODE, -0.5, **more)

    first = [entry(Kind.FAILURE, job_id=given.id, note="why\0"), entry(Kind.BAN)]
    await store.write(lambda tx: tx.add_reputation(first))
    clock.advance(10)
    complaint = entry(Kind.COMPLAINT, job_id=given.id, by=OWNER)
    await store.write(lambda tx: tx.add_reputation([complaint]))
    kept = await store.read(lambda tx: tx.reputation_entries(rig.id, 2))
    assert list(kept) == [complaint, first[1]]
    assert await store.read(lambda tx: tx.reputation_entries(other.id, 9)) == []
    assert await store.read(lambda tx: tx.complained(rig.id, given.id))
    assert not await store.read(lambda tx: tx.complained(other.id, given.id))
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_reputation([complaint]))
    assert caught.value.code is Code.EXISTS
    assert await store.write(lambda tx: tx.prune_reputation(clock.now())) == 2
    assert list(await store.read(lambda tx: tx.reputation_entries(rig.id, 9))) == [complaint]


async def test_budgets_and_what_a_month_costs(store: Store, clock: HandClock) -> None:
    month = START
    given = [
        job(estimated_cost_units=3, actual_cost_units=0),
        job(estimated_cost_units=MAX_UNITS, state=JobState.RUNNING),
        job(state=JobState.COMPLETED, actual_cost_units=MAX_UNITS, completed_at=START + HOUR),
        job(state=JobState.COMPLETED, actual_cost_units=5, completed_at=START + HOUR),
        job(state=JobState.COMPLETED, actual_cost_units=7, completed_at=START - HOUR, estimated_cost_units=9),
        job(owner_id=UserId("other"), estimated_cost_units=11),
    ]
    await store.write(lambda tx: [tx.add_job(each) for each in given])
    assert await store.read(lambda tx: tx.budget(OWNER)) is None
    await store.write(lambda tx: tx.set_budget(OWNER, 1))
    await store.write(lambda tx: tx.set_budget(OWNER, MAX_UNITS))
    assert await store.write(lambda tx: tx.budget(OWNER)) == MAX_UNITS
    assert await store.read(lambda tx: tx.costs_since(OWNER, month)) == (MAX_UNITS + 3, MAX_UNITS + 5)
    for units in (13, 17):
        await store.write(lambda tx: tx.add_deleted_cost(UserId("other"), month, units))  # noqa: B023
    assert await store.read(lambda tx: tx.costs_since(UserId("other"), month)) == (11, 30)
    await store.write(lambda tx: tx.add_deleted_cost(UserId("other"), month, MAX_UNITS))
    assert await store.read(lambda tx: tx.costs_since(UserId("other"), month)) == (11, MAX_UNITS)
    assert await store.read(lambda tx: tx.costs_since(UserId("other"), START + HOUR)) == (11, 0)
    await store.write(lambda tx: tx.set_budget(OWNER, None))
    assert await store.read(lambda tx: tx.budget(OWNER)) is None
