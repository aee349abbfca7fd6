"""Loss and accuracy of a pass over the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_FLUSH_BATCHES = 256


class Tally:
    """Outputs are kept and counted many batches at a time: two list appends per batch are all that the loop pays, and
    nothing is read back from the device before somebody asks."""

    def __init__(self, labels: Tensor | None, loss: str, order: Tensor, weights: Tensor | None = None) -> None:
        """`order`: which sample comes when; `weights`: of the classes, where the losses are means by them."""
        self._labels, self._predict, self._order, self._weights = labels, _rule(loss), order, weights
        self._losses: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._loss_sum: Tensor | float = 0.0
        self._mass: Tensor | float = 0.0  # what the samples counted weigh in the loss, 1 each without weights
        self._right: Tensor | int = 0
        self._seen = 0  # samples counted
        self._place = 0  # of the next one in the order

    def resume(self, figures: Mapping[str, Any], seen: int, place: int) -> None:
        """Goes on counting after `seen` samples, at `place` of the order."""
        self._loss_sum, self._right, self._seen = float(figures["loss_sum"]), int(figures["right"]), seen
        self._mass = float(figures.get("mass", seen))  # what saved it may be older
        self._place = place

    def skip(self, place: int) -> None:
        """Begins at `place` of the order: another member of the gang counts what came before."""
        self._place = place

    def sums(self) -> tuple[float, float, float, float]:
        """(sum of losses, what their samples weigh, samples that were right, samples)."""
        self._count()
        return float(self._loss_sum), float(self._mass), float(self._right), float(self._seen)

    def replace(self, loss_sum: float, mass: float, right: float, seen: float) -> None:
        """Takes the sums over several members for its own."""
        self._count()
        self._loss_sum, self._mass, self._right, self._seen = loss_sum, mass, int(right), int(seen)

    def add(self, loss: Tensor, outputs: Tensor) -> None:
        self._losses.append(loss.detach())
        self._outputs.append(outputs.detach())
        if len(self._losses) >= _FLUSH_BATCHES:
            self._count()

    def _count(self) -> None:
        import torch

        if not self._losses:
            return
        sizes = [len(outputs) for outputs in self._outputs]
        masses = torch.tensor(sizes, dtype=torch.float64)
        losses = torch.stack(self._losses)
        count = sum(sizes)
        if self._labels is not None:
            labels = self._labels.index_select(0, self._order[self._place : self._place + count])
            if self._weights is not None:
                masses = torch.stack([weight_of(self._weights, part) for part in labels.split(sizes)]).double()
            predicted = self._predict(torch.cat(self._outputs))
            self._right = self._right + (predicted == labels.to(predicted.device)).sum()
        self._loss_sum = self._loss_sum + (losses.double() * masses.to(losses.device)).sum()
        self._mass = self._mass + masses.sum()
        self._seen += count
        self._place += count
        self._losses.clear()
        self._outputs.clear()

    def loss(self) -> float:
        self._count()
        return float(self._loss_sum) / (float(self._mass) or 1.0)

    def accuracy(self) -> float:
        self._count()
        steps = 1 if self._labels is None else math.prod(self._labels.shape[1:])  # each has a class
        return float(self._right) / max(1, self._seen * steps)


def weight_of(weights: Tensor, labels: Tensor) -> Tensor:
    """What samples of these classes weigh together."""
    return weights[labels].sum()


def _rule(loss: str) -> Callable[[Tensor], Tensor]:
    """From outputs to class numbers. One output stands for the second of two classes."""
    threshold = 0.0 if loss == "BCEWithLogits" else 0.5

    def predict(outputs: Tensor) -> Tensor:
        if outputs.dim() > 2:  # a class for every step
            return outputs.argmax(-1)
        return (outputs[:, 0] > threshold).long() if outputs.shape[1] == 1 else outputs.argmax(1)

    return predict
