"""Who gives way to whom: what must never happen whatever fleet and queue, and the cases one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.config import Scheduler
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId
from cyxwiz.domain.job import Device, Intent, Job, JobType, Phase, Priority, Tenure
from cyxwiz.domain.node import GANG
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import JobState
from cyxwiz.domain.verification import CheckSpec
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.policy import Plan, Snapshot, candidate, plan
from cyxwiz.scheduler.preemption import MAKING_ROOM, Rules, Tenant, spared, tenants, urgent
from tests.contract.make import START
from tests.unit.test_policy import GIB, a_job, a_node, ident

LOW, NORMAL, HIGH, CRITICAL = Priority
RULES = Rules(own=False, after_seconds=30, least_seconds=60, most=3)
LONG = 1000.0
STRANGER = UserId("22222222-2222-4222-8222-222222222222")


def held(number: int, *node_ids: int, priority: Priority = LOW, **given: object) -> Tenant:
    """A running job, on the nodes of those numbers."""
    resources = {key: given.pop(key) for key in ("ram_bytes", "vram_bytes", "device") if key in given}
    job = a_job(number, priority=priority, nodes=len(node_ids), **{"ram_bytes": 0, **resources})
    job = replace(job, state=JobState.RUNNING, token=Token(1, number), attempts=1, **given.pop("job", {}))  # type: ignore[arg-type]
    values = {"ran_seconds": LONG, "unsaved_seconds": 5.0, "gave_way": 0, "saved": True, "legacy": False, **given}
    return Tenant(job, tuple(NodeId(ident(each)) for each in node_ids), **values)  # type: ignore[arg-type]


def network_of(name: str) -> dict[str, list[str]]:
    return {"features": [f"{GANG}{name}"] if name else []}


def fleet(slots: Sequence[int], on: Sequence[Tenant], ram: int = 16, network: str = "") -> list[Candidate]:
    """Nodes 1, 2, … with so many slots each, and what they hold."""
    nodes = [a_node(number, slots=many, ram=ram, extras=network_of(network)) for number, many in enumerate(slots, 1)]
    return [candidate(node, (), 1.0, holds=[each.job for each in on if node.id in each.node_ids]) for node in nodes]


def decide(
    queue: Sequence[Job],
    nodes: Sequence[Candidate],
    on: Sequence[Tenant],
    rules: Rules | None = RULES,
    waited: float = LONG,
    **given: object,
) -> Plan:
    waits = {job.id: waited for job in queue}
    return plan(Snapshot(queue, nodes, waited=waits, tenants=on, rules=rules, **given))  # type: ignore[arg-type]


def victims(decided: Plan) -> list[str]:
    return sorted(each.job_id for each in decided.evictions)


def ids(*numbers: int) -> list[str]:
    return sorted(ident(number) for number in numbers)


def asked(tenant: Tenant) -> Tenant:
    """After it was told to leave."""
    return replace(tenant, job=replace(tenant.job, intent=Intent.MOVE))


# whatever fleet and queue


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Job], list[Candidate], list[Tenant], Rules, dict[JobId, float]]:
    """Nodes with jobs as the policy itself would have placed them, and a queue in its order."""

    def job(number: int) -> Job:
        device = draw(st.sampled_from([Device.ANY, Device.ANY, Device.CPU, Device.CUDA]))
        made = a_job(
            number,
            priority=draw(st.sampled_from(Priority)),
            device=device,
            ram_bytes=draw(st.sampled_from([0, 4, 8, 16])) * GIB,
            vram_bytes=draw(st.sampled_from([0, 8, 24])) * GIB if device is Device.CUDA else 0,
            nodes=draw(st.sampled_from([1, 1, 1, 2, 3])),
        )
        return replace(made, owner_id=draw(st.sampled_from([made.owner_id, STRANGER])))

    nodes = [
        a_node(
            number,
            slots=draw(st.integers(1, 3)),
            ram=draw(st.sampled_from([8, 16, 32])),
            gpus=tuple(draw(st.lists(st.sampled_from([8, 24]), max_size=2))),
            extras=network_of(draw(st.sampled_from(["a", "a", "b"]))),
        )
        for number in range(1, draw(st.integers(1, 5)) + 1)
    ]
    running = [job(number) for number in range(100, 100 + draw(st.integers(0, 10)))]
    placed = plan(Snapshot(running, [candidate(node, (), 1.0) for node in nodes])).placements
    on: list[Tenant] = []
    for count, each in enumerate(placed):
        old = next(other for other in running if other.id == each.job_id)
        intent = draw(st.sampled_from([Intent.RUN, Intent.RUN, Intent.RUN, Intent.MOVE]))
        new = replace(old, state=JobState.RUNNING, token=Token(1, count + 1), intent=intent)
        ran = draw(st.sampled_from([10.0, LONG]))
        on.append(Tenant(new, each.node_ids, ran, draw(st.floats(0, ran)), draw(st.integers(0, 3)), True, False))
    candidates = [candidate(n, (), 1.0, holds=[t.job for t in on if n.id in t.node_ids]) for n in nodes]
    waiting = [job(number) for number in range(1, draw(st.integers(0, 6)) + 1)]
    queue = sorted(waiting, key=lambda each: (-each.spec.priority.rank, each.id))
    waited = {each.id: draw(st.sampled_from([0.0, LONG])) for each in queue}
    return queue, candidates, on, Rules(draw(st.booleans()), 30, 60, 3), waited


def without(candidates: Sequence[Candidate], on: Sequence[Tenant], gone: set[JobId]) -> list[Candidate]:
    """The fleet once those have left, and whoever leaves already."""
    away = gone | {each.job.id for each in on if each.leaving}
    return [c.using([job.spec for job in c.holds if job.id not in away]) for c in candidates]


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_nobody_gives_way_in_vain(
    world: tuple[list[Job], list[Candidate], list[Tenant], Rules, dict[JobId, float]],
) -> None:
    queue, candidates, on, rules, waited = world
    patience = Patience(reserve=1e9)
    decided = plan(Snapshot(queue, candidates, waited=waited, tenants=on, rules=rules, patience=patience))
    jobs, known = {job.id: job for job in queue}, {each.job.id: each for each in on}
    placed = {each.job_id for each in decided.placements}
    assert len({each.job_id for each in decided.evictions}) == len(decided.evictions), "each is sent away once"
    for each in decided.evictions:
        victim, job = known[each.job_id], jobs[each.for_id]
        assert victim.rank < job.spec.priority.rank
        assert spared(victim, rules) is None
        assert not rules.own or victim.job.owner_id == job.owner_id
        assert waited[job.id] >= rules.after_seconds
        assert job.id not in placed
        assert decided.waiting[job.id] == MAKING_ROOM
        assert each.token == victim.job.token
    if not decided.evictions:
        return
    # the first that gets room this way: it gets it, whoever stands before it, and nobody leaves who could stay
    first = jobs[decided.evictions[0].for_id]
    chosen = {each.job_id for each in decided.evictions if each.for_id == first.id}

    ahead = [job for job in queue[: queue.index(first)] if job.id not in placed]
    if any(decided.waiting[job.id] == MAKING_ROOM for job in ahead):
        return  # which of the nodes that get free they take, depends on which is free first

    def gets_it(gone: set[JobId]) -> bool:
        fleet_then = {each.id: each for each in without(candidates, on, gone)}
        for each in decided.placements:
            for node_id in each.node_ids:
                fleet_then[node_id] = fleet_then[node_id].less(jobs[each.job_id].spec)
        later = plan(Snapshot([*ahead, first], list(fleet_then.values()), patience=patience))
        return first.id in {each.job_id for each in later.placements}

    assert gets_it(chosen)
    assert not gets_it(set())
    assert not any(gets_it(chosen - {one}) for one in chosen)
    # nor is anybody taken where jobs of a lower class would do
    highest = max(known[each].rank for each in chosen)
    mine = [t for t in on if spared(t, rules) is None and not (rules.own and t.job.owner_id != first.owner_id)]
    if not ahead:
        assert not gets_it({each.job.id for each in mine if each.rank < highest})


@settings(deadline=None)
@given(worlds())
def test_without_rules_or_tenants_nothing_changes(
    world: tuple[list[Job], list[Candidate], list[Tenant], Rules, dict[JobId, float]],
) -> None:
    queue, candidates, on, rules, waited = world
    bare = plan(Snapshot(queue, candidates, waited=waited))
    assert plan(Snapshot(queue, candidates, waited=waited, tenants=on)) == bare
    assert plan(Snapshot(queue, candidates, waited=waited, rules=rules)) == bare
    assert not bare.evictions


# who may have to

CHECK = CheckSpec(JobId("parent"), "1.1", 0, 0, 0, 1, "", "", "", "", "")
TOLD = replace(a_job().spec, script=Script("train.py", {"train.py": "00"}))


@pytest.mark.parametrize(
    ("tenant", "words"),
    [
        (held(1, 1), None),
        (held(1, 1, job={"intent": Intent.PAUSE}), "leaves"),
        (held(1, 1, job={"spec": replace(a_job().spec, reservation_id="x")}), "reserved"),
        (held(1, 1, job={"spec": replace(a_job().spec, check=CHECK)}), "checks"),
        (held(1, 1, legacy=True), "earlier kind"),
        (held(1, 1, job={"spec": replace(a_job().spec, type=JobType.EVALUATION)}), "evaluation saves no"),
        (held(1, 1, job={"spec": replace(a_job().spec, type=JobType.PREPROCESSING)}), "preprocessing saves no"),
        (held(1, 1, job={"spec": replace(a_job().spec, type=JobType.INFERENCE)}), None),
        (held(1, 1, job={"spec": TOLD}), None),
        (held(1, 1, job={"spec": TOLD}, saved=False), "no checkpoint yet"),
        (held(1, 1, job={"spec": replace(a_job().spec, dataset_uri="remote://x")}), "streams"),
        (held(1, 1, job={"phase": Phase.UPLOADING}), "about to end"),
        (held(1, 1, gave_way=2), None),
        (held(1, 1, gave_way=3), "3 times"),
        (held(1, 1, ran_seconds=60.0), None),
        (held(1, 1, ran_seconds=59.9), "less than 60 s"),
    ],
)
def test_who_is_spared(tenant: Tenant, words: str | None) -> None:
    said = spared(tenant, RULES)
    assert (said is None) if words is None else (said is not None and words in said)
    decided = decide([a_job(9, priority=CRITICAL)], fleet([1], [tenant]), [tenant])
    if tenant.leaving:
        assert (victims(decided), decided.waiting[JobId(ident(9))]) == ([], MAKING_ROOM)
    else:
        assert victims(decided) == ([] if words else ids(1))


@pytest.mark.parametrize(
    ("given", "priority", "waited", "expected"),
    [
        (RULES, CRITICAL, 30.0, [1]),
        (RULES, CRITICAL, 29.0, []),
        (RULES, NORMAL, 30.0, [1]),
        (RULES, LOW, LONG, []),
        (None, CRITICAL, LONG, []),
        (replace(RULES, own=True), CRITICAL, LONG, [1]),
    ],
)
def test_for_whom(given: Rules | None, priority: Priority, waited: float, expected: list[int]) -> None:
    low = held(1, 1)
    assert victims(decide([a_job(9, priority=priority)], fleet([1], [low]), [low], given, waited)) == ids(*expected)


def test_only_ones_own_jobs_give_way_where_that_is_set() -> None:
    low, job = held(1, 1), replace(a_job(9, priority=CRITICAL), owner_id=STRANGER)
    assert victims(decide([job], fleet([1], [low]), [low], replace(RULES, own=True))) == []
    (told,) = decide([job], fleet([1], [low]), [low]).evictions
    assert told.reason == "gave way to a job of critical priority", "whose it is, is nobody's business"
    (told,) = decide([replace(job, owner_id=low.job.owner_id)], fleet([1], [low]), [low]).evictions
    assert told.reason == f"gave way to job {job.id} of critical priority"


def test_settings() -> None:
    assert Rules.of(Scheduler(preemption="off")) is None
    assert Rules.of(Scheduler()) == Rules()
    assert Rules.of(Scheduler(preemption="priority", preempt_most=1)) == Rules(own=False, most=1)


def test_the_cheapest() -> None:
    ways = [
        held(1, 1, priority=NORMAL, unsaved_seconds=0.0),
        held(2, 2, unsaved_seconds=9.0, ran_seconds=100.0),
        held(3, 3, unsaved_seconds=2.0, ran_seconds=100.0),
        held(4, 4, unsaved_seconds=2.0, ran_seconds=90.0),
        held(5, 5, unsaved_seconds=2.0, ran_seconds=90.0, job={"created_at": START + timedelta(hours=1)}),
    ]
    order: list[str] = []
    while ways:
        (gone,) = victims(decide([a_job(9, priority=HIGH)], fleet([1] * 5, ways), ways, barred={}))
        order.append(gone)
        ways = [replace(each, gave_way=9) if each.job.id == gone else each for each in ways]
        if all(each.gave_way for each in ways):
            break
    assert order == [ident(number) for number in (5, 4, 3, 2, 1)]


def test_two_of_a_lower_class_rather_than_one_of_a_higher() -> None:
    on = [held(1, 1, ram_bytes=8 * GIB), held(2, 1, ram_bytes=8 * GIB), held(3, 2, priority=NORMAL, ram_bytes=16 * GIB)]
    job = a_job(9, priority=HIGH, ram_bytes=16 * GIB)
    assert victims(decide([job], fleet([3, 3], on), on)) == ids(1, 2)


def test_nobody_leaves_who_is_not_in_the_way() -> None:
    on = [
        held(1, 1, ram_bytes=1 * GIB, unsaved_seconds=0),
        held(2, 1, ram_bytes=8 * GIB),
        held(3, 1, ram_bytes=4 * GIB),
    ]
    job = a_job(9, priority=HIGH, ram_bytes=14 * GIB)
    assert victims(decide([job], fleet([9], on), on)) == ids(2, 3)


def test_barred_and_avoided_nodes() -> None:
    on, job = [held(1, 1, unsaved_seconds=0), held(2, 2)], a_job(9, priority=HIGH)
    first = {job.id: frozenset({NodeId(ident(1))})}
    both = {job.id: frozenset({NodeId(ident(1)), NodeId(ident(2))})}
    assert victims(decide([job], fleet([1, 1], on), on)) == ids(1)
    assert victims(decide([job], fleet([1, 1], on), on, avoid=first)) == ids(2)
    assert victims(decide([job], fleet([1, 1], on), on, avoid=both)) == ids(1)
    assert victims(decide([job], fleet([1, 1], on), on, barred=first)) == ids(2)
    assert victims(decide([job], fleet([1, 1], on), on, barred=both)) == []


def test_nobody_is_asked_twice_for_the_same_room() -> None:
    on, queue = [held(1, 1), held(2, 2)], [a_job(8, priority=HIGH), a_job(9, priority=HIGH)]
    assert victims(decide(queue[:1], fleet([1, 1], on), on)) == ids(1)
    on[0] = asked(on[0])
    again = decide(queue[:1], fleet([1, 1], on), on)
    assert (victims(again), again.waiting[queue[0].id]) == ([], MAKING_ROOM)
    assert victims(decide(queue, fleet([1, 1], on), on)) == ids(2), "another one that waits needs room of its own"


def test_room_is_kept_until_all_of_it_is_there() -> None:
    """The first of two victims has gone; neither it nor anybody else behind takes what it left."""
    staying = asked(held(1, 1, ram_bytes=8 * GIB))
    urgent_one = a_job(7, priority=HIGH, ram_bytes=14 * GIB)
    back = a_job(2, priority=LOW, ram_bytes=4 * GIB)
    nodes = fleet([2], [staying])
    assert why_not(back.spec, nodes[0]) is None
    decided = decide([urgent_one, back], nodes, [staying])
    assert (decided.placements, victims(decided)) == ([], [])
    assert decided.waiting[urgent_one.id] == MAKING_ROOM


def test_who_gave_way_does_not_hit_back() -> None:
    running = held(1, 1, priority=CRITICAL)
    assert (
        victims(decide([a_job(2, priority=LOW), a_job(3, priority=CRITICAL)], fleet([1], [running]), [running])) == []
    )


def test_nobody_gives_way_for_whom_another_would_get_the_room() -> None:
    """In one's own class or above, and not entitled: it is served first, so that the room would be its."""
    low, rules = held(1, 1), replace(RULES, own=True)
    stranger = replace(a_job(8, priority=CRITICAL), owner_id=STRANGER)
    mine = a_job(9, priority=CRITICAL)
    assert victims(decide([mine, stranger], fleet([1], [low]), [low], rules)) == ids(1)
    assert victims(decide([stranger, mine], fleet([1], [low]), [low], rules)) == []
    elsewhere = replace(
        stranger, spec=replace(stranger.spec, resources=replace(stranger.spec.resources, device=Device.CUDA))
    )
    assert victims(decide([elsewhere, mine], fleet([1], [low]), [low], rules)) == ids(1)


def test_nor_where_it_would_not_help() -> None:
    low = held(1, 1)
    for job in (
        a_job(9, priority=CRITICAL, device=Device.CUDA),
        a_job(9, priority=CRITICAL, ram_bytes=99 * GIB),
        a_job(9, priority=CRITICAL, regions=("eu",)),
        replace(a_job(9, priority=CRITICAL), spec=replace(a_job(9).spec, priority=CRITICAL, reservation_id="another")),
    ):
        assert victims(decide([job], fleet([1], [low]), [low])) == []
    drained = [replace(each, node=replace(each.node, cordoned=True)) for each in fleet([1], [low])]
    assert victims(decide([a_job(9, priority=CRITICAL)], drained, [low])) == []


# gangs


def test_a_gang_leaves_as_a_whole_and_costs_as_much() -> None:
    gang, single = held(1, 1, 2, unsaved_seconds=3.0), held(2, 3, unsaved_seconds=5.0)
    nodes = fleet([1, 1, 1], [gang, single], network="a")
    job = a_job(9, priority=HIGH)
    assert victims(decide([job], nodes, [gang, single])) == ids(2), "two nodes lose three seconds each"
    gang = replace(gang, unsaved_seconds=2.0)
    decided = decide([job, a_job(10, priority=HIGH)], nodes, [gang, single])
    assert victims(decided) == ids(1), "the second gets the other node that it leaves"


def test_a_gang_gets_all_its_nodes_or_nobody_leaves() -> None:
    on = [held(1, 1), held(2, 2), held(3, 3, priority=HIGH)]
    gang = a_job(9, priority=HIGH, nodes=2)
    assert victims(decide([gang], fleet([1, 1, 1], on, network="a"), on)) == ids(1, 2)
    assert victims(decide([gang], fleet([1, 1, 1], on), on)) == [], "they can't reach each other"
    large = a_job(9, priority=HIGH, nodes=3)
    assert victims(decide([large], fleet([1, 1, 1], on, network="a"), on)) == []
    large = a_job(9, priority=CRITICAL, nodes=3)
    assert victims(decide([large], fleet([1, 1, 1], on, network="a"), on)) == ids(1, 2, 3)


def test_a_gang_takes_what_is_free_and_keeps_it_meanwhile() -> None:
    low = held(1, 1)
    gang, small = a_job(8, priority=HIGH, nodes=2), a_job(9, priority=LOW)
    nodes = fleet([1, 1], [low], network="a")
    decided = decide([gang, small], nodes, [low])
    assert (victims(decided), decided.placements) == (ids(1), [])
    decided = decide([gang, small], fleet([1, 1], [asked(low)], network="a"), [asked(low)])
    assert (victims(decided), decided.placements) == ([], [])
    later = decide([gang, small], fleet([1, 1], [], network="a"), [])
    assert [each.job_id for each in later.placements] == [gang.id]


def test_who_would_leave_beside_a_gang_stays_where_the_gang_is_enough() -> None:
    single = held(1, 1, ram_bytes=8 * GIB, unsaved_seconds=0.0)
    both = held(2, 1, 2, ram_bytes=8 * GIB)
    nodes = fleet([2, 1], [single, both], network="a")
    waiting = a_job(9, priority=HIGH, nodes=2, ram_bytes=8 * GIB)
    assert victims(decide([waiting], nodes, [single, both])) == ids(2)


# what is known of them


def test_tenants_are_made_of_leases_and_checkpoints() -> None:
    single, gang, other = held(1, 1).job, held(2, 1, 2).job, held(3, 2, priority=HIGH).job
    leaving = asked(held(4, 2, priority=CRITICAL)).job
    nodes = [
        candidate(a_node(1, slots=4), (), 1.0, holds=[single, gang]),
        candidate(a_node(2, slots=4, legacy=True), (), 1.0, holds=[gang, other, leaving]),
    ]
    now = START + timedelta(seconds=100)
    tenures = {
        single.id: Tenure(START, START + timedelta(seconds=40), 1),
        gang.id: Tenure(START + timedelta(seconds=50), START, 0),
    }
    made = {each.job.id: each for each in tenants(nodes, tenures, now)}
    assert made == {
        single.id: Tenant(single, (nodes[0].id,), 100.0, 60.0, 1, True, False),
        gang.id: Tenant(gang, (nodes[0].id, nodes[1].id), 50.0, 50.0, 0, True, True),
        leaving.id: Tenant(leaving, (nodes[1].id,), 0.0, 0.0, 0, False, True),
    }


def test_urgent_is_what_outranks_somebody() -> None:
    queue = [a_job(number, priority=priority) for number, priority in enumerate(Priority, 1)]
    on = [held(8, 1, priority=NORMAL), held(9, 1, priority=CRITICAL)]
    assert [job.spec.priority for job in urgent(queue, fleet([2], on))] == [HIGH, CRITICAL]
    assert urgent(queue, fleet([2], [])) == []
    assert urgent(queue, fleet([2], on[1:])) == []
