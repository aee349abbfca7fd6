"""Normalisations. The last axis holds the channels."""

from __future__ import annotations

import math

from cyxwiz.graph.layers.dense import MAX_UNITS, same
from cyxwiz.graph.params import Param, flag, integer
from cyxwiz.graph.rule import Cost, Rule, Shape, Site


def groups(site: Site) -> int:
    """The groups of a GroupNorm: as stated, else the most that divide the channels, up to 32 (Wu and He 2018)."""
    return site.integer("num_groups") if "num_groups" in site.params else math.gcd(site.given[-1], 32)


def _grouped(site: Site) -> Shape:
    if site.given[-1] % groups(site):
        raise site.refuse(f"channels that {groups(site)} groups divide", site.given)
    if math.prod(site.given) == groups(site):
        raise site.refuse("more than one number in every group", site.given)
    return site.given


def _instance(site: Site) -> Shape:
    if len(site.given) < 2 or math.prod(site.given[:-1]) < 2:
        raise site.refuse("several places per channel, such as (H, W, C)", site.given)
    return site.given


def normalized(site: Site) -> Shape:
    """The trailing axes that a LayerNorm takes together."""
    return site.whole("normalized_shape") if "normalized_shape" in site.params else site.given[-1:]


def _layer(site: Site) -> Shape:
    shape = normalized(site)
    if site.given[-len(shape) :] != shape:
        raise site.refuse(f"a sample that ends in {shape}", site.given)
    return site.given


def _channel_cost(site: Site, made: Shape) -> Cost:
    return Cost(2 * made[-1] if site.flag("affine") else 0, 5 * math.prod(made))


def _layer_cost(site: Site, made: Shape) -> Cost:
    return Cost(2 * math.prod(normalized(site)) if site.flag("affine") else 0, 5 * math.prod(made))


_EPS = Param("float", 1e-5, 0.0, 1.0, above=True, aliases=("epsilon",))


def _affine(default: bool) -> Param:
    return flag(default, "elementwise_affine", meaning="learns a scale and a shift")


RULES: dict[str, Rule] = {
    "BatchNorm": Rule(
        "(…, C)", "the same", same, _channel_cost,
        {
            "eps": _EPS,
            "momentum": Param("float", 0.1, 0.0, 1.0, meaning="share of the new batch in the running statistics"),
            "affine": _affine(True),
        },
    ),
    "LayerNorm": Rule(
        "any", "the same", _layer, _layer_cost,
        {"normalized_shape": Param("shape", meaning="by default the last axis"), "eps": _EPS, "affine": _affine(True)},
    ),
    "GroupNorm": Rule(
        "(…, C)", "the same", _grouped, _channel_cost,
        {
            "num_groups": integer(1, MAX_UNITS, None, "groups", meaning="by default gcd(C, 32)"),
            "eps": _EPS,
            "affine": _affine(True),
        },
    ),
    "InstanceNorm": Rule(
        "(…, C) with several places", "the same", _instance, _channel_cost, {"eps": _EPS, "affine": _affine(False)}
    ),
}  # fmt: skip
