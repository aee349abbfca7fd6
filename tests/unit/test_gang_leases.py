"""A gang's leases: issued together, fenced together, ended together; one member speaks for the job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Job, Lease
from cyxwiz.domain.link import VALID, pair
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import JobState, LeaseState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases, views
from cyxwiz.services.assignment import assignment
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.links import learn
from cyxwiz.services.rendezvous import Rendezvous
from cyxwiz.services.reports import token_to
from tests.contract.conftest import HandClock
from tests.wiring import JOB, Central, central, progress


@dataclass
class Gang:
    house: Central
    nodes: list[NodeId]
    job_id: str

    async def form(self) -> list[Lease]:
        def unit(tx: Any) -> list[Lease]:
            first = leases.issue(tx, tx.job(self.job_id), *self.nodes)
            return list(leases.members(tx, first))

        return await self.house.store.write(unit)

    async def job(self) -> Job:
        found: Job = await self.house.store.read(lambda tx: tx.job(self.job_id))  # type: ignore[arg-type, assignment]
        return found

    async def live(self) -> list[int]:
        found = await self.house.store.read(lambda tx: tx.leases_of(self.job_id))  # type: ignore[arg-type]
        return [lease.rank for lease in found if lease.live]

    async def say(self, lease: Lease, seq: int, **body: Any) -> int:
        report = pb.Report(job_id=self.job_id, token=token_to(lease.token), seq=seq, **body)
        apply = self.house.reporting.apply
        return await self.house.store.write(lambda tx: apply(tx, lease.node_id, "boot", [report]))


@pytest.fixture
async def gang(tmp_path: Path) -> AsyncIterator[Gang]:
    house = await central(tmp_path, clock=HandClock())
    alice = await house.accounts.authenticate(house.alice)
    spec = parse_jobfile({**JOB, "resources": {"nodes": 3}, "strategy": "diloco"})
    job, _ = await house.jobs.submit(alice, spec)
    yield Gang(house, [await house.node(f"rig {number}") for number in range(3)], job.id)
    await house.aclose()


async def begin(gang: Gang) -> list[Lease]:
    formed = await gang.form()
    for lease in formed:
        await gang.say(lease, 1, started=pb.Started())
    return formed


async def test_the_members_have_leases_of_one_group(gang: Gang) -> None:
    formed = await gang.form()
    assert [(lease.rank, lease.world, lease.node_id) for lease in formed] == [
        (rank, 3, node) for rank, node in enumerate(gang.nodes)
    ]
    assert {lease.group for lease in formed} == {formed[0].token}
    assert len({lease.token for lease in formed}) == 3
    job = await gang.job()
    assert (job.token, job.node_id, job.attempts) == (formed[0].token, gang.nodes[0], 1)
    held = await gang.house.store.read(lambda tx: [node for node, _ in tx.held_jobs()])
    assert sorted(held) == sorted(gang.nodes), "each member takes a slot"


async def test_who_is_left_alone_is_a_group_of_one_where_a_script_looks_for_it(gang: Gang) -> None:
    """A declared model trains as on one node; a script asks for its place among the others all the same."""
    waiting = await gang.job()
    lease = await gang.house.store.write(lambda tx: leases.issue(tx, waiting, gang.nodes[0]))
    declared = await gang.job()
    script = Script("train.py", {"train.py": "0" * 64})
    written = replace(declared, spec=replace(declared.spec, script=script))
    alone = replace(written, spec=replace(written.spec, resources=replace(written.spec.resources, nodes=1)))

    def told(tx: Tx) -> list[pb.Assign]:
        return [assignment(tx, job, lease) for job in (declared, written, alone)]

    as_model, as_script, single = await gang.house.store.read(told)
    assert not as_model.HasField("gang")
    assert (as_script.gang.rank, as_script.gang.world) == (0, 1)
    assert not single.HasField("gang"), "it was never to meet anybody"


async def test_the_first_member_speaks_for_the_job(gang: Gang) -> None:
    first, second, _ = await gang.form()
    await gang.say(second, 1, started=pb.Started())
    assert (await gang.job()).state is JobState.ASSIGNED
    await gang.say(first, 1, started=pb.Started())
    assert (await gang.job()).state is JobState.RUNNING
    await gang.say(first, 2, progress=progress(1, loss=0.5))
    for body in ({"progress": progress(2)}, {"finished": pb.Finished()}, {"checkpoint": pb.Checkpoint(epoch=1)}):
        with pytest.raises(CyxError, match="only the first member"):
            await gang.say(second, 2, **body)
    await gang.say(second, 2, logs=pb.Logs(lines=[pb.LogLine(message="hello")]))
    lines = await gang.house.store.read(lambda tx: tx.logs(gang.job_id, 0, 10))  # type: ignore[arg-type]
    assert [(line.source, line.message) for line in lines] == [("job@1", "hello")]
    assert (await gang.job()).epoch == 1


@pytest.mark.parametrize("rank", [0, 1, 2])
async def test_a_silent_member_ends_the_group(gang: Gang, rank: int) -> None:
    formed = await begin(gang)
    await gang.house.store.write(lambda tx: gang.house.nodes.expire(tx, gang.nodes[rank]))
    job = await gang.job()
    assert (job.state, job.node_losses, job.retry_count) == (JobState.PENDING, 1, 0)
    assert await gang.live() == []
    for lease in formed:
        with pytest.raises(CyxError) as caught:
            await gang.say(lease, 2, logs=pb.Logs())
        assert caught.value.code is Code.STALE
    again = await gang.form()
    assert again[0].group != formed[0].group
    with pytest.raises(CyxError, match="newer lease"):
        await gang.say(formed[1], 2, logs=pb.Logs())


async def test_a_member_that_lost_another_is_charged_to_nobody(gang: Gang) -> None:
    formed = await begin(gang)
    await gang.say(formed[2], 2, failed=pb.Failed(code="UNAVAILABLE", message="reset by peer", retryable=True))
    job = await gang.job()
    assert (job.state, job.node_losses, job.retry_count) == (JobState.PENDING, 1, 0)
    ended = await gang.house.store.read(lambda tx: tx.leases_of(gang.job_id))  # type: ignore[arg-type]
    assert all(lease.end_reason.startswith(leases.DISBANDED) for lease in ended), "no node is to be avoided for it"
    node = await gang.house.nodes.get(gang.nodes[2])
    assert node.jobs_failed == 0


@pytest.mark.parametrize(("retryable", "state"), [(True, JobState.PENDING), (False, JobState.FAILED)])
async def test_a_member_that_fails_itself_counts(gang: Gang, retryable: bool, state: JobState) -> None:
    formed = await begin(gang)
    await gang.say(formed[1], 2, failed=pb.Failed(code="INTERNAL", message="it broke", retryable=retryable))
    job = await gang.job()
    assert (job.state, job.retry_count) == (state, int(retryable))
    assert await gang.live() == []
    ended = await gang.house.store.read(lambda tx: tx.leases_of(gang.job_id))  # type: ignore[arg-type]
    assert [lease.end_reason.startswith(leases.DISBANDED) for lease in ended] == [True, False, True]


async def test_members_end_before_the_first_one_does(gang: Gang) -> None:
    first, second, third = await begin(gang)
    await gang.say(second, 2, preempted=pb.Preempted())
    assert await gang.live() == [0, 2]
    assert (await gang.job()).state is JobState.RUNNING
    report = await gang.house.finished(b"weights", loss=0.1)
    assert isinstance(gang.house.clock, HandClock)
    gang.house.clock.advance(2.5)
    for artefact in report.artefacts:
        await gang.house.jobs.record_blob(artefact.sha256, artefact.size, owner=None, sender=first.node_id)
    await gang.say(first, 2, finished=report)
    job = await gang.job()
    assert (job.state, job.compute_seconds) == (JobState.COMPLETED, 3 * 2.5), "every member's time counts"
    assert await gang.live() == []
    with pytest.raises(CyxError):
        await gang.say(third, 2, failed=pb.Failed(code="UNAVAILABLE", retryable=True))


async def test_commands_reach_the_whole_group(gang: Gang) -> None:
    alice = await gang.house.accounts.authenticate(gang.house.alice)
    formed = await begin(gang)
    await gang.house.jobs.pause(alice, gang.job_id)
    assert await gang.live() == [0, 1, 2], "it saves itself first"
    await gang.say(formed[0], 2, preempted=pb.Preempted())
    assert ((await gang.job()).state, await gang.live()) == (JobState.PAUSED, [])
    await gang.house.jobs.resume(alice, gang.job_id)
    await begin(gang)
    await gang.house.jobs.cancel(alice, gang.job_id)
    assert await gang.live() == []


# the rendezvous


class Listener:
    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []

    async def __call__(self, message: pb.CentralMessage) -> None:
        self.answers.append((message.rendezvous.id, message.rendezvous.value))


async def test_members_meet_at_central(gang: Gang) -> None:
    first, second, third = await begin(gang)
    meeting, ears = Rendezvous(gang.house.store), [Listener(), Listener(), Listener()]

    async def ask(lease: Lease, number: int, kind: pb.RendezvousAsk.Kind, key: str, value: bytes = b"") -> None:
        question = pb.RendezvousAsk(
            job_id=gang.job_id, token=token_to(lease.token), id=number, kind=kind, key=key, value=value
        )
        await meeting.ask(lease.node_id, question, ears[lease.rank])

    await ask(second, 1, pb.RendezvousAsk.GET, "address")
    await ask(third, 1, pb.RendezvousAsk.GET, "address")
    assert [each.answers for each in ears] == [[], [], []]
    await ask(first, 1, pb.RendezvousAsk.SET, "address", b"here")
    assert [each.answers for each in ears] == [[(1, b"here")]] * 3
    for lease in (first, second, second):  # asked twice, as after a broken stream: counted once
        await ask(lease, 2, pb.RendezvousAsk.ADD, "count", b"1")
    assert [each.answers[1:] for each in ears] == [[(2, b"1")], [(2, b"2"), (2, b"2")], []]
    # An older group, another node and nonsense learn nothing.
    await ask(replace(first, node_id=gang.nodes[1]), 3, pb.RendezvousAsk.GET, "address")
    await ask(first, 4, pb.RendezvousAsk.ADD, "count", b"many")
    await gang.house.store.write(lambda tx: gang.house.nodes.expire(tx, gang.nodes[1]))
    newer = await gang.form()
    await ask(first, 5, pb.RendezvousAsk.GET, "address")
    await ask(newer[0], 1, pb.RendezvousAsk.GET, "address")
    assert len(ears[0].answers) == 2
    assert LeaseState.OFFERED is newer[0].state


async def test_measured_links_are_taken_from_members_alone(gang: Gang) -> None:
    first, second, third = await begin(gang)
    store, seen = gang.house.store, set[tuple[str, str]]()

    async def tell(lease: Lease, rank: int, trip: float = 0.001, rate: float = 1e8) -> set[tuple[str, str]]:
        link = pb.PeerLink(rank=rank, round_trip_seconds=trip, bytes_per_second=rate)
        told = pb.LinksMeasured(job_id=gang.job_id, token=token_to(lease.token), links=[link])
        await learn(store, lease.node_id, told)
        return {*(await store.read(lambda tx: tx.node_links(tx.now - VALID)))}

    wrong = [(second, 0), (first, 3), (first, 0)]  # of a lower rank, of nobody, of itself
    for lease, rank in wrong:
        assert await tell(lease, rank) == seen
    for trip, rate in ((0.0, 1e8), (float("nan"), 1e8), (0.1, float("inf")), (0.1, 0.0), (-1.0, 1e8)):
        assert await tell(first, 1, trip, rate) == seen
    assert await tell(replace(first, node_id=gang.nodes[1]), 2) == seen, "another's lease"
    seen.add(pair(gang.nodes[0], gang.nodes[2]))
    assert await tell(first, 2) == seen
    seen.add(pair(gang.nodes[1], gang.nodes[2]))
    assert await tell(second, 2, 0.002, 2e8) == seen

    alice = await gang.house.accounts.authenticate(gang.house.alice)
    explained = views.explanation(await gang.house.jobs.explain(alice, gang.job_id))
    assert [(each["round_trip_ms"], each["bytes_per_second"]) for each in explained["links"]] == [
        (1.0, 100_000_000),
        (2.0, 200_000_000),
    ]
    await store.write(lambda tx: gang.house.nodes.expire(tx, gang.nodes[1]))
    assert await tell(first, 1) == seen, "the group is over"
    assert third.rank == 2
