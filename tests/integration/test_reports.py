"""What a node may report: nothing that is not its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId
from cyxwiz.domain.job import MAX_METRICS, Job, Lease
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases
from cyxwiz.services.assignment import assignment
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.reports import token_to
from tests.contract.conftest import HandClock
from tests.wiring import JOB, Central, central, progress


@pytest.mark.parametrize("kind", ["finished", "checkpoint"])
async def test_a_blob_of_somebody_else_is_no_artefact(tmp_path: Path, kind: str) -> None:
    house = await central(tmp_path)
    alice, bob = await house.accounts.authenticate(house.alice), await house.accounts.authenticate(house.bob)
    sha256 = "ab" * 32
    await house.jobs.record_blob(sha256, 123, owner=alice.id)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())
    report = pb.Report(job_id=job.id, token=token_to(lease.token), seq=1)
    if kind == "finished":
        report.finished.artefacts.add(name="model.safetensors", sha256=sha256, size=123)
    else:
        report.checkpoint.CopyFrom(pb.Checkpoint(sha256=sha256, size=123, epoch=1))

    async def apply() -> int:
        unit = await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", [report]))
        return unit.last_seq

    with pytest.raises(CyxError) as caught:
        await apply()
    assert caught.value.code is Code.CONFLICT
    with pytest.raises(CyxError):
        await house.jobs.may_read_blob(bob, sha256)
    await house.jobs.record_blob(sha256, 123, owner=None, sender=lease.node_id)
    assert await apply() == 1, "once it has sent those bytes itself, it may name them"
    await house.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {"progress": pb.Progress(epoch=2**32 - 1, epochs=2**32 - 1, progress=0.5)},
        {"checkpoint": pb.Checkpoint(sha256="ab" * 32, size=123, epoch=1, batch=2**31)},
        {"checkpoint": pb.Checkpoint(sha256="ab" * 32, size=123, epoch=1, threads=2**31)},
    ],
)
async def test_no_count_is_taken_that_messages_and_databases_do_not_hold(
    tmp_path: Path, body: dict[str, pb.Progress | pb.Checkpoint]
) -> None:
    """With such an epoch GetJobStatus and ListJobs of its owner, and of admins, were INTERNAL for ever."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())
    await house.jobs.record_blob("ab" * 32, 123, owner=None, sender=lease.node_id)
    report = pb.Report(job_id=job.id, token=token_to(lease.token), seq=1, **body)
    with pytest.raises(CyxError) as caught:
        await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", [report]))
    assert caught.value.code is Code.INVALID
    await house.aclose()


async def test_what_a_node_says_of_itself_is_cut(tmp_path: Path) -> None:
    """Why it declines, leaves or failed: with a message's worth of it, those who follow nodes or jobs were cut off."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    node_id, endless = await house.node(), "x" * (1 << 20)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    declined = await house.lease(job.id, node_id)
    policy = house.reporting.policy
    await house.store.write(lambda tx: leases.decline(tx, job_of(tx, job.id), declined, policy, endless))
    failed = await house.lease(job.id, node_id)
    await house.report(failed, pb.Failed(code=endless, message=endless))
    await house.nodes.farewell(node_id, endless)

    def said(tx: Tx) -> int:
        told = [str(each.data) for each in tx.events(0, frozenset({"jobs", "nodes"}), 100)]
        ends = [each.end_reason for each in tx.leases_of(job.id)]
        return max(map(len, [*told, *ends, job_of(tx, job.id).error_code]))

    assert await house.store.read(said) < 4000
    await house.aclose()


async def test_a_result_names_each_file_once(tmp_path: Path) -> None:
    """A node delivered other weights than those that it told, had signed and had verified, under the same name."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())
    report = pb.Report(job_id=job.id, token=token_to(lease.token), seq=1)
    for sha256 in ("ab" * 32, "cd" * 32):
        await house.jobs.record_blob(sha256, 9, owner=None, sender=lease.node_id)
        report.finished.artefacts.add(name="model.safetensors", sha256=sha256, size=9)
    with pytest.raises(CyxError, match="same name") as caught:
        await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", [report]))
    assert caught.value.code is Code.INVALID
    await house.aclose()


async def test_points_that_come_together_are_all_there(tmp_path: Path) -> None:
    """In their order, with lines and a repetition among them, and nothing after a gap."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())

    def report(seq: int, **body: pb.Progress | pb.Logs) -> pb.Report:
        return pb.Report(job_id=job.id, token=token_to(lease.token), seq=seq, at_ms=1000 * seq, **body)

    def point(seq: int, **metrics: float) -> pb.Report:
        return report(seq, progress=pb.Progress(epoch=1, epochs=1, progress=seq / 10, metrics=metrics))

    async def apply(*reports: pb.Report) -> int:
        unit = await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", reports))
        return unit.last_seq

    lines = report(4, logs=pb.Logs(lines=[pb.LogLine(message=text) for text in ("one", "two")]))
    assert await apply(point(1, loss=3.0), point(2, loss=2.0, accuracy=0.5)) == 2
    assert await apply(point(2, loss=9.0), point(3, loss=1.0), lines, point(5, loss=0.5), point(7, loss=0.0)) == 5
    curve = await house.jobs.metrics(bob, job.id, 0, 10)
    assert [(each.offset, each.progress, each.metrics["loss"]) for each in curve] == [
        (1, 0.1, 3.0),
        (2, 0.2, 2.0),
        (3, 0.3, 1.0),
        (4, 0.5, 0.5),
    ]
    said = await house.jobs.logs(bob, job.id, 0, 10)
    assert [(each.offset, each.message) for each in said] == [(1, "one"), (2, "two")]
    now = await house.jobs.get(bob, job.id)
    assert (now.progress, now.metrics) == (0.5, {"loss": 0.5, "accuracy": 0.5})
    with pytest.raises(CyxError) as caught:
        await apply(point(6, loss=0.4), report(7, progress=pb.Progress(epoch=1, progress=1.5)))
    assert caught.value.code is Code.INVALID
    assert (await house.jobs.get(bob, job.id)).progress == 0.5, "what came with it is not stored either"
    await house.aclose()


async def test_a_job_has_no_more_figures_than_its_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it has goes on, what comes by further names is dropped, and that is said once."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())
    for step in range(3):
        names = [f"metric_{number}" for number in range(200 * step, 200 * (step + 1))]
        await house.report(lease, progress(1, loss=float(step), **dict.fromkeys(names, 1.0)), after=step)
    now = await house.jobs.get(bob, job.id)
    assert len(now.metrics) == MAX_METRICS
    assert (now.metrics["loss"], now.metrics["metric_0"]) == (2.0, 1.0)
    await house.report(lease, await house.finished(b"weights", loss=0.5, another=1.0), after=3)
    now = await house.jobs.get(bob, job.id)
    assert (len(now.metrics), now.metrics["loss"]) == (MAX_METRICS, 0.5)
    result = await house.jobs.result(bob, job.id)
    assert result.final_metrics == {"loss": 0.5, "another": 1.0}
    assert sum("those by other names are dropped" in line for line in caplog.messages) == 1
    await house.aclose()


async def saved(house: Central, job_id: JobId, lease: Lease, seq: int, content: bytes, step: int) -> pb.Report:
    """A report of a checkpoint that its node has sent."""
    sha256 = hashlib.sha256(content).hexdigest()
    await house.jobs.record_blob(sha256, len(content), owner=None, sender=lease.node_id)
    told = pb.Checkpoint(sha256=sha256, size=len(content), epoch=1, batch=step, step=step, progress=step / 10)
    return pb.Report(job_id=job_id, token=token_to(lease.token), seq=seq, checkpoint=told)


async def test_a_checkpoint_that_nobody_can_go_on_from_is_let_go(tmp_path: Path) -> None:
    """The next run begins at the one before it, and then anew: not from the same one for ever, nor never."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))

    async def apply(lease: Lease, *reports: pb.Report) -> None:
        await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", reports))

    def failed(lease: Lease, seq: int, *, retryable: bool) -> pb.Report:
        body = pb.Failed(code="INVALID", message="no checkpoint", retryable=retryable)
        return pb.Report(job_id=job.id, token=token_to(lease.token), seq=seq, failed=body)

    async def next_lease(name: str) -> tuple[Lease, str]:
        await house.store.write(lambda tx: tx.save_job(replace(present(tx), not_before=None)))
        lease = await house.lease(job.id, await house.node(name))
        assign = await house.store.read(lambda tx: assignment(tx, present(tx), lease))
        return lease, assign.resume.sha256

    def present(tx: Tx) -> Job:
        found = tx.job(job.id)
        assert found is not None
        return found

    first = await house.lease(job.id, await house.node())
    one = await saved(house, job.id, first, 2, b"one", 1)
    two = await saved(house, job.id, first, 3, b"two", 2)
    step = pb.Report(job_id=job.id, token=token_to(first.token), seq=1)
    step.first_step.SetInParent()
    await apply(first, step, one, two, failed(first, 4, retryable=True))
    assert len(await house.store.read(lambda tx: tx.kept_checkpoints(job.id))) == 2, "it had made its steps"

    for name, wanted in (("rig-2", two.checkpoint.sha256), ("rig-3", one.checkpoint.sha256)):
        lease, resume = await next_lease(name)
        assert resume == wanted
        await apply(lease, failed(lease, 1, retryable=False))
        assert (await house.jobs.get(bob, job.id)).state is JobState.PENDING
    lease, resume = await next_lease("rig-4")
    assert resume == "", "none is left: it begins anew"
    await apply(lease, failed(lease, 1, retryable=False))
    assert (await house.jobs.get(bob, job.id)).state is JobState.FAILED
    await house.aclose()


SCRIPT = {**JOB, "model": {"script": "main.py", "files": {"main.py": "ab" * 32}}}
GANG = {**JOB, "resources": {"nodes": 2}}


@pytest.mark.parametrize(
    ("document", "by_script", "again"), [(SCRIPT, False, True), (SCRIPT, True, False), (GANG, False, True)]
)
async def test_a_checkpoint_that_does_not_arrive_is_let_go(
    tmp_path: Path, document: dict[str, object], by_script: bool, again: bool
) -> None:
    """Before a script's process could do anything, and whichever member of a gang says it first."""
    house = await central(tmp_path)
    bob = await house.accounts.authenticate(house.bob)
    await house.jobs.record_blob("ab" * 32, 5, owner=bob.id)
    job, _ = await house.jobs.submit(bob, parse_jobfile(document))
    rigs = [await house.node(f"rig-{number}") for number in range(job.spec.resources.nodes)]

    async def run() -> Sequence[Lease]:
        def unit(tx: Tx) -> Sequence[Lease]:
            found = tx.job(job.id)
            assert found is not None
            return leases.members(tx, leases.issue(tx, replace(found, not_before=None), *rigs))

        return await house.store.write(unit)

    async def apply(lease: Lease, *reports: pb.Report) -> None:
        await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", reports))

    def failed(lease: Lease, seq: int, body: pb.Failed) -> pb.Report:
        return pb.Report(job_id=job.id, token=token_to(lease.token), seq=seq, failed=body)

    first = (await run())[0]
    kept = await saved(house, job.id, first, 1, b"one", 1)
    await apply(first, kept, failed(first, 2, pb.Failed(code="INTERNAL", message="a crash", retryable=True)))
    last = (await run())[-1]
    gone = pb.Failed(code="INTERNAL", message="recorded and not stored", by_script=by_script)
    await apply(last, failed(last, 1, gone))
    now = await house.jobs.get(bob, job.id)
    assert now.state is (JobState.PENDING if again else JobState.FAILED)
    assert (await house.store.read(lambda tx: tx.kept_checkpoints(job.id)) == []) is again
    await house.aclose()


async def test_a_node_is_not_paid_for_longer_than_it_had_the_job(tmp_path: Path) -> None:
    clock = HandClock()
    house = await central(tmp_path, clock=clock)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    lease = await house.lease(job.id, await house.node())
    sha256 = "cd" * 32
    await house.jobs.record_blob(sha256, 5, owner=None, sender=lease.node_id)

    def report(seconds: float) -> pb.Report:
        made = pb.Report(job_id=job.id, token=token_to(lease.token), seq=1)
        made.finished.artefacts.add(name="model.safetensors", sha256=sha256, size=5)
        made.finished.compute_seconds = seconds
        return made

    for nonsense in (math.inf, math.nan):
        with pytest.raises(CyxError) as caught:
            await house.store.write(
                lambda tx, given=nonsense: house.reporting.apply(tx, lease.node_id, "boot", [report(given)])
            )
        assert caught.value.code is Code.INVALID
    clock.advance(30)
    await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", [report(1e9)]))
    done = await house.jobs.get(bob, job.id)
    assert (done.state, done.compute_seconds) == (JobState.COMPLETED, 30.0)
    await house.aclose()


async def test_runs_that_give_themselves_back_at_once_wait_longer_each_time(tmp_path: Path) -> None:
    """As a script does that saves and leaves with 85 again and again; one that worked for a while begins again at
    once, and so does one that central took away."""
    clock = HandClock()
    house = await central(tmp_path, clock=clock)
    bob = await house.accounts.authenticate(house.bob)
    job, _ = await house.jobs.submit(bob, parse_jobfile(JOB))
    node = await house.node()

    async def waits(seconds: float, *, asked: bool = False) -> float:
        """How long a job waits whose run is given back after so many seconds."""
        lease = await house.lease(job.id, node)
        clock.advance(seconds)
        if asked:
            await house.store.write(lambda tx: leases.preempt(tx, tx.job(job.id), lease, "drained", "an admin"))  # type: ignore[arg-type]
        else:
            report = pb.Report(job_id=job.id, token=token_to(lease.token), seq=1, preempted=pb.Preempted(reason="85"))
            await house.store.write(lambda tx: house.reporting.apply(tx, node, "boot", [report]))
        after = await house.jobs.get(bob, job.id)
        assert (after.state, after.retry_count) == (JobState.PENDING, 0)
        return (after.not_before - clock.now()).total_seconds() if after.not_before is not None else 0.0

    assert await waits(3600) == 0
    assert [await waits(1) for _ in range(4)] == [0, 1, 2, 4]
    assert await waits(1, asked=True) == 0
    assert await waits(60) == 0
    assert [await waits(1) for _ in range(2)] == [0, 1]
    await house.aclose()


def job_of(tx: Tx, job_id: JobId) -> Job:
    found = tx.job(job_id)
    assert found is not None
    return found
