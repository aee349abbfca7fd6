"""What the hyperparameters beyond optimizer and loss do to training, by their effect; and resuming with all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config

from cyxwiz.compute.export import read_cyxmodel, read_safetensors
from cyxwiz.ports.executor import Finished, Logged
from tests.missing import missing
from tests.unit.compute.test_checkpoint import curve, run, saved
from tests.unit.compute.test_train import MLP, job


def losses(folder: Path, model: str = MLP, **hyperparameters: str) -> list[float]:
    reports, end = run(job(folder, model=model, hyperparameters=hyperparameters))
    assert end is not None
    assert not [each for each in reports if isinstance(each, Logged) and each.level == "warning"], reports
    return [point["loss"] for point in curve(reports)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"clip_norm": "0.01"},
        {"clip_value": "0.0001"},
        {"accumulate": "4"},
        {"label_smoothing": "0.3"},
        {"l1": "0.01"},
        {"l2": "0.01"},
        {"schedule": "exponential_lr", "schedule_gamma": "0.1"},
        {"schedule": "warmup_scheduler", "schedule_warmup_steps": "20"},
        {"precision": "bf16"},
        {"class_weights": "9,1,1,1,1,1,1,1,1,1"},
    ],
    ids=lambda given: next(iter(given)) + next(iter(given.values())),
)
def test_each_acts(tmp_path: Path, plain: list[float], hyperparameters: dict[str, str]) -> None:
    made = losses(tmp_path, **hyperparameters)
    assert made != plain
    assert made[-1] < made[0]


@pytest.mark.parametrize(("batch", "larger"), [(30, 150), (40, 200), (20, 100)])
def test_accumulated_batches_are_a_larger_batch(tmp_path: Path, batch: int, larger: int) -> None:
    """Also where an epoch's last step has fewer or smaller ones than the others."""
    common = {"shuffle": "false", "validation_split": "0", "optimizer": "sgd"}
    model = json.dumps({"layers": [{"type": "dense", "units": 3}]})
    changes: dict[str, Any] = {"model": model, "dataset_uri": "builtin:iris", "epochs": 3}
    one, _ = run(job(tmp_path / "one", batch_size=larger, hyperparameters=common, **changes))
    four, _ = run(job(tmp_path / "four", batch_size=batch, hyperparameters={**common, "accumulate": "5"}, **changes))
    assert [p["loss"] for p in curve(four)] == pytest.approx([p["loss"] for p in curve(one)], rel=1e-5)


@pytest.mark.parametrize("weights", ["1,5,20", "0,0,1"])
@pytest.mark.parametrize("batch", [1, 6])
def test_accumulated_batches_are_a_larger_batch_by_class_weights_too(tmp_path: Path, weights: str, batch: int) -> None:
    common = {"validation_split": "0", "optimizer": "sgd", "class_weights": weights, "l2": "0.01"}
    model = json.dumps({"layers": [{"type": "dense", "units": 3}]})
    changes: dict[str, Any] = {"model": model, "dataset_uri": "builtin:iris", "epochs": 3}
    accumulated = {**common, "accumulate": str(12 // batch)}
    one, _ = run(job(tmp_path / "one", batch_size=12, hyperparameters=common, **changes))
    several, _ = run(job(tmp_path / "several", batch_size=batch, hyperparameters=accumulated, **changes))
    assert [p["loss"] for p in curve(several)] == pytest.approx([p["loss"] for p in curve(one)], rel=1e-4)


def test_a_schedule_sets_the_rate_of_each_epoch(tmp_path: Path) -> None:
    reports, _ = run(
        job(tmp_path, epochs=4, hyperparameters={"schedule": "step_lr", "schedule_step_size": "2", "lr": "0.01"})
    )
    assert [point["learning_rate"] for point in curve(reports)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("mode", [{}, {"schedule_mode": "max"}])
@pytest.mark.parametrize(
    ("uri", "split", "monitored"), [("builtin:diabetes", "0.2", "val_loss"), ("builtin:iris", "0", "loss")]
)
def test_a_plateau_goes_by_the_loss_where_there_is_no_accuracy(
    tmp_path: Path, mode: dict[str, str], uri: str, split: str, monitored: str
) -> None:
    model = json.dumps({"layers": [{"type": "dense", "units": 1 if "diabetes" in uri else 3}]})
    given = {"monitor": "val_accuracy", "schedule": "reduce_on_plateau", "schedule_patience": "0", "lr": "0.01",
             "validation_split": split, **mode}  # fmt: skip
    reports, _ = run(job(tmp_path, model=model, dataset_uri=uri, epochs=6, hyperparameters=given))
    losses = [point[monitored] for point in curve(reports)]
    assert losses == sorted(losses, reverse=True), "it gets better all the time"
    assert {point["learning_rate"] for point in curve(reports)} == {0.01}
    said = [each.message for each in reports if isinstance(each, Logged) and each.level == "warning"]
    assert said == [f"val_accuracy is not measured in this job; {monitored} takes its place for ReduceOnPlateau"]


def test_early_stopping_ends_a_job_that_gets_no_better(tmp_path: Path) -> None:
    given = {"early_stopping": "3", "learning_rate": "1e-12", "early_stopping_min_delta": "0.01"}
    reports, end = run(job(tmp_path, epochs=50, hyperparameters=given))
    assert end is not None
    assert end.epochs_completed == 4
    assert "stopped after epoch 4" in [r for r in reports if isinstance(r, Logged)][-1].message


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    given = {"keep_best": "true", "monitor": "val_accuracy", "learning_rate": "0.3", "optimizer": "adam"}
    reports, end = run(job(tmp_path, epochs=8, hyperparameters=given))
    assert end is not None
    accuracies = [point["val_accuracy"] for point in curve(reports)]
    best = max(accuracies)
    assert end.final_metrics["val_accuracy"] == best
    assert end.final_metrics["best_epoch"] == accuracies.index(best) + 1
    _, last = run(job(tmp_path / "first", epochs=accuracies.index(best) + 1, hyperparameters={**given}))
    assert last is not None
    assert last.artefacts[0].sha256 == end.artefacts[0].sha256


def test_the_best_epoch_is_the_best_one_however_little_better_it_is(tmp_path: Path) -> None:
    """`early_stopping_min_delta` says what early stopping waits for, also after a checkpoint."""
    given = {"keep_best": "true", "early_stopping": "3", "early_stopping_min_delta": "100"}
    reports, end = run(job(tmp_path, epochs=8, hyperparameters=given, checkpoint_every="1 epoch"))
    assert end is not None
    losses = [point["val_loss"] for point in curve(reports)]
    assert losses == sorted(losses, reverse=True)
    assert (len(losses), end.final_metrics["best_epoch"], end.final_metrics["val_loss"]) == (4, 4, losses[-1])
    told = [each.message for each in reports if isinstance(each, Logged)][-1]
    assert told.endswith(f"than {losses[0]:.6g} of epoch 1 by more than 100 for 3 epochs")
    kept = tmp_path / "kept.safetensors"
    shutil.copy(sorted((tmp_path / "checkpoints").iterdir())[0], kept)  # of the last but one
    more, again = run(job(tmp_path / "again", epochs=8, hyperparameters=given, resume=kept))
    assert again is not None
    assert [point["val_loss"] for point in curve(more)] == losses[-len(curve(more)) :]
    assert again.artefacts[0].sha256 == end.artefacts[0].sha256


EVERYTHING = {
    "schedule": "cosine_annealing",
    "clip_norm": "1.0",
    "accumulate": "2",
    "keep_best": "true",
    "class_weights": "balanced",
    "precision": "bf16",
    "l2": "0.0001",
}
CNN = json.dumps(
    {
        "layers": [
            {"type": "dataset_input", "input_shape": [8, 8, 1]},
            {"type": "augmentation", "noise_std": 0.05, "crop_padding": 1},
            {"type": "conv2d", "filters": 8, "kernel_size": 3, "padding": "same"},
            {"type": "batch_norm"},
            {"type": "relu"},
            {"type": "max_pool2d"},
            {"type": "dropout", "rate": 0.2},
            {"type": "flatten"},
            {"type": "dense", "units": 10},
        ]
    }
)


def test_going_on_with_all_of_it_is_as_if_nothing_had_been(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": CNN, "hyperparameters": EVERYTHING, "epochs": 3}
    _, whole = run(job(tmp_path / "whole", **changes))
    reports, _ = run(job(tmp_path / "first", checkpoint_every="9 steps", **changes))
    assert whole is not None
    points = saved(reports)
    assert len(points) > 1
    _, end = run(job(tmp_path / "again", resume=points[-2].file.path, **changes))
    assert end is not None
    assert end.artefacts[0].sha256 == whole.artefacts[0].sha256


MODELS = {
    "cnn": json.dumps(
        {
            "layers": [
                {"type": "dataset_input", "input_shape": [8, 8, 1]},
                {"type": "conv2d", "filters": 16, "kernel_size": 3, "padding": "same"},
                {"type": "relu"},
                {"type": "max_pool2d"},
                {"type": "flatten"},
                {"type": "dense", "units": 10},
            ]
        }
    ),
    "residual": json.dumps(
        {
            "layers": [
                {"id": "in", "type": "dense", "units": 64},
                {"id": "a", "type": "relu"},
                {"id": "b", "type": "dense", "units": 64},
                {"id": "sum", "type": "add", "inputs": ["a", "b"]},
                {"id": "c", "type": "relu"},
                {"id": "out", "type": "dense", "units": 10},
            ]
        }
    ),
    "lstm": json.dumps(
        {
            "layers": [
                {"type": "dataset_input", "input_shape": [8, 8]},
                {"type": "lstm", "units": 48},
                {"type": "dense", "units": 10},
            ]
        }
    ),
    "transformer": json.dumps(
        {
            "layers": [
                {"type": "dataset_input", "input_shape": [8, 8]},
                {"type": "dense", "units": 64},
                {"type": "reshape", "shape": [8, 8]},
                {"type": "positional_encoding"},
                {"type": "transformer_encoder", "num_heads": 2, "dim_feedforward": 64, "num_layers": 1},
                {"type": "flatten"},
                {"type": "dense", "units": 10},
            ]
        }
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_kinds_of_models_learn_digits(tmp_path: Path, kind: str) -> None:
    given = {"learning_rate": "0.005"}
    _, end = run(job(tmp_path, model=MODELS[kind], epochs=8, batch_size=32, hyperparameters=given))
    assert end is not None
    assert end.final_metrics["val_accuracy"] >= 0.93, end.final_metrics


def test_results_in_other_formats(tmp_path: Path) -> None:
    formats = {"export": "onnx,cyxmodel,torchscript,torch_export"}
    _, end = run(job(tmp_path, hyperparameters=formats))
    assert isinstance(end, Finished)
    names = [each.name for each in end.artefacts]
    assert names[0] == "model.safetensors"
    assert sorted(names[1:]) == ["README.md", "model.cyxmodel", "model.onnx", "model.pt2", "model.torchscript.pt"]
    for each in end.artefacts:
        assert each.path.stat().st_size == each.size > 0
    files = {each.name: each.path for each in end.artefacts}
    x = np.random.default_rng(0).random((5, 64), dtype=np.float32)
    own = read_safetensors(files["model.safetensors"]).trained()
    other = read_cyxmodel(files["model.cyxmodel"]).trained()
    with torch.no_grad():
        expected = own.model(torch.from_numpy(x))
        assert torch.equal(other.model(torch.from_numpy(x)), expected)
    assert "builtin:digits" in files["README.md"].read_text()


def test_several_arrays_of_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.random((400, 4), dtype=np.float32), rng.random((400, 3), dtype=np.float32)
    label = (left.sum(1) > 4 * right.mean(1)).astype(np.int64)
    np.savez(tmp_path / "two.npz", x=left, other=right, y=label)
    definition = json.dumps(
        {
            "layers": [
                {"id": "l", "type": "dataset_input"},
                {"id": "r", "type": "dataset_input", "field": "other"},
                {"id": "a", "type": "dense", "units": 8, "inputs": ["l"]},
                {"id": "b", "type": "dense", "units": 8, "inputs": ["r"]},
                {"id": "both", "type": "concatenate", "inputs": ["a", "b"]},
                {"id": "end", "type": "dense", "units": 2},
            ]
        }
    )
    uri = f"file://npz/{tmp_path / 'two.npz'}"
    work = job(
        tmp_path / "job",
        model=definition,
        dataset_uri=uri,
        data_roots=(tmp_path,),
        epochs=30,
        hyperparameters={"learning_rate": "0.05"},
    )
    _, end = run(work)
    assert end is not None
    assert end.final_metrics["val_accuracy"] >= 0.9


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch itself imports
def test_a_compiled_model_learns_the_same(tmp_path: Path, plain: list[float]) -> None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        missing("a C++ compiler")
    counters["stats"].clear()
    config.compile_threads, config.cpp_cache_precompile_headers = 2, True
    reports, _ = run(job(tmp_path, hyperparameters={"compile": "true"}))
    assert not [each for each in reports if isinstance(each, Logged) and "not compiled" in each.message]
    assert (config.compile_threads, config.cpp_cache_precompile_headers) == (1, False), "a job of 1 GiB is not killed"
    assert counters["stats"]["unique_graphs"] > 0
    assert [point["loss"] for point in curve(reports)] == pytest.approx(plain, rel=1e-4)


def test_what_can_not_be_compiled_is_trained_as_it_is(
    tmp_path: Path, plain: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch.compile", lambda model: broken)
    reports, _ = run(job(tmp_path, hyperparameters={"compile": "true"}))
    assert [each for each in reports if isinstance(each, Logged) and "no compiler" in each.message]
    assert [point["loss"] for point in curve(reports)] == plain
