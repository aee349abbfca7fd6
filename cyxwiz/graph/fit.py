"""Whether a model can learn a data set: shapes, loss and targets together, without touching any data.

`check_model_fits` compares a graph with what is known of the set by its URI alone; `check_fits` with what was read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import values
from cyxwiz.graph.dataset_uri import DataShape, check_dataset_uri, known_shape
from cyxwiz.graph.ir import Graph, Layer, Part
from cyxwiz.graph.rule import Shape, show
from cyxwiz.graph.shapes import Features, cost, sites, total

CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")
PROBABILITY_LOSSES = ("BCELoss", "BCEWithLogits")
PICTURE_CHANGES = ("horizontal_flip", "vertical_flip", "rotate90", "crop_padding", "cutout")  # of an Augmentation
SHAPELESS = ("Identity", "Output", "Flatten")
_MOVES = (*SHAPELESS, "Reshape", "View", "TensorReshape", "Permute", "Squeeze", "Unsqueeze", "Split", "Concatenate")


def default_loss(classes: int | None) -> str:
    return "MSELoss" if classes is None else "CrossEntropyLoss"


def labels_for(loss: str) -> str:
    """How a loss reads whole labels: as "classes", as "numbers" where they can't be classes, or by itself in no way,
    where none is named."""
    return "" if not loss else "classes" if loss in CLASS_LOSSES + PROBABILITY_LOSSES else "numbers"


def reads_numbers(loss: str, data: DataShape, made: Shape) -> bool:
    """Whether the model predicts the classes' numbers: one output by a loss on numbers can't tell kinds apart. Two
    classes stay, as one output does for them."""
    more = data.classes is not None and data.classes > 2 and not data.nominal and not data.label_shape
    return more and labels_for(loss) == "numbers" and math.prod(made) == 1


def features_of(data: DataShape) -> Features:
    """What the model may read of a data set: its features alone, or its arrays by name with the features as `x`."""
    return {**data.fields, "x": data.features} if data.fields else data.features


def final_layer(graph: Graph) -> Layer | None:
    """The layer that computes the output: the last one that does more than pass it on. None if there is none."""
    by_id = {layer.id: layer for layer in graph.layers}
    layer: Layer | None = graph.last
    while layer is not None and layer.type in SHAPELESS:
        layer = by_id.get(layer.inputs[0])
    return layer


def skipped_softmax(graph: Graph, features: Features, loss: str) -> Layer | None:
    """The Softmax over the last axis that is left out in training because the loss holds one; who predicts puts it
    back."""
    layer = final_layer(graph)
    if layer is None or loss not in CLASS_LOSSES or layer.type != "Softmax":
        return None
    site = next(site for site, _ in sites(graph, features) if site.id == layer.id)
    rank = len(site.given)
    if site.axis("axis", rank) != rank - 1:
        return None
    return layer if sum(layer.id in other.inputs for other in graph.layers) <= 1 else None


def check_model_fits(graph: Graph, uri: str, loss: str | None = None) -> None:
    """CyxError INVALID naming the layer, what was expected and what it has, when the model cannot learn that dataset.

    `loss` is the catalogue name that the job asks for; by default the graph's own, else the dataset's usual one.
    """
    data = known_shape(check_dataset_uri(uri))
    if data is not None:
        check_fits(graph, data, f"the dataset {values.quote(uri)}", loss)
    elif graph.input_shape is not None and graph.sources[0].columns is None:
        cost(graph, _alone(graph, graph.input_shape))


def _alone(graph: Graph, shape: Shape) -> Features:
    field = graph.sources[0].field
    return shape if field is None else {field: shape}


def check_fits(graph: Graph, data: DataShape, shown: str, loss: str | None = None) -> None:
    """The same check against a dataset that is known by its shape; `shown` names it in the message."""
    shown = shown if shown.startswith("the ") else f"the dataset {shown}"
    chosen = loss or (graph.loss.type if graph.loss is not None else default_loss(data.classes))
    found = sites(graph, features_of(data), shown)
    if reads_numbers(chosen, data, found[-1][1]):
        data = replace(data, classes=None)
    if total(found).parameters == 0:
        raise invalid(f"{graph.last.describe()}: no layer of the model has weights to train; add a Dense layer.")
    if graph.augment is not None:
        check_augmentation(graph.augment, augmented_shape(graph, data.features))
    if data.standardized and graph.normalize is None:
        _check_embeddings(graph, shown)
    losses = [chosen]
    if graph.loss is not None and graph.loss.type == chosen:
        losses += [part.type for part in graph.loss.also]
    _check_losses(graph, data, losses, shown)
    _check_width(graph, data, chosen, shown, found[-1][1])


def augmented_shape(graph: Graph, sample: Shape) -> Shape:
    """What the Augmentation takes a sample for: the shape that the only DatasetInput gives all of its features, else
    the data set's own."""
    stated = graph.input_shape
    whole = graph.sources[0].columns is None and graph.sources[0].field is None
    return stated if stated is not None and whole and math.prod(stated) == math.prod(sample) else sample


def check_augmentation(part: Part, shape: Shape) -> None:
    """CyxError INVALID for a change of pictures on samples that are none."""
    asked = [name for name in PICTURE_CHANGES if part.params.get(name)]
    if asked and len(shape) not in (2, 3):
        raise invalid(
            f"Augmentation: {', '.join(asked)} needs samples of (H, W) or (H, W, C), got {shape}; state input_shape.",
            expected="(H, W) or (H, W, C)",
            got=list(shape),
        )


def _check_embeddings(graph: Graph, shown: str) -> None:
    """No Embedding reads columns that are standardized, which are no whole numbers any more."""
    scaled = {source.id for source in graph.sources if source.field in (None, "x")}
    for layer in graph.layers:
        if layer.type in _MOVES and scaled.intersection(layer.inputs):
            scaled.add(layer.id)
        if layer.type == "Embedding" and scaled.intersection(layer.inputs):
            raise invalid(
                f"{layer.describe()} reads whole numbers; the columns of {shown} are standardized to mean 0 and "
                "deviation 1. Add a Normalize node with mean 0 and std 1, which leaves them as they are.",
                layer=layer.id,
            )


def _check_losses(graph: Graph, data: DataShape, losses: Sequence[str], shown: str) -> None:
    for loss in losses:
        if data.classes is None and loss in CLASS_LOSSES + PROBABILITY_LOSSES:
            raise invalid(f"The loss {loss} needs classes, {shown} has numbers to predict; use MSELoss.", loss=loss)
        if data.label_shape and loss not in CLASS_LOSSES:
            raise invalid(
                f"The loss {loss} cannot compare a class for every step, as {shown} has; use CrossEntropyLoss.",
                loss=loss,
            )
        final = final_layer(graph)
        if loss == "BCELoss" and (final is None or final.type not in ("Sigmoid", "Softmax")):
            raise invalid(
                f"{graph.last.describe()}: BCELoss needs a Sigmoid as last layer; add one, or use BCEWithLogits.",
                layer=graph.last.id,
                loss=loss,
            )


def _check_width(graph: Graph, data: DataShape, loss: str, shown: str, made: Shape) -> None:
    """The output against the targets. A class for every step needs (T, classes), whose last axis the loss reads."""
    width = made[-1] if data.label_shape else math.prod(made)
    if data.label_shape and made[:-1] != data.label_shape:
        expected = f"({', '.join(map(str, data.label_shape))}, classes)"
        raise invalid(
            f"{graph.last.describe()} gives {show(made)}, {shown} has a class for every step: expected {expected}.",
            layer=graph.last.id,
            expected=expected,
            got=show(made),
        )
    if data.classes is None:
        expected, fits = f"{data.targets}", width == data.targets
    elif loss not in CLASS_LOSSES and data.classes <= 2:
        expected, fits = "1, or at least 2", width >= 1
    else:
        expected, fits = f"at least {data.classes}", width >= data.classes
    if fits and graph.one_hot is not None and data.classes is not None and graph.one_hot < data.classes:
        raise invalid(
            f"OneHotEncode has num_classes {graph.one_hot}, {shown} has {data.classes} classes.",
            expected=data.classes,
            got=graph.one_hot,
        )
    if not fits:
        hint = " Name a loss such as MSELoss to predict numbers." if width == 1 and loss in CLASS_LOSSES else ""
        raise invalid(
            f"{graph.last.describe()} has {width} outputs, {shown} needs {expected} with {loss}.{hint}",
            layer=graph.last.id,
            expected=expected,
            got=width,
        )
