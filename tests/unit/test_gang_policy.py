"""Placing jobs of several nodes: all members or none, nobody waits for ever."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.job import Job, Strategy
from cyxwiz.domain.link import Link, Links, Pair, pair
from cyxwiz.domain.node import GANG, Node
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.links import between, distance
from cyxwiz.scheduler.policy import Plan, Snapshot, candidate, plan
from cyxwiz.services.liveness import Liveness
from tests.contract.conftest import HandClock
from tests.unit.test_policy import a_job, a_node

NEVER = 1e9


def member(number: int, *, network: str = "lan", slots: int = 1, **given: object) -> Node:
    return a_node(number, slots=slots, extras={"features": [f"{GANG}{network}"] if network else []}, **given)


def seen(node: Node, *held: Job, trip: float | None = None, rate: float | None = None) -> Candidate:
    return candidate(node, [job.spec for job in held], 1.0, round_trip_seconds=trip, network_rate=rate)


def decide(
    jobs: Sequence[Job],
    nodes: Sequence[Candidate],
    waited: float = 0.0,
    patience: Patience | None = None,
    links: Links | None = None,
) -> Plan:
    waits = {job.id: waited for job in jobs}
    return plan(Snapshot(jobs, nodes, waited=waits, patience=patience or Patience(), links=links or {}))


def link(one: Candidate, other: Candidate, trip: float, rate: float) -> tuple[Pair, Link]:
    return pair(one.id, other.id), Link(trip, rate, datetime(2026, 1, 1, tzinfo=UTC))


def gang(strategy: Strategy, nodes: int) -> Job:
    job = a_job(1, nodes=nodes)
    return replace(job, spec=replace(job.spec, strategy=strategy))


def test_all_members_or_none() -> None:
    gang, nodes = a_job(1, nodes=3), [seen(member(number)) for number in range(1, 4)]
    (placed,) = decide([gang], nodes).placements
    assert {placed.node_id, *placed.others} == {node.id for node in nodes}
    few = decide([gang], nodes[:2])
    assert not few.placements
    assert few.waiting[gang.id] == "needs 3 nodes at once, 2 free; only 2 of one network could ever take it"
    busy = decide([gang], [*nodes[:2], seen(nodes[2].node, a_job(9))])
    assert busy.waiting[gang.id] == "needs 3 nodes at once, 2 free"
    assert [each.free_slots for each in busy.left] == [1, 1, 0], "nothing is held while it waits"


def test_one_member_a_node() -> None:
    assert not decide([a_job(1, nodes=2)], [seen(member(1, slots=8))]).placements


def test_members_share_a_network() -> None:
    gang = a_job(1, nodes=2)
    apart = [seen(member(1, network="a")), seen(member(2, network="b")), seen(member(3, network=""))]
    assert not decide([gang], apart).placements
    (placed,) = decide([gang], [*apart, seen(member(4, network="b"))]).placements
    assert set(placed.node_ids) == {apart[1].id, member(4).id}


def test_members_are_connected_to_the_central_that_places_them() -> None:
    """There they find each other; what one central decides of another's nodes would wait in vain for minutes."""
    job, near = a_job(1, nodes=2), seen(member(1))
    far = replace(seen(member(2)), here=False)
    assert why_not(job.spec, far) == "not connected to this central, as members of a gang must be"
    assert not decide([job], [near, far]).placements
    assert decide([a_job(2)], [far]).placements
    clock, node_id = HandClock(), near.id
    liveness = Liveness(clock, 30)
    assert not liveness.here(node_id)
    liveness.heard(node_id)
    assert liveness.here(node_id)
    clock.advance(31)
    assert not liveness.here(node_id)


def test_the_nearest_group_is_taken() -> None:
    near = [seen(member(number), trip=0.0005 * number) for number in (5, 6)]
    far = [seen(member(number), trip=0.2) for number in (1, 2)]
    unknown = [seen(member(3))]
    (placed,) = decide([a_job(1, nodes=2)], [*far, *unknown, *near]).placements
    assert set(placed.node_ids) == {each.id for each in near}
    assert distance(near[0]) < distance(far[0]) < distance(unknown[0])
    in_lan = [seen(member(number, network="lan"), trip=0.0001) for number in (7, 8)]
    in_wan = [seen(member(number, network="wan"), trip=0.05) for number in (1, 2)]
    (placed,) = decide([a_job(1, nodes=2)], [*in_wan, *in_lan]).placements
    assert set(placed.node_ids) == {each.id for each in in_lan}


FAST, SLOW = 1e9, 2e6  # bytes a second


@pytest.mark.parametrize(
    ("strategy", "taken"),
    [(Strategy.DDP, {3, 4}), (Strategy.FSDP, {3, 4}), (Strategy.LOCAL_SGD, {1, 2}), (Strategy.DILOCO, {1, 2})],
)
def test_who_exchanges_each_step_gets_fast_links_and_others_near_nodes(strategy: Strategy, taken: set[int]) -> None:
    """Nodes 1 and 2 are nearest and slow; 3 and 4 are fast; of 5 and 6 nobody knows how fast they are."""
    trips = {1: 0.0005, 2: 0.0005, 3: 0.003, 4: 0.003, 5: 0.0009, 6: 0.0009}
    rates = {1: SLOW, 2: SLOW, 3: FAST, 4: FAST, 5: None, 6: None}
    nodes = [seen(member(number), trip=trips[number], rate=rates[number]) for number in trips]
    (placed,) = decide([gang(strategy, 2)], nodes).placements
    assert set(placed.node_ids) == {member(number).id for number in taken}


def test_unknown_rates_come_last() -> None:
    nodes = [seen(member(1), trip=0.0001), seen(member(2), trip=0.0001)]
    known = [seen(member(number), trip=0.05, rate=SLOW) for number in (3, 4)]
    (placed,) = decide([gang(Strategy.DDP, 2)], [*nodes, *known]).placements
    assert set(placed.node_ids) == {each.id for each in known}


def test_the_slowest_link_decides() -> None:
    """One excellent node does not make up for a slow one beside it."""
    mixed = [seen(member(1, network="a"), trip=1e-4, rate=1e10), seen(member(2, network="a"), trip=1e-4, rate=SLOW)]
    even = [seen(member(number, network="b"), trip=1e-3, rate=1e8) for number in (3, 4)]
    (placed,) = decide([gang(Strategy.DDP, 2)], [*mixed, *even]).placements
    assert set(placed.node_ids) == {each.id for each in even}


def test_what_nodes_measured_between_them_counts_before_what_they_measured_to_central() -> None:
    nodes = [seen(member(number), trip=0.001, rate=FAST) for number in range(1, 5)]
    far = [seen(member(number), trip=0.2, rate=SLOW) for number in (5, 6)]
    slow = dict(link(one, other, 0.05, SLOW) for one, other in itertools.combinations(nodes, 2))
    job = gang(Strategy.DDP, 2)
    (unaware,) = decide([job], [*nodes, *far]).placements
    assert set(unaware.node_ids) <= {each.id for each in nodes}
    # They are near central and not near each other; those two sit in one room, far from central.
    (aware,) = decide([job], [*nodes, *far], links={**slow, **dict([link(*far, 1e-4, FAST)])}).placements
    assert set(aware.node_ids) == {each.id for each in far}
    # Two of the four are linked well: they are taken, whichever they are.
    better = {**slow, **dict([link(nodes[1], nodes[3], 1e-4, FAST)])}
    (best,) = decide([job], [*nodes, *far], links=better).placements
    assert set(best.node_ids) == {nodes[1].id, nodes[3].id}


def test_a_good_link_is_found_among_many_nodes() -> None:
    crowd = [seen(member(number), trip=0.001, rate=FAST) for number in range(1, 300)]
    hidden = [seen(member(number), trip=0.4, rate=SLOW) for number in (500, 600)]
    (placed,) = decide(
        [gang(Strategy.DDP, 2)], [*crowd, *hidden], links=dict([link(*hidden, 1e-4, 5e9)])
    ).placements  # fmt: skip
    assert set(placed.node_ids) == {each.id for each in hidden}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(2, 3), fleet=st.integers(3, 7))
def test_no_group_is_better_by_a_class_where_every_node_is_tried(data: st.DataObject, count: int, fleet: int) -> None:
    """Two members: the best pair of all. More: never worse than what the estimate alone would choose."""
    figures = st.sampled_from([1e-4, 1e-3, 1e-2, 1e-1])
    nodes = [
        seen(member(number), trip=data.draw(figures), rate=data.draw(st.sampled_from([1e6, 1e8, 1e10])))
        for number in range(1, fleet + 1)
    ]
    links = dict(
        link(one, other, data.draw(figures), data.draw(st.sampled_from([1e6, 1e8, 1e10])))
        for one, other in itertools.combinations(nodes, 2)
        if data.draw(st.booleans())
    )

    def slowest(node_ids: Sequence[str]) -> tuple[int, int]:
        team = [each for each in nodes if each.id in node_ids]
        return max(between(one, other, links, Strategy.DDP) for one, other in itertools.combinations(team, 2))

    (placed,) = decide([gang(Strategy.DDP, count)], nodes, links=links).placements
    found = slowest(placed.node_ids)
    if count == 2:
        assert found == min(slowest(ids) for ids in itertools.combinations([each.id for each in nodes], 2))
    (unaware,) = decide([gang(Strategy.DDP, count)], nodes).placements
    assert found <= slowest(unaware.node_ids)


@pytest.mark.parametrize(
    ("attempts", "waited", "fewest", "expected"),
    [(0, NEVER, 1, 0), (1, 5.0, 1, 0), (1, 10.0, 1, 2), (1, 10.0, 2, 2), (1, 10.0, 3, 0)],
)
def test_only_a_gang_that_lost_a_member_shrinks(attempts: int, waited: float, fewest: int, expected: int) -> None:
    gang = replace(a_job(1, nodes=4, min_nodes=fewest), attempts=attempts)
    placements = decide([gang], [seen(member(1)), seen(member(2))], waited).placements
    assert sum(len(each.node_ids) for each in placements) == expected


def test_a_gang_that_waits_long_keeps_nodes_from_those_behind_it() -> None:
    gang, small, sooner = a_job(1, nodes=2), a_job(2), a_job(0)
    nodes = [seen(member(1)), seen(member(2), a_job(9)), seen(member(3), a_job(9))]
    assert [each.job_id for each in decide([gang, small], nodes).placements] == [small.id]
    held = decide([gang, small], nodes, waited=30.0)
    assert not held.placements
    assert "2 are kept for it" in held.waiting[gang.id]
    assert [each.job_id for each in decide([sooner, gang, small], nodes, waited=30.0).placements] == [sooner.id]
    spare = [*nodes, seen(member(4))]
    assert not decide([gang, small], spare[:3], waited=30.0).placements
    (first,) = decide([gang, small], spare, waited=30.0).placements
    assert first.job_id == gang.id, "it had what it waited for"


def test_what_can_never_run_keeps_nothing() -> None:
    gang, small = a_job(1, nodes=3), a_job(2)
    held = decide([gang, small], [seen(member(1)), seen(member(2))], waited=NEVER)
    assert [each.job_id for each in held.placements] == [small.id]


def play(
    sizes: Sequence[int], fleet: int, spans: Sequence[int], patience: Patience, ticks: int
) -> tuple[dict[str, int], int]:
    """Gangs of these sizes, and a backlog of small jobs of these spans that never ends; when each gang began."""
    nodes = [member(number) for number in range(1, fleet + 1)]
    queue = [a_job(number, nodes=size) for number, size in enumerate(sizes, 1)]
    gangs = {job.id for job in queue}
    running: list[tuple[int, Job, tuple[str, ...]]] = []
    began: dict[str, int] = {}
    number, placed_small = len(sizes), 0
    for tick in range(ticks):
        running = [each for each in running if each[0] > tick]
        while len(queue) < len(sizes) + fleet + 1:
            number += 1
            queue.append(a_job(number))
        held = {node.id: [job for _, job, ids in running if node.id in ids] for node in nodes}
        waits = {job.id: float(tick) for job in queue}
        # Small jobs have filled the fleet before the gangs are looked at.
        jobs = queue[len(sizes) :] if tick == 0 else queue
        decided = plan(Snapshot(jobs, [seen(node, *held[node.id]) for node in nodes], waited=waits, patience=patience))
        for placement in decided.placements:
            job = next(each for each in queue if each.id == placement.job_id)
            assert len(placement.node_ids) == job.spec.resources.nodes
            assert len(set(placement.node_ids)) == len(placement.node_ids)
            assert not any(held[each] for each in placement.node_ids), "a slot was given twice"
            queue.remove(job)
            if job.id in gangs:
                began[job.id] = tick
            else:
                placed_small += 1
            running.append((tick + spans[placed_small % len(spans)], job, placement.node_ids))
    return began, placed_small


@settings(max_examples=60, deadline=None)
@given(
    fleet=st.integers(2, 6),
    data=st.data(),
    spans=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_gangs_never_lock_each_other_and_are_not_starved(fleet: int, data: st.DataObject, spans: list[int]) -> None:
    sizes = data.draw(st.lists(st.integers(2, fleet), min_size=1, max_size=3))
    reserve = 5
    # Each gang waits for its turn, then at most for the longest job that runs: its own predecessors are such jobs.
    bound = reserve + len(sizes) * (max(spans) + 2) + 2
    began, _ = play(sizes, fleet, spans, Patience(reserve=reserve), bound + 1)
    assert len(began) == len(sizes), f"began: {began}"


def test_without_reservations_a_gang_would_starve() -> None:
    """What the reservation is for: this fleet never has two nodes free at once by itself."""
    spans, never, soon = [3, 2, 4], Patience(reserve=NEVER), Patience(reserve=5)
    assert not play([3], 3, spans, never, 200)[0]
    began, small = play([3], 3, spans, soon, 200)
    assert max(began.values()) <= 5 + 4 + 1
    assert small > 100, "small jobs go on once it runs"
