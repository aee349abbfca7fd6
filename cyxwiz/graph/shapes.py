"""Shapes, parameter counts and floating-point operations of a graph, from its input's shape.

Shapes leave out the batch. A Dense layer flattens an input of several dimensions first (28 x 28 is read as 784), so
that image data can be fed to an MLP as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cyxwiz.domain.errors import invalid
from cyxwiz.graph.ir import Graph, Layer
from cyxwiz.graph.values import MAX_ELEMENTS

MAX_PARAMETERS = 4_000_000_000

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Trainable parameters and the floating-point operations of one sample's forward pass (2 per multiply-add)."""

    parameters: int
    forward_flops: int


def infer(graph: Graph, input_shape: Shape) -> dict[str, Shape]:
    """The output shape of every layer by its id; CyxError INVALID where one cannot be."""
    known: dict[str, Shape] = dict.fromkeys(graph.inputs, input_shape)
    for layer in graph.layers:
        known[layer.id] = _output(layer, known[layer.inputs[0]])
    return {layer.id: known[layer.id] for layer in graph.layers}


def cost(graph: Graph, input_shape: Shape) -> Cost:
    """What the model weighs and what one sample costs; CyxError INVALID when it is too large for any node."""
    shapes = dict.fromkeys(graph.inputs, input_shape) | infer(graph, input_shape)
    parameters = flops = 0
    for layer in graph.layers:
        given, made = math.prod(shapes[layer.inputs[0]]), math.prod(shapes[layer.id])
        if layer.type == "Dense":
            parameters += given * made + (made if layer.params["bias"] else 0)
            flops += 2 * given * made
        elif layer.type == "PReLU":
            parameters += 1
            flops += made
        elif layer.type not in ("Flatten", "Identity", "Output"):
            flops += made
        if parameters > MAX_PARAMETERS:
            raise invalid(
                f"{layer.describe()}: {parameters} parameters up to here; at most {MAX_PARAMETERS} can run.",
                layer=layer.id,
                parameters=parameters,
            )
    return Cost(parameters, flops)


def _output(layer: Layer, given: Shape) -> Shape:
    if layer.type == "Dense":
        units = layer.params["units"]
        assert isinstance(units, int)
        return (units,)
    size = math.prod(given)
    if size > MAX_ELEMENTS:
        raise invalid(f"{layer.describe()}: {size} elements come in; at most {MAX_ELEMENTS} can run.", layer=layer.id)
    return (size,) if layer.type == "Flatten" else given
