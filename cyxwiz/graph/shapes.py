"""Shapes, parameter counts and floating-point operations of a graph, from the features that it is fed.

Shapes leave out the batch. Features are one shape, or one for every named array of the data set (`x` is the features
themselves).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cyxwiz.domain.errors import invalid
from cyxwiz.graph.ir import Graph, Layer, Source
from cyxwiz.graph.layers import RULES
from cyxwiz.graph.rule import Cost, Shape, Site, show
from cyxwiz.graph.values import MAX_ELEMENTS, MAX_RANK

MAX_PARAMETERS = 4_000_000_000

Features = Shape | Mapping[str, Shape]


def entry_shapes(graph: Graph, features: Features, shown: str = "the data") -> dict[str, Shape]:
    """The shape of every entry of the model by its id; CyxError INVALID where the features don't fit it."""
    return {source.id: _entry(source, features, shown) for source in graph.sources}


def _entry(source: Source, features: Features, shown: str) -> Shape:
    arrays = features if isinstance(features, Mapping) else {"x": features}
    if (source.field or "x") not in arrays:
        raise invalid(
            f"The model's input {source.id} reads the array {source.field or 'x'}; {shown} has {', '.join(arrays)}.",
            layer=source.id,
            expected=source.field or "x",
            got=list(arrays),
        )
    shape = arrays[source.field or "x"]
    if source.columns is not None:
        start, end = source.columns
        if end > math.prod(shape):
            raise invalid(
                f"The model's input {source.id} reads columns {start}:{end}; {shown} has {math.prod(shape)} features.",
                layer=source.id,
                expected=end,
                got=math.prod(shape),
            )
        shape = (end - start,)
    if source.shape is None:
        return shape or (1,)
    if math.prod(source.shape) != math.prod(shape):
        raise invalid(
            f"The model's input {source.id} has {_times(source.shape)} features, {shown} has {_times(shape)}.",
            layer=source.id,
            expected=math.prod(source.shape),
            got=math.prod(shape),
        )
    return source.shape


def sites(graph: Graph, features: Features, shown: str = "the data") -> list[tuple[Site, Shape]]:
    """Every layer, in order, with the shapes that come in and the one that goes out; CyxError INVALID naming the first
    layer that does not fit."""
    known = entry_shapes(graph, features, shown)
    found: list[tuple[Site, Shape]] = []
    for layer in graph.layers:
        site = Site(layer.id, layer.type, layer.params, tuple(known[name] for name in layer.inputs))
        made = RULES[layer.type].shape(site)
        _check_size(layer, made)
        known[layer.id] = made
        found.append((site, made))
    return found


def _check_size(layer: Layer, made: Shape) -> None:
    size = math.prod(made)
    if size > MAX_ELEMENTS or len(made) > MAX_RANK:
        raise invalid(
            f"{layer.describe()}: {show(made)} comes out; at most {MAX_ELEMENTS} elements in {MAX_RANK} axes can run.",
            layer=layer.id,
            got=show(made),
        )


def infer(graph: Graph, features: Features) -> dict[str, Shape]:
    """The output shape of every layer by its id; CyxError INVALID where one cannot be."""
    return {site.id: made for site, made in sites(graph, features)}


def cost(graph: Graph, features: Features) -> Cost:
    """What the model weighs and what one sample costs; CyxError INVALID when it is too large for any node."""
    return total(sites(graph, features))


def total(found: list[tuple[Site, Shape]]) -> Cost:
    parameters = flops = 0
    for site, made in found:
        one = RULES[site.type].cost(site, made)
        parameters += one.parameters
        flops += one.forward_flops
        if parameters > MAX_PARAMETERS:
            raise invalid(
                f"layer {site.id} ({site.type}): {parameters} parameters up to here; at most {MAX_PARAMETERS} can run.",
                layer=site.id,
                parameters=parameters,
            )
    return Cost(parameters, flops)


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))
