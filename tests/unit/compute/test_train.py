"""Training in this process: what the executor's tests need no child for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from cyxwiz.compute import export as exporting
from cyxwiz.compute.evaluate import evaluate
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.samples import draw, drawn_rows
from cyxwiz.compute.train import Stopped, train
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Finished, Logged, Progressed, Report, Work

MLP = json.dumps({"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]})
SIGMOID = '{"layers": [{"type": "dense", "units": 10}, {"type": "sigmoid"}]}'


def job(folder: Path, **changes: Any) -> Work:
    fields: dict[str, Any] = {
        "job_id": "job", "job_type": "TRAINING", "model": MLP, "dataset_uri": "builtin:digits", "hyperparameters": {},
        "epochs": 3, "batch_size": 64, "seed": 0, "device": "cpu", "threads": 1, "work_dir": folder,
    }  # fmt: skip
    return Work(**{**fields, **changes})


def run(work: Work) -> tuple[list[float], Finished, list[Report]]:
    reports: list[Report] = []
    end = train(work, reports.append, Orders())
    losses = [report.metrics["loss"] for report in reports if isinstance(report, Progressed) and report.epoch_ended]
    return losses, end, reports


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return run(job(tmp_path_factory.mktemp("plain")))[0]


@pytest.mark.parametrize(
    ("hyperparameters", "model"),
    [
        ({"optimizer": "sgd", "learning_rate": "0.1"}, MLP),
        ({"optimizer": "rmsprop"}, MLP),
        ({"optimizer": "rmsprop", "momentum": "0.5"}, MLP),
        ({"optimizer": "adagrad", "learning_rate": "0.01"}, MLP),
        ({"optimizer": "nadam"}, MLP),
        ({"optimizer": "adamw", "weight_decay": "0.5"}, MLP),
        ({"beta1": "0.5"}, MLP),
        ({"weight_decay": "0.1"}, MLP),
        ({"shuffle": "false"}, MLP),
        ({"validation_split": "0.5"}, MLP),
        *(({"loss": loss}, MLP) for loss in ("mse", "l1", "smooth_l1", "huber", "bce_with_logits")),
        ({"loss": "bce"}, SIGMOID),
        ({}, '{"layers": [64, 64, 10], "optimizer": {"type": "adam", "learning_rate": 0.01}}'),
        ({}, '{"layers": [{"type": "normalize", "mean": 8, "std": 8}, {"type": "dense", "units": 10}]}'),
    ],
)
def test_every_choice_acts(tmp_path: Path, plain: list[float], hyperparameters: dict[str, str], model: str) -> None:
    losses, end, reports = run(job(tmp_path, hyperparameters=hyperparameters, model=model))
    assert losses[-1] < losses[0]
    assert losses != plain
    assert not [report for report in reports if isinstance(report, Logged) and report.level == "warning"]
    assert 0 <= end.final_metrics["val_accuracy"] <= 1


def test_nll_and_a_last_softmax_are_cross_entropy(tmp_path: Path, plain: list[float]) -> None:
    softmax = json.loads(MLP)
    softmax["layers"].append({"type": "softmax"})
    assert run(job(tmp_path, hyperparameters={"loss": "nll"}))[0] == pytest.approx(plain)
    assert run(job(tmp_path, model=json.dumps(softmax)))[0] == plain


@pytest.mark.parametrize(
    ("name", "units", "loss"),
    [
        ("diabetes", 1, "mse"), ("linnerud", 3, "huber"), ("breast_cancer", 2, "cross_entropy"),
        ("breast_cancer", 1, "bce_with_logits"), ("iris", 3, "mse"), ("wine", 3, "cross_entropy"),
    ],
)  # fmt: skip
def test_every_kind_of_table_trains(tmp_path: Path, name: str, units: int, loss: str) -> None:
    model = json.dumps({"layers": [{"type": "dense", "units": 16}, "relu", {"type": "dense", "units": units}]})
    hyperparameters = {"learning_rate": "0.01", "loss": loss}
    work = job(tmp_path, dataset_uri=f"builtin:{name}", model=model, hyperparameters=hyperparameters, epochs=20)
    losses, end, _ = run(work)
    assert losses[-1] < losses[0]
    if name in ("diabetes", "linnerud"):
        assert not {"accuracy", "val_accuracy"} & set(end.final_metrics)
    else:
        assert end.final_metrics["val_accuracy"] > 0.85


def test_images_are_flattened_for_a_dense_layer(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with (tmp_path / "blob").open("wb") as file:
        np.savez(file, x=random.integers(0, 255, (40, 4, 4), np.uint8), y=np.arange(40) % 2)
    model = '{"nodes": [{"id": 1, "type": 77, "parameters": {"input_shape": "[4, 4]"}}, {"id": 2, "type": 0}]}'
    uri = "blob://sha256/" + "0" * 64
    _, end, _ = run(job(tmp_path, dataset_uri=uri, dataset_path=tmp_path / "blob", model=model))
    with safe_open(end.artefacts[0].path, "pt") as file:
        assert file.get_slice("layer0.weight").get_shape() == [128, 16]
        assert json.loads(file.metadata()["cyxwiz.input_shape"]) == [4, 4]
        assert json.loads(file.metadata()["cyxwiz.scaling"]) == {"divisor": 255.0}


def test_the_saved_model_predicts_what_was_validated(tmp_path: Path) -> None:
    _, end, _ = run(job(tmp_path, hyperparameters={"validation_split": "0.3"}))
    from cyxwiz.compute.datasets import load

    digits = load("builtin:digits")
    with safe_open(end.artefacts[0].path, "pt") as file:
        scaling = json.loads(file.metadata()["cyxwiz.scaling"])
        weights = [file.get_tensor(name) for name in ("layer0.weight", "layer0.bias", "layer2.weight", "layer2.bias")]
    x = torch.from_numpy(digits.features) / scaling["divisor"]
    x = ((x - torch.tensor(scaling["mean"])) / torch.tensor(scaling["std"])).float()
    scores = torch.relu(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    right = (scores.argmax(1) == torch.from_numpy(digits.labels)).float().mean().item()
    expected = 0.7 * end.final_metrics["accuracy"] + 0.3 * end.final_metrics["val_accuracy"]
    assert right == pytest.approx(expected, abs=0.03)


def test_no_held_out_data_means_no_validation_metrics(tmp_path: Path) -> None:
    _, end, _ = run(job(tmp_path, hyperparameters={"validation_split": "0"}))
    assert set(end.final_metrics) == {"loss", "accuracy", "learning_rate", "samples_per_second"}


def test_a_test_part_is_looked_at_in_the_end_only(tmp_path: Path) -> None:
    shares = {"validation_split": "0.1", "test_split": "0.2", "keep_best": "true"}
    _, end, reports = run(job(tmp_path, hyperparameters=shares))
    told = [report.metrics for report in reports if isinstance(report, Progressed)]
    assert not any("test_loss" in metrics for metrics in told)
    assert end.final_metrics["test_accuracy"] > 0.7
    note = next(report.message for report in reports if isinstance(report, Logged) and "held out" in report.message)
    assert "1258 samples, 179 held out, 360 to test on" in note
    for rows, name in (("held_out", "val"), ("test", "test")):
        again = Work(
            **{
                **asdict(job(tmp_path / rows, job_type="evaluation", model="")),
                "weights": end.artefacts[0].path,
                "hyperparameters": {"rows": rows, "validation_split": "0.1", "test_split": "0.2"},
            }
        )
        again.work_dir.mkdir()
        figures = evaluate(again, lambda _: None, Orders()).final_metrics
        assert figures["accuracy"] == pytest.approx(end.final_metrics[f"{name}_accuracy"])
        assert figures["loss"] == pytest.approx(end.final_metrics[f"{name}_loss"], rel=1e-4)


def test_a_test_that_comes_to_no_number_costs_no_training(tmp_path: Path) -> None:
    from cyxwiz.compute.datasets import load

    digits = load("builtin:digits")
    rows = drawn_rows(digits, (0.2, 0.1), 0)[2]
    x = digits.features.copy()
    x[rows[0]] = 3e38
    np.savez(tmp_path / "data.npz", x=x, y=digits.labels)
    uri = f"file://{tmp_path}/data.npz"
    hyper = {"test_split": "0.1"}
    work = job(tmp_path / "w", dataset_uri=uri, data_roots=(tmp_path,), epochs=1, hyperparameters=hyper)
    _, end, reports = run(work)
    assert "test_loss" not in end.final_metrics
    assert "test_accuracy" in end.final_metrics
    assert [each for each in reports if isinstance(each, Logged) and "test_loss is no number" in each.message]


@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.0, 0.2), (0.1, 0.3), (0.45, 0.45)])
def test_every_row_is_drawn_for_one_part(shares: tuple[float, float]) -> None:
    groups = torch.arange(100) % 3
    parts = draw(groups, shares, 5)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(100))
    assert [len(part) for part in parts[1:]] == pytest.approx([100 * share for share in shares], abs=2)
    assert torch.equal(draw(groups, (sum(shares), 0.0), 5)[0], parts[0]), "what is trained on is the same"


def test_noise_on_some_of_the_columns(tmp_path: Path) -> None:
    graph = {
        "nodes": [
            {"id": 1, "type": "DatasetInput", "parameters": {"columns": "0:32", "input_shape": "[4,8]"}},
            {"id": 2, "type": "Augmentation", "parameters": {"noise_std": "0.1"}},
            {"id": 3, "type": "Dense", "parameters": {"units": "10"}},
        ],
        "links": [{"from_node": 1, "to_node": 2}, {"from_node": 2, "to_node": 3}],
    }
    _, end, _ = run(job(tmp_path, model=json.dumps(graph), hyperparameters={"learning_rate": "0.02"}))
    assert end.final_metrics["val_accuracy"] > 0.5


def test_a_stop_is_obeyed_at_the_next_batch(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        orders = Orders()
        orders.give("cancel")
        train(job(tmp_path), lambda report: None, orders)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"dataset_uri": "builtin:nothing"}, Code.INVALID, ["builtin:nothing", "digits"]),
        ({"dataset_uri": "remote://job"}, Code.UNAVAILABLE, ["remote://job"]),
        ({"dataset_uri": "file://csv//etc/passwd"}, Code.FORBIDDEN, ["data_roots"]),
        ({"dataset_uri": "blob://sha256/" + "0" * 64}, Code.UNAVAILABLE, ["blob://"]),
        ({"model": ""}, Code.INVALID, ["empty"]),
        ({"model": '{"layers": [784, 10]}'}, Code.INVALID, ["784", "64"]),
        ({"model": '{"layers": ["flatten"]}'}, Code.INVALID, ["weights"]),
        ({"hyperparameters": {"learning_rate": "-1"}}, Code.INVALID, ["learning_rate"]),
        ({"hyperparameters": {"optimizer": "sgd", "learning_rate": "900", "loss": "mse"}}, Code.INVALID, ["diverged"]),
        ({"epochs": 0}, Code.INVALID, ["epochs"]),
    ],
)
def test_a_bad_job_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], code: Code, words: list[str]
) -> None:
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path, **changes))
    assert caught.value.code is code
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path, device="cuda:0"))
    assert caught.value.code is Code.UNAVAILABLE


def test_a_format_whose_writer_breaks_down_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("no such operator")

    monkeypatch.setitem(exporting._WRITERS, "torchscript", ("model.torchscript.pt", broken))
    _, end, reports = run(job(tmp_path, epochs=1, hyperparameters={"export": "torchscript,cyxmodel"}))
    assert [each.name for each in end.artefacts] == ["model.safetensors", "model.cyxmodel", "README.md"]
    assert not (tmp_path / "out" / "model.torchscript.pt").exists()
    told = [each.message for each in reports if isinstance(each, Logged) and each.level == "error"]
    assert told == ["the model could not be written as torchscript: RuntimeError: no such operator"]
