"""Activations, element by element except for Softmax."""

from __future__ import annotations

import math

from cyxwiz.graph.layers.dense import elementwise, same
from cyxwiz.graph.params import Param, axis
from cyxwiz.graph.rule import Cost, Rule, Shape, Site

_SLOPE = Param("float", 0.01, -1e3, 1e3, aliases=("slope", "alpha"))


def _softmax(site: Site) -> Shape:
    site.axis("axis", len(site.given))
    return site.given


def _prelu_cost(site: Site, made: Shape) -> Cost:
    return Cost(1, math.prod(made))


RULES: dict[str, Rule] = {
    **{
        name: Rule("any", "the same", same, elementwise)
        for name in ("ReLU", "SELU", "GELU", "Swish", "Mish", "Sigmoid", "Tanh")
    },
    "LeakyReLU": Rule("any", "the same", same, elementwise, {"negative_slope": _SLOPE}),
    "PReLU": Rule("any", "the same", same, _prelu_cost, {"init": Param("float", 0.25, -1e3, 1e3)}),
    "ELU": Rule("any", "the same", same, elementwise, {"alpha": Param("float", 1.0, -1e3, 1e3)}),
    "Softmax": Rule("any", "the same", _softmax, elementwise, {"axis": axis(-1)}),
}
