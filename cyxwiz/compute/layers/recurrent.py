"""RNN, LSTM, GRU and Bidirectional: torch's cells with the output that a chain of layers reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.graph.layers.recurrent import both_ways, cell, merge, sequence
from cyxwiz.graph.rule import Shape, Site

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class Recurrent(nn.Module):
    """Gives every step or the last one; of two directions the last step of each, joined as `merge` says."""

    def __init__(self, cell: nn.RNNBase, *, every_step: bool, merge: str) -> None:
        super().__init__()
        self.cell = cell
        self._every_step, self._merge = every_step, merge

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.cell(x.unsqueeze(-1) if x.dim() == 2 else x)
        if not self.cell.bidirectional:
            return steps if self._every_step else steps[:, -1]
        ahead, back = steps.chunk(2, dim=-1)
        if not self._every_step:
            ahead, back = ahead[:, -1], back[:, 0]
        match self._merge:
            case "sum":
                return ahead + back
            case "multiply":
                return ahead * back
            case "average":
                return (ahead + back) / 2
            case _:
                return torch.cat((ahead, back), dim=-1)


def _recurrent(site: Site, made: Shape) -> nn.Module:
    layers = site.integer("num_layers")
    options: dict[str, Any] = {"nonlinearity": site.word("nonlinearity")} if cell(site) == "RNN" else {}
    dropout = site.number("dropout") if layers > 1 else 0.0
    options |= {"batch_first": True, "bidirectional": both_ways(site), "dropout": dropout}
    inner = _CELLS[cell(site)](sequence(site)[1], site.integer("units"), layers, **options)
    return Recurrent(inner, every_step=site.flag("return_sequences"), merge=merge(site))


BUILDERS: dict[str, Builder] = dict.fromkeys(("RNN", "LSTM", "GRU", "Bidirectional"), _recurrent)
