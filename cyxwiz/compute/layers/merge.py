"""Layers that join several inputs."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.graph.rule import Site


class Concatenate(nn.Module):
    """The inputs one after the other along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis + 1

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self._axis)


class Combine(nn.Module):
    """The sum, product or average; a sample with fewer axes gets axes of size 1 in front."""

    def __init__(self, kind: str, ranks: tuple[int, ...]) -> None:
        super().__init__()
        self._kind = kind
        self._lacking = tuple(max(ranks) - rank for rank in ranks)

    def forward(self, *inputs: Tensor) -> Tensor:
        aligned = [
            x.reshape(x.shape[0], *(1,) * lacking, *x.shape[1:]) if lacking else x
            for x, lacking in zip(inputs, self._lacking, strict=True)
        ]
        made = functools.reduce(torch.mul if self._kind == "Multiply" else torch.add, aligned)
        return made / len(inputs) if self._kind == "Average" else made


def _combine(site: Site) -> nn.Module:
    return Combine(site.type, tuple(len(shape) for shape in site.inputs))


BUILDERS: dict[str, Builder] = {
    "Concatenate": lambda site, made: Concatenate(site.axis("axis", len(made))),
    "Add": lambda site, made: _combine(site),
    "Multiply": lambda site, made: _combine(site),
    "Average": lambda site, made: _combine(site),
}
