"""Every store keeps the contract of `ports.store`: jobs, nodes, accounts and facts.

Long, as it is a list: a promise of the port a test; payments, reservations and stakes have files of their own.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cyxwiz.domain.account import ApiKey, JoinToken, Role, User
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.events import JobSubmitted
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId
from cyxwiz.domain.job import (
    OUTRANKED,
    Checkpoint,
    JobResult,
    JobTrigger,
    JobType,
    Lease,
    LogLine,
    MetricPoint,
    Priority,
    ResultFile,
    Tenure,
)
from cyxwiz.domain.node import GpuLoad, LoadSample
from cyxwiz.domain.pricing import Billing, NodePricing
from cyxwiz.domain.states import JobState, LeaseState, LeaseTrigger, NodeState, NodeTrigger
from cyxwiz.ports.store import LEAST_BLOB_BYTES, AuditEntry, BlobInfo, JobQuery, NodeQuery, Store, Tx
from tests.contract.conftest import Backend, HandClock
from tests.contract.make import OWNER, START, job, node, stored

NODE = NodeId("22222222-2222-4222-8222-222222222222")
HOUR = timedelta(hours=1)

ASKS = NodePricing(5, billing=Billing.PER_EPOCH, currencies=("usdc",), updated_at=7)


async def test_a_job_comes_back_as_it_went_in(store: Store) -> None:
    given = replace(
        job("réseau 🧠"),
        state=JobState.RUNNING,
        metrics={"loss": 0.25},
        node_id=NODE,
        token=Token(1, 2**40),
        not_before=START + HOUR,
        reason="waits\0 for \ud800",
        estimated_cost_units=2**62,
        compute_seconds=1.5,
        started_at=START + timedelta(microseconds=1),
    )
    await store.write(lambda tx: tx.add_job(given))
    found = await store.read(lambda tx: tx.job(given.id))
    assert found == stored(replace(given, reason="waits\N{REPLACEMENT CHARACTER} for ?"))
    assert await store.read(lambda tx: tx.model(given.id)) == given.spec.model
    with pytest.raises(CyxError) as caught:
        await store.read(lambda tx: tx.model(JobId("nobody")))
    assert caught.value.code is Code.NOT_FOUND
    assert await store.read(lambda tx: tx.job(job().id)) is None


async def test_a_unit_is_all_there_or_not_at_all(store: Store) -> None:
    kept, lost = job(), job()
    await store.write(lambda tx: tx.add_job(kept))

    def unit(tx: Tx) -> None:
        tx.add_job(lost)
        tx.emit(JobSubmitted(lost.id, OWNER))
        tx.save_job(replace(kept, progress=0.5))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.write(unit)
    assert await store.read(lambda tx: tx.job(lost.id)) is None
    assert await store.read(lambda tx: tx.job(kept.id)) == stored(kept)
    assert await store.read(lambda tx: tx.events(0, frozenset(), 10)) == []


async def test_one_failing_unit_does_not_disturb_the_others(store: Store) -> None:
    jobs = [job() for _ in range(50)]

    def unit(index: int) -> object:
        def run(tx: Tx) -> int:
            tx.add_job(jobs[index])
            tx.emit(JobSubmitted(jobs[index].id, OWNER))
            if index == 25:
                raise ValueError("the 25th")
            return index

        return run

    results = await asyncio.gather(*(store.write(unit(i)) for i in range(50)), return_exceptions=True)  # type: ignore[arg-type]
    assert [result for result in results if isinstance(result, int)] == [i for i in range(50) if i != 25]
    assert isinstance(results[25], ValueError)
    stored = await store.read(lambda tx: tx.jobs(JobQuery()))
    assert {each.id for each in stored.items} == {each.id for i, each in enumerate(jobs) if i != 25}
    assert len(await store.read(lambda tx: tx.events(0, frozenset(), 100))) == 49


async def test_a_read_unit_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"read.?only"):
        await store.read(lambda tx: tx.add_job(job()))
    await store.write(lambda tx: tx.add_job(job()))


async def test_what_exists_is_not_added_twice(store: Store) -> None:
    given = job()
    await store.write(lambda tx: tx.add_job(given))
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_job(given))
    assert caught.value.code is Code.EXISTS
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_lease(Lease(job().id, Token(1, 1), NODE, START)))
    assert caught.value.code is Code.CONFLICT


@pytest.mark.parametrize("bad", ["nul \0", "surrogate \ud800"])
async def test_what_no_database_can_store_is_invalid_and_harmless(store: Store, bad: str) -> None:
    if "\0" in bad and type(store).__name__ != "PostgresStore":
        bad = "\ud800"  # SQLite keeps a NUL
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_job(job(bad)))
    assert caught.value.code is Code.INVALID
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_job(job(estimated_cost_units=2**70)))
    assert caught.value.code is Code.INVALID
    await store.write(lambda tx: tx.add_job(job()))


async def test_a_save_is_guarded_by_the_version(store: Store) -> None:
    given = job()
    await store.write(lambda tx: tx.add_job(given))
    saved = await store.write(lambda tx: tx.save_job(replace(given, progress=0.5)))
    assert saved.version == given.version + 1
    assert await store.read(lambda tx: tx.job(given.id)) == stored(saved)
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.save_job(given))
    assert caught.value.code is Code.STALE
    machine = node()
    await store.write(lambda tx: tx.add_node(machine))
    await store.write(lambda tx: tx.save_node(machine.move(NodeTrigger.CONNECT)))
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.save_node(machine))
    assert caught.value.code is Code.STALE


async def test_what_a_job_may_cost_changes_with_its_spec_alone(store: Store) -> None:
    given = job()
    await store.write(lambda tx: tx.add_job(given))
    dearer = replace(given, spec=replace(given.spec, max_price_units=7), progress=0.5)
    saved = await store.write(lambda tx: tx.save_spec(dearer))
    assert await store.read(lambda tx: tx.job(given.id)) == stored(saved)
    with pytest.raises(CyxError, match="somebody else"):
        await store.write(lambda tx: tx.save_spec(replace(given, spec=replace(given.spec, max_price_units=9))))
    assert await store.read(lambda tx: tx.job(given.id)) == stored(saved)
    await store.write(lambda tx: tx.save_job(replace(saved, spec=given.spec)))
    found = await store.read(lambda tx: tx.job(given.id))
    assert found is not None
    assert found.spec.max_price_units == 7


async def test_read_modify_write_loses_nothing(store: Store) -> None:
    given = job()
    await store.write(lambda tx: tx.add_job(given))

    def raise_it(tx: Tx) -> None:
        found = tx.job(given.id)
        assert found is not None
        tx.save_job(replace(found, epoch=found.epoch + 1))

    await asyncio.gather(*(store.write(raise_it) for _ in range(20)))
    found = await store.read(lambda tx: tx.job(given.id))
    assert found is not None
    assert (found.epoch, found.version) == (20, 20)


async def test_deleting_a_job_takes_all_that_is_its(store: Store) -> None:
    given, other = job(), job()

    def fill(tx: Tx) -> None:
        for each in (given, other):
            tx.add_job(each)
            tx.add_lease(Lease(each.id, Token(1, 1), NODE, START))
            tx.add_metrics(each.id, [MetricPoint(1, START, 1, 1, 0.1, True, {"loss": 1.0})])
            tx.add_logs(each.id, [LogLine(1, START, "info", "job", "x")])
            tx.add_result(JobResult(each.id, NODE, Token(1, 1), (), "blob://", "sha256:", 0, {}, 1.0, START))

    await store.write(fill)
    await store.write(lambda tx: tx.delete_job(given.id))

    def left(tx: Tx) -> list[object]:
        return [
            [bool(tx.job(i)), len(tx.leases_of(i)), len(tx.metrics(i, 0, 9)), len(tx.logs(i, 0, 9)), bool(tx.result(i))]
            for i in (given.id, other.id)
        ]

    assert await store.read(left) == [[False, 0, 0, 0, False], [True, 1, 1, 1, True]]


async def test_due_jobs_by_priority_then_age_and_not_before_their_time(store: Store, clock: HandClock) -> None:
    late = job("late", created_at=START + HOUR)
    low = job("low", priority=Priority.LOW)
    urgent = job("urgent", priority=Priority.CRITICAL, created_at=START + 2 * HOUR)
    early = job("early")
    waiting = job("waiting", priority=Priority.HIGH, not_before=START + timedelta(seconds=10))
    later = job("later", not_before=START + timedelta(seconds=20))
    running = job("running", state=JobState.RUNNING)
    await store.write(lambda tx: [tx.add_job(each) for each in (late, low, urgent, early, waiting, later, running)])

    async def due(limit: int = 10) -> list[str]:
        return [each.spec.name for each in await store.write(lambda tx: tx.due_jobs(limit))]

    assert await due() == ["urgent", "early", "late", "low"]
    assert await due(2) == ["urgent", "early"]
    rest = await store.write(lambda tx: tx.due_jobs(2, early))
    assert [each.spec.name for each in rest] == ["late", "low"]
    assert await store.read(lambda tx: tx.due_jobs(2, low)) == []
    asked = ((OWNER, 9), (OWNER, 4), (UserId("nobody"), 9))
    counted = await store.read(lambda tx: [tx.count_pending(*each) for each in asked])
    assert counted == [6, 4, 0]
    assert await store.read(lambda tx: tx.next_due_at()) == waiting.not_before
    clock.advance(10)
    assert await due() == ["urgent", "waiting", "early", "late", "low"]
    assert await store.read(lambda tx: tx.next_due_at()) == later.not_before
    clock.advance(10)
    assert await store.read(lambda tx: tx.next_due_at()) is None


async def test_pages_and_filters_of_jobs(store: Store) -> None:
    other = UserId("33333333-3333-4333-8333-333333333333")
    jobs = [
        job(f"job {i}", created_at=START + timedelta(seconds=i // 2), owner_id=OWNER if i % 3 else other)
        for i in range(10)
    ]
    jobs[4] = replace(jobs[4], state=JobState.RUNNING, node_id=NODE)
    jobs.append(job("100%_Sure", type_=JobType.INFERENCE, created_at=START - HOUR))
    await store.write(lambda tx: [tx.add_job(each) for each in jobs])
    newest_first = [each.id for each in sorted(jobs, key=lambda each: (each.created_at, each.id), reverse=True)]

    async def ids(query: JobQuery) -> list[str]:
        return [each.id for each in (await store.read(lambda tx: tx.jobs(query))).items]

    page = await store.read(lambda tx: tx.jobs(JobQuery(limit=3)))
    assert ([each.id for each in page.items], page.total, page.capped) == (newest_first[:3], 11, False)
    assert await ids(JobQuery(offset=3, limit=3)) == newest_first[3:6]
    seen: list[str] = []
    after = None
    while found := await store.read(
        lambda tx, after=after: tx.jobs(JobQuery(limit=3, after=after, offset=5 if after else 0)).items
    ):
        seen += [each.id for each in found]
        after = (found[-1].created_at, found[-1].id)
    assert seen == newest_first
    assert set(await ids(JobQuery(owner_id=other))) == {jobs[i].id for i in (0, 3, 6, 9)}
    assert await ids(JobQuery(states=frozenset({JobState.RUNNING, JobState.FAILED}))) == [jobs[4].id]
    assert await ids(JobQuery(node_id=NODE)) == [jobs[4].id]
    assert await ids(JobQuery(types=frozenset({JobType.INFERENCE}))) == [jobs[10].id]
    assert await ids(JobQuery(name_contains="%_sure")) == [jobs[10].id]
    assert await ids(JobQuery(name_contains="b%2")) == []


async def test_tokens_rise_and_never_come_twice(store: Store) -> None:
    tokens = await asyncio.gather(*(store.write(lambda tx: [tx.next_token(), tx.next_token()]) for _ in range(10)))
    assert all(first < second for first, second in tokens)
    assert len({token for pair in tokens for token in pair}) == 20
    last = max(token for pair in tokens for token in pair)
    assert last.epoch == 1
    assert await store.write(lambda tx: tx.raise_epoch()) == 2
    assert await store.write(lambda tx: tx.next_token()) > last
    assert await store.write(lambda tx: tx.raise_epoch()) == 3


async def test_tenures_of_what_nodes_hold_below_a_priority(store: Store) -> None:
    low, normal, high = (job(each, priority=each) for each in (Priority.LOW, Priority.NORMAL, Priority.HIGH))
    reserved = job("reserved", priority=Priority.LOW)
    reserved = replace(reserved, spec=replace(reserved.spec, reservation_id=str(NODE)))
    given = (low, normal, high, reserved, job("waits", priority=Priority.LOW))
    ended = {"state": LeaseState.ENDED, "ended_at": START}

    def unit(tx: Tx) -> None:
        for each in given:
            tx.add_job(each)
        for counter, each in enumerate(given[:4], 10):
            tx.add_lease(Lease(each.id, Token(1, counter), NODE, START + HOUR))
        tx.add_lease(Lease(low.id, Token(1, 14), NODE, START + 2 * HOUR, rank=1, world=2, lead=10))
        reasons = [f"{OUTRANKED}a job", f"{OUTRANKED}another", "preempted: its node is drained", "completed"]
        for counter, reason in enumerate(reasons, 1):
            tx.add_lease(Lease(low.id, Token(1, counter), NODE, START, end_reason=reason, **ended))  # type: ignore[arg-type]
        for number, kept in ((1, True), (2, True), (3, False)):
            at = START + number * HOUR
            tx.add_checkpoint(low.id, Checkpoint(number, at, NODE, Token(1, 1), 1, 0, 1, 0.5, 1, "a" * 64, 1, kept))

    await store.write(unit)
    expected = {
        low.id: Tenure(START + HOUR, START + 2 * HOUR, 2),
        normal.id: Tenure(START + HOUR, None, 0),
    }
    assert await store.read(lambda tx: tx.tenures(Priority.HIGH)) == expected
    assert set(await store.read(lambda tx: tx.tenures(Priority.NORMAL))) == {low.id}
    assert await store.read(lambda tx: tx.tenures(Priority.LOW)) == {}


async def test_leases(store: Store) -> None:
    given = job()
    first = Lease(given.id, Token(1, 9), NODE, START)
    second = Lease(given.id, Token(1, 10), NODE, START, boot_id="b", state=LeaseState.ACTIVE, pricing=ASKS)
    elsewhere = Lease(given.id, Token(1, 11), NodeId("elsewhere"), START)

    def fill(tx: Tx) -> None:
        tx.add_job(given)
        for lease in (second, first, elsewhere):
            tx.add_lease(lease)

    await store.write(fill)
    assert await store.read(lambda tx: tx.live_leases()) == [first, second, elsewhere]
    assert await store.read(lambda tx: tx.live_leases(NODE)) == [first, second]
    ended = first.move(LeaseTrigger.END, ended_at=START + HOUR, end_reason="done", last_seq=7)
    await store.write(lambda tx: tx.save_lease(ended))
    assert await store.read(lambda tx: tx.live_leases(NODE)) == [second]
    assert await store.read(lambda tx: tx.leases_of(given.id)) == [ended, second, elsewhere]
    assert await store.read(lambda tx: tx.lease(given.id, first.token)) == ended
    assert await store.read(lambda tx: tx.lease(given.id, Token(2, 9))) is None


async def test_curves_logs_and_results(store: Store) -> None:
    given = job()
    points = [MetricPoint(i, START, 1, i, i / 10, i % 2 == 0, {"loss": 1 / i}) for i in range(1, 11)]
    lines = [LogLine(i, START, "info", "stdout", f"line {i}") for i in range(1, 11)]
    files = (ResultFile("weights", "ab" * 32, 12),)
    result = JobResult(given.id, NODE, Token(1, 1), files, "blob://x", "sha256:x", 12, {"loss": 0.1}, 9.5, START, 7.25)

    def fill(tx: Tx) -> None:
        tx.add_job(given)
        assert (tx.last_metric_offset(given.id), tx.last_log_offset(given.id)) == (0, 0)
        tx.add_metrics(given.id, points)
        tx.add_logs(given.id, lines)
        tx.add_logs(given.id, [])
        tx.add_result(result)

    await store.write(fill)
    assert await store.read(lambda tx: tx.metrics(given.id, 3, 4)) == points[3:7]
    assert await store.read(lambda tx: tx.logs(given.id, 8, 100)) == lines[8:]
    assert await store.read(lambda tx: (tx.last_metric_offset(given.id), tx.last_log_offset(given.id))) == (10, 10)
    assert await store.read(lambda tx: tx.result(given.id)) == result
    assert await store.read(lambda tx: tx.result(job().id)) is None
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_result(result))
    assert caught.value.code is Code.EXISTS


async def test_the_words_of_a_line_are_free_text_too(store: Store) -> None:
    """A script writes them itself: refused, they would count against its node."""
    given = job()
    await store.write(lambda tx: tx.add_job(given))
    await store.write(lambda tx: tx.add_logs(given.id, [LogLine(1, START, "in\0fo", "jo\0b", "x\0")]))
    mark = "\N{REPLACEMENT CHARACTER}"
    wanted = [LogLine(1, START, f"in{mark}fo", f"jo{mark}b", f"x{mark}")]
    assert await store.read(lambda tx: tx.logs(given.id, 0, 9)) == wanted


async def test_checkpoints(store: Store) -> None:
    given, other = job(), job()
    states = [
        Checkpoint(number, START, NodeId("n"), Token(1, 2), 2, 3, number * 10, 0.25, 4, f"{number:064x}", 2**40)
        for number in range(1, 4)
    ]
    await store.write(lambda tx: [tx.add_job(each) for each in (given, other)])
    await store.write(lambda tx: [tx.add_checkpoint(given.id, each) for each in states])
    assert await store.read(lambda tx: tx.checkpoints(given.id, 2)) == [states[2], states[1]]
    assert await store.read(lambda tx: tx.checkpoints(other.id, 2)) == []
    page = await store.read(lambda tx: tx.checkpoint_page(given.id, 1, 1))
    assert (list(page.items), page.total, page.capped) == ([states[1]], 3, False)
    await store.write(lambda tx: tx.release_checkpoint(given.id, 1))
    assert (await store.read(lambda tx: tx.checkpoints(given.id, 9)))[2] == replace(states[0], kept=False)
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_checkpoint(given.id, states[0]))
    assert caught.value.code is Code.EXISTS


async def test_a_blob_is_dropped_when_nobody_needs_it(store: Store) -> None:
    given = job()
    free, owned, saved = (BlobInfo(digit * 64, 5, START) for digit in "abc")
    state = Checkpoint(1, START, NodeId("n"), Token(1, 2), 1, 0, 0, 0.0, 1, saved.sha256, 5)
    await store.write(lambda tx: [tx.add_job(given), tx.add_checkpoint(given.id, state)])
    await store.write(lambda tx: [tx.add_blob(free, None), tx.add_blob(owned, OWNER), tx.add_blob(saved, None)])
    drop = [await store.write(lambda tx, each=each: tx.drop_blob(each.sha256)) for each in (free, owned, saved)]
    assert drop == [True, False, False]
    await store.write(lambda tx: tx.release_checkpoint(given.id, 1))
    assert await store.write(lambda tx: tx.drop_blob(saved.sha256))
    assert await store.read(lambda tx: tx.blob(saved.sha256)) is None
    assert not await store.write(lambda tx: tx.drop_blob(saved.sha256))


async def test_nodes(store: Store, clock: HandClock) -> None:
    first = node("b", region="eu-west", state=NodeState.ONLINE, pricing=ASKS, extras={"a": [1]})
    second = node("a", identity="digest", legacy=True, region="EU-north")
    twin = node("c", identity="digest")
    await store.write(lambda tx: [tx.add_node(first), tx.add_node(second)])
    assert await store.read(lambda tx: tx.node(first.id)) == first
    assert await store.read(lambda tx: tx.node_by_identity(OWNER, "digest")) == second
    assert await store.read(lambda tx: tx.node_by_identity(OWNER, "")) is None
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_node(twin))
    assert caught.value.code is Code.EXISTS
    given = job()
    await store.write(lambda tx: [tx.add_job(given), tx.add_lease(Lease(given.id, Token(1, 1), first.id, START))])
    page = await store.read(lambda tx: tx.nodes(NodeQuery()))
    assert (list(page.items), page.total) == ([second, replace(first, load=1)], 2)
    assert await store.read(lambda tx: tx.fleet()) == [second, replace(first, load=1)]
    assert await store.read(lambda tx: (tx.node_state(second.id), tx.node_state(twin.id))) == (second.state, None)
    assert await store.read(lambda tx: [tx.node_pricing(each.id) for each in (first, second, twin)]) == [
        ASKS,
        None,
        None,
    ]
    for query, names in (
        (NodeQuery(status="offline"), ["a"]),
        (NodeQuery(status="online"), []),
        (NodeQuery(status="busy"), ["b"]),
        (NodeQuery(region_contains="eu-"), ["a", "b"]),
        (NodeQuery(owner_id=UserId("nobody")), []),
        (NodeQuery(offset=1), ["b"]),
        (NodeQuery(limit=1), ["a"]),
    ):
        found = await store.read(lambda tx, query=query: tx.nodes(query))
        assert [each.name for each in found.items] == names
    assert await store.read(lambda tx: tx.unseen_nodes(START)) == []
    clock.advance(5)
    assert await store.read(lambda tx: tx.unseen_nodes(clock.now())) == [first.id]  # the second is offline
    await store.write(lambda tx: tx.touch_nodes({first.id: 5.0, second.id: 2.5}))
    assert await store.read(lambda tx: tx.unseen_nodes(clock.now())) == []
    touched = await store.read(lambda tx: tx.node(second.id))
    assert touched == replace(second, last_seen_at=clock.now(), online_seconds=2.5)
    fewer = replace(second, hardware=replace(second.hardware, devices=second.hardware.devices[1:]))
    saved = await store.write(lambda tx: tx.save_node(fewer))
    assert await store.read(lambda tx: tx.node(second.id)) == saved


async def test_load_samples(store: Store) -> None:
    machine = node()
    gpus = (GpuLoad("GPU", 0.5, 24 << 30, 20 << 30, 61.0, None), GpuLoad())
    samples = [LoadSample(START + timedelta(seconds=i), cpu_usage=i / 10, active_jobs=i) for i in range(5)]
    samples.append(LoadSample(START + timedelta(seconds=5), gpus=gpus))
    await store.write(lambda tx: [tx.add_node(machine), *(tx.add_load(machine.id, each) for each in samples)])
    assert await store.read(lambda tx: tx.load_samples(machine.id, None, None, 2)) == samples[4:]
    assert await store.read(lambda tx: tx.load_samples(machine.id, samples[1].at, samples[3].at, 9)) == samples[1:4]
    assert await store.write(lambda tx: tx.prune_load(samples[4].at)) == 4
    assert await store.read(lambda tx: tx.load_samples(machine.id, None, None, 9)) == samples[4:]


async def test_accounts(store: Store) -> None:
    user = User(OWNER, "ann", Role.OPERATOR, START, "hash")
    key = ApiKey("key", OWNER, "laptop", "digest", "cyx_ab", START)
    token = JoinToken("token", OWNER, "digest", START, START + HOUR, 3)
    await store.write(lambda tx: [tx.add_user(user), tx.add_key(key), tx.add_join_token(token)])
    assert await store.read(lambda tx: (tx.user(OWNER), tx.user_by_name("ann"))) == (user, user)
    assert await store.read(lambda tx: (tx.key("key"), tx.key_by_digest("digest"))) == (key, key)
    assert await store.read(lambda tx: (tx.join_token("token"), tx.join_token_by_digest("digest"))) == (token, token)
    changed = (replace(user, disabled=True), replace(key, revoked_at=START), replace(token, uses_left=2))
    await store.write(lambda tx: [tx.save_user(changed[0]), tx.save_key(changed[1]), tx.save_join_token(changed[2])])
    pages = await store.read(lambda tx: (tx.users(0, 9), tx.keys(OWNER, 0, 9), tx.join_tokens(None, 0, 9)))
    assert tuple(page.items[0] for page in pages) == changed
    assert [page.total for page in pages] == [1, 1, 1]
    assert (await store.read(lambda tx: tx.keys(UserId("other"), 0, 9))).total == 0
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.add_user(replace(user, id=UserId("second"))))
    assert caught.value.code is Code.EXISTS
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.save_user(replace(user, id=UserId("nobody"))))
    assert caught.value.code is Code.NOT_FOUND


async def test_lists_of_accounts_are_filtered(store: Store, clock: HandClock) -> None:
    tokens = [
        JoinToken("open", OWNER, "a", START),
        JoinToken("timed", OWNER, "b", START, START + HOUR, 1),
        JoinToken("used up", OWNER, "c", START, uses_left=0),
        JoinToken("revoked", OWNER, "d", START, revoked_at=START),
    ]
    users = [User(UserId(name), name, Role(name), START, "hash") for name in ("admin", "user")]
    keys = [ApiKey("one", OWNER, "one", "a", "x", START), ApiKey("two", OWNER, "two", "b", "y", START, START)]
    await store.write(lambda tx: [tx.add_join_token(each) for each in tokens])
    await store.write(lambda tx: [*map(tx.add_user, users), *map(tx.add_key, keys)])

    def named(tx: Tx, *, usable: bool) -> set[str]:
        return {each.id for each in tx.join_tokens(None, 0, 9, usable).items}

    assert await store.read(lambda tx: named(tx, usable=True)) == {"open", "timed"}
    assert await store.read(lambda tx: named(tx, usable=False)) == {"used up", "revoked"}
    clock.advance(3601)
    assert await store.read(lambda tx: named(tx, usable=True)) == {"open"}
    for state, key in ((False, keys[0]), (True, keys[1])):
        found = await store.read(lambda tx, state=state: tx.keys(OWNER, 0, 9, state))
        assert (list(found.items), found.total) == ([key], 1)
    assert list((await store.read(lambda tx: tx.users(0, 9, Role.ADMIN))).items) == users[:1]


async def test_revocation(store: Store, clock: HandClock) -> None:
    assert await store.write(lambda tx: tx.revoke("a", START + HOUR))
    assert not await store.write(lambda tx: tx.revoke("a", START + HOUR))
    assert await store.read(lambda tx: (tx.revoked("a"), tx.revoked("b"))) == (True, False)
    clock.advance(7200)
    await store.write(lambda tx: tx.revoke("b", clock.now() + HOUR))
    assert await store.read(lambda tx: (tx.revoked("a"), tx.revoked("b"))) == (False, True)


async def test_blobs_and_their_owners(store: Store) -> None:
    info = BlobInfo("ab" * 32, 7, START)
    await store.write(lambda tx: tx.add_blob(info, None))
    assert await store.read(lambda tx: tx.blob(info.sha256)) == info
    await store.write(lambda tx: [tx.add_blob(info, UserId(name)) for name in ("ann", "bob", "ann")])
    found = await store.read(lambda tx: tx.blob(info.sha256))
    assert found == replace(info, owners=frozenset({UserId("ann"), UserId("bob")}))
    assert await store.read(lambda tx: tx.blob("cd" * 32)) is None


async def test_what_a_user_keeps(store: Store) -> None:
    small, large = BlobInfo("ab" * 32, 7, START), BlobInfo("cd" * 32, 5 << 30, START)
    given = replace(job(), owner_id=OWNER)
    given = replace(given, spec=replace(given.spec, dataset_uri=f"blob://sha256/{small.sha256}"))
    await store.write(lambda tx: [tx.add_blob(each, OWNER) for each in (large, small, small)])
    await store.write(lambda tx: [tx.add_blob(small, UserId("bob")), tx.add_job(given)])
    assert await store.read(lambda tx: tx.kept_bytes(OWNER)) == LEAST_BLOB_BYTES + (5 << 30)
    page = await store.read(lambda tx: tx.blobs_of(OWNER, 0, 1))
    assert ([each.sha256 for each in page.items], page.total) == ([small.sha256], 2)
    assert await store.read(lambda tx: tx.job_with_blob(OWNER, small.sha256)) == given.id
    assert await store.read(lambda tx: tx.job_with_blob(UserId("bob"), small.sha256)) is None
    assert await store.write(lambda tx: [tx.disown_blob(each.sha256, OWNER) for each in (large, large)]) == [
        True,
        False,
    ]
    assert await store.read(lambda tx: (tx.kept_bytes(OWNER), tx.kept_bytes(UserId("eve")))) == (LEAST_BLOB_BYTES, 0)


async def test_who_sent_a_blob_goes_with_it(store: Store) -> None:
    info, rig = BlobInfo("ab" * 32, 7, START), node()
    await store.write(lambda tx: [tx.add_node(rig), tx.add_blob(info, None)])
    await store.write(lambda tx: [tx.add_blob_sender(info.sha256, rig.id) for _ in range(2)])
    assert await store.read(lambda tx: tx.sent_blob(info.sha256, rig.id))
    assert not await store.read(lambda tx: tx.sent_blob(info.sha256, NODE))
    assert await store.write(lambda tx: tx.drop_blob(info.sha256)), "who sent it is no owner"
    await store.write(lambda tx: tx.add_blob(info, None))
    assert not await store.read(lambda tx: tx.sent_blob(info.sha256, rig.id))


async def test_a_setting_is_put_once(store: Store) -> None:
    assert await store.read(lambda tx: tx.setting("secret")) is None
    units = [(lambda tx, value=str(i): tx.put_setting("secret", value)) for i in range(10)]
    answers = set(await asyncio.gather(*(store.write(unit) for unit in units)))
    assert len(answers) == 1
    assert {await store.read(lambda tx: tx.setting("secret"))} == answers


async def test_audit_log_newest_first(store: Store) -> None:
    entries = [AuditEntry(START, "ann", "cancel", f"job {i}", {"i": i}) for i in range(3)]
    await store.write(lambda tx: [tx.audit(each) for each in entries])
    assert await store.read(lambda tx: tx.audit_log(2)) == [entries[2], entries[1]]
    one = entries[1]
    assert await store.read(lambda tx: tx.audit_of(one.action, one.target, 5)) == [
        each for each in reversed(entries) if (each.action, each.target) == (one.action, one.target)
    ]
    assert await store.read(lambda tx: tx.audit_of(one.action, "another", 5)) == []


async def test_stats(store: Store) -> None:
    machines = [node("a", state=NodeState.ONLINE, compute_seconds=5.0), node("b", compute_seconds=2.5)]
    jobs = [job(), job().move(JobTrigger.CANCEL), job().move(JobTrigger.CANCEL)]
    await store.write(lambda tx: [tx.add_node(each) for each in machines] + [tx.add_job(each) for each in jobs])
    found = await store.read(lambda tx: tx.stats())
    assert (found.total_nodes, found.online_nodes, found.compute_seconds) == (2, 1, 7.5)
    assert {state: count for state, count in found.jobs_by_state.items() if count} == {"pending": 1, "cancelled": 2}


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.aclose()
    await store.aclose()
    for call in (store.read, store.write):
        with pytest.raises(CyxError) as caught:
            await call(lambda tx: tx.last_seq())
        assert caught.value.code is Code.UNAVAILABLE


async def test_what_was_written_is_there_after_a_restart(durable: Backend, tmp_path: Path) -> None:
    store = await durable.open()
    given = job()
    await store.write(lambda tx: [tx.add_job(given), tx.emit(JobSubmitted(given.id, OWNER)), tx.put_setting("a", "b")])
    token = await store.write(lambda tx: tx.next_token())
    await store.aclose()
    store = await durable.open()
    assert await store.read(lambda tx: (tx.job(given.id), tx.last_seq(), tx.setting("a"))) == (stored(given), 1, "b")
    assert await store.write(lambda tx: tx.next_token()) > token
