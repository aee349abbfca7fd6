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
        return await house.store.write(lambda tx: house.reporting.apply(tx, lease.node_id, "boot", [report]))

    with pytest.raises(CyxError) as caught:
        await apply()
    assert caught.value.code is Code.CONFLICT
    with pytest.raises(CyxError):
        await house.jobs.may_read_blob(bob, sha256)
    await house.jobs.record_blob(sha256, 123, owner=None, sender=lease.node_id)
    assert await apply() == 1, "once it has sent those bytes itself, it may name them"
    await house.aclose()
