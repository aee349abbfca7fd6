"""The 85 node types of a model definition: number, name, role and, for the types that can be run, their parameters.

A type is found by number or by name, whatever the case and the separators (`leaky_relu`, `LeakyReLU`, `LEAKYRELU`), and
by the short names that people use (`linear`, `silu`, `mse`). Parameters are listed for supported types only: a node of
any other type is refused before its parameters are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import values

ParamValue = int | float | bool | tuple[int, ...]


class Role(StrEnum):
    """What part of training a node describes."""

    LAYER = "layer"
    DATA = "data"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    REGULARIZATION = "regularization"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: how it is read, its bounds, and its value when the node does not state it (None: left out)."""

    kind: str  # "int", "float", "bool", "shape"
    default: ParamValue | None = None
    low: float = 0
    high: float = 0
    above: bool = False  # low itself is refused
    below: bool = False  # high itself is refused
    aliases: tuple[str, ...] = ()

    def read(self, where: str, value: object) -> ParamValue:
        if self.kind == "int":
            return values.integer(where, value, int(self.low), int(self.high))
        if self.kind == "float":
            return values.decimal(where, value, self.low, self.high, above=self.above, below=self.below)
        return values.flag(where, value) if self.kind == "bool" else values.shape(where, value)


@dataclass(frozen=True, slots=True)
class NodeType:
    number: int
    name: str
    role: Role
    supported: bool
    params: Mapping[str, Param]


MAX_UNITS = 1_048_576
MAX_BATCH = 1_048_576

_NAMES_IN_ORDER = (
    "Dense Conv1D Conv2D Conv3D DepthwiseConv2D MaxPool2D AvgPool2D GlobalMaxPool GlobalAvgPool AdaptiveAvgPool "
    "BatchNorm LayerNorm GroupNorm InstanceNorm Dropout Flatten RNN LSTM GRU Bidirectional TimeDistributed Embedding "
    "MultiHeadAttention SelfAttention CrossAttention LinearAttention TransformerEncoder TransformerDecoder "
    "PositionalEncoding ReLU LeakyReLU PReLU ELU SELU GELU Swish Mish Sigmoid Tanh Softmax "
    "Reshape Permute Squeeze Unsqueeze View Split Concatenate Add Multiply Average Output "
    "MSELoss CrossEntropyLoss BCELoss BCEWithLogits L1Loss SmoothL1Loss HuberLoss NLLLoss "
    "SGD Adam AdamW RMSprop Adagrad NAdam StepLR CosineAnnealing ReduceOnPlateau ExponentialLR WarmupScheduler "
    "L1Regularization L2Regularization ElasticNet Lambda Identity Constant Parameter "
    "DatasetInput DataLoader Augmentation DataSplit TensorReshape Normalize OneHotEncode Subgraph"
)
_NAMES = _NAMES_IN_ORDER.split()

LEARNING_RATE = Param("float", 0.001, 0.0, 1e3, above=True, aliases=("lr",))
WEIGHT_DECAY = Param("float", 0.0, 0.0, 1e3, aliases=("l2",))
MOMENTUM = Param("float", 0.0, 0.0, 1.0, below=True)
BETA1 = Param("float", 0.9, 0.0, 1.0, below=True)
BETA2 = Param("float", 0.999, 0.0, 1.0, below=True)
EPS = Param("float", 1e-8, 0.0, 1.0, above=True, aliases=("epsilon",))
VALIDATION_SPLIT = Param("float", 0.2, 0.0, 0.9, aliases=("val_split", "validation_fraction"))
SHUFFLE = Param("bool", True)

_STEP: dict[str, Param] = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
_MOMENTS: dict[str, Param] = {**_STEP, "beta1": BETA1, "beta2": BETA2, "eps": EPS}
_SLOPE = Param("float", 0.01, -1e3, 1e3, aliases=("slope", "alpha"))

# A parameter without a default here is left out when the node does not state it, so that the job's own
# hyperparameters and the optimizer's defaults can fill it in.
_PARAMS: dict[str, dict[str, Param]] = {
    "Dense": {
        "units": Param("int", 128, 1, MAX_UNITS, aliases=("out_features", "output_size", "size")),
        "bias": Param("bool", True, aliases=("use_bias",)),
    },
    "Dropout": {"rate": Param("float", 0.5, 0.0, 1.0, below=True, aliases=("p", "dropout", "probability"))},
    "LeakyReLU": {"negative_slope": _SLOPE},
    "PReLU": {"init": Param("float", 0.25, -1e3, 1e3)},
    "ELU": {"alpha": Param("float", 1.0, -1e3, 1e3)},
    "HuberLoss": {"delta": Param("float", 1.0, 0.0, 1e6, above=True)},
    "SmoothL1Loss": {"beta": Param("float", 1.0, 0.0, 1e6, above=True)},
    "SGD": {**_STEP, "momentum": MOMENTUM},
    "Adam": _MOMENTS,
    "AdamW": _MOMENTS,
    "RMSprop": {**_STEP, "momentum": MOMENTUM, "eps": EPS},
    "Adagrad": {**_STEP, "eps": EPS},
    "NAdam": _MOMENTS,
    "DatasetInput": {"input_shape": Param("shape", aliases=("shape",))},
    "DataLoader": {"batch_size": Param("int", None, 1, MAX_BATCH), "shuffle": Param("bool")},
    "DataSplit": {
        "train_ratio": Param("float", 0.8, 0.0, 1.0, above=True, aliases=("train", "train_split")),
        "val_ratio": Param("float", None, 0.0, 1.0, aliases=("val", "val_split")),
        "test_ratio": Param("float", None, 0.0, 1.0, aliases=("test", "test_split")),
    },
    "Normalize": {"mean": Param("float", 0.0, -1e9, 1e9), "std": Param("float", 1.0, 0.0, 1e9, above=True)},
    "OneHotEncode": {"num_classes": Param("int", None, 1, MAX_UNITS, aliases=("classes",))},
}

_SUPPORTED_NAMES = (
    "Dense Dropout Flatten Identity Output ReLU LeakyReLU PReLU ELU SELU GELU Swish Mish Sigmoid Tanh Softmax "
    "MSELoss CrossEntropyLoss BCELoss BCEWithLogits L1Loss SmoothL1Loss HuberLoss NLLLoss "
    "SGD Adam AdamW RMSprop Adagrad NAdam DatasetInput DataLoader DataSplit Normalize OneHotEncode"
)
_SUPPORTED = frozenset(_SUPPORTED_NAMES.split())

_ALIASES = {
    "linear": "Dense", "fullyconnected": "Dense", "fc": "Dense", "silu": "Swish", "input": "DatasetInput",
    "dataset": "DatasetInput", "onehot": "OneHotEncode", "mse": "MSELoss", "crossentropy": "CrossEntropyLoss",
    "bce": "BCELoss", "bcewithlogitsloss": "BCEWithLogits", "l1": "L1Loss", "mae": "L1Loss",
    "smoothl1": "SmoothL1Loss", "huber": "HuberLoss", "nll": "NLLLoss",
}  # fmt: skip


def _role(number: int) -> Role:
    if 51 <= number <= 58:
        return Role.LOSS
    if 59 <= number <= 64:
        return Role.OPTIMIZER
    if 65 <= number <= 69:
        return Role.SCHEDULE
    if 70 <= number <= 72:
        return Role.REGULARIZATION
    if number in (77, 78, 79, 80, 82, 83):
        return Role.DATA
    return Role.OTHER if number in (75, 76, 84) else Role.LAYER


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


BY_NUMBER: tuple[NodeType, ...] = tuple(
    NodeType(number, name, _role(number), name in _SUPPORTED, MappingProxyType(_PARAMS.get(name, {})))
    for number, name in enumerate(_NAMES)
)
BY_NAME: Mapping[str, NodeType] = MappingProxyType({node_type.name: node_type for node_type in BY_NUMBER})
SUPPORTED: tuple[str, ...] = tuple(node_type.name for node_type in BY_NUMBER if node_type.supported)
ACTIVATIONS: frozenset[str] = frozenset(node_type.name for node_type in BY_NUMBER[29:40])

_BY_KEY = {_key(name): node_type for name, node_type in BY_NAME.items()} | {
    alias: BY_NAME[name] for alias, name in _ALIASES.items()
}


def lookup(name: str) -> NodeType | None:
    """The type of that name, however written; None when there is none."""
    return _BY_KEY.get(_key(name[:100]))


def find_type(value: object, where: str = "type") -> NodeType:
    """The type with that number or name; CyxError INVALID when there is none."""
    if isinstance(value, str) and not value.strip().isdigit():
        found = lookup(value)
        if found is None:
            raise invalid(
                f"{where}: there is no layer type {values.quote(value)}. Known: {', '.join(_NAMES)}.",
                where=where,
                value=values.quote(value),
            )
        return found
    return BY_NUMBER[values.integer(f"{where}: type", value, 0, len(BY_NUMBER) - 1)]


def read_params(
    node_type: NodeType, where: str, given: Mapping[str, object]
) -> tuple[dict[str, ParamValue], list[str]]:
    """The parameters of one node, defaults filled in, and the names given that have no effect on this type."""
    params: dict[str, ParamValue] = {}
    used: set[str] = set()
    for name, param in node_type.params.items():
        stated = [key for key in (name, *param.aliases) if key in given]
        used.update(stated)
        if stated:
            params[name] = param.read(f"{where}: {stated[0]}", given[stated[0]])
        elif param.default is not None and node_type.role is not Role.OPTIMIZER:
            params[name] = param.default
    return params, [key for key in given if key not in used]
