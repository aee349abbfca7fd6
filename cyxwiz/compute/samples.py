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
Shares = tuple[float, float]  # of every class: to validate on, to test on


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
    dataset: Dataset, graph: Graph, shares: Shares, loss: str, outputs: tuple[int, ...], seed: int, device: torch.device
) -> tuple[Samples, Samples, Samples, dict[str, object]]:
    """(to train on, to validate on, to test on, what was done to the features)."""
    import torch

    x, labels = torch.from_numpy(dataset.features), torch.from_numpy(dataset.labels)
    kept, held_out, test = draw(_groups(dataset), shares, seed)
    x, scaling = _scale(x, kept, graph, dataset.standardize)
    scaling["divisor"] = dataset.divisor
    y = targets_of(labels, dataset.classes, loss, math.prod(outputs))
    arrays = {name: torch.from_numpy(array) for name, array in dataset.fields.items()}

    def part(index: Tensor) -> Samples:
        shown = labels[index].to(device) if dataset.classes is not None else None
        return Samples(_on(device, x, arrays, index), y[index].to(device), shown)

    return part(kept), part(held_out), part(test), scaling


def drawn_rows(dataset: Dataset, shares: Shares, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows, in order, of the three parts of `split` with the same shares and seed."""
    return draw(_groups(dataset), shares, seed)


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


def draw(groups: Tensor, shares: Shares, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices to train on, to validate on and to test on, drawn by the seed, with the same shares of every group."""
    import torch

    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    order = shuffled[groups[shuffled].argsort(stable=True)]
    counts = groups.bincount()
    # A group keeps at least one sample to train on, however small it is.
    most = (counts - 1).clamp(min=0)
    validated, out = (
        torch.minimum((counts * share + 0.5).floor().long(), most)[groups[order]] for share in (shares[0], sum(shares))
    )
    rank = torch.arange(len(groups)) - (counts.cumsum(0) - counts)[groups[order]]
    parts = (order[rank >= out], order[rank < validated], order[(rank >= validated) & (rank < out)])
    return parts[0].sort().values, parts[1].sort().values, parts[2].sort().values


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
