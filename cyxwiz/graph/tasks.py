"""The hyperparameters of jobs that use a trained model: evaluation and inference. Strict: an unknown key is INVALID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import catalogue, parts, values
from cyxwiz.graph.catalogue import Role
from cyxwiz.graph.hyperparameters import check_shares

OUTPUTS = ("npz", "csv", "jsonl")
ROWS = ("all", "held_out", "test")
CLASSES = ("auto", "true", "false")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`rows` is all of the data set, or what a training job with the same seed and the same splits validated on
    (`held_out`) or kept for its end (`test`)."""

    rows: str = "all"
    validation_split: float = 0.2
    test_split: float = 0.0
    loss: str | None = None  # a catalogue name; None: the model's own, else by the data


@dataclass(frozen=True, slots=True)
class Inference:
    """`classes`: whether the outputs are scores of classes, of which the best is named; auto asks the model file."""

    output: str = "npz"
    classes: str = "auto"


def parse_evaluation(given: Mapping[str, str]) -> Evaluation:
    """CyxError INVALID naming key, value and bound."""
    _only(given, ("rows", "validation_split", "test_split", "loss"), "an evaluation")
    loss: str | None = None
    if "loss" in given:
        found = catalogue.lookup(given["loss"])
        if found is None or found.role is not Role.LOSS:
            names = ", ".join(node.name for node in catalogue.BY_NUMBER if node.role is Role.LOSS)
            raise invalid(f"loss is {values.quote(given['loss'])}; it must be one of {names}.", field="loss")
        loss = found.name
    split = parts.VALIDATION_SPLIT.read("validation_split", given.get("validation_split", "0.2"))
    test = parts.TEST_SPLIT.read("test_split", given.get("test_split", "0"))
    check_shares(split, test)
    assert isinstance(split, int | float)
    assert isinstance(test, int | float)
    return Evaluation(values.choice("rows", given.get("rows", "all"), ROWS), float(split), float(test), loss)


def parse_inference(given: Mapping[str, str]) -> Inference:
    """CyxError INVALID naming key, value and bound."""
    _only(given, ("output", "classes"), "an inference")
    output = values.choice("output", given.get("output", "npz"), OUTPUTS)
    return Inference(output, values.choice("classes", given.get("classes", "auto"), CLASSES))


def check_no_hyperparameters(given: Mapping[str, str]) -> None:
    """For preprocessing, whose steps say everything."""
    _only(given, (), "a preprocessing")


def _only(given: Mapping[str, str], known: tuple[str, ...], kind: str) -> None:
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            message = f"hyperparameters: {kind} job takes {takes}, not {values.quote(key)}"
            raise invalid(message, field=f"hyperparameters.{key[:80]}")
