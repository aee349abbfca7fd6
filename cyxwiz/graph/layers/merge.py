"""Layers that join several inputs, in the order of their pins."""

from __future__ import annotations

import math

from cyxwiz.graph.layers.dense import free
from cyxwiz.graph.params import axis
from cyxwiz.graph.rule import Cost, Rule, Shape, Site

MAX_INPUTS = 4096


def _joined(site: Site) -> Shape:
    first = site.given
    place = site.axis("axis", len(first))
    for shape in site.inputs[1:]:
        if len(shape) != len(first) or shape[:place] + shape[place + 1 :] != first[:place] + first[place + 1 :]:
            raise site.refuse(f"inputs like {first} in all axes but {place}", shape)
    total = sum(shape[place] for shape in site.inputs)
    return (*first[:place], total, *first[place + 1 :])


def _combined(site: Site) -> Shape:
    """Sizes must be equal or 1, from the last axis on: (H, W, C) goes with (C,) and with (H, W, 1)."""
    rank = max(len(shape) for shape in site.inputs)
    made = [1] * rank
    for shape in site.inputs:
        for place, size in enumerate((1,) * (rank - len(shape)) + shape):
            if size not in (1, made[place]) and made[place] != 1:
                raise site.refuse(f"inputs whose sizes are equal or 1, like {site.given}", shape)
            made[place] = max(made[place], size)
    return tuple(made)


def _combined_cost(site: Site, made: Shape) -> Cost:
    return Cost(0, len(site.inputs) * math.prod(made))


_COMBINE = Rule(
    "inputs of one shape, or with sizes of 1", "their common shape", _combined, _combined_cost, inputs=(2, MAX_INPUTS)
)

RULES: dict[str, Rule] = {
    "Concatenate": Rule(
        "inputs equal but for one axis", "joined along axis", _joined, free, {"axis": axis(-1)}, (2, MAX_INPUTS)
    ),
    "Add": _COMBINE,
    "Multiply": _COMBINE,
    "Average": _COMBINE,
}
