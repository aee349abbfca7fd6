"""Labels with a class for every step: read, told apart from numbers to predict, trained on and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyxwiz.compute.datasets import load
from cyxwiz.compute.evaluate import evaluate
from cyxwiz.compute.export import read_safetensors
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.tally import Tally
from cyxwiz.domain.errors import Code, CyxError
from tests.unit.compute.test_checkpoint import curve, run
from tests.unit.compute.test_train import job

STEPS, CLASSES = 5, 3
TAGGER = json.dumps({"layers": [
    {"type": "input", "input_shape": [STEPS, 2]}, {"type": "gru", "units": 16, "return_sequences": True},
    {"type": "time_distributed", "layer": "dense", "units": CLASSES},
]})  # fmt: skip
FLAT = json.dumps({"layers": ["flatten", {"type": "dense", "units": STEPS}]})


def sequences() -> tuple[Any, Any]:
    """The class of a step counts the positive ones up to it: it needs the steps before."""
    x = np.random.default_rng(0).standard_normal((240, STEPS, 2)).astype(np.float32)
    return x, np.minimum(np.cumsum((x[:, :, 0] > 0).astype(np.int64), axis=1), CLASSES - 1)


def written(folder: Path, form: str) -> str:
    x, y = sequences()
    folder.mkdir(exist_ok=True)
    if form == "npz":
        np.savez(folder / "s.npz", x=x, y=y)
    elif form == "npy":
        (folder / "s").mkdir()
        np.save(folder / "s" / "x.npy", x)
        np.save(folder / "s" / "y.npy", y)
        return "file://npy/s"
    elif form == "json":
        (folder / "s.json").write_text(json.dumps({"x": x.tolist(), "y": y.tolist()}))
    else:
        rows = (json.dumps({"x": a.tolist(), "labels": b.tolist()}) for a, b in zip(x, y, strict=True))
        (folder / "s.jsonl").write_text("\n".join(rows))
    return f"file://{form}/s.{form}"


@pytest.mark.parametrize("form", ["npz", "npy", "json", "jsonl"])
def test_a_class_for_every_step_is_read(tmp_path: Path, form: str) -> None:
    data = load(written(tmp_path, form), data_roots=(tmp_path,))
    x, y = sequences()
    assert (data.classes, data.label_shape, data.shape.label_shape) == (CLASSES, (STEPS,), (STEPS,))
    assert (data.labels == y).all()
    assert np.allclose(data.features, x)
    as_numbers = data.as_targets()
    assert (as_numbers.classes, as_numbers.shape.targets, as_numbers.labels.dtype) == (None, STEPS, np.float32)


def test_a_model_learns_the_steps_and_is_judged_by_them(tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset_uri": written(tmp_path, "npz"), "data_roots": (tmp_path,)}
    hyper = {"learning_rate": "0.03", "class_weights": "balanced"}
    reports, end = run(job(tmp_path / "work", model=TAGGER, epochs=20, batch_size=16, hyperparameters=hyper, **given))
    assert end is not None
    first, *_, last = curve(reports)
    assert first["val_accuracy"] < 0.85 < 0.93 < last["val_accuracy"] <= 1
    weights = end.artefacts[0].path
    assert read_safetensors(weights).label_shape == (STEPS,)
    hyper = {"rows": "held_out"}
    asked = job(tmp_path / "work", model="", weights=weights, hyperparameters=hyper, **given)
    judged = evaluate(asked, lambda _: None, Orders())
    assert judged.final_metrics["accuracy"] == pytest.approx(last["val_accuracy"])
    matrix = json.loads(judged.artefacts[0].path.read_text())["confusion_matrix"]
    assert np.sum(matrix) == judged.final_metrics["samples"] * STEPS


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        (FLAT, None, ""),
        (FLAT, "MSELoss", ""),
        (TAGGER, None, ""),
        (TAGGER, "CrossEntropyLoss", ""),
        (FLAT, "CrossEntropyLoss", "has a class for every step: expected (5, classes)"),
        (TAGGER, "BCELoss", "needs classes"),
    ],
)
def test_the_model_and_the_loss_say_what_labels_are(tmp_path: Path, model: str, loss: str | None, words: str) -> None:
    hyper = {} if loss is None else {"loss": loss}
    uri = written(tmp_path, "npz")
    work = job(
        tmp_path / "work", model=model, epochs=1, dataset_uri=uri, data_roots=(tmp_path,), hyperparameters=hyper
    )  # fmt: skip
    if not words:
        reports, end = run(work)
        assert end is not None
        assert ("accuracy" in end.final_metrics) == (model == TAGGER), reports
        return
    with pytest.raises(CyxError) as caught:
        run(work)
    assert caught.value.code is Code.INVALID
    assert words in caught.value.message


def test_whole_numbers_that_are_no_classes_stay_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", x=np.ones((4, 2)), y=np.array([[-1, 2], [3, 4], [5, 6], [7, 8]]))
    data = load("file://npz/n.npz", data_roots=(tmp_path,))
    assert (data.classes, data.labels.tolist()[0]) == (None, [-1.0, 2.0])


def test_every_step_counts_for_the_accuracy() -> None:
    labels = torch.tensor([[0, 1], [1, 1]])
    tally = Tally(labels, "CrossEntropyLoss", torch.arange(2))
    tally.add(torch.tensor(0.5), torch.tensor([[[9.0, 0], [9, 0]], [[0, 9.0], [0, 9]]]))
    assert tally.accuracy() == 0.75
