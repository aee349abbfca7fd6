"""What a submit refers to, and who may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, Token
from cyxwiz.domain.job import Job, JobResult, ResultFile
from cyxwiz.domain.weights import Weights
from cyxwiz.ports.store import Tx
from cyxwiz.services.blob_rights import needs
from cyxwiz.services.jobfile import parse_jobfile
from tests.contract.make import START
from tests.wiring import JOB, Central, central

FILES = tuple(
    ResultFile(name, str(digit) * 64, 9) for digit, name in enumerate(("README.md", "m.safetensors", "m.onnx"), 1)
)


async def finished(house: Central, key: str, files: tuple[ResultFile, ...] = FILES) -> Job:
    """A job of that user, with a result whose files are stored."""
    actor = await house.accounts.authenticate(key)
    job, _ = await house.jobs.submit(actor, parse_jobfile(JOB))
    for file in files:
        await house.jobs.record_blob(file.sha256, file.size, owner=actor.id)
    uri, hashed = f"blob://sha256/{files[0].sha256}", f"sha256:{files[0].sha256}"
    result = JobResult(job.id, NodeId("n"), Token(1, 1), files, uri, hashed, 9, {}, 1.0, START)
    await house.store.write(lambda tx: tx.add_result(result))
    return job


async def test_the_weights_of_a_job_are_found_and_are_its_owners_alone(tmp_path: Path) -> None:
    house = await central(tmp_path)
    job = await finished(house, house.alice)
    alice, bob = [await house.accounts.authenticate(key) for key in (house.alice, house.bob)]

    def asks(**model: str) -> Any:
        return parse_jobfile({"type": "evaluation", "dataset": "builtin:digits", "model": model})

    made, _ = await house.jobs.submit(alice, asks(from_job=job.id))
    assert made.spec.weights == Weights("2" * 64, job.id, "m.safetensors")
    named, _ = await house.jobs.submit(alice, asks(from_job=job.id, file="m.onnx"))
    assert named.spec.weights == Weights("3" * 64, job.id, "m.onnx")
    assert (await house.jobs.get(alice, made.id)).spec.weights == made.spec.weights

    def may(tx: Tx) -> list[bool]:
        return [needs(tx, made.id, digit * 64) for digit in "123"]

    assert await house.store.read(may) == [False, True, False], "whoever runs it may read the weights, nothing else"
    running, _ = await house.jobs.submit(alice, parse_jobfile(JOB))
    bare = await finished(house, house.alice, FILES[:1])
    for actor, spec, code, words in (
        (bob, asks(from_job=job.id), Code.NOT_FOUND, "you have no job"),
        (bob, asks(weights="blob:sha256:" + "2" * 64), Code.NOT_FOUND, "is not stored here"),
        (alice, asks(weights="blob:sha256:" + "9" * 64), Code.NOT_FOUND, "is not stored here"),
        (alice, asks(from_job="0b9d7f3a-2f3c-4c1e-9d55-0d6f4e3a1b2c"), Code.NOT_FOUND, "you have no job"),
        (alice, asks(from_job=running.id), Code.CONFLICT, "has no result"),
        (alice, asks(from_job=job.id, file="m.pt"), Code.INVALID, "no file 'm.pt'; it has README.md, m.safetensors"),
        (alice, asks(from_job=bare.id), Code.INVALID, "no file of weights"),
    ):
        for act in (house.jobs.submit(actor, spec), house.jobs.plan(actor, spec)):
            with pytest.raises(CyxError) as caught:
                await act
            assert caught.value.code is code, caught.value
            assert words in caught.value.message
    await house.aclose()


async def test_a_scripts_files_are_bounded_together(tmp_path: Path) -> None:
    """Also where one blob is named many times: a node would lay it out as often."""
    house = await central(tmp_path)
    alice = await house.accounts.authenticate(house.alice)
    await house.jobs.record_blob("4" * 64, 600 << 20, owner=alice.id)
    await house.jobs.record_blob("5" * 64, 10, owner=alice.id)

    def script(**data: str) -> Any:
        files = {"train.py": "5" * 64, **data}
        return parse_jobfile({"type": "training", "model": {"script": "train.py", "files": files}})

    await house.jobs.submit(alice, script(once="4" * 64))
    with pytest.raises(CyxError, match=r"model\.files: 1258291210 bytes in all") as refused:
        await house.jobs.submit(alice, script(once="4" * 64, twice="4" * 64))
    assert refused.value.code is Code.INVALID
    await house.aclose()
