"""What a node shows clients of its runs, without sockets: what it finds again, what it mirrors."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cyxwiz.compute.p2p import updates
from cyxwiz.compute.p2p.hub import FINISHED, Hub
from cyxwiz.compute.p2p.live import Standing
from cyxwiz.compute.runs import Record
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.runtime.clock import SystemClock

JOB = "j" * 8


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(pb.Assign(job_id=JOB, owner_id="owner"), tmp_path)


@pytest.fixture
def hub() -> Hub:
    return Hub("n" * 8, SystemClock(), max_data_bytes=1 << 20)


def kept(folder: Path, job_id: str, seconds: str) -> Path:
    """A run's folder with a result of two bytes, as it lies there after a restart."""
    directory = folder / job_id / "1-1"
    (directory / "out").mkdir(parents=True)
    (directory / "out" / "m.bin").write_bytes(b"hi")
    artefact = '{"name": "m.bin", "sha256": "ab", "size": "2"}'
    finished = f'{{"artefacts": [{artefact}], "computeSeconds": {seconds}}}'
    report = f'{{"jobId": "{job_id}", "finished": {finished}}}'
    (directory / FINISHED).write_text(f'{{"owner_id": "owner", "report": {report}}}')
    return directory


def test_no_result_on_the_disk_keeps_a_node_from_its_start(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = [kept(tmp_path, job_id, seconds) for job_id, seconds in (("first", "1"), ("long", "1e308"), ("last", "2"))]
    (nested := kept(tmp_path, "nested", "1")).joinpath(FINISHED).write_text("[" * 100_000)
    (foreign := kept(tmp_path, "foreign", "1")).joinpath(FINISHED).write_text('{"report": []}')
    with caplog.at_level(logging.WARNING):
        hub.recall([nested, *found, foreign, tmp_path / "nothing"])
    assert all(hub.knows(job_id) for job_id in ("first", "long", "last"))
    assert [str(folder) in caplog.text for folder in (nested, foreign, tmp_path / "nothing")] == [True, True, False]


async def test_what_can_not_be_shown_costs_neither_the_run_nor_what_comes_next(
    hub: Hub, record: Record, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("Value out of range: 4294967296")

    monkeypatch.setattr(updates, "progress_of", broken)
    hub.taken(record)
    said = [pb.Report(progress=pb.Progress(epoch=1)), pb.Report(logs=pb.Logs(lines=[pb.LogLine(message="next")]))]
    hub.reported(record, said)
    assert "not shown" in caplog.text
    told, cursor = (await hub.find(JOB)).after(0)
    assert [update.log.message for update in told] == ["next"]
    caplog.clear()
    hub.reported(record, [pb.Report(seq=1, finished=pb.Finished())])  # it names no file
    record.acked_seq = 1
    hub.confirmed(record)
    assert "not shown" in caplog.text
    job = await hub.find(JOB)
    assert (job.after(cursor)[0], job.standing) == ([], Standing.DONE)
