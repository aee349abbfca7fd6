"""Whole numbers as labels: classes, or numbers to predict, as the job's loss says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyxwiz.compute.evaluate import evaluate
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import train
from cyxwiz.domain.errors import CyxError
from tests.unit.compute.test_asked import job, written


@pytest.mark.parametrize(
    ("kind", "loss"), [("age", "mse"), ("price", "l1"), ("sign", "huber"), ("sign", "mse"), ("kind", "cross_entropy")]
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_the_loss_says_how_whole_labels_are_read(tmp_path: Path, kind: str, loss: str, suffix: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).round(3)
    half = (x[:, 0] > 0).astype(int)
    # `kind`: classes that are written as floating numbers, as scikit-learn's own tables have them.
    wanted = {"age": (x[:, 0] * 5 + 20).astype(int), "price": (x[:, 0] * 50_000 + 300_000).astype(int),
              "sign": 2 * half - 1, "kind": half.astype(float)}[kind]  # fmt: skip
    path = tmp_path / f"t{suffix}"
    if suffix == ".npz":
        np.savez(path, x=x, y=wanted)
    else:
        written(path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist(), "c": x[:, 2].tolist(), "z": wanted.tolist()})
    layers = json.dumps({"layers": [{"type": "dense", "units": 2 if kind == "kind" else 1}]})
    given: dict[str, Any] = {"dataset_uri": f"file:///{path}", "data_roots": (tmp_path,)}
    trained = train(job(tmp_path, "training", model=layers, epochs=60, hyperparameters={"loss": loss, "lr": "0.5"},
                        **given), lambda _: None, Orders())  # fmt: skip
    end = evaluate(job(tmp_path, "evaluation", weights=trained.artefacts[0].path, hyperparameters={"rows": "held_out"},
                       **given), lambda _: None, Orders())  # fmt: skip
    assert end.final_metrics["loss"] == pytest.approx(trained.final_metrics["val_loss"], rel=1e-3)
    assert ("accuracy" in end.final_metrics) == (kind == "kind")
    if kind == "age":
        assert end.final_metrics["r2"] > 0.95


def test_whole_labels_without_a_loss_are_classes_and_said_how_else(tmp_path: Path) -> None:
    layers = '{"layers": [{"type": "dense", "units": 1}]}'
    for labels, words in (((0, 36, 5), "Name a loss such as MSELoss"), ((-1, 1, 1), "name a loss such as MSELoss")):
        path = written(tmp_path / "t.csv", {"a": [1.0, 2.0, 3.5], "z": list(labels)})
        with pytest.raises(CyxError, match=words):
            train(job(tmp_path, "training", model=layers, dataset_uri=f"file:///{path}", data_roots=(tmp_path,)),
                  lambda _: None, Orders())  # fmt: skip
    path = written(tmp_path / "t.csv", {"a": [1.0, 2.0, 3.5], "z": ["ape", "bee", "cat"]})
    with pytest.raises(CyxError, match="needs at least 3"):  # kinds are no numbers
        train(job(tmp_path, "training", model=layers, dataset_uri=f"file:///{path}", data_roots=(tmp_path,),
                  hyperparameters={"loss": "mse"}), lambda _: None, Orders())  # fmt: skip
