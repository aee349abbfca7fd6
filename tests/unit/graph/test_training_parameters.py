"""The hyperparameters of the course of training: read, bounded, merged with the graph's nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import Hyperparameters, parse, parse_hyperparameters


def with_nodes(*nodes: Any) -> Any:
    return parse(json.dumps({"layers": [*nodes, "dense"]}))


def test_what_is_not_stated_changes_nothing() -> None:
    read = parse_hyperparameters({})
    assert read == Hyperparameters()
    assert (read.precision, read.accumulate, read.clip_norm, read.early_stopping) == ("float32", 1, 0, 0)
    assert (read.keep_best, read.class_weights, read.schedules, read.export) == (False, "none", (), ())


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("precision", "BF16", "precision", "bf16"), ("accumulate", "4", "accumulate", 4),
        ("gradient_accumulation", "2", "accumulate", 2), ("clip_norm", "1", "clip_norm", 1.0),
        ("max_grad_norm", "0.5", "clip_norm", 0.5), ("clip_value", "2", "clip_value", 2.0),
        ("early_stopping", "3", "early_stopping", 3),
        ("early_stopping_min_delta", "0.01", "early_stopping_min_delta", 0.01),
        ("monitor", "val-accuracy", "monitor", "val_accuracy"), ("keep_best", "true", "keep_best", True),
        ("class_weights", "Balanced", "class_weights", "balanced"),
        ("class_weights", "1, 2.5", "class_weights", (1.0, 2.5)),
        ("label_smoothing", "0.1", "label_smoothing", 0.1), ("compile", "1", "compile", True),
        ("l1", "1e-4", "l1", 1e-4), ("l2", "3", "l2", 3.0),
        ("export", "onnx, TorchScript,onnx", "export", ("onnx", "torchscript")), ("export", "", "export", ()),
    ],
)  # fmt: skip
def test_each_is_read(key: str, text: str, field: str, value: object) -> None:
    read = parse_hyperparameters({key: text})
    assert getattr(read, field) == value
    assert type(getattr(read, field)) is type(value)
    assert not read.extra
    assert not read.notes


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("precision", "fp8", ["bf16", "auto"]), ("accumulate", "0", ["1 to"]), ("clip_norm", "-1", ["[0"]),
        ("early_stopping", "1.5", ["whole number"]), ("monitor", "f1", ["val_loss"]), ("keep_best", "maybe", ["true"]),
        ("class_weights", "1,x", ["x"]), ("class_weights", "-1,2", ["from 0"]), ("class_weights", "0,0", ["above 0"]),
        ("label_smoothing", "1", ["1)"]), ("l1", "nan", ["[0"]), ("export", "pickle", ["onnx", "cyxmodel"]),
        ("schedule", "linear", ["StepLR"]), ("schedule", "cosine,cosine", ["different"]),
        ("schedule", "adam", ["CosineAnnealing"]),
    ],
)  # fmt: skip
def test_a_bad_value_names_key_and_bound(key: str, text: str, words: list[str]) -> None:
    with pytest.raises(CyxError) as caught:
        parse_hyperparameters({key: text})
    assert caught.value.code is Code.INVALID
    assert key in caught.value.message
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_schedule_of_the_job_wins_and_takes_its_own_parameters() -> None:
    graph = with_nodes({"type": "step_lr", "step_size": 3}, "warmup")
    assert [part.type for part in parse_hyperparameters({}, graph).schedules] == ["WarmupScheduler", "StepLR"]
    given = {"schedule": "cosine,warmup", "schedule_t_max": "7", "schedule_warmup_steps": "5", "schedule_gamma": "0.5"}
    read = parse_hyperparameters(given, graph)
    assert [part.type for part in read.schedules] == ["WarmupScheduler", "CosineAnnealing"]
    assert read.schedules[0].params["warmup_steps"] == 5
    assert read.schedules[1].params == {"t_max": 7, "eta_min": 0.0}
    assert read.extra == {"schedule_gamma": "0.5"}
    assert parse_hyperparameters({"schedule": "none"}, graph).schedules == ()
    with pytest.raises(CyxError, match="t_max"):
        parse_hyperparameters({**given, "schedule_t_max": "0"})


def test_a_huber_loss_of_the_editor_says_beta() -> None:
    graph = parse(json.dumps({"layers": ["dense"], "loss": {"type": "huber", "beta": "2"}}))
    assert graph.loss is not None
    assert graph.loss.params["delta"] == 2


def test_regularisers_of_the_graph_add_up_and_the_job_wins() -> None:
    graph = with_nodes({"type": "l1_regularization", "lambda": 0.1}, {"type": "elastic_net", "l1": 0.2, "l2": 0.3})
    read = parse_hyperparameters({}, graph)
    assert (read.l1, read.l2) == (pytest.approx(0.3), 0.3)
    assert parse_hyperparameters({"l1": "0"}, graph).l1 == 0


@pytest.mark.parametrize(
    ("given", "key"),
    [({"label_smoothing": "0.1"}, "label_smoothing"), ({"class_weights": "balanced"}, "class_weights")],
)
def test_what_a_loss_does_not_read_is_told(given: dict[str, str], key: str) -> None:
    assert parse_hyperparameters({**given, "loss": "mse"}).notes == (
        f"The hyperparameter {key} has no effect with MSELoss",
    )
    assert not parse_hyperparameters({**given, "loss": "nll"}).notes
