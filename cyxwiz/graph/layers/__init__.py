"""The rules of every type of layer, by family: parameters, output shape, cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cyxwiz.graph.layers import activation, attention, convolution, dense, merge, norm, recurrent, reshape, wrapper
from cyxwiz.graph.rule import Rule

_SINGLE = (
    dense.RULES
    | convolution.RULES
    | norm.RULES
    | recurrent.RULES
    | attention.RULES
    | activation.RULES
    | reshape.RULES
    | merge.RULES
)
RULES: Mapping[str, Rule] = MappingProxyType(_SINGLE | wrapper.rules(_SINGLE))
