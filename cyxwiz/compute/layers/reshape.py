"""Layers that move numbers. Axes leave out the batch, so that torch's are one higher."""

from __future__ import annotations

from torch import Tensor, nn

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.graph.layers.reshape import order, section
from cyxwiz.graph.rule import Shape, Site


class Reshape(nn.Module):
    """Every sample in a fixed shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self._shape)


class Permute(nn.Module):
    """The axes of a sample in another order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self._axes = tuple(axis + 1 for axis in axes)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, *self._axes)


class Narrow(nn.Module):
    """One part of an axis."""

    def __init__(self, axis: int, start: int, length: int) -> None:
        super().__init__()
        self._axis, self._start, self._length = axis + 1, start, length

    def forward(self, x: Tensor) -> Tensor:
        return x.narrow(self._axis, self._start, self._length)


def _reshape(site: Site, made: Shape) -> nn.Module:
    return Reshape(made)


BUILDERS: dict[str, Builder] = {
    **dict.fromkeys(("Flatten", "Reshape", "View", "TensorReshape", "Squeeze", "Unsqueeze"), _reshape),
    "Permute": lambda site, made: Permute(order(site)),
    "Split": lambda site, made: Narrow(*section(site)),
}
