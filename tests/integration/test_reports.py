"""What a node may report: nothing that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.reports import token_to
from tests.wiring import JOB, central


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
