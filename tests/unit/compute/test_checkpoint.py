"""Checkpoints: a job that goes on from one is the job that was never interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cyxwiz.compute import checkpoint
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import Stopped, train
from cyxwiz.domain.checkpoint import Every, Unit, parse_every
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Checkpointed, Finished, Logged, Progressed, Report
from tests.unit.compute.test_train import job

DROPPING = json.dumps(
    {"layers": [{"type": "dense", "units": 32}, {"type": "relu"}, {"type": "dropout"}, {"type": "dense", "units": 10}]}
)


def run(work: Any, orders: Orders | None = None) -> tuple[list[Report], Finished | None]:
    reports: list[Report] = []
    try:
        return reports, train(work, reports.append, orders or Orders())
    except Stopped:
        return reports, None


def curve(reports: list[Report]) -> list[dict[str, float]]:
    """Loss and accuracies of each epoch: what does not depend on the machine's speed."""
    return [
        {name: value for name, value in report.metrics.items() if name != "samples_per_second"}
        for report in reports
        if isinstance(report, Progressed) and report.epoch_ended
    ]


def saved(reports: list[Report]) -> list[Checkpointed]:
    return [report for report in reports if isinstance(report, Checkpointed)]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad", "nadam"])
@pytest.mark.parametrize("every", ["1 epoch", "7 steps", "23 steps"])
def test_going_on_is_as_if_nothing_had_been(tmp_path: Path, optimizer: str, every: str) -> None:
    changes: dict[str, Any] = {"model": DROPPING, "hyperparameters": {"optimizer": optimizer}, "seed": 5}
    whole_reports, whole = run(job(tmp_path / "whole", **changes))
    reports, _ = run(job(tmp_path / "first", checkpoint_every=every, **changes))
    points = saved(reports)
    assert points
    for point in points[-2:]:  # older files are removed
        again, end = run(job(tmp_path / f"again{point.step}", resume=point.file.path, **changes))
        assert whole is not None
        assert end is not None
        assert end.artefacts[0].sha256 == whole.artefacts[0].sha256  # bit by bit
        expected = curve(whole_reports)[point.epoch - 1 :]
        assert [pytest.approx(each, rel=1e-6) for each in expected] == curve(again)


def test_a_preempted_job_saves_itself_and_goes_on(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": DROPPING, "epochs": 4}
    _, whole = run(job(tmp_path / "whole", **changes))
    resume: Path | None = None
    for round_number in range(3):
        orders = Orders()
        orders.give("preempt")
        reports, end = run(job(tmp_path / str(round_number), resume=resume, **changes), orders)
        assert end is None
        (point,) = saved(reports)
        assert (point.epoch, point.batch, point.step) == (1, round_number + 1, round_number + 1)
        resume = point.file.path
    _, end = run(job(tmp_path / "last", resume=resume, **changes))
    assert whole is not None
    assert end is not None
    assert end.artefacts[0].sha256 == whole.artefacts[0].sha256


def test_the_threads_of_who_began_count(tmp_path: Path) -> None:
    reports, _ = run(job(tmp_path / "first", checkpoint_every="1 epoch", threads=2))
    point = saved(reports)[0]
    assert point.threads == 2
    run(job(tmp_path / "again", resume=point.file.path, threads=1))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"model": DROPPING}, {"batch_size": 32}, {"dataset_uri": "builtin:iris"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    reports, _ = run(job(tmp_path / "first", checkpoint_every="1 epoch"))
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path / "again", resume=saved(reports)[0].file.path, **changes))
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize("rubbish", [b"", b"\x00" * 64, b"{}", bytes(range(256)) * 10])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(rubbish)
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path / "job", resume=path))
    assert caught.value.code is Code.INVALID


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    _, end = run(job(tmp_path / "first"))
    assert end is not None
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path / "job", resume=end.artefacts[0].path))
    assert caught.value.code is Code.INVALID


def test_a_full_disk_costs_a_checkpoint_and_not_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write", full)
    reports, end = run(job(tmp_path, checkpoint_every="1 epoch"))
    assert end is not None
    assert not saved(reports)
    assert [report for report in reports if isinstance(report, Logged) and "No space" in report.message]


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("auto", Every(Unit.SECOND, 30)),
        ("none", Every(Unit.NEVER)),
        ("1 epoch", Every(Unit.EPOCH, 1)),
        ("epoch", Every(Unit.EPOCH, 1)),
        (" 3 Epochs ", Every(Unit.EPOCH, 3)),
        ("500 steps", Every(Unit.STEP, 500)),
        ("10m", Every(Unit.SECOND, 600)),
        ("1.5 seconds", Every(Unit.SECOND, 1.5)),
    ],
)
def test_how_often(text: str, every: Every) -> None:
    assert parse_every(text) == every
    assert parse_every(str(every)) == every


@pytest.mark.parametrize("text", ["", "often", "0 epochs", "1.5 epochs", "-1 step", "1e9 steps", "40d", "1 epoch 2"])
def test_how_often_not(text: str) -> None:
    with pytest.raises(CyxError) as caught:
        parse_every(text)
    assert caught.value.code is Code.INVALID
