"""`build`: a checked `Graph` to a torch module, ready to train.

Weights are named `layer<i>.weight`, `layer<i>.bias`, where i counts the graph's layers from 0, so that a saved file and
its definition belong together. A Softmax at the end is left out before CrossEntropyLoss and NLLLoss, which take raw
scores here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyxwiz.graph import Features, Graph, Shape, entry_shapes, sites, skipped_softmax

if TYPE_CHECKING:
    from torch import nn


def build(graph: Graph, features: Features, loss: str, label_shape: Shape = ()) -> nn.Module:
    """The module of this graph with fresh weights, drawn from torch's global generator.

    Args:
        features: the shape of a sample's features, or of each of its arrays by name.
        loss: the catalogue name of the loss that reads the output; empty for a model that is only asked.
        label_shape: that of one sample's classes. Without one the output is one row per sample, as losses and
            predictions read it.
    """
    from torch import nn

    from cyxwiz.compute.layers import BUILDERS
    from cyxwiz.compute.model import Entry, Model, Step

    skipped = skipped_softmax(graph, features, loss)
    shapes = entry_shapes(graph, features)
    entries = [Entry(source, shapes[source.id]) for source in graph.sources]
    number = {source.id: position for position, source in enumerate(graph.sources)}
    found = sites(graph, features)
    last_read = {name: place for place, layer in enumerate(graph.layers) for name in layer.inputs}
    modules: dict[str, nn.Module] = {}
    steps: list[Step] = []
    for place, (layer, (site, made)) in enumerate(zip(graph.layers, found, strict=True)):
        left_out = skipped is not None and layer.id == skipped.id
        modules[f"layer{place}"] = nn.Identity() if left_out else BUILDERS[layer.type](site, made)
        reads = tuple(number[name] for name in layer.inputs)
        done = {number[name] for name in layer.inputs if last_read[name] == place}
        steps.append(Step(f"layer{place}", reads, tuple(done)))
        number[layer.id] = len(graph.sources) + place
    if len(found[-1][1]) > 1 and not label_shape:
        modules["scores"] = nn.Flatten()
        steps.append(Step("scores", (number[graph.last.id],), ()))
    return Model(entries, modules, steps)
