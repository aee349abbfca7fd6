"""The job's hyperparameters: texts from outside to checked numbers.

What the job states wins over the graph's optimizer, loss and split nodes, and those over the defaults. An optimizer
node's numbers count only while the job does not name another optimizer. A known key with a bad value is INVALID, naming
key, value and bound; an unknown key is kept in `extra`, and whatever has no effect is told in `notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import catalogue, values
from cyxwiz.graph.catalogue import Param, ParamValue, Role
from cyxwiz.graph.ir import Graph, Part

_KNOWN: Mapping[str, Param] = {
    "learning_rate": catalogue.LEARNING_RATE,
    "weight_decay": catalogue.WEIGHT_DECAY,
    "momentum": catalogue.MOMENTUM,
    "beta1": catalogue.BETA1,
    "beta2": catalogue.BETA2,
    "eps": catalogue.EPS,
    "validation_split": catalogue.VALIDATION_SPLIT,
    "shuffle": catalogue.SHUFFLE,
}
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "SGD": {"momentum": 0.9},
    "AdamW": {"weight_decay": 0.01},
    "Adagrad": {"eps": 1e-10},
}


def _empty_map() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How to train. `optimizer` and `loss` are catalogue names; a `loss` of None is chosen by the dataset."""

    optimizer: str = "Adam"
    learning_rate: float = 0.001
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    loss: Part | None = None
    validation_split: float = 0.2
    shuffle: bool = True
    extra: Mapping[str, str] = field(default_factory=_empty_map)
    notes: tuple[str, ...] = ()


def parse_hyperparameters(given: Mapping[str, str], graph: Graph | None = None) -> Hyperparameters:
    """The hyperparameters of a job on this graph; CyxError INVALID naming key, value and bound."""
    stated: dict[str, ParamValue] = {}
    used = {"optimizer", "loss"}
    for key, param in _KNOWN.items():
        for name in (key, *param.aliases):
            if name in given:
                stated.setdefault(key, param.read(name, given[name]))
                used.add(name)
    optimizer, merged = _optimizer(given, graph)
    numbers: dict[str, ParamValue] = {**_of_graph(graph), **merged, **stated}
    read = catalogue.BY_NAME[optimizer].params
    notes = [
        f"The hyperparameter {key} has no effect with {optimizer}"
        for key in stated
        if key not in read and key not in ("validation_split", "shuffle")
    ]
    return Hyperparameters(
        optimizer=optimizer,
        loss=_loss(given, graph),
        extra=MappingProxyType({key: value for key, value in given.items() if key not in used}),
        notes=tuple(notes),
        shuffle=bool(numbers.get("shuffle", True)),
        **_floats(numbers),
    )


def _floats(numbers: Mapping[str, ParamValue]) -> dict[str, float]:
    return {key: float(value) for key, value in numbers.items() if key != "shuffle" and isinstance(value, int | float)}


def _of_graph(graph: Graph | None) -> dict[str, ParamValue]:
    found: dict[str, ParamValue] = {}
    if graph is not None and graph.validation_split is not None:
        found["validation_split"] = graph.validation_split
    if graph is not None and graph.shuffle is not None:
        found["shuffle"] = graph.shuffle
    return found


def _optimizer(given: Mapping[str, str], graph: Graph | None) -> tuple[str, dict[str, ParamValue]]:
    part = graph.optimizer if graph is not None else None
    name = part.type if part is not None else "Adam"
    if "optimizer" in given:
        name = _of_role("optimizer", given["optimizer"], Role.OPTIMIZER)
    merged: dict[str, ParamValue] = dict(_DEFAULTS.get(name, {}))
    if part is not None and part.type == name:
        merged.update(part.params)
    return name, merged


def _loss(given: Mapping[str, str], graph: Graph | None) -> Part | None:
    part = graph.loss if graph is not None else None
    if "loss" not in given:
        return part
    name = _of_role("loss", given["loss"], Role.LOSS)
    if part is not None and part.type == name:
        return part
    params, _ = catalogue.read_params(catalogue.BY_NAME[name], "loss", {})
    return Part(name, MappingProxyType(params))


def _of_role(key: str, value: object, role: Role) -> str:
    names = [node_type.name for node_type in catalogue.BY_NUMBER if node_type.role is role]
    found = catalogue.lookup(value) if isinstance(value, str) else None
    if found is None or found.role is not role:
        bound = f"one of {', '.join(names)}"
        raise invalid(
            f"{key} is {values.quote(value)}; it must be {bound}.", where=key, value=values.quote(value), bound=bound
        )
    return found.name
