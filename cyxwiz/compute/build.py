"""`build`: a checked `Graph` to a torch module, ready to train.

Weights are named `layer<i>.weight`, `layer<i>.bias`, where i counts the graph's layers from 0, so that a saved file and
its definition belong together. A Dense layer starts as in the earlier system (Xavier uniform, bias 0) and flattens an
input of several dimensions. A Softmax at the end is left out
before CrossEntropyLoss and NLLLoss, which take raw scores here (NLLLoss applies the logarithm of the softmax itself).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyxwiz.graph import Graph, Layer, Part, infer

if TYPE_CHECKING:
    from torch import Tensor, nn

_SOFTMAX_INSIDE = ("CrossEntropyLoss", "NLLLoss")
_SHAPELESS = ("Identity", "Output", "Flatten")


def build(graph: Graph, input_shape: tuple[int, ...], loss: str) -> nn.Module:
    """The module of this graph with fresh weights, drawn from torch's global generator."""
    from torch import nn

    shapes = dict.fromkeys(graph.inputs, input_shape) | infer(graph, input_shape)
    skipped = skipped_softmax(graph, loss)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for position, layer in enumerate(graph.layers):
        module = nn.Identity() if layer is skipped else _module(layer, shapes[layer.inputs[0]])
        modules[f"layer{position}"] = module
    if len(shapes[graph.last.id]) > 1:
        modules["scores"] = nn.Flatten()  # losses and predictions read one row per sample
    return nn.Sequential(modules)


def skipped_softmax(graph: Graph, loss: str) -> Layer | None:
    """The Softmax that is left out in training because the loss holds one; who predicts puts it back."""
    for layer in reversed(graph.layers):
        if layer.type not in _SHAPELESS:
            return layer if layer.type == "Softmax" and loss in _SOFTMAX_INSIDE else None
    return None


def loss_function(part: Part) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss as a function of outputs and targets; class indices for the two class losses, numbers for the rest."""
    from torch import nn
    from torch.nn import functional

    if part.type == "NLLLoss":
        return lambda outputs, labels: functional.nll_loss(functional.log_softmax(outputs, dim=1), labels)
    makers: dict[str, Callable[..., nn.Module]] = {
        "MSELoss": nn.MSELoss,
        "CrossEntropyLoss": nn.CrossEntropyLoss,
        "BCELoss": nn.BCELoss,
        "BCEWithLogits": nn.BCEWithLogitsLoss,
        "L1Loss": nn.L1Loss,
        "SmoothL1Loss": nn.SmoothL1Loss,
        "HuberLoss": nn.HuberLoss,
    }
    return makers[part.type](**part.params)


def _module(layer: Layer, given: tuple[int, ...]) -> nn.Module:
    from torch import nn

    if layer.type == "Dense":
        return _dense(math.prod(given), int(_number(layer, "units")), bool(layer.params["bias"]), len(given) > 1)
    makers: dict[str, Callable[[], nn.Module]] = {
        "Dropout": lambda: nn.Dropout(_number(layer, "rate")),
        "Flatten": nn.Flatten,
        "Identity": nn.Identity,
        "Output": nn.Identity,
        "ReLU": nn.ReLU,
        "LeakyReLU": lambda: nn.LeakyReLU(_number(layer, "negative_slope")),
        "PReLU": lambda: nn.PReLU(init=_number(layer, "init")),
        "ELU": lambda: nn.ELU(_number(layer, "alpha")),
        "SELU": nn.SELU,
        "GELU": nn.GELU,
        "Swish": nn.SiLU,
        "Mish": nn.Mish,
        "Sigmoid": nn.Sigmoid,
        "Tanh": nn.Tanh,
        "Softmax": lambda: nn.Softmax(dim=-1),
    }
    return makers[layer.type]()


def _dense(inputs: int, units: int, bias: bool, flatten: bool) -> nn.Module:
    from torch import nn

    class FlatLinear(nn.Linear):
        """A Linear that reads images: its weights keep the plain name, as a Sequential of two would not."""

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
            return super().forward(input.flatten(1))

    linear = (FlatLinear if flatten else nn.Linear)(inputs, units, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def _number(layer: Layer, name: str) -> float:
    value: Any = layer.params[name]
    return float(value)
