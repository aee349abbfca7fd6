"""Results that are checked on other nodes before they are taken: who lies is found out, and the job ends right.

Real central, agents and training; what is scripted is the lie. Nothing in the product knows how to lie.
Long, as it is a list: a lie each, or a way in which nobody can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cyxwiz.compute.agent import Agent
from cyxwiz.compute.chain import definition_of, weights_digest, weights_of_file
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId, new_id
from cyxwiz.domain.job import Job, JobSpec, JobType, Phase
from cyxwiz.domain.node import Node
from cyxwiz.domain.proof import Kind, extend, genesis, loss_bits
from cyxwiz.domain.states import JobState
from cyxwiz.domain.verification import CheckRun, CheckSpec, Mode, Outcome, Validity, Verdict, Verification
from cyxwiz.ports.executor import Check, Checkpointed, Failed, Finished, Linked, Report, Work
from cyxwiz.ports.store import JobQuery, Tx
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services import leases, verification
from cyxwiz.services.barred import barred
from cyxwiz.services.verification import CHECKER
from tests.central import Central, central
from tests.fakes import artefact, hardware
from tests.integration.test_link import admin, until
from tests.integration.test_proofs import ONE_CORE, proof, result, submit
from tests.nodes import local_link, node
from tests.training import InlineExecutor
from tests.unit.compute.test_train import job as training

FLAGS = ("scheduler.node_heartbeat_timeout_ms=5000", "verify.same_owner=true")
WAIT_SECONDS = 1.5
WAIT = f"verify.wait_seconds={WAIT_SECONDS}"
UNDECIDED = "1 of 2 checks found it wrong, and no other node could decide in time: "
SPOT, QUORUM = {"mode": "spot"}, {"mode": "quorum", "n": 3}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, *FLAGS) as running:
        yield running


@contextlib.asynccontextmanager
async def nodes(
    server: Central, folder: Path, *executors: InlineExecutor, slots: int = 1
) -> AsyncIterator[list[Agent]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number, executor in enumerate(executors):
            name = f"n{number}-{id(executor)}"
            running = node(folder / name, local_link(server), executor, machine=ONE_CORE, name=name, slots=slots)
            found.append(await stack.enter_async_context(running))
        yield found


async def seen(server: Central, job: Job, condition: Callable[[Job], bool]) -> Job:
    async with asyncio.timeout(60):
        while not condition(now := await server.core.jobs.get(await admin(server), job.id)):
            await asyncio.sleep(0.02)
    return now


async def verifying(server: Central, job: Job) -> Job:
    return await seen(server, job, lambda now: now.phase is Phase.VERIFYING or now.ended)


async def right_weights(server: Central, folder: Path) -> str:
    """The hash of what the job gives where nobody lies."""
    async with nodes(server, folder, InlineExecutor()):
        job = await submit(server)
        await until(server, job, JobState.COMPLETED)
    return str((await result(server, job))["model_weights_hash"])


async def validity(server: Central, agent: Agent) -> Validity:
    return await server.core.store.read(lambda tx: tx.validity(agent._identity.node_id))


@pytest.mark.parametrize("verify", [SPOT, QUORUM], ids=["spot", "quorum"])
async def test_honest_work_is_verified(server: Central, tmp_path: Path, verify: dict[str, Any]) -> None:
    executors = [InlineExecutor() for _ in range(3)]
    async with nodes(server, tmp_path, *executors[:1]) as first:
        job = await submit(server, verify=verify)
        held = await verifying(server, job)
        assert (held.state, held.progress) == (JobState.RUNNING, 1.0)
        with pytest.raises(CyxError) as early:
            await result(server, job)
        assert early.value.code is Code.CONFLICT
        await seen(server, job, lambda now: "waits for another node" in now.reason)
        async with nodes(server, tmp_path, *executors[1:]) as others:
            done = await until(server, job, JobState.COMPLETED)
            records = [await validity(server, each) for each in (*first, *others)]
    shown = await result(server, job)
    assert shown["verification"]["outcome"] == "verified"
    assert len(shown["verification"]["checks"]) == (1 if verify is SPOT else 2)
    assert {each["verdict"] for each in shown["verification"]["checks"]} == {"match"}
    assert first[0]._identity.node_id not in [each["node_id"] for each in shown["verification"]["checks"]]
    assert done.attempts == 1
    assert sum(each.valid for each in records) == (2 if verify is SPOT else 3)
    checks = [run.work.check for executor in executors[1:] for run in executor.runs]
    assert all(check is not None and check.claim is None for check in checks), "nobody was shown what to say"
    listed = await server.core.jobs.list(await admin(server), JobQuery(owner_id=CHECKER))
    assert {each.state for each in listed.items} == {JobState.COMPLETED}
    mine = await server.core.jobs.list(await admin(server), JobQuery(owner_id=(await admin(server)).id))
    assert [each.id for each in mine.items] == [job.id]


def other_file(work: Work, report: Report) -> list[Report]:
    """A chain of honest work, and another file than it ended with."""
    if work.check is None and isinstance(report, Finished):
        return [replace(report, artefacts=(spoiled(report.artefacts[0].path), *report.artefacts[1:]))]
    return [report]


def spoiled(path: Path) -> Any:
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: value + 0.25 for name, value in tensors.items()}, path, metadata)
    return artefact(path)


def relinked(change: Callable[[Linked], Linked]) -> Callable[[Work, Report], list[Report]]:
    """Tells changed links in a chain that holds in itself."""
    before: dict[str, str] = {}
    instead: dict[str, str] = {}

    def tamper(work: Work, report: Report) -> list[Report]:
        if isinstance(report, Checkpointed) and work.check is None:
            return [replace(report, link=instead[report.link])]
        if not isinstance(report, Linked) or work.check is not None:
            return [report]
        start = genesis(work.job_id, work.seed, definition_of(work), report.data)
        told = change(report)
        link = extend(before.get(work.job_id, start), Kind(told.kind), told.step, loss_bits(told.loss), told.weights)
        before[work.job_id] = instead[report.link] = link.link
        return [replace(told, link=link.link)]

    return tamper


class Lazy(InlineExecutor):
    """Does a third of the epochs, and claims the steps of all."""

    def __init__(self) -> None:
        super().__init__(self._claims)
        self._made = relinked(lambda report: replace(report, step=report.step * 3))
        self._given: dict[str, Work] = {}

    async def start(self, work: Work) -> Any:
        self._given[work.job_id] = work
        return await super().start(work if work.check else replace(work, epochs=1, checkpoint_every="none"))

    def _claims(self, work: Work, report: Report) -> list[Report]:
        return self._made(self._given[work.job_id], report) if isinstance(report, Linked) else [report]


def liar(cheat: str) -> InlineExecutor:
    if cheat == "another file":
        return InlineExecutor(other_file)
    if cheat == "wrong weights":
        return InlineExecutor(relinked(lambda report: replace(report, weights=f"{int(report.weights, 16) ^ 1:064x}")))
    if cheat == "wrong loss":
        return InlineExecutor(relinked(lambda report: replace(report, loss=report.loss / 2)))
    return Lazy()


@pytest.mark.parametrize("verify", [SPOT, QUORUM], ids=["spot", "quorum"])
@pytest.mark.parametrize("cheat", ["another file", "wrong weights", "wrong loss", "skipped steps"])
async def test_a_liar_is_found_out(server: Central, tmp_path: Path, verify: dict[str, Any], cheat: str) -> None:
    right = await right_weights(server, tmp_path)
    slashed: list[str] = []
    async with nodes(server, tmp_path, liar(cheat)) as (bad,):
        job = await submit(server, verify=verify, checkpoint={"every": "1 epoch"})
        await verifying(server, job)
        async with nodes(server, tmp_path, InlineExecutor(), InlineExecutor(), InlineExecutor()) as good:
            done = await until(server, job, JobState.COMPLETED, seconds=30)
            assert await validity(server, bad) == Validity(bad._identity.node_id, 0, 0, 1)
            assert sum([(await validity(server, each)).invalid for each in good]) == 0
            slashed = await entries(server, "node.slash_owed")
    shown = await result(server, job)
    assert shown["model_weights_hash"] == right
    assert shown["verification"]["outcome"] == "verified"
    assert slashed == [f"node:{bad._identity.node_id}"]
    assert (done.retry_count, done.attempts) == (1, 2)
    leases = await server.core.store.read(lambda tx: tx.leases_of(job.id))
    assert leases[0].node_id == bad._identity.node_id != leases[1].node_id
    whole = await server.core.api.receipts.of_job(await admin(server), job.id)
    assert whole["compute_seconds"] < 5, "what was refused is not charged"
    steps = [each["step"] for each in (await proof(server, job))["links"]]
    assert steps[-1] == 69, "the chain is that of the second run alone"


def lazy_state(path: Path) -> None:
    """The saved state, with an optimizer that changes nothing any more: from here on there is nothing to do."""
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    meta = json.loads(metadata["cyxwiz.checkpoint"])
    for group in meta["figures"]["optimizer"]["groups"]:
        group["lr"] = 0.0
    save_file(tensors, path, {**metadata, "cyxwiz.checkpoint": json.dumps(meta)})


@pytest.mark.parametrize("forge", [lazy_state, lambda path: path.write_bytes(b"rubbish")], ids=["lazy", "rubbish"])
async def test_who_forges_a_state_to_go_on_from_is_found_out(
    server: Central, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forge: Callable[[Path], None]
) -> None:
    """Every interval of its chain would be right by itself, or could not be checked at all."""

    stored = threading.Event()

    def forges(work: Work, report: Report) -> list[Report]:
        if work.check is None and isinstance(report, Checkpointed):
            forge(report.file.path)
            return [replace(report, artefacts=(artefact(report.file.path),))]
        if work.check is None and isinstance(report, Finished):  # a job this short may end before a state is uploaded
            assert stored.wait(30)
        return [report]

    monkeypatch.setattr(verification, "interval", lambda points, number: (points[0], 0))
    async with nodes(server, tmp_path, InlineExecutor(forges)) as (bad,):
        job = await submit(server, verify=SPOT, checkpoint={"every": "1 epoch"})
        async with asyncio.timeout(20):
            while not await server.core.store.read(lambda tx: tx.kept_checkpoints(job.id)):
                await asyncio.sleep(0.02)
        stored.set()
        await verifying(server, job)
        async with nodes(server, tmp_path, InlineExecutor(), InlineExecutor(), InlineExecutor()) as good:
            await until(server, job, JobState.COMPLETED, seconds=30)
            assert await validity(server, bad) == Validity(bad._identity.node_id, 0, 0, 1)
            assert sum([(await validity(server, each)).invalid for each in good]) == 0
    assert await entries(server, "node.slash_owed") == [f"node:{bad._identity.node_id}"]
    assert (await result(server, job))["verification"]["outcome"] == "verified"


async def test_who_went_on_from_another_nodes_lie_is_not_blamed_for_it(server: Central, tmp_path: Path) -> None:
    """All of the job is done again with `quorum`, so nobody knows whose part was wrong."""

    def leaves_a_lie(work: Work, report: Report) -> list[Report]:
        if isinstance(report, Checkpointed):
            lazy_state(report.file.path)
            return [replace(report, artefacts=(artefact(report.file.path),))]
        return broken_down(work, report)

    right = await right_weights(server, tmp_path)
    async with nodes(server, tmp_path, InlineExecutor(leaves_a_lie)) as (bad,):
        job = await submit(server, verify={"mode": "quorum", "n": 2}, checkpoint={"every": "1 epoch"})
        await seen(server, job, lambda now: now.retry_count == 1)
    honest = InlineExecutor()
    async with nodes(server, tmp_path, honest) as (good,):
        await verifying(server, job)
        assert honest.runs[0].work.resume is not None
        async with nodes(server, tmp_path, InlineExecutor(), InlineExecutor()):
            await until(server, job, JobState.COMPLETED, seconds=30)
    assert [(await validity(server, each)).invalid for each in (bad, good)] == [0, 0]
    assert await entries(server, "node.slash_owed") == []
    assert (await result(server, job))["model_weights_hash"] == right
    leases = await server.core.store.read(lambda tx: tx.leases_of(job.id))
    assert [each.node_id for each in leases].count(good._identity.node_id) == 1, "who had a part does not try again"


async def entries(server: Central, action: str) -> list[str]:
    log = await server.core.store.read(lambda tx: tx.audit_log(1000))
    return [each.target for each in log if each.action == action]


async def test_a_wrong_check_loses_against_a_third(server: Central, tmp_path: Path) -> None:
    def contrary(work: Work, report: Report) -> list[Report]:
        if work.check is not None and isinstance(report, Linked):
            return [replace(report, weights="0" * 64)]
        return [report]

    async with nodes(server, tmp_path, InlineExecutor()) as (first,):
        job = await submit(server, verify=SPOT)
        await verifying(server, job)
        async with nodes(server, tmp_path, InlineExecutor(contrary)) as (bad,):
            async with asyncio.timeout(10):
                while not any(each["verdict"] == "mismatch" for each in await checks(server, job)):
                    await asyncio.sleep(0.02)
            async with nodes(server, tmp_path, InlineExecutor()):
                done = await until(server, job, JobState.COMPLETED)
            assert (await validity(server, bad)).invalid == 1
            assert (await validity(server, first)).valid == 1
    assert done.attempts == 1
    shown = (await result(server, job))["verification"]
    assert [each["verdict"] for each in shown["checks"]] == ["mismatch", "match"]
    assert shown["outcome"] == "verified"


async def checks(server: Central, job: Job) -> list[dict[str, Any]]:
    found = (await proof(server, job))["verification"]
    return list(found["checks"]) if found else []


async def test_without_another_node_it_is_taken_and_says_so(tmp_path: Path) -> None:
    async with central(tmp_path, *FLAGS, "verify.wait_seconds=0.6") as server:
        async with nodes(server, tmp_path, InlineExecutor()):
            job = await submit(server, verify=SPOT)
            await verifying(server, job)
            explained = await server.core.jobs.explain(await admin(server), job.id)
            assert "another node" in explained.job.reason
            await until(server, job, JobState.COMPLETED)
        shown = (await result(server, job))["verification"]
        assert shown["outcome"] == "unverified"
        assert "did the work that is checked" in shown["reason"]
        open_checks = await server.core.jobs.list(await admin(server), JobQuery(owner_id=CHECKER))
        assert [each.state for each in open_checks.items] == [JobState.CANCELLED]


async def test_a_mismatch_that_nobody_can_decide_is_refused(tmp_path: Path) -> None:
    """Neither of the two is believed, paid or blamed; who comes later does the job."""
    async with central(tmp_path, *FLAGS, WAIT) as server, nodes(server, tmp_path, liar("wrong weights")) as (first,):
        job = await submit(server, verify={"mode": "quorum", "n": 2})
        await verifying(server, job)
        async with nodes(server, tmp_path, InlineExecutor()) as (second,):
            again = await seen(server, job, lambda now: "disagreed with another about its result (2 no" in now.reason)
            assert (again.state, again.compute_seconds) == (JobState.PENDING, 0.0)
            assert (await why_refused(server, job)).startswith(UNDECIDED)
            assert [(await validity(server, each)).invalid for each in (first, second)] == [0, 0]
            async with nodes(server, tmp_path, InlineExecutor(), InlineExecutor()) as later:
                done = await until(server, job, JobState.COMPLETED)
    assert done.node_id in [each._identity.node_id for each in later]


async def why_refused(server: Central, job: Job) -> str:
    item = await server.core.store.read(lambda tx: tx.verification(job.id))
    assert item is not None
    assert item.outcome is Outcome.REJECTED
    return item.reason


async def test_a_node_has_one_word(tmp_path: Path) -> None:
    """Though it has room for both checks of a result, and nobody else is there: that would be the word of two."""
    goes_on = threading.Event()

    def contrary(work: Work, report: Report) -> list[Report]:
        goes_on.wait(30)
        return [replace(report, weights="0" * 64)] if isinstance(report, Linked) else [report]

    async with central(tmp_path, *FLAGS, WAIT) as server, nodes(server, tmp_path, InlineExecutor()) as (first,):
        job = await submit(server, verify=QUORUM)
        await verifying(server, job)
        async with nodes(server, tmp_path, InlineExecutor(contrary), slots=2):
            await seen(server, job, lambda now: "has a word by another check (1 node)" in now.reason)
            await asyncio.sleep(2 * WAIT_SECONDS)  # one that runs is waited for
            goes_on.set()
            await seen(server, job, lambda now: now.state is JobState.PENDING or now.ended)
            assert (await why_refused(server, job)).startswith(UNDECIDED)
            assert (await validity(server, first)).invalid == 0


@pytest.mark.parametrize("apart", [True, False])
async def test_an_owner_has_one_word(server: Central, apart: bool) -> None:
    """Unless owners are not told apart."""
    now, mine, other = SystemClock().now(), UserId("one"), UserId("another")
    rigs = [Node(NodeId(new_id()), owner, f"rig-{owner}", hardware(1), now, now) for owner in (mine, mine, other)]
    parent, asked = JobId(new_id()), [JobId(new_id()) for _ in range(2)]
    bounds = CheckSpec(parent, "1.1", 0, 0, 0, 1, "", "", "", "", "", not_owners=("worker",) if apart else ())
    spec = JobSpec(name="check", type=JobType.TRAINING, dataset_uri="builtin:iris", model="{}", check=bounds)
    runs = (CheckRun(asked[0], rigs[0].id, Verdict.MISMATCH), CheckRun(asked[1]))
    item = Verification(parent, Mode.QUORUM, now, NodeId("worker"), Token(1, 1), 0, 0, 2, checks=runs)
    check = Job(id=asked[1], owner_id=CHECKER, spec=spec, created_at=now)

    def unit(tx: Tx) -> frozenset[NodeId]:
        for each in rigs:
            tx.add_node(each)
        tx.add_job(replace(check, id=parent))
        tx.save_verification(item)
        return barred(tx, check)

    assert await server.core.store.write(unit) == {each.id for each in (rigs[:2] if apart else rigs[:1])}


@pytest.mark.parametrize(("code", "believed"), [(Code.UNAVAILABLE, True), (Code.EXHAUSTED, False)])
async def test_what_no_check_can_bear_is_not_believed(
    server: Central, tmp_path: Path, code: Code, believed: bool
) -> None:
    """What checks go on from is the work of who is checked; but not the data that all of them fetch."""
    async with nodes(server, tmp_path, InlineExecutor()):
        job = await submit(server, verify=SPOT)
        await verifying(server, job)

        def break_down(tx: Tx) -> None:
            item = tx.verification(job.id)
            assert item is not None
            (first,) = item.checks
            check = tx.job(first.job_id)
            assert check is not None
            leases.fail(tx, check, code.value, "it did not work")
            failed = [CheckRun(check.id, verdict=Verdict.FAILED), *(CheckRun(JobId(new_id())) for _ in range(7))]
            tx.save_verification(replace(item, checks=tuple(replace(each, verdict=Verdict.FAILED) for each in failed)))

        await server.core.store.write(break_down)
        await seen(server, job, lambda now: now.ended or now.state is JobState.PENDING)
    item = await server.core.store.read(lambda tx: tx.verification(job.id))
    assert item is not None
    assert item.outcome is (Outcome.UNVERIFIED if believed else Outcome.REJECTED)
    assert item.reason == "8 checks came to no end" + ("" if believed else ": it did not work")


async def test_a_node_of_the_same_owner_does_not_check(tmp_path: Path) -> None:
    async with central(tmp_path, "verify.wait_seconds=0.6") as server:
        async with nodes(server, tmp_path, InlineExecutor(), InlineExecutor()):
            job = await submit(server, verify=SPOT)
            await until(server, job, JobState.COMPLETED)
        shown = (await result(server, job))["verification"]
    assert shown["outcome"] == "unverified"
    assert "belongs to whose work is checked" in shown["reason"]


@pytest.mark.parametrize("streak", [9, 10**6])
async def test_a_proven_node_is_rarely_checked(server: Central, tmp_path: Path, streak: int) -> None:
    async with nodes(server, tmp_path, InlineExecutor()) as (agent,):
        node_id = agent._identity.node_id
        await server.core.store.write(lambda tx: tx.save_validity(Validity(node_id, streak, streak)))
        job = await submit(server, verify=QUORUM)
        now = await verifying(server, job)
        assert now.ended == (streak > 9)
        if now.ended:
            shown = (await result(server, job))["verification"]
            assert shown["outcome"] == "trusted"
            assert f"{streak} valid results" in shown["reason"]
            assert (await validity(server, agent)).streak == streak, "what was not checked does not count"


def broken_down(_: Work, report: Report) -> list[Report]:
    return [Failed("INTERNAL", "it broke down at its end", retryable=True) if isinstance(report, Finished) else report]


async def test_a_proven_node_does_not_vouch_for_what_it_went_on_from(server: Central, tmp_path: Path) -> None:
    async with nodes(server, tmp_path, InlineExecutor(broken_down)) as (unknown,):
        job = await submit(server, verify=QUORUM, checkpoint={"every": "1 epoch"})
        await seen(server, job, lambda now: now.retry_count == 1)
        kept = await server.core.store.read(lambda tx: tx.kept_checkpoints(job.id))
        assert {each.node_id for each in kept} == {unknown._identity.node_id}
    executor = InlineExecutor()
    async with nodes(server, tmp_path, executor) as (proven,):
        record = Validity(proven._identity.node_id, 10**6, 10**6)
        await server.core.store.write(lambda tx: tx.save_validity(record))
        now = await verifying(server, job)
        assert executor.runs[0].work.resume is not None
        assert now.phase is Phase.VERIFYING


async def test_other_hardware_is_shown_the_claim_and_measures_it(server: Central, tmp_path: Path) -> None:
    other = replace(hardware(1), cpu_model="Another CPU")
    executor = InlineExecutor()
    async with nodes(server, tmp_path, InlineExecutor()):
        job = await submit(server, verify=SPOT)
        await verifying(server, job)
        async with node(tmp_path / "other", local_link(server), executor, machine=other, name="other"):
            await until(server, job, JobState.COMPLETED)
    (check,) = (await result(server, job))["verification"]["checks"]
    assert check["figures"]["max_abs"] == 0.0
    assert executor.runs[0].work.check is not None
    assert executor.runs[0].work.check.claim is not None


async def test_a_job_whose_result_is_verified_can_neither_be_paused_nor_cancelled(
    server: Central, tmp_path: Path
) -> None:
    """Its node has done the work: what was locked would go back to who may have the result by P2P."""
    async with nodes(server, tmp_path, InlineExecutor()):
        job = await submit(server, verify=SPOT)
        await verifying(server, job)
        for command in (server.core.jobs.pause, server.core.jobs.cancel):
            with pytest.raises(CyxError, match="is being verified") as refused:
                await command(await admin(server), job.id)
            assert refused.value.code is Code.CONFLICT


async def test_a_job_that_is_ended_for_its_node_ends_its_checks(server: Central, tmp_path: Path) -> None:
    """As with the reservation that it has its node by."""
    async with nodes(server, tmp_path, InlineExecutor()):
        job = await submit(server, verify=SPOT)
        await verifying(server, job)

        def end(tx: Tx) -> None:
            found = tx.job(job.id)
            assert found is not None
            leases.cancel(tx, found, "central", "its reservation ended")

        await server.core.store.write(end)
        async with asyncio.timeout(10):
            while await server.core.store.read(lambda tx: tx.open_verifications()):
                await asyncio.sleep(0.05)
    listed = await server.core.jobs.list(await admin(server), JobQuery(owner_id=CHECKER))
    assert {each.state for each in listed.items} == {JobState.CANCELLED}


async def test_what_is_verified_can_not_be_changed_while_it_runs(server: Central, tmp_path: Path) -> None:
    executor = InlineExecutor()
    async with nodes(server, tmp_path, executor):
        job = await submit(server, verify=SPOT, epochs=200, checkpoint={"every": "none"})
        await seen(server, job, lambda now: now.first_step_at is not None)
        executor.runs[0].tell("update", {"learning_rate": "0.5"})
        await verifying(server, job)
    lines = await server.core.jobs.logs(await admin(server), job.id, 0, 100)
    assert any("can't be changed while it runs" in line.message for line in lines)


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"verify": {"mode": "quorum", "n": 1}}, Code.INVALID, "verify.n"),
        ({"verify": {"mode": "quorum", "n": 6}}, Code.INVALID, "verify.n"),
        ({"verify": {"n": 3}}, Code.INVALID, "verify.n"),
        ({"verify": {"mode": "spot", "n": 3}}, Code.INVALID, "verify.n"),
        ({"verify": {"mode": "always"}}, Code.INVALID, "verify.mode"),
        ({"verify": SPOT, "resources": {"nodes": 2}}, Code.UNSUPPORTED, "several nodes"),
        ({"verify": SPOT, "dataset": "remote://digits"}, Code.UNSUPPORTED, "streams"),
    ],
)
async def test_what_can_not_be_verified_is_refused(
    server: Central, changes: dict[str, Any], code: Code, word: str
) -> None:
    with pytest.raises(CyxError, match=word) as caught:
        await submit(server, **changes)
    assert caught.value.code is code


def test_the_digest_of_a_link_is_that_of_the_file(tmp_path: Path) -> None:
    weights = {"b": torch.ones(3), "a.num_batches_tracked": torch.tensor(4), "a": torch.zeros(2, 2)}
    save_file(weights, tmp_path / "result.safetensors")
    save_file({f"model/{name}": value for name, value in weights.items()}, tmp_path / "checkpoint.safetensors")
    digests = {weights_digest(weights_of_file(tmp_path / f"{name}.safetensors")) for name in ("result", "checkpoint")}
    assert digests == {weights_digest(weights)}


async def test_a_check_in_a_child_of_its_own(tmp_path: Path) -> None:
    """What is compared reaches the child's cell, and what it finds comes back."""
    executor = ProcessExecutor(SystemClock(), choose("auto", tmp_path / "sandbox"), warm_children=0)

    async def run(name: str, **changes: Any) -> list[Report]:
        fields = {"epochs": 2, "checkpoint_every": "10 steps", "work_dir": tmp_path / name, **changes}
        started = await executor.start(training(tmp_path, **fields))
        return [report async for report in started.reports()]

    try:
        whole = await run("whole")
        links = [each for each in whole if isinstance(each, Linked)]
        saved = [each for each in whole if isinstance(each, Checkpointed)]
        end = whole[-1]
        assert isinstance(end, Finished), end
        result_file, point = end.artefacts[0].path, saved[0]
        check = Check(point.step, 1, links[-1].weights, claim=point.file.path, result=result_file)
        checked = await run("checked", check=check, checkpoint_every="none")
        spoiled(result_file)
        found_out = await run("found out", check=check, checkpoint_every="none")
    finally:
        await executor.aclose()
    (link,) = [each for each in checked if isinstance(each, Linked)]
    assert (link.step, link.weights) == (point.step, links[0].weights)
    for reports, matches in ((checked, 1.0), (found_out, 0.0)):
        last = reports[-1]
        assert isinstance(last, Finished), last
        assert last.final_metrics == {"max_abs": 0.0, "max_rel": 0.0, "result_matches": matches}
