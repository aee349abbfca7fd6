"""What a reservation leaves in the records: what its node did to it, and what its jobs cost."""

from __future__ import annotations

import pytest

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.reputation import Kind
from cyxwiz.domain.states import JobState
from cyxwiz.services import leases
from tests.contract.conftest import HandClock
from tests.integration.test_reservations import (
    Central,
    S,
    alice,
    beat,
    clock,
    job_of,
    lost,
    one,
    place,
    reserve,
    rig,
    run,
    server,
)

__all__ = ["clock", "server"]


async def events_of(server: Central, node_id: NodeId) -> list[tuple[Kind, float]]:
    found = await server.store.read(lambda tx: tx.reputation_entries(node_id, 10))
    return [(each.kind, each.delta) for each in found]


@pytest.mark.parametrize("left", [False, True], ids=["silent", "left"])
@pytest.mark.parametrize("job", [False, True], ids=["idle", "at work"])
async def test_a_node_that_goes_away_under_an_engine_loses_points_once(server: Central, left: bool, job: bool) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=job)
    if job:
        await place(server)
        (lease,) = await server.store.read(lambda tx: tx.live_leases())
        work = await job_of(server, lease.job_id)
        await server.store.write(lambda tx: leases.accept(tx, work, lease, "boot"))
    await beat(server, made)
    if left:
        await server.nodes.farewell(node_id, "its owner stopped it")
        await server.reservations.attend()
    else:
        await lost(server, node_id)
    assert (await one(server, made)).state is S.FAILED
    assert await events_of(server, node_id) == [(Kind.DISCONNECT, -5.0)]


async def test_a_reserved_node_that_nobody_uses_may_go_away(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id)
    clock.advance(120)
    await lost(server, node_id)
    assert (await one(server, made)).live
    assert await events_of(server, node_id) == []


async def test_its_jobs_cost_nothing_beside_it(server: Central) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await place(server)
    await run(server, made.look.reservation.id, node_id)
    done = await job_of(server, made.look.reservation.id)
    assert (done.state, done.actual_cost_units) == (JobState.COMPLETED, 0)
    ended = await server.reservations.release(await alice(server), done.id)
    assert (ended.paid_units, (await job_of(server, done.id)).actual_cost_units) == (0, 0)
