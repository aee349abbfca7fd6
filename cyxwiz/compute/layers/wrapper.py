"""TimeDistributed: a layer on every step of a sequence, all steps in one batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.graph.layers.wrapper import inner_site
from cyxwiz.graph.rule import Shape, Site


class TimeDistributed(nn.Module):
    """The inner module on (N x T, …) of what is (N, T, …)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[1]))


def builders(inner: Mapping[str, Builder]) -> dict[str, Builder]:
    def build(site: Site, made: Shape) -> nn.Module:
        return TimeDistributed(inner[site.word("layer")](inner_site(site), made[1:]))

    return {"TimeDistributed": build}
