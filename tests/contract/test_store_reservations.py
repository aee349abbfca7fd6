"""Every store keeps the contract of `ports.store` for reservations."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, ReservationId, Token, UserId
from cyxwiz.domain.job import Job, Lease
from cyxwiz.domain.node import NodeStatus
from cyxwiz.domain.payment import Movement
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import JobState, NodeState, ReservationState, ReservationTrigger
from cyxwiz.ports.store import JobQuery, NodeQuery, ReservationQuery, Store, Tx
from tests.contract.conftest import HandClock
from tests.contract.make import OWNER, START, job, node

NODE = NodeId("22222222-2222-4222-8222-222222222222")
MINUTE = timedelta(minutes=1)


def reservation(**given: Any) -> Reservation:
    values = {
        "id": ReservationId(str(uuid.uuid4())),
        "owner_id": OWNER,
        "node_id": NODE,
        "user_wallet": "wallet",
        "node_wallet": "",
        "started_at": START,
        "minutes": 60,
        "rate_units_per_hour": 100_000_000,
        "fee_percent": 10,
    }
    return Reservation(**{**values, **given})


def reserved(of: Reservation, **given: Any) -> Job:
    made = job(**given)
    return replace(made, spec=replace(made.spec, reservation_id=of.id))


async def test_a_reservation_comes_back_as_it_went_in(store: Store) -> None:
    given = reservation(
        state=ReservationState.FAILED,
        held=True,
        escrow_account="account",
        extensions=3,
        heard_at=START + timedelta(microseconds=1),
        metrics={"loss": 0.25},
        reported_jobs=("a", "b"),
        proven_at=START + MINUTE,
        node_lost_at=START + 2 * MINUTE,
        away_seconds=1.5,
        ended_at=START + 3 * MINUTE,
        paid_units=2**62,
        charged=True,
    )
    await store.write(lambda tx: tx.add_reservation(given))
    assert await store.read(lambda tx: tx.reservation(given.id)) == given
    assert await store.read(lambda tx: tx.reservation(reservation().id)) is None


async def test_a_save_is_guarded_by_the_version_that_was_read(store: Store) -> None:
    given = reservation()
    await store.write(lambda tx: tx.add_reservation(given))
    moved = given.move(ReservationTrigger.CONNECT, heard_at=START)
    saved = await store.write(lambda tx: tx.save_reservation(moved))
    assert saved == replace(moved, version=1)
    assert await store.read(lambda tx: tx.reservation(given.id)) == saved
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.save_reservation(moved))
    assert caught.value.code is Code.STALE


async def test_a_node_has_at_most_one_that_is_live(store: Store) -> None:
    first, second = reservation(), reservation()
    await store.write(lambda tx: tx.add_reservation(first))
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_reservation(second))
    assert caught.value.code is Code.EXISTS
    ended = first.end(ReservationTrigger.CANCEL, START + MINUTE, MINUTE, "released")
    await store.write(lambda tx: tx.save_reservation(ended))
    await store.write(lambda tx: tx.add_reservation(second))
    assert await store.read(lambda tx: tx.reservation_of(NODE)) == second
    assert await store.read(lambda tx: tx.live_reservations()) == [second]
    other = reservation(node_id=NodeId(str(uuid.uuid4())))
    assert await store.read(lambda tx: tx.reservation_of(other.node_id)) is None


async def test_what_ended_is_owed_until_it_is_settled(store: Store) -> None:
    given = reservation()
    await store.write(lambda tx: tx.add_reservation(given))
    assert await store.read(lambda tx: tx.unsettled_reservations(10)) == []
    ended = given.end(ReservationTrigger.EXPIRE, START + 60 * MINUTE, 60 * MINUTE, "its time is over")
    saved = await store.write(lambda tx: tx.save_reservation(ended))
    assert await store.read(lambda tx: tx.unsettled_reservations(10)) == [saved]
    await store.write(lambda tx: tx.save_reservation(replace(saved, settled_at=START + 61 * MINUTE)))
    assert await store.read(lambda tx: tx.unsettled_reservations(10)) == []


@pytest.mark.parametrize(
    ("moves", "late"),
    [
        ((), False),
        ((("lock", "confirmed"),), True),
        ((("lock", "pending"),), True),
        ((("lock", "failed"),), False),
        ((("lock", "confirmed"), ("settle", "failed")), True),
        ((("lock", "confirmed"), ("assign", "confirmed")), True),
        ((("lock", "confirmed"), ("settle", "confirmed")), False),
        ((("lock", "failed"), ("lock", "confirmed"), ("refund", "confirmed")), False),
    ],
)
@pytest.mark.parametrize("settled", [True, False])
async def test_a_lock_without_an_end_is_found_once_its_reservation_is_settled(
    store: Store, moves: tuple[tuple[str, str], ...], late: bool, settled: bool
) -> None:
    given = reservation(settled_at=START if settled else None)
    other = reservation(node_id=NodeId(str(uuid.uuid4())), settled_at=START)

    def unit(tx: Tx) -> None:
        tx.add_reservation(given)
        tx.add_reservation(other)
        for number, (kind, state) in enumerate(moves):
            one = Movement(f"m{number}", kind, 1, "a", "b", START, payment_id="p", job_id=given.id, state=state)
            tx.add_movement(one)
        for kind in ("lock", "refund"):
            tx.add_movement(Movement(kind, kind, 1, "a", "b", START, payment_id="q", job_id=other.id))

    await store.write(unit)
    found = await store.read(lambda tx: tx.settled_reservations_with_locks(10))
    assert found == ([given] if late and settled else [])


async def test_lists_are_newest_first_filtered_and_paged(store: Store) -> None:
    made = [
        reservation(node_id=NodeId(str(uuid.uuid4())), started_at=START + index * MINUTE, user_wallet=f"w{index % 2}")
        for index in range(5)
    ]
    foreign = reservation(owner_id=UserId(str(uuid.uuid4())), node_id=NodeId(str(uuid.uuid4())))
    for each in (*made, foreign):
        await store.write(lambda tx, each=each: tx.add_reservation(each))
    newest = list(reversed(made))
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(owner_id=OWNER, limit=2)))
    assert (list(page.items), page.total) == (newest[:2], 5)
    after = (newest[1].started_at, newest[1].id)
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(owner_id=OWNER, limit=2, after=after)))
    assert list(page.items) == newest[2:4]
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(owner_id=OWNER, limit=2, offset=4)))
    assert list(page.items) == newest[4:]
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(owner_id=OWNER, wallet="w1")))
    assert list(page.items) == [made[3], made[1]]
    assert (await store.read(lambda tx: tx.reservations(ReservationQuery()))).total == 6
    held = [replace(each, held=True, escrow_account="account") for each in made]
    held[:3] = [replace(held[0], settled_at=START), replace(held[1], held=False), replace(held[2], escrow_account="")]
    for each in held:
        await store.write(lambda tx, each=each: tx.save_reservation(each))
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(owner_id=OWNER, locked=True)))
    assert [each.id for each in page.items] == [made[4].id, made[3].id]
    late = START + 60 * MINUTE  # the first one's last moment is over, and the foreign one's
    page = await store.read(lambda tx: tx.reservations(ReservationQuery(at=late)))
    assert [each.id for each in page.items] == [each.id for each in newest[:4]]


async def test_a_node_knows_who_keeps_it_until_the_time_is_over(store: Store, backend: Any) -> None:
    kept, free = replace(node("kept"), id=NODE), node("free")
    given = reservation(started_at=backend.clock.now())

    def unit(tx: Any) -> None:
        tx.add_node(kept)
        tx.add_node(free)
        tx.add_reservation(given)

    await store.write(unit)
    found = await store.read(lambda tx: tx.node(NODE))
    assert found is not None
    assert found.reservation_id == given.id
    fleet = await store.read(lambda tx: tx.fleet())
    assert {each.name: each.reservation_id for each in fleet} == {"kept": given.id, "free": ""}
    backend.clock.advance(3600)
    over = await store.read(lambda tx: tx.node(NODE))
    assert over is not None
    assert over.reservation_id == ""
    assert {each.reservation_id for each in await store.read(lambda tx: tx.fleet())} == {""}


async def test_jobs_belong_to_their_reservation_and_come_first(store: Store) -> None:
    given = reservation()
    done = reserved(given, name="done", state=JobState.COMPLETED, completed_at=START + MINUTE)
    later = reserved(given, name="later", state=JobState.COMPLETED, completed_at=START + 2 * MINUTE)
    failed = reserved(given, name="failed", state=JobState.FAILED, completed_at=START + 3 * MINUTE)
    waits = reserved(given, name="waits", created_at=START + MINUTE)
    foreign = job("foreign")
    for each in (done, later, failed, foreign, waits):
        await store.write(lambda tx, each=each: tx.add_job(each))
    jobs = await store.read(lambda tx: tx.reserved_jobs(given.id))
    assert ([each.id for each in jobs.open], jobs.completed) == ([waits.id], 2)
    assert jobs.last_completed_at == START + 2 * MINUTE
    assert (await store.read(lambda tx: tx.reserved_jobs(reservation().id))).last_completed_at is None
    listed = await store.read(lambda tx: tx.jobs(JobQuery(reservation_id=given.id)))
    assert {each.id for each in listed.items} == {done.id, later.id, failed.id, waits.id}
    assert listed.items[0].spec.reservation_id == given.id
    due = await store.read(lambda tx: tx.due_jobs(10))
    assert [each.id for each in due] == [waits.id, foreign.id]
    first = await store.read(lambda tx: tx.job(waits.id))
    assert [each.id for each in await store.read(lambda tx: tx.due_jobs(10, first))] == [foreign.id]


async def test_nodes_are_found_by_the_status_that_they_show(store: Store, clock: HandClock) -> None:
    _, online, draining, _, full, kept = made = [
        node("offline"),
        node("online", state=NodeState.ONLINE, max_concurrent_jobs=2),
        node("draining", state=NodeState.ONLINE, cordoned=True),
        node("banned", state=NodeState.BANNED),
        node("full", state=NodeState.ONLINE),
        node("kept", state=NodeState.ONLINE),
    ]
    given = [job(), job()]

    def unit(tx: Tx) -> None:
        for each in made:
            tx.add_node(each)
        for each in given:
            tx.add_job(each)
        tx.add_lease(Lease(given[0].id, Token(1, 1), online.id, START))
        tx.add_lease(Lease(given[1].id, Token(1, 2), full.id, START))
        tx.add_reservation(reservation(node_id=kept.id, held=True))
        tx.add_reservation(reservation(node_id=draining.id, held=True))

    await store.write(unit)
    everything = await store.read(lambda tx: tx.nodes(NodeQuery()))
    for status in get_args(NodeStatus):
        page = await store.read(lambda tx, status=status: tx.nodes(NodeQuery(status=status)))
        assert [each.id for each in page.items] == [each.id for each in everything.items if each.status == status]
        assert (page.total, len(page.items)) == (2, 2) if status == "busy" else (1, 1), status
    clock.advance(3601)
    free = await store.read(lambda tx: tx.nodes(NodeQuery(status="online")))
    assert [each.name for each in free.items] == ["kept", "online"]
