"""Training on data that still come: in which order, what is waited for, and that nothing else changes by it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyxwiz.compute.data import streamed
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.streamed import HAVE, Info, Rows, RowStore
from cyxwiz.compute.samples import drawn_rows
from cyxwiz.ports.executor import FirstStep, Logged, Preempted, Report, Work
from tests.streams import Streaming, samples
from tests.unit.compute.test_checkpoint import curve, saved
from tests.unit.compute.test_train import job

SAMPLES, BATCH = 90, 8
MODEL = json.dumps(
    {
        "layers": [
            {"type": "normalize", "mean": 0.1, "std": 0.5},
            {"type": "dense", "units": 16},
            {"type": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": 3},
        ]
    }
)


def work(folder: Path, **changes: Any) -> Work:
    hyper = {"validation_split": "0.2", "optimizer": "sgd", "learning_rate": "0.1", **changes.pop("hyper", {})}
    fields = {"model": MODEL, "dataset_uri": "remote://mine", "batch_size": BATCH, "hyperparameters": hyper}
    return job(folder, **{**fields, "streamed": True, "dataset_path": folder / "rows", **changes})


def streaming(folder: Path, **options: Any) -> Streaming:
    return Streaming(folder / "rows", *samples(SAMPLES), **options)


def order_of(seed: int, share: float = 0.2, epoch: int = 1) -> tuple[list[int], list[int]]:
    """(rows as an epoch of the seed trains on them, rows held out), from the documented draws alone."""
    drawn = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed))
    out = int(SAMPLES * share + 0.5)
    held, kept = drawn[:out].sort().values, drawn[out:].sort().values
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(kept), generator=generator) for _ in range(epoch)]
    return kept[orders[-1]].tolist(), held.tolist()


def test_rows_are_wanted_in_the_order_of_the_first_epoch(tmp_path: Path) -> None:
    made = streaming(tmp_path)
    assert made.run(work(tmp_path, seed=4, epochs=1))
    trained, held = order_of(4)
    assert made.order == [*trained, *held]
    unshuffled = streaming(tmp_path / "as they are")
    assert unshuffled.run(work(tmp_path / "as they are", epochs=1, hyper={"shuffle": "false", "validation_split": "0"}))
    assert unshuffled.order == list(range(SAMPLES))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_each_step_waits_for_its_own_batches_alone(tmp_path: Path, accumulate: int) -> None:
    """Rows come one by one from another thread; a step that took one too early would raise."""
    steps: list[int] = []

    def bring(made: Streaming, report: Report) -> None:
        if isinstance(report, FirstStep):
            steps.append(made.fed)
            threading.Thread(target=lambda: [made.feed(1) for _ in range(SAMPLES)], daemon=True).start()

    made = streaming(tmp_path, at_first=BATCH * accumulate, bring=bring)
    end = made.run(work(tmp_path, epochs=2, hyper={"accumulate": str(accumulate)}))
    assert steps == [BATCH * accumulate]
    assert made.fed == SAMPLES
    assert end is not None
    whole = streaming(tmp_path / "whole")
    assert whole.run(work(tmp_path / "whole", epochs=2, hyper={"accumulate": str(accumulate)}))
    assert curve(made.reports) == curve(whole.reports)


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "MSELoss"])
def test_the_result_is_that_of_the_same_data_in_a_file(tmp_path: Path, loss: str) -> None:
    """What is held out of a stream is drawn over all classes at once: so without it, all is the same."""
    hyper = {"validation_split": "0", "loss": loss, "learning_rate": "0.02"}
    made = streaming(tmp_path)
    end = made.run(work(tmp_path, seed=3, hyper=hyper))
    x, y = samples(SAMPLES)
    (tmp_path / "files").mkdir()
    np.savez(tmp_path / "files" / "data.npz", x=x, y=y)
    of_file = Streaming(tmp_path / "unused", x, y)
    changes = {"dataset_uri": "file://npz/data.npz", "streamed": False, "dataset_path": None, "seed": 3, "hyper": hyper}
    other = of_file.run(work(tmp_path / "other", data_roots=(tmp_path / "files",), **changes))
    assert curve(made.reports) == [pytest.approx(point, rel=1e-6) for point in curve(of_file.reports)]
    assert end is not None
    assert other is not None
    assert curve(made.reports)[-1]["loss"] < curve(made.reports)[0]["loss"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("there", [BATCH * 4 + 3, BATCH * 9 + 1], ids=["in the epoch", "before what is held out"])
def test_a_job_stopped_while_it_waits_goes_on_elsewhere(tmp_path: Path, accumulate: int, there: int) -> None:
    hyper = {"accumulate": str(accumulate)}
    whole = streaming(tmp_path / "whole")
    assert whole.run(work(tmp_path / "whole", seed=2, hyper=hyper))

    def stop(made: Streaming, report: Report) -> None:
        if isinstance(report, FirstStep):
            threading.Timer(0.3, made.orders.give, ("preempt",)).start()

    first = streaming(tmp_path / "first", at_first=there, bring=stop)
    assert first.run(work(tmp_path / "first", seed=2, hyper=hyper)) is None
    (point,) = saved(first.reports)
    batches = 9 if there >= 72 else there // BATCH // accumulate * accumulate
    assert (point.epoch, point.batch) == (1, batches)
    second = streaming(tmp_path / "second", at_first=0)

    def go_on(made: Streaming, report: Report) -> None:
        if isinstance(report, Logged) and "going on" in report.message:
            made._at_first = SAMPLES

    second._bring = go_on
    assert second.run(work(tmp_path / "second", seed=2, hyper=hyper, resume=point.file.path))
    trained, held = order_of(2)
    done = batches * BATCH
    assert second.order == [*trained[done:], *held, *trained[:done]]
    assert curve(second.reports) == [pytest.approx(each, rel=1e-6) for each in curve(whole.reports)]


def test_going_on_in_a_later_epoch_asks_in_its_order(tmp_path: Path) -> None:
    whole = streaming(tmp_path / "whole")
    assert whole.run(work(tmp_path / "whole", checkpoint_every="14 steps"))
    point = next(each for each in saved(whole.reports) if each.epoch == 2)
    trained, held = order_of(0, epoch=2)
    done = point.batch * BATCH
    steps: list[int] = []

    def bring(made: Streaming, report: Report) -> None:
        if isinstance(report, FirstStep):
            steps.append(made.fed)
            made.feed(SAMPLES)

    again = streaming(tmp_path / "again", at_first=BATCH, bring=bring)
    assert again.run(work(tmp_path / "again", resume=point.file.path))
    assert again.order == [*trained[done:], *held, *trained[:done]]
    assert steps == [BATCH]
    assert curve(again.reports) == [pytest.approx(each, rel=1e-6) for each in curve(whole.reports)[1:]]


def test_a_job_that_has_not_stepped_saves_nothing(tmp_path: Path) -> None:
    made = streaming(tmp_path, at_first=BATCH - 1)
    threading.Timer(0.3, made.orders.give, ("preempt",)).start()
    assert made.run(work(tmp_path)) is None
    assert not saved(made.reports)
    assert not [each for each in made.reports if isinstance(each, FirstStep | Preempted)]


@pytest.mark.parametrize(
    ("hyper", "classes"), [({"class_weights": "balanced"}, 3), ({}, 0)], ids=["class weights", "unknown classes"]
)
def test_what_looks_at_all_labels_waits_for_all(tmp_path: Path, hyper: dict[str, str], classes: int) -> None:
    steps: list[int] = []

    def bring(made: Streaming, report: Report) -> None:
        if isinstance(report, Logged) and "waiting for all of the data" in report.message:
            made._at_first = SAMPLES
        if isinstance(report, FirstStep):
            steps.append(made.fed)

    made = streaming(tmp_path, at_first=0, classes=classes, bring=bring)
    assert made.run(work(tmp_path, hyper=hyper))
    assert steps == [SAMPLES]
    assert made.order == list(range(SAMPLES))
    x, y = samples(SAMPLES)
    known = Streaming(tmp_path / "known" / "rows", x, y)
    assert known.run(work(tmp_path / "known", hyper=hyper))
    assert curve(made.reports) == curve(known.reports)


def test_an_evaluation_draws_the_same_rows(tmp_path: Path) -> None:
    made = streaming(tmp_path)
    assert made.run(work(tmp_path, seed=6, epochs=1))
    loaded = load("remote://mine", blob=tmp_path / "rows")
    assert loaded.streamed
    assert drawn_rows(loaded, (0.2, 0.0), 6)[1].tolist() == order_of(6)[1]


def test_rows_lie_where_they_belong_and_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "DROP_BYTES", 64)
    x, y = samples(20, (2, 3))
    info = Info(20, (2, 3), 3, ("a", "b", "c"))
    store = RowStore.create(tmp_path / "rows", info)
    reader = Rows(tmp_path / "rows" / "x.npy")
    for rows in ([3, 4, 5], [19, 0], [7]):
        store.write(np.array(rows), x[rows], y[rows])
        assert np.array_equal(reader.take(np.array(rows)), x[rows])
    assert RowStore.find(tmp_path / "rows") is None, "nobody knows what is there while it is written"
    store.close(keep=True)
    found = RowStore.find(tmp_path / "rows")
    assert found is not None
    assert found.info == info
    assert np.flatnonzero(found.have).tolist() == [0, 3, 4, 5, 7, 19]
    assert not (tmp_path / "rows" / HAVE).exists()
    found.write(np.arange(20), x, y)
    assert found.whole
    found.close(keep=True)
    loaded = load("remote://mine", blob=tmp_path / "rows")
    assert (loaded.classes, loaded.class_names) == (3, ("a", "b", "c"))
    assert np.array_equal(loaded.features, x)
    assert np.array_equal(loaded.labels, y)
    (tmp_path / "rows" / HAVE).write_bytes(b"rubbish")
    assert RowStore.find(tmp_path / "rows") is None
