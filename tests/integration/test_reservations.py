"""Reservations as services on a store in memory and a clock that is moved by hand."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.job import JobSpec
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import JobState, ReservationState
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.policy import plan
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services import leases
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.reservations import Pass
from tests.contract.conftest import HandClock
from tests.wiring import JOB, Central, central

S = ReservationState
PRICE = 600_000_000  # units an hour: ten million a minute
MINUTE = PRICE // 60


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def server(tmp_path: Path, clock: HandClock) -> AsyncIterator[Central]:
    running = await central(tmp_path, clock=clock)
    yield running
    await running.aclose()


async def alice(server: Central) -> Principal:
    return await server.accounts.authenticate(server.alice)


async def rig(server: Central, name: str = "rig") -> NodeId:
    return await server.node(name, pricing=NodePricing(per_hour_units=PRICE))


def spec(**given: Any) -> JobSpec:
    return parse_jobfile({**JOB, **given})


async def reserve(server: Central, node_id: str, minutes: int = 60, *, job: bool = False, key: str = "") -> Pass:
    return await server.reservations.reserve(
        await alice(server), node_id, "wallet", minutes, spec() if job else None, key
    )


async def one(server: Central, made: Pass) -> Reservation:
    found = await server.store.read(lambda tx: tx.reservation(made.look.reservation.id))
    assert found is not None
    return found


async def beat(server: Central, made: Pass, **given: Any) -> Any:
    told = {"job_id": "", "training": True, "progress": 0.0, "metrics": {}, **given}
    return await server.reservations.heartbeat(await alice(server), made.look.reservation.id, **told)


async def place(server: Central) -> None:
    await Placer(server.store, server.bus, server.jobs, Weights(), poll_seconds=1.0).place()


async def job_of(server: Central, job_id: str) -> Any:
    found = await server.store.read(lambda tx: tx.job(JobId(job_id)))
    assert found is not None
    return found


async def run(server: Central, job_id: str, node_id: NodeId) -> None:
    """Brings a job to its end."""
    lease = (await server.store.read(lambda tx: tx.leases_of(JobId(job_id))))[-1]
    assert lease.node_id == node_id
    await server.report(lease, await server.finished(job_id.encode(), loss=0.5))


async def lost(server: Central, node_id: NodeId) -> None:
    await server.store.write(lambda tx: server.nodes.expire(tx, node_id))
    await server.reservations.attend()


# reserve


async def test_a_node_is_kept_at_its_own_price_for_as_long_as_was_asked(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, 15)
    kept = made.look.reservation
    assert (kept.state, kept.held, kept.escrow_account) == (S.PENDING, True, "")
    assert (kept.rate_units_per_hour, kept.escrow_units) == (PRICE, 15 * MINUTE)
    assert kept.ends_at == clock.now() + timedelta(minutes=15)
    node = await server.nodes.get(node_id)
    assert (node.status, node.reservation_id) == ("busy", kept.id)
    claims = jwt.decode(made.token, options={"verify_signature": False})
    assert claims["exp"] == made.expires_at == int(kept.ends_at.timestamp()) + 300
    assert claims["exp"] - claims["iat"] == 15 * 60 + 300, "a duration, not a date"
    assert (claims["job_id"], claims["reservation_id"], claims["node_id"]) == (kept.id, kept.id, node_id)


@pytest.mark.parametrize(
    ("minutes", "code", "says"), [(9, Code.INVALID, "from 10"), (1441, Code.INVALID, "1440"), (0, Code.INVALID, "0")]
)
async def test_bounds(server: Central, minutes: int, code: Code, says: str) -> None:
    with pytest.raises(CyxError, match=says) as caught:
        await reserve(server, await rig(server), minutes)
    assert caught.value.code is code


async def test_nodes_that_can_not_be_reserved(server: Central) -> None:
    admin = await server.accounts.authenticate(server.admin)
    cases: dict[str, tuple[str, Code, str]] = {}
    taken = await rig(server, "taken")
    await reserve(server, taken)
    cases["taken"] = (taken, Code.CONFLICT, "is reserved until")
    away = await rig(server, "away")
    await server.nodes.farewell(away, "")
    cases["away"] = (away, Code.CONFLICT, "not online")
    drained = await rig(server, "drained")
    await server.nodes.cordon(admin, drained, on=True)
    cases["drained"] = (drained, Code.CONFLICT, "draining")
    closed = await rig(server, "closed")
    server.nodes.liveness.close(closed, "outside its hours")
    cases["closed"] = (closed, Code.CONFLICT, "outside its hours")
    busy = await rig(server, "busy")
    job, _ = await server.jobs.submit(admin, spec())
    await server.lease(job.id, busy)
    cases["busy"] = (busy, Code.CONFLICT, "runs 1 jobs")
    cases["unknown"] = (str(NodeId("9" * 8 + "-0000-4000-8000-000000000000")), Code.NOT_FOUND, "Node not found")
    cases["malformed"] = ("rig-1", Code.INVALID, "not a UUID")
    for name, (node_id, code, says) in cases.items():
        with pytest.raises(CyxError, match=says) as caught:
            await reserve(server, node_id)
        assert caught.value.code is code, name


async def test_a_job_that_the_node_can_not_take_reserves_nothing(server: Central) -> None:
    node_id = await rig(server)
    wants = spec(resources={"device": "cuda"})
    with pytest.raises(CyxError, match="no cuda device"):
        await server.reservations.reserve(await alice(server), node_id, "wallet", 60, wants)
    assert (await server.nodes.get(node_id)).status == "online"


async def test_a_repeated_key_gets_the_first_reservation(server: Central) -> None:
    node_id = await rig(server)
    first = await reserve(server, node_id, key="k")
    again = await reserve(server, node_id, key="k")
    assert again.look.reservation.id == first.look.reservation.id
    with pytest.raises(CyxError, match="idempotency key"):
        await reserve(server, node_id, 61, key="k")


# jobs


async def test_only_its_own_jobs_run_on_a_reserved_node_and_nowhere_else(server: Central, clock: HandClock) -> None:
    node_id, other = await rig(server, "a-rig"), await rig(server, "b-rig")
    made = await reserve(server, node_id, job=True)
    first = await job_of(server, made.look.reservation.id)
    assert first.spec.reservation_id == first.id == made.look.reservation.id
    bob = await server.accounts.authenticate(server.bob)
    foreign = []
    for _ in range(3):
        clock.advance(1)
        foreign.append((await server.jobs.submit(bob, spec()))[0])
    second, _ = await server.jobs.submit(await alice(server), spec(reservation=first.id))
    clock.advance(1)
    third, _ = await server.jobs.submit(await alice(server), spec(reservation=first.id))
    await place(server)
    assert [(await job_of(server, job.id)).node_id for job in (first, second)] == [node_id, node_id]
    assert [(await job_of(server, job.id)).node_id for job in foreign] == [other, other, None]
    waits = await job_of(server, third.id)
    assert (waits.state, waits.node_id) == (JobState.PENDING, None), "not elsewhere, where a slot may be free"
    assert "not the reserved node" in waits.reason
    verdicts = {each.node_id: each.reason for each in (await server.jobs.explain(bob, foreign[2].id)).verdicts}
    assert verdicts[node_id] == "reserved"
    await run(server, first.id, node_id)
    await place(server)
    assert (await job_of(server, third.id)).node_id == node_id
    look = await server.reservations.get(await alice(server), first.id)
    assert (look.jobs_completed, look.current_job_id) == (1, second.id)


async def test_a_job_may_name_only_a_live_reservation_of_its_owner(server: Central, clock: HandClock) -> None:
    made = await reserve(server, await rig(server))
    ident = made.look.reservation.id
    bob = await server.accounts.authenticate(server.bob)
    for actor, given, code in (
        (bob, {"reservation": ident}, Code.FORBIDDEN),
        (await alice(server), {"reservation": "9" * 8 + "-0000-4000-8000-000000000000"}, Code.NOT_FOUND),
        (await alice(server), {"reservation": ident, "resources": {"nodes": 2}}, Code.INVALID),
    ):
        with pytest.raises(CyxError) as caught:
            await server.jobs.submit(actor, spec(**given))
        assert caught.value.code is code
    with pytest.raises(CyxError, match="not a UUID"):
        spec(reservation="mine")
    clock.advance(3600)
    with pytest.raises(CyxError, match="is expired"):
        await server.jobs.submit(await alice(server), spec(reservation=ident))


async def test_a_placement_decided_before_the_reservation_is_not_carried_out(server: Central) -> None:
    node_id = await rig(server)
    bob = await server.accounts.authenticate(server.bob)
    job, _ = await server.jobs.submit(bob, spec())
    placer = Placer(server.store, server.bus, server.jobs, Weights(), poll_seconds=1.0)
    snapshot, _ = await server.store.read(lambda tx: placer._look(tx, None, None))
    decided = plan(snapshot)
    assert [each.node_id for each in decided.placements] == [node_id]
    await reserve(server, node_id)
    await server.store.write(lambda tx: placer._apply(tx, snapshot, decided))
    assert (await job_of(server, job.id)).state is JobState.PENDING


# use


async def test_heartbeats_make_it_active_and_say_when_to_extend(server: Central, clock: HandClock) -> None:
    made = await reserve(server, await rig(server), 10)
    ident = made.look.reservation.id
    heard = await beat(server, made, job_id=ident, progress=0.5, metrics={"loss": 0.25})
    assert (heard.reservation.state, heard.remaining, heard.should_extend) == (S.ACTIVE, timedelta(minutes=10), False)
    kept = await one(server, made)
    assert (kept.current_job_id, kept.job_progress, kept.metrics) == (ident, 0.5, {"loss": 0.25})
    clock.advance(301)
    assert (await beat(server, made)).should_extend
    assert not (await beat(server, made, training=False)).should_extend
    for given in (
        {"progress": 1.5},
        {"progress": float("nan")},
        {"metrics": {"x": float("inf")}},
        {"job_id": "x" * 101},
    ):
        with pytest.raises(CyxError) as caught:
            await beat(server, made, **given)
        assert caught.value.code is Code.INVALID
    clock.advance(300)
    with pytest.raises(CyxError, match="is expired") as caught:
        await beat(server, made)
    assert caught.value.details["expired"]
    kept = await one(server, made)
    assert (kept.state, kept.paid_units, kept.refunded_units) == (S.EXPIRED, 10 * MINUTE, 0)


async def test_heartbeats_name_jobs_of_the_reservation(server: Central) -> None:
    """An engine that comes back attaches to what the last one named."""
    made = await reserve(server, await rig(server), job=True)
    ident = made.look.reservation.id
    second, _ = await server.jobs.submit(await alice(server), spec(reservation=ident))
    foreign, _ = await server.jobs.submit(await alice(server), spec())
    for job_id in (foreign.id, str(uuid.uuid4()), f"{foreign.id}_1760000000"):
        with pytest.raises(CyxError) as caught:
            await beat(server, made, job_id=job_id)
        assert caught.value.code is Code.NOT_FOUND
    assert (await one(server, made)).heard_at is None
    for job_id in (ident, second.id, f"{ident}_1760000000", ""):
        assert (await beat(server, made, job_id=job_id)).reservation.current_job_id == job_id


async def test_extending_keeps_the_price_and_the_token_can_be_renewed(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, 10)
    longer, added, tx_hash = await server.reservations.extend(await alice(server), made.look.reservation.id, 5)
    assert (longer.minutes, added, tx_hash) == (15, 5 * MINUTE, "")
    clock.advance(12 * 60)
    assert (await server.reservations.attend()) == 0, "it was not over at the old end"
    again = await server.reservations.reconnect(await alice(server), longer.id, "wallet")
    assert again.expires_at == made.expires_at + 300
    with pytest.raises(CyxError, match="another wallet"):
        await server.reservations.reconnect(await alice(server), longer.id, "stolen")
    with pytest.raises(CyxError, match="not yours"):
        await server.reservations.reconnect(await server.accounts.authenticate(server.bob), longer.id, "wallet")
    with pytest.raises(CyxError, match="additional_minutes"):
        await server.reservations.extend(await alice(server), longer.id, 0)


async def test_a_release_pays_what_was_used_and_cancels_what_runs(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await place(server)
    clock.advance(61)
    ended = await server.reservations.release(await alice(server), made.look.reservation.id, "done")
    assert (ended.state, ended.used_seconds) == (S.CANCELLED, 61.0)
    assert (ended.paid_units, ended.refunded_units) == (2 * MINUTE, 58 * MINUTE)
    assert (ended.charged, ended.payment_tx_hash, ended.refund_tx_hash) == (False, "", "")
    job = await job_of(server, made.look.reservation.id)
    assert (job.state, "its reservation ended: done" in job.error) == (JobState.CANCELLED, True)
    assert (await server.nodes.get(node_id)).status == "online"
    again = await server.reservations.release(await alice(server), ended.id)
    assert again == ended, "a lost answer can be asked for again"
    await reserve(server, node_id)


async def test_a_reservation_that_nobody_uses_expires_and_is_paid(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, 10, job=True)
    clock.advance(599)
    assert await server.reservations.attend() == 0
    clock.advance(1)
    assert await server.reservations.attend() == 1
    assert (await server.reservations.settle_owed(), await server.reservations.settle_owed()) == (1, 0)
    kept = await one(server, made)
    assert (kept.state, kept.paid_units, kept.refunded_units) == (S.EXPIRED, 10 * MINUTE, 0)
    assert (await job_of(server, kept.id)).state is JobState.CANCELLED


async def test_one_that_is_over_gives_way_before_it_is_swept(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, 10)
    clock.advance(600)
    await reserve(server, node_id)
    assert (await one(server, made)).state is S.EXPIRED


# a node that goes away


async def test_a_node_lost_under_its_first_job_is_paid_nothing(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await beat(server, made)
    await place(server)
    clock.advance(60)
    await lost(server, node_id)
    kept = await one(server, made)
    assert (kept.state, kept.paid_units, kept.refunded_units) == (S.FAILED, 0, 60 * MINUTE)
    assert (await job_of(server, kept.id)).state is JobState.CANCELLED


async def test_a_node_lost_later_keeps_what_its_completed_jobs_took(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await place(server)
    clock.advance(300)
    await run(server, made.look.reservation.id, node_id)
    clock.advance(300)
    await beat(server, made)
    await lost(server, node_id)
    kept = await one(server, made)
    assert (kept.state, kept.paid_units, kept.refunded_units) == (S.FAILED, 5 * MINUTE, 55 * MINUTE)


async def test_a_begun_job_counts_as_use_without_heartbeats(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await place(server)
    clock.advance(60)
    await lost(server, node_id)
    assert (await one(server, made)).state is S.FAILED


async def test_the_room_is_kept_for_a_node_that_nobody_misses(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id)
    clock.advance(120)
    await server.store.write(lambda tx: tx.touch_nodes({node_id: 0.0}))
    await lost(server, node_id)
    kept = await one(server, made)
    assert (kept.state, kept.node_lost_at) == (S.PENDING, clock.now())
    clock.advance(180)
    await server.store.write(lambda tx: server.nodes.came_online(tx, _known(tx, node_id)))
    await server.reservations.attend()
    kept = await one(server, made)
    assert (kept.node_lost_at, kept.away_seconds) == (None, 180.0)
    clock.advance(60)
    ended = await server.reservations.release(await alice(server), kept.id)
    assert (ended.used_seconds, ended.paid_units) == (180.0, 3 * MINUTE)


@pytest.mark.parametrize("drained", [False, True])
async def test_the_time_in_which_the_node_takes_no_jobs_is_not_paid(
    server: Central, clock: HandClock, drained: bool
) -> None:
    """Its owner's limits close it, or an admin drains it: the job waits for it, and nobody pays."""
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)

    async def shut(on: bool) -> None:
        if drained:
            await server.nodes.cordon(await server.accounts.authenticate(server.admin), node_id, on=on)
        else:
            server.nodes.liveness.close(node_id, "it is too hot" if on else "")
        await server.reservations.attend()

    clock.advance(120)
    server.nodes.liveness.heard(node_id)
    await shut(True)
    clock.advance(600)
    server.nodes.liveness.heard(node_id)
    assert (await beat(server, made)).reservation.live
    await shut(False)
    clock.advance(60)
    ended = await server.reservations.release(await alice(server), made.look.reservation.id)
    assert (ended.used_seconds, ended.paid_units) == (180.0, 3 * MINUTE)


async def test_an_engine_that_finds_its_node_gone_has_its_reservation_ended(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id)
    await lost(server, node_id)
    with pytest.raises(CyxError, match="is failed: its node went away"):
        await beat(server, made)
    kept = await one(server, made)
    assert (kept.state, kept.paid_units) == (S.FAILED, 0)


def _known(tx: Any, node_id: NodeId) -> Any:
    node = tx.node(node_id)
    assert node is not None
    return node


# the two sides


async def test_the_engine_s_word_ends_it_where_central_keeps_the_books(server: Central, clock: HandClock) -> None:
    made = await reserve(server, await rig(server))
    clock.advance(90)
    ended = await server.reservations.engine_ended(await alice(server), made.look.reservation.id)
    assert (ended.state, ended.paid_units) == (S.COMPLETED, 2 * MINUTE)
    assert await server.reservations.engine_ended(await alice(server), ended.id) == ended


@pytest.mark.parametrize("first", ["engine", "node"])
async def test_a_node_of_the_earlier_kind_has_to_agree(server: Central, clock: HandClock, first: str) -> None:
    node_id = await rig(server)
    await server.store.write(lambda tx: tx.save_node(replace(_known(tx, node_id), legacy=True)))
    made = await reserve(server, node_id, job=True)
    ident = made.look.reservation.id
    assert await server.store.read(lambda tx: tx.job(JobId(ident))) is None, "its client sends the job"
    actor = await alice(server)

    async def engine() -> Reservation:
        return await server.reservations.engine_ended(actor, ident)

    async def node() -> Reservation:
        return await server.reservation_reports.node_ended(node_id, ident)

    told = await server.reservation_reports.job_ended(node_id, ident, "a-job", True, {"loss": 0.5})
    assert (told.jobs, round(told.change, 6)) == (1, 0.01)
    again = await server.reservation_reports.job_ended(node_id, ident, "a-job", True, {})
    assert (again.jobs, again.change) == (1, 0.0)
    worse = await server.reservation_reports.job_ended(node_id, ident, "b-job", False, {})
    assert (worse.jobs, round(worse.change, 6)) == (2, -0.005)
    clock.advance(60)
    waiting = await (engine if first == "engine" else node)()
    assert (waiting.live, waiting.ending) == (True, True)
    assert (await server.nodes.get(node_id)).status == "busy", "it is free when both have said so"
    clock.advance(600)
    ended = await (node if first == "engine" else engine)()
    assert (ended.state, ended.paid_units) == (S.COMPLETED, MINUTE), "what counts is the first word"
    other = await rig(server, "other")
    for call in (
        server.reservation_reports.node_ended(other, ident),
        server.reservation_reports.job_ended(other, ident, "c", True, {}),
    ):
        with pytest.raises(CyxError, match="of another node"):
            await call


async def test_a_job_of_central_s_own_books_moves_no_reputation(server: Central) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, job=True)
    await place(server)
    await run(server, made.look.reservation.id, node_id)
    before = (await server.nodes.get(node_id)).reputation
    told = await server.reservation_reports.job_ended(
        node_id, made.look.reservation.id, made.look.reservation.id, True, {}
    )
    assert (told.jobs, told.change, told.reputation) == (1, 0.0, before)


async def test_leases_of_a_reservation_end_with_it(server: Central, clock: HandClock) -> None:
    node_id = await rig(server)
    made = await reserve(server, node_id, 10, job=True)
    await place(server)
    assert len(await server.store.read(lambda tx: tx.live_leases(node_id))) == 1
    clock.advance(600)
    await server.reservations.attend()
    assert len(await server.store.read(lambda tx: leases.live(tx, node_id))) == 0
    assert (await one(server, made)).state is S.EXPIRED
