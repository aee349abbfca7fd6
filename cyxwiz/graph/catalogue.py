"""The 85 node types of a model definition: number, name, role and parameters.

A type is found by number or by name, whatever the case and the separators (`leaky_relu`, `LeakyReLU`, `LEAKYRELU`), and
by the short names that people use (`linear`, `silu`, `mse`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import cast

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import parts, values
from cyxwiz.graph.layers import RULES
from cyxwiz.graph.params import Param, ParamValue


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
class NodeType:
    """A type of node. A layer's shapes and costs are in `layers.RULES` under the same name."""

    number: int
    name: str
    role: Role
    params: Mapping[str, Param]


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

_ALIASES = {
    "linear": "Dense", "fullyconnected": "Dense", "fc": "Dense", "silu": "Swish", "input": "DatasetInput",
    "dataset": "DatasetInput", "onehot": "OneHotEncode", "mse": "MSELoss", "crossentropy": "CrossEntropyLoss",
    "bce": "BCELoss", "bcewithlogitsloss": "BCEWithLogits", "l1": "L1Loss", "mae": "L1Loss",
    "smoothl1": "SmoothL1Loss", "huber": "HuberLoss", "nll": "NLLLoss", "conv": "Conv2D", "maxpool": "MaxPool2D",
    "avgpool": "AvgPool2D", "averagepool2d": "AvgPool2D", "maxpooling2d": "MaxPool2D",
    "averagepooling2d": "AvgPool2D", "globalaveragepool": "GlobalAvgPool", "globalaveragepooling2d": "GlobalAvgPool",
    "globalmaxpooling2d": "GlobalMaxPool", "adaptiveavgpool2d": "AdaptiveAvgPool", "batchnorm1d": "BatchNorm",
    "batchnorm2d": "BatchNorm", "batchnormalization": "BatchNorm", "layernormalization": "LayerNorm",
    "groupnormalization": "GroupNorm", "simplernn": "RNN", "concat": "Concatenate", "mul": "Multiply",
    "attention": "SelfAttention", "crossattn": "CrossAttention", "cosine": "CosineAnnealing",
    "cosineannealinglr": "CosineAnnealing", "reducelronplateau": "ReduceOnPlateau", "plateau": "ReduceOnPlateau",
    "step": "StepLR", "exponential": "ExponentialLR", "warmup": "WarmupScheduler", "augment": "Augmentation",
    "const": "Constant", "transpose": "Permute",
}  # fmt: skip

_ROLES = {
    Role.LOSS: range(51, 59),
    Role.OPTIMIZER: range(59, 65),
    Role.SCHEDULE: range(65, 70),
    Role.REGULARIZATION: range(70, 73),
    Role.DATA: range(77, 84),
    Role.OTHER: range(84, 85),
}


def _role(number: int) -> Role:
    return next((role for role, numbers in _ROLES.items() if number in numbers), Role.LAYER)


def _params(name: str) -> Mapping[str, Param]:
    return MappingProxyType(dict(RULES[name].params if name in RULES else parts.PARAMS.get(name, {})))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


BY_NUMBER: tuple[NodeType, ...] = tuple(
    NodeType(number, name, _role(number), _params(name)) for number, name in enumerate(_NAMES)
)
BY_NAME: Mapping[str, NodeType] = MappingProxyType({node_type.name: node_type for node_type in BY_NUMBER})
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
    """The parameters of one node, defaults filled in, and the names given that have no effect on this type.

    A wrapper's `layer` may be the name of a type, with that type's parameters beside it, or an object with `type` and
    parameters.
    """
    given, table = dict(given), dict(node_type.params)
    params: dict[str, ParamValue] = {}
    used: set[str] = set()
    if "layer" in table:
        inner = _inner(table.pop("layer"), where, given)
        params["layer"] = inner.name
        table |= inner.params
    for name, param in table.items():
        stated = [key for key in (name, *param.aliases) if key in given]
        used.update(stated)
        if stated:
            params[name] = param.read(f"{where}: {stated[0]}", given[stated[0]])
        elif param.required:
            raise invalid(f"{where} needs the parameter {name}: {param.bound()}.", where=where, parameter=name)
        elif param.default is not None and node_type.role is not Role.OPTIMIZER:
            params[name] = param.default
    return params, [key for key in given if key not in used]


def _inner(param: Param, where: str, given: dict[str, object]) -> NodeType:
    """The type of a wrapper's inner layer; its parameters are laid beside the wrapper's in `given`."""
    stated = [key for key in ("layer", *param.aliases) if key in given]
    value = given[stated[0]] if stated else param.default
    for key in stated:
        del given[key]
    if value is None:
        raise invalid(f"{where} needs the parameter layer: the type of the inner layer.", where=where)
    if isinstance(value, dict):
        described = cast("dict[str, object]", value)
        nested = described.get("parameters", described.get("params"))
        beside = cast("dict[str, object]", nested) if isinstance(nested, dict) else {}
        flat = {key: item for key, item in described.items() if key not in ("type", "parameters", "params")}
        given |= {**flat, **beside}
        value = described.get("type")
    inner = find_type(value, f"{where}: layer")
    if inner.name not in param.choices:
        raise invalid(
            f"{where}: layer is {inner.name}; it must be one of {', '.join(param.choices)}.",
            where=where,
            got=inner.name,
        )
    return inner
