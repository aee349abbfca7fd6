"""A data set as tensors on a device, split into what is trained on and what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.graph import Graph

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")


@dataclass(slots=True)
class Samples:
    """What goes in, what the loss compares with, and what accuracy compares with (None for a regression).

    `x` is one tensor, or several by name for a data set of several arrays.
    """

    x: Tensor | dict[str, Tensor]
    y: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> Tensor | dict[str, Tensor]:
        if isinstance(self.x, dict):
            return {name: value.index_select(0, index) for name, value in self.x.items()}
        return self.x.index_select(0, index)

    def example(self, count: int) -> Tensor | dict[str, Tensor]:
        """Inputs of a batch of that size, whatever they hold."""
        import torch

        return self.take(torch.arange(min(count, len(self)), device=self.y.device))


def split(
    dataset: Dataset, graph: Graph, share: float, loss: str, outputs: tuple[int, ...], seed: int, device: torch.device
) -> tuple[Samples, Samples, dict[str, object]]:
    """(train, held out, what was done to the features). `share` of every class is held out, drawn by the seed."""
    import torch

    x, labels = torch.from_numpy(dataset.features), torch.from_numpy(dataset.labels)
    kept, held_out = draw(_groups(dataset), share, seed)
    x, scaling = _scale(x, kept, graph, dataset.standardize)
    scaling["divisor"] = dataset.divisor
    y = targets_of(labels, dataset.classes, loss, math.prod(outputs))
    arrays = {name: torch.from_numpy(array) for name, array in dataset.fields.items()}

    def part(index: Tensor) -> Samples:
        shown = labels[index].to(device) if dataset.classes is not None else None
        return Samples(_on(device, x, arrays, index), y[index].to(device), shown)

    return part(kept), part(held_out), scaling


def held_out_rows(dataset: Dataset, share: float, seed: int) -> Tensor:
    """The rows, in order, that `split` holds out with the same share and seed."""
    return draw(_groups(dataset), share, seed)[1]


def _groups(dataset: Dataset) -> Tensor:
    """A number a row; rows of the same one are split by the same share."""
    import torch

    if dataset.classes is None or dataset.label_shape or dataset.streamed:
        return torch.zeros(len(dataset.features), dtype=torch.int64)
    return torch.from_numpy(dataset.labels)


def _on(device: torch.device, x: Tensor, arrays: Mapping[str, Tensor], index: Tensor) -> Tensor | dict[str, Tensor]:
    if not arrays:
        return x[index].to(device)
    return {name: value[index].to(device) for name, value in {**arrays, "x": x}.items()}


def draw(groups: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out, drawn by the seed, with the same share of every group."""
    import torch

    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    order = shuffled[groups[shuffled].argsort(stable=True)]
    counts = groups.bincount()
    # A group keeps at least one sample to train on, however small it is.
    wanted = torch.minimum((counts * share + 0.5).floor().long(), (counts - 1).clamp(min=0))
    rank = torch.arange(len(groups)) - (counts.cumsum(0) - counts)[groups[order]]
    out = rank < wanted[groups[order]]
    return order[~out].sort().values, order[out].sort().values


def _scale(x: Tensor, kept: Tensor, graph: Graph, standardize: bool) -> tuple[Tensor, dict[str, object]]:
    if graph.normalize is not None:
        mean, std = graph.normalize
        return (x - mean) / std, {"mean": mean, "std": std}
    if not standardize:
        return x, {}
    known = x[kept].double()
    means, stds = known.mean(0), known.std(0, correction=0)
    stds[stds == 0] = 1.0  # a constant column carries nothing, and must not divide by nothing
    return ((x - means) / stds).float(), {"mean": means.tolist(), "std": stds.tolist()}


def targets_of(labels: Tensor, classes: int | None, loss: str, width: int) -> Tensor:
    """What the loss compares the outputs with: class numbers, one column per class, or the numbers to predict."""
    from torch.nn import functional

    if classes is None or loss in CLASS_LOSSES:
        return labels
    return labels.float().unsqueeze(1) if width == 1 else functional.one_hot(labels, width).float()
