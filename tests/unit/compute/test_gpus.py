"""Which GPU each run of a node has."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from cyxwiz.compute.gpus import Gpus
from cyxwiz.compute.runs import Record
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import link_pb2 as pb
from tests.fakes import GIB


def a_run(device: str, vram: int = 0) -> Record:
    return Record(pb.Assign(job_id=str(uuid.uuid4()), device=device, vram_bytes=vram * GIB), Path("/x"))


def test_a_guest_takes_no_gpu_that_somebody_asked_for() -> None:
    gpus, owner = Gpus((24 * GIB,)), a_run("cuda")
    assert gpus.take(owner) == "cuda:0"
    assert gpus.take(a_run("any")) == "cpu"
    gpus.release(owner)
    assert gpus.take(a_run("any")) == "cuda:0"


def test_who_asks_for_a_gpu_prefers_one_without_guests_and_fails_for_none() -> None:
    gpus = Gpus((24 * GIB, 24 * GIB, 80 * GIB))
    assert gpus.take(a_run("any")) == "cuda:0"
    assert [gpus.take(a_run("cuda", 16)) for _ in range(3)] == ["cuda:1", "cuda:0", "cuda:2"]
    with pytest.raises(CyxError) as caught:
        gpus.take(a_run("cuda"))
    assert (caught.value.code, caught.value.retryable) == (Code.UNSUPPORTED, True)


def test_guests_spread() -> None:
    gpus = Gpus((GIB, GIB))
    assert [gpus.take(a_run("any")) for _ in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert gpus.take(a_run("cpu")) == "cpu"


def test_members_of_a_gang_for_any_device_take_one_kind() -> None:
    gpus, member = Gpus((GIB,)), a_run("any")
    member.assign.gang.world = 2
    assert gpus.take(member) == "cpu", "the others may have no GPU"
    owner = a_run("cuda")
    owner.assign.gang.world = 2
    assert gpus.take(owner) == "cuda:0"
