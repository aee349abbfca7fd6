"""The scheduler's decision, for whatever fleet and queue: what must never happen, and what must be said."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.job import Device, Job, JobSpec, JobType, Priority, Resources, data_key
from cyxwiz.domain.node import JOB_TYPES, NETWORK, REQUIREMENTS, SCRIPTS, DeviceInfo, Hardware, Node
from cyxwiz.domain.pricing import Billing, NodePricing
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import NodeState
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.scheduler.feasible import Candidate, needs_gpu, why_not
from cyxwiz.scheduler.policy import Snapshot, best, candidate, explain, plan
from cyxwiz.scheduler.rank import Weights, score, terms
from cyxwiz.services.liveness import MAX_DATA_KEYS, Liveness
from tests.contract.make import OWNER, START

GIB = 2**30


def ident(number: int) -> str:
    return str(uuid.UUID(int=number))


def a_job(number: int = 1, *, priority: Priority = Priority.NORMAL, **resources: object) -> Job:
    spec = JobSpec(
        f"job {number}",
        JobType.TRAINING,
        "mock://x",
        "{}",
        priority=priority,
        resources=Resources(**resources),  # type: ignore[arg-type]
    )
    return Job(JobId(ident(number)), OWNER, spec, START)


def a_node(number: int = 1, *, gpus: tuple[int, ...] = (), ram: int = 16, slots: int = 2, **given: object) -> Node:
    devices = tuple(DeviceInfo(Device.CUDA, f"GPU {at}", size * GIB) for at, size in enumerate(gpus))
    hardware = Hardware("CPU", 8, ram * GIB, ram * GIB, devices)
    values = {"state": NodeState.ONLINE, "max_concurrent_jobs": slots, "reputation": 0.75, **given}
    return Node(NodeId(ident(number)), OWNER, f"node {number}", hardware, START, START, **values)  # type: ignore[arg-type]


def free(node: Node, *held: JobSpec, uptime: float = 1.0, connected: bool = True) -> Candidate:
    return candidate(node, held, uptime, connected)


# any fleet, any queue

SIZES = st.sampled_from([0, 1, 8, 24, 80])
unit = st.floats(0, 1)


@st.composite
def nodes(draw: st.DrawFn, number: int) -> Candidate:
    node = a_node(
        number,
        gpus=tuple(draw(st.lists(SIZES, max_size=3))),
        ram=draw(st.integers(1, 64)),
        slots=draw(st.integers(1, 4)),
        reputation=draw(st.floats(-1, 2)),
        region=draw(st.sampled_from(["", "eu", "us"])),
        cordoned=draw(st.booleans() if draw(st.booleans()) else st.just(False)),
        state=draw(st.sampled_from([NodeState.ONLINE, NodeState.ONLINE, NodeState.ONLINE, *NodeState])),
    )
    return free(node, uptime=draw(st.floats(-0.5, 1.5)), connected=draw(st.sampled_from([True, True, False])))


@st.composite
def jobs(draw: st.DrawFn, number: int) -> Job:
    device = draw(st.sampled_from([Device.ANY, Device.ANY, Device.CPU, Device.CUDA, Device.OPENCL]))
    return a_job(
        number,
        priority=draw(st.sampled_from(Priority)),
        device=device,
        ram_bytes=draw(st.integers(0, 32)) * GIB,
        vram_bytes=draw(SIZES) * GIB if device is Device.CUDA else 0,
        regions=draw(st.sampled_from([(), (), ("eu",), ("us", "eu")])),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    fleet = [draw(nodes(number)) for number in range(1, draw(st.integers(0, 5)) + 1)]
    queue = [draw(jobs(100 + number)) for number in range(draw(st.integers(0, 12)))]
    queue.sort(key=lambda job: (-job.spec.priority.rank, job.id))
    ids = [c.id for c in fleet]
    avoid = {job.id: frozenset(draw(st.lists(st.sampled_from(ids), max_size=3))) for job in queue if ids}
    weights = Weights(*(draw(unit) for _ in range(6)))
    return Snapshot(queue, fleet, weights, avoid)


@given(jobs(1), nodes(1), st.tuples(unit, unit, unit, unit, unit, unit))
@settings(deadline=None)
def test_every_term_is_from_0_to_1_and_the_score_within_the_weights(
    job: Job, node: Candidate, weights: tuple[float, ...]
) -> None:
    values = terms(job.spec, node)
    assert all(0.0 <= value <= 1.0 for value in values.values()), values
    assert -1e-9 <= score(job.spec, node, Weights(*weights)) <= sum(weights) + 1e-9


@given(snapshots())
@settings(deadline=None)
def test_every_job_is_placed_once_or_told_why_not(snapshot: Snapshot) -> None:
    decided = plan(snapshot)
    placed = [placement.job_id for placement in decided.placements]
    assert len(placed) == len(set(placed))
    assert set(placed) | set(decided.waiting) == {job.id for job in snapshot.jobs}
    assert not set(placed) & set(decided.waiting)
    assert all(reason for reason in decided.waiting.values())


@given(snapshots())
@settings(deadline=None)
def test_no_node_is_given_more_than_it_has(snapshot: Snapshot) -> None:
    specs = {job.id: job.spec for job in snapshot.jobs}
    fleet = {c.id: c for c in snapshot.candidates}
    given_to: dict[NodeId, list[JobSpec]] = {}
    for placement in plan(snapshot).placements:
        assert why_not(specs[placement.job_id], fleet[placement.node_id]) is None
        given_to.setdefault(placement.node_id, []).append(specs[placement.job_id])
    for node_id, taken in given_to.items():
        node = fleet[node_id]
        assert len(taken) <= node.free_slots
        assert sum(spec.resources.ram_bytes for spec in taken) <= node.free_ram_bytes
        wanted = sorted((spec.resources.vram_bytes for spec in taken if needs_gpu(spec)), reverse=True)
        sizes = sorted((gpu.memory_total_bytes or 0 for gpu in node.free_gpus), reverse=True)
        assert len(wanted) <= len(sizes)
        assert all(want <= size for want, size in zip(wanted, sizes, strict=False))


@given(snapshots())
@settings(deadline=None)
def test_nobody_waits_for_what_is_still_free(snapshot: Snapshot) -> None:
    """A job that waits could not even have what is left after the whole plan."""
    decided = plan(snapshot)
    left = {c.id: c for c in snapshot.candidates}
    specs = {job.id: job.spec for job in snapshot.jobs}
    for placement in decided.placements:
        node, spec = left[placement.node_id], specs[placement.job_id]
        left[node.id] = replace(
            node, free_slots=node.free_slots - 1, free_ram_bytes=node.free_ram_bytes - spec.resources.ram_bytes
        )
    for job_id in decided.waiting:
        if not needs_gpu(specs[job_id]):
            assert all(why_not(specs[job_id], node) is not None for node in left.values())


@given(snapshots())
@settings(deadline=None)
def test_who_comes_first_is_served_first(snapshot: Snapshot) -> None:
    """Among jobs that ask for the same thing none is placed while an earlier one waits."""
    waiting = set(plan(snapshot).waiting)
    blocked: set[tuple[object, ...]] = set()
    for job in snapshot.jobs:
        need = (job.spec.resources.device, job.spec.resources.vram_bytes, job.spec.resources.ram_bytes,
                job.spec.resources.regions)  # fmt: skip
        if job.id in waiting:
            blocked.add(need)
        else:
            assert need not in blocked


@given(snapshots())
@settings(deadline=None)
def test_a_node_to_avoid_is_taken_only_when_no_other_fits(snapshot: Snapshot) -> None:
    first = next(iter(snapshot.jobs), None)
    placements = plan(snapshot).placements
    if first is None or not placements or placements[0].job_id != first.id:
        return
    fitting = {c.id for c in snapshot.candidates if why_not(first.spec, c) is None}
    avoided = snapshot.avoid.get(first.id, frozenset())
    if fitting - avoided:
        assert placements[0].node_id not in avoided


@given(snapshots(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_same_world_gives_the_same_plan_in_whatever_order_it_is_told(snapshot: Snapshot, dice: object) -> None:
    shuffled = list(snapshot.candidates)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(snapshot) == plan(replace(snapshot, candidates=shuffled))


# single cases


def test_the_queue_is_served_in_its_order() -> None:
    queue = [a_job(1, priority=Priority.CRITICAL), a_job(2, priority=Priority.LOW)]
    decided = plan(Snapshot(queue, [free(a_node(slots=1))]))
    assert [placement.job_id for placement in decided.placements] == [queue[0].id]
    assert decided.waiting == {queue[1].id: "no node can take it: all slots busy (1 node)"}


@pytest.mark.parametrize(
    ("own", "node"),
    [
        ({"dataset_uri": "remote://mine"}, {}),
        (
            {"max_price_units": 10**9, "stream_units": 1, "stream_seconds": 10},
            {"pricing": NodePricing(0, per_job_units=10**8, minimum_charge_units=0, billing=Billing.PER_JOB)},
        ),
    ],
)
def test_a_job_that_no_node_takes_does_not_hold_up_one_that_asks_for_less(
    own: dict[str, Any], node: dict[str, object]
) -> None:
    picky, plain = a_job(1), a_job(2)
    limit = own.get("max_price_units", 0)
    jobs = [
        replace(picky, spec=replace(picky.spec, **own)),
        replace(plain, spec=replace(plain.spec, max_price_units=limit)),
    ]
    made = plan(Snapshot(jobs, [free(a_node(1, **node))]))
    assert [placed.job_id for placed in made.placements] == [plain.id]


@pytest.mark.parametrize("device", [Device.ANY, Device.CPU])
def test_a_gpu_is_not_spent_on_a_cpu_job_when_a_cpu_node_fits(device: Device) -> None:
    with_gpu, without = free(a_node(1, gpus=(80,))), free(a_node(2))
    (placement,) = plan(Snapshot([a_job(device=device)], [with_gpu, without])).placements
    assert placement.node_id == without.id
    (placement,) = plan(Snapshot([a_job(device=device)], [with_gpu])).placements
    assert placement.node_id == with_gpu.id


def test_the_better_reputation_wins_and_ties_go_to_the_lowest_id() -> None:
    fleet = [free(a_node(3, reputation=0.9)), free(a_node(2, reputation=0.5)), free(a_node(4, reputation=0.9))]
    (placement,) = plan(Snapshot([a_job()], fleet)).placements
    assert placement.node_id == ident(3)


def test_jobs_spread_over_nodes_that_are_alike() -> None:
    fleet = [free(a_node(number, slots=2)) for number in (1, 2, 3)]
    placements = plan(Snapshot([a_job(number) for number in range(1, 7)], fleet)).placements
    assert Counter(placement.node_id for placement in placements) == {c.id: 2 for c in fleet}
    assert len({placement.node_id for placement in placements[:3]}) == 3


def test_a_node_that_failed_the_job_is_avoided_while_another_fits() -> None:
    good, bad = free(a_node(1, reputation=0.3)), free(a_node(2, reputation=1.0))
    job = a_job()
    avoid = {job.id: frozenset({bad.id})}
    assert plan(Snapshot([job], [good, bad], avoid=avoid)).placements[0].node_id == good.id
    assert plan(Snapshot([job], [bad], avoid=avoid)).placements[0].node_id == bad.id


def test_the_reference_weights_give_the_reference_score() -> None:
    node = free(a_node(slots=4, reputation=0.5), a_job().spec, uptime=0.9)
    assert score(a_job().spec, node, Weights()) == pytest.approx(0.4 * 0.5 + 0.3 * 0.75 + 0.2 * 1.0 + 0.1 * 0.9)


@pytest.mark.parametrize(
    ("node", "resources", "reason"),
    [
        (free(a_node(state=NodeState.BANNED)), {}, "banned"),
        (free(a_node(reputation=0.24)), {}, "reputation below 25"),
        (free(a_node(state=NodeState.OFFLINE)), {}, "offline"),
        (free(a_node(), connected=False), {}, "offline"),
        (free(a_node(cordoned=True)), {}, "draining"),
        (free(a_node(region="us")), {"regions": ("eu", "asia")}, "not in eu, asia"),
        (free(a_node(ram=4)), {"ram_bytes": 8 * GIB}, "less than 8 GiB of RAM"),
        (free(a_node()), {"device": Device.CUDA}, "no cuda device"),
        (free(a_node()), {"vram_bytes": 8 * GIB}, "no GPU device"),
        (free(a_node(gpus=(24,))), {"device": Device.OPENCL}, "no opencl device"),
        (
            free(a_node(gpus=(24,))),
            {"device": Device.CUDA, "vram_bytes": 40 * GIB},
            "no cuda device with 40 GiB",
        ),
        (free(a_node(slots=1), a_job().spec), {}, "all slots busy"),
        (free(a_node(ram=4), a_job(ram_bytes=3 * GIB).spec), {"ram_bytes": 2 * GIB}, "RAM in use by other jobs"),
        (
            free(a_node(gpus=(24,)), a_job(device=Device.CUDA).spec),
            {"device": Device.CUDA},
            "GPU in use by another job",
        ),
        (free(a_node(gpus=(24,))), {"device": Device.CUDA, "vram_bytes": 24 * GIB}, None),
        (free(a_node(gpus=(24,))), {}, None),
    ],
)
def test_why_a_node_cannot_take_a_job(node: Candidate, resources: dict[str, object], reason: str | None) -> None:
    assert why_not(a_job(**resources).spec, node) == reason


def test_a_gpu_of_unknown_size_takes_only_a_job_that_asks_for_none() -> None:
    device = DeviceInfo(Device.CUDA, "GPU", None)
    node = a_node()
    node = replace(node, hardware=replace(node.hardware, devices=(device,)))
    assert why_not(a_job(device=Device.CUDA).spec, free(node)) is None
    assert why_not(a_job(device=Device.CUDA, vram_bytes=1).spec, free(node)) == "no cuda device with 1 bytes"


OFFERS = (JOB_TYPES, SCRIPTS, REQUIREMENTS, NETWORK)
SCRIPT = Script("a.py", {"a.py": "0" * 64})


@pytest.mark.parametrize(
    ("asks", "lacks", "reason"),
    [
        ({"type": JobType.EVALUATION}, JOB_TYPES, "knows no evaluation jobs"),
        ({"type": JobType.PREPROCESSING}, JOB_TYPES, "knows no preprocessing jobs"),
        ({"script": SCRIPT}, SCRIPTS, "runs no code of others"),
        ({"script": SCRIPT, "requirements": "0" * 64}, REQUIREMENTS, "installs no packages"),
        ({"script": SCRIPT, "network": True}, NETWORK, "allows no network"),
    ],
)
def test_what_a_job_asks_for_a_node_must_offer(asks: dict[str, Any], lacks: str, reason: str) -> None:
    spec = replace(a_job().spec, **asks)
    assert why_not(spec, free(a_node(extras={"features": OFFERS}))) is None
    without = free(a_node(extras={"features": [each for each in OFFERS if each != lacks]}))
    assert why_not(spec, without) == reason
    made = plan(Snapshot([replace(a_job(1), spec=spec), a_job(2)], [without]))
    assert [placed.job_id for placed in made.placements] == [ident(2)], "what the first lacks is nothing to the second"
    assert made.waiting[JobId(ident(1))] == f"no node can take it: {reason} (1 node)"


def test_the_reasons_of_many_nodes_are_counted() -> None:
    fleet = [
        free(a_node(1, state=NodeState.OFFLINE)),
        free(a_node(2, state=NodeState.OFFLINE)),
        free(a_node(3, cordoned=True)),
    ]
    (reason,) = plan(Snapshot([a_job()], fleet)).waiting.values()
    assert reason == "no node can take it: offline (2 nodes), draining (1 node)"
    (reason,) = plan(Snapshot([a_job()], [])).waiting.values()
    assert reason == "no node has joined yet"


def test_a_node_that_holds_the_data_is_preferred() -> None:
    job = a_job()
    uri = "https://example.org/a.csv"
    job = replace(job, spec=replace(job.spec, dataset_uri=f"{uri}#label=kind"))
    holder = replace(free(a_node(2)), data_keys=frozenset({data_key(uri)}))
    fleet = [free(a_node(1)), holder, free(a_node(3))]
    assert plan(Snapshot([job], fleet)).placements[0].node_id == ident(2)
    assert plan(Snapshot([job], fleet, Weights(data=0.0))).placements[0].node_id == ident(1)
    assert plan(Snapshot([a_job()], fleet)).placements[0].node_id == ident(1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://b/a?label=x", "s3://b/a#label=y", True),
        ("https://h/a?v=1#label=x", "https://h/a?v=1", True),
        ("https://h/a?v=1", "https://h/a?v=2", False),
        ("ipfs://a", "ipfs://b", False),
    ],
)
def test_options_of_reading_don_t_change_what_is_held(one: str, other: str, same: bool) -> None:
    assert (data_key(one) == data_key(other)) == same
    assert len(data_key(one)) == 16


def test_what_a_node_says_it_holds_is_bounded() -> None:
    liveness, node = Liveness(SystemClock(), 30.0), NodeId(ident(1))
    keys = [f"{number:016x}" for number in range(1000)]
    liveness.keeps(node, ["x" * 16, "../../etc", *keys])
    assert liveness.data_keys(node) == frozenset(keys[: MAX_DATA_KEYS - 2])
    liveness.gone(node)
    assert liveness.data_keys(node) == frozenset()


def test_explain_names_every_node_the_best_first() -> None:
    fleet = [free(a_node(1, state=NodeState.OFFLINE)), free(a_node(2, reputation=0.3)), free(a_node(3))]
    verdicts = explain(a_job().spec, fleet, Weights())
    assert [(verdict.name, verdict.reason) for verdict in verdicts] == [
        ("node 3", None),
        ("node 2", None),
        ("node 1", "offline"),
    ]
    assert verdicts[0].score > verdicts[1].score
    assert set(verdicts[0].terms) == {"reputation", "availability", "latency", "capability", "uptime", "region", "data"}


def test_a_short_way_to_central_counts_by_its_weight() -> None:
    trips = {1: None, 2: 0.3, 3: 0.002, 4: 5.0}
    nodes = [candidate(a_node(number), [], 1.0, round_trip_seconds=trip) for number, trip in trips.items()]
    values = [terms(a_job(1).spec, each)["latency"] for each in nodes]
    assert values == pytest.approx([0.0, 0.1, 0.9, 0.0])
    assert best(a_job(1).spec, nodes, Weights()).id == nodes[0].id, "off by default"
    assert best(a_job(1).spec, nodes, Weights(latency=0.5)).id == nodes[2].id
