"""The job's hyperparameters: texts from outside to checked numbers.

What the job states wins over the graph's optimizer, loss, schedule, regulariser and split nodes, and those over the
defaults. An optimizer node's numbers count only while the job does not name another optimizer. A known key with a bad
value is INVALID, naming key, value and bound; an unknown key is kept in `extra`, and whatever has no effect is told in
`notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import catalogue, parts, values
from cyxwiz.graph.catalogue import Role
from cyxwiz.graph.dataset_uri import check_dataset_uri, known_shape
from cyxwiz.graph.fit import CLASS_LOSSES, PROBABILITY_LOSSES, features_of
from cyxwiz.graph.ir import Graph, Part
from cyxwiz.graph.params import Param, ParamValue, flag, integer
from cyxwiz.graph.shapes import cost

EXPORTS = ("torchscript", "torch_export", "onnx", "cyxmodel", "cyxmodel_directory")
MAX_EPOCHS = 1_000_000
MAX_ONNX_BYTES = 2**31 - 2**20  # a protobuf message holds 2 GiB

_OF_OPTIMIZER: Mapping[str, Param] = {
    "learning_rate": parts.LEARNING_RATE,
    "weight_decay": parts.WEIGHT_DECAY,
    "momentum": parts.MOMENTUM,
    "beta1": parts.BETA1,
    "beta2": parts.BETA2,
    "eps": parts.EPS,
    "alpha": parts.ALPHA,
    "lr_decay": parts.LR_DECAY,
}
KNOWN: Mapping[str, Param] = {
    **_OF_OPTIMIZER,
    "validation_split": parts.VALIDATION_SPLIT,
    "test_split": parts.TEST_SPLIT,
    "shuffle": parts.SHUFFLE,
    "precision": Param(
        "choice", "float32", choices=("float32", "bf16", "fp16", "auto"), meaning="auto: bf16 where the device has it"
    ),
    "accumulate": integer(1, 1_000_000, 1, "gradient_accumulation", meaning="batches between two optimizer steps"),
    "clip_norm": Param("float", 0.0, 0.0, 1e9, aliases=("max_grad_norm",), meaning="of all gradients together; 0: off"),
    "clip_value": Param("float", 0.0, 0.0, 1e9, meaning="of every gradient; 0: off"),
    "early_stopping": integer(
        0, MAX_EPOCHS, 0, "early_stopping_patience", meaning="epochs without a better monitor; 0: off"
    ),
    "early_stopping_min_delta": Param("float", 0.0, 0.0, 1e9, meaning="by how much it must be better"),
    "monitor": Param("choice", "val_loss", choices=("val_loss", "val_accuracy", "loss")),
    "keep_best": flag(False, meaning="the result is the best epoch by monitor"),
    "label_smoothing": Param("float", 0.0, 0.0, 1.0, below=True, meaning="of losses on classes"),
    "compile": flag(False, meaning="torch.compile"),
    "sync_every": integer(1, 1_000_000, 100, meaning="local_sgd and diloco: steps between two exchanges"),
    "outer_lr": Param("float", 0.7, 0.0, 10.0, meaning="diloco: rate of the outer step"),
    "outer_momentum": Param("float", 0.9, 0.0, 1.0, below=True, meaning="diloco: its Nesterov momentum"),
    "l1": Param("float", 0.0, 0.0, 1e6, meaning="penalty l1 x sum |w|"),
    "l2": Param("float", 0.0, 0.0, 1e6, meaning="penalty l2 x sum w^2"),
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
    alpha: float = 0.99  # of RMSprop
    lr_decay: float = 0.0  # of Adagrad
    loss: Part | None = None
    validation_split: float = 0.2
    test_split: float = 0.0
    shuffle: bool = True
    precision: str = "float32"  # float32, bf16, fp16 or auto
    accumulate: int = 1  # batches between two optimizer steps
    clip_norm: float = 0.0  # 0: off
    clip_value: float = 0.0  # 0: off
    early_stopping: int = 0  # epochs of patience; 0: off
    early_stopping_min_delta: float = 0.0
    monitor: str = "val_loss"  # val_loss, val_accuracy or loss
    keep_best: bool = False
    class_weights: str | tuple[float, ...] = "none"  # none, balanced, or one weight per class
    label_smoothing: float = 0.0
    schedules: tuple[Part, ...] = ()
    compile: bool = False
    sync_every: int = 100  # steps between two exchanges of a gang that trains by local_sgd or diloco
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    l1: float = 0.0
    l2: float = 0.0
    export: tuple[str, ...] = ()  # of EXPORTS
    extra: Mapping[str, str] = field(default_factory=_empty_map)
    notes: tuple[str, ...] = ()


def parse_hyperparameters(given: Mapping[str, str], graph: Graph | None = None) -> Hyperparameters:
    """The hyperparameters of a job on this graph; CyxError INVALID naming key, value and bound."""
    stated: dict[str, ParamValue] = {}
    used = {"optimizer", "loss", "class_weights", "export", "schedule"}
    for key, param in KNOWN.items():
        for name in (key, *param.aliases):
            if name in given:
                stated.setdefault(key, param.read(name, given[name]))
                used.add(name)
    optimizer, merged = _optimizer(given, graph)
    loss = _loss(given, graph)
    schedules, of_schedule = _schedules(given, graph)
    used |= of_schedule
    numbers: dict[str, ParamValue] = {**_of_graph(graph), **merged, **stated}
    idle = [key for key in stated if key in _OF_OPTIMIZER and key not in catalogue.BY_NAME[optimizer].params]
    notes = [f"The hyperparameter {key} has no effect with {optimizer}" for key in idle]
    weights = _class_weights(given)
    notes += _idle_with_loss(loss, weights, stated)
    check_shares(numbers.get("validation_split", 0.2), numbers.get("test_split", 0.0))
    known: dict[str, object] = {key: _plain(key, value) for key, value in numbers.items()}
    return Hyperparameters(
        optimizer=optimizer,
        loss=loss,
        class_weights=weights,
        schedules=schedules,
        export=_export(given),
        extra=MappingProxyType({key: value for key, value in given.items() if key not in used}),
        notes=tuple(notes),
        **known,  # pyright: ignore[reportArgumentType] - every key is a field, read as its kind
    )


def check_hyperparameters(hyper: Hyperparameters, graph: Graph, uri: str) -> None:
    """Compares what is asked for with what is known of the data set by its URI alone.

    Raises:
        CyxError: INVALID for class weights that are not one a class; UNSUPPORTED for an export that can't hold the
            model.
    """
    data = known_shape(check_dataset_uri(uri))
    if data is None:
        return
    if isinstance(hyper.class_weights, tuple):
        check_class_weights(hyper.class_weights, data.classes)
    elif hyper.class_weights == "balanced":
        check_class_weights((), data.classes)
    if "onnx" in hyper.export:
        check_onnx_size(4 * cost(graph, features_of(data)).parameters)


def check_onnx_size(size: int) -> None:
    """CyxError UNSUPPORTED for more bytes of weights than a file of ONNX holds."""
    if size > MAX_ONNX_BYTES:
        raise unsupported(f"The model has {size} bytes of weights; an ONNX file holds {MAX_ONNX_BYTES}.", size=size)


def check_class_weights(stated: tuple[float, ...], classes: int | None) -> None:
    """CyxError INVALID unless there are classes, and as many as weights are stated."""
    if classes is None:
        raise invalid("class_weights: the data set has no classes; leave it out.", field="class_weights")
    if stated and len(stated) != classes:
        message = f"class_weights has {len(stated)} numbers, the dataset has {classes} classes."
        raise invalid(message, field="class_weights", expected=classes, got=len(stated))


def check_shares(validation: ParamValue, test: ParamValue) -> None:
    """CyxError INVALID when too little is left to train on."""
    assert isinstance(validation, int | float)
    assert isinstance(test, int | float)
    if validation + test > 0.9 + 1e-9:
        message = f"validation_split {validation:g} and test_split {test:g} must leave at least 0.1 to train on."
        raise invalid(message, field="test_split")


def _plain(key: str, value: ParamValue) -> ParamValue:
    if key in KNOWN and KNOWN[key].kind == "float":
        assert isinstance(value, int | float)
        return float(value)
    return value


def _of_graph(graph: Graph | None) -> dict[str, ParamValue]:
    found: dict[str, ParamValue] = {}
    if graph is None:
        return found
    if graph.validation_split is not None:
        found["validation_split"] = graph.validation_split
    if graph.test_split is not None:
        found["test_split"] = graph.test_split
    if graph.shuffle is not None:
        found["shuffle"] = graph.shuffle
    for part in graph.regularizers:
        for key, value in _penalties(part).items():
            before = found.get(key, 0.0)
            assert isinstance(before, int | float)
            found[key] = before + value
    return found


def _penalties(part: Part) -> dict[str, float]:
    """What a regulariser adds to the penalties `l1` and `l2`."""
    given = {name: value for name, value in part.params.items() if isinstance(value, int | float)}
    strength = given["lambda"]
    if part.type != "ElasticNet":
        return {"l1" if part.type == "L1Regularization" else "l2": strength}
    share = given["l1_ratio"]
    return {"l1": given.get("l1", strength * share), "l2": given.get("l2", strength * (1 - share))}


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


def _schedules(given: Mapping[str, str], graph: Graph | None) -> tuple[tuple[Part, ...], set[str]]:
    """The schedules to run, warm-up first, and the keys that were read: `schedule` names one or several, with commas,
    `none` turns the graph's off, and `schedule_NAME` is the parameter NAME of those that have it."""
    if "schedule" not in given:
        return tuple(sorted(graph.schedules if graph is not None else (), key=_follows)), set()
    found: list[Part] = []
    used: set[str] = set()
    for word in given["schedule"].split(","):
        if word.strip().lower() in ("none", ""):
            continue
        kind = catalogue.BY_NAME[_of_role("schedule", word, Role.SCHEDULE)]
        keys = {
            f"schedule_{name}": name for key, param in kind.params.items() for name in (key, *param.aliases)
        }  # fmt: skip
        stated = {name: given[key] for key, name in keys.items() if key in given}
        used |= {key for key in keys if key in given}
        params, _ = catalogue.read_params(kind, "schedule", stated)
        found.append(Part(kind.name, MappingProxyType(params)))
    names = [part.type for part in found]
    if len(set(names)) < len(names) or len(names) > 4:
        raise invalid(f"schedule is {values.quote(given['schedule'])}; name up to 4 different ones.", where="schedule")
    return tuple(sorted(found, key=_follows)), used


def _follows(part: Part) -> bool:
    return part.type != "WarmupScheduler"


def _class_weights(given: Mapping[str, str]) -> str | tuple[float, ...]:
    text = given.get("class_weights", "none")
    if text.strip().lower() in ("none", "balanced"):
        return text.strip().lower()
    read = values.numbers("class_weights", text)
    if min(read) < 0 or max(read) <= 0:
        raise invalid(
            f"class_weights is {values.quote(text)}; it must be none, balanced or numbers from 0, one above 0.",
            where="class_weights",
        )
    return read


def _export(given: Mapping[str, str]) -> tuple[str, ...]:
    words = [word for word in given.get("export", "").split(",") if word.strip()]
    read = [values.choice("export", word, EXPORTS) for word in words]
    return tuple(dict.fromkeys(read))


def _idle_with_loss(loss: Part | None, weights: object, stated: Mapping[str, object]) -> list[str]:
    notes: list[str] = []
    if loss is None:
        return notes
    if stated.get("label_smoothing") and loss.type not in CLASS_LOSSES:
        notes.append(f"The hyperparameter label_smoothing has no effect with {loss.type}")
    if weights != "none" and loss.type not in CLASS_LOSSES + PROBABILITY_LOSSES:
        notes.append(f"The hyperparameter class_weights has no effect with {loss.type}")
    return notes


def _of_role(key: str, value: object, role: Role) -> str:
    names = [node_type.name for node_type in catalogue.BY_NUMBER if node_type.role is role]
    found = catalogue.lookup(value) if isinstance(value, str) else None
    if found is None or found.role is not role:
        bound = f"one of {', '.join(names)}"
        raise invalid(
            f"{key} is {values.quote(value)}; it must be {bound}.", where=key, value=values.quote(value), bound=bound
        )
    return found.name
