"""What a builder is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cyxwiz.graph.rule import Shape, Site

# From a layer, and the shape that its rule gave, to its module with fresh weights.
Builder = Callable[[Site, Shape], nn.Module]


def channels_first(x: Tensor) -> Tensor:
    """(N, …, C) as (N, C, …), without a copy."""
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1))


def channels_last(x: Tensor) -> Tensor:
    """(N, C, …) as (N, …, C), without a copy."""
    return x.permute(0, *range(2, x.dim()), 1)
