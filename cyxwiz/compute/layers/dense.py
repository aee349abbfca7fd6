"""Dense, Dropout, Embedding, Identity, Output, Lambda, Constant and Parameter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.domain.errors import invalid
from cyxwiz.graph.rule import Shape, Site

_TINY = 1e-12  # what sqrt, log and reciprocal read instead of anything closer to 0


class Dense(nn.Linear):
    """A Linear on the whole sample as one row, or on the last axis. Starts as in the earlier system: Xavier, bias 0."""

    def __init__(self, inputs: int, units: int, bias: bool, flatten: bool) -> None:
        super().__init__(inputs, units, bias=bias)
        self._flatten = flatten
        nn.init.xavier_uniform_(self.weight)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        return super().forward(input.flatten(1) if self._flatten else input)


class Embedding(nn.Embedding):
    """An Embedding that reads whole numbers whatever their dtype, and says so when it gets anything else."""

    def __init__(self, layer: str, entries: int, width: int) -> None:
        super().__init__(entries, width)
        self._layer = layer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        index = input.long()
        # A check reads a number back from the device, which no traced program can.
        if not (is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()):
            self._check(input, index)
        return super().forward(index)

    def _check(self, given: Tensor, index: Tensor) -> None:
        right = (index >= 0) & (index < self.num_embeddings) & (index == given)
        if not bool(right.all()):
            wrong = given[~right].flatten()[0].item()
            raise invalid(
                f"layer {self._layer} (Embedding): expected whole numbers from 0 to {self.num_embeddings - 1}, got "
                f"{wrong:g}. If the data was scaled, a Normalize node with mean 0 and std 1 keeps it as it is.",
                layer=self._layer,
                expected=f"0 to {self.num_embeddings - 1}",
                got=wrong,
            )


class Apply(nn.Module):
    """A named function of the closed list."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._name = site.word("function")
        self._value, self._low, self._high = site.number("value"), site.number("min"), site.number("max")

    def forward(self, x: Tensor) -> Tensor:
        match self._name:
            case "identity" | "lambda_x:_x":  # as `lambda x: x` is read, which the editor has a node begin with
                return x
            case "scale":
                return x * self._value
            case "shift":
                return x + self._value
            case "clamp":
                return x.clamp(self._low, self._high)
            case "sqrt":
                return x.clamp(min=_TINY).sqrt()
            case "log":
                return x.clamp(min=_TINY).log()
            case "log1p":
                return x.clamp(min=_TINY - 1).log1p()
            case "reciprocal":
                return torch.where(x < 0, -1.0, 1.0) / x.abs().clamp(min=_TINY)
            case name:
                return PLAIN[name](x)


PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "exp": torch.exp,
    "floor": torch.floor,
    "neg": torch.neg,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "square": torch.square,
}


class Given(nn.Module):
    """A tensor for every sample, whatever comes in: fixed, or trained when it is a parameter."""

    value: Tensor

    def __init__(self, value: Tensor, *, trained: bool) -> None:
        super().__init__()
        if trained:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The tensor once for each row of `x`, of which only the batch is read."""
        return self.value.unsqueeze(0).expand(x.shape[0], *self.value.shape)


def _dense(site: Site, made: Shape) -> nn.Module:
    flatten = site.flag("flatten")
    width = 1
    for size in site.given if flatten else site.given[-1:]:
        width *= size
    return Dense(width, made[-1], site.flag("bias"), flatten and len(site.given) > 1)


def _constant(site: Site, made: Shape) -> nn.Module:
    return Given(_stated(site, made), trained=False)


def _parameter(site: Site, made: Shape) -> nn.Module:
    std = site.number("std")
    makers: dict[str, Callable[[], Tensor]] = {
        "zeros": lambda: torch.zeros(made),
        "ones": lambda: torch.ones(made),
        "normal": lambda: torch.randn(made) * std,
        "uniform": lambda: (torch.rand(made) * 2 - 1) * std,
        "xavier": lambda: (torch.rand(made) * 2 - 1) * math.sqrt(6 / (made[0] + made[-1])),
        "value": lambda: _stated(site, made),
    }
    return Given(makers[site.word("init")](), trained=True)


def _stated(site: Site, made: Shape) -> Tensor:
    value = site.params.get("value", (0.0,))
    assert isinstance(value, tuple)
    numbers = torch.tensor([float(number) for number in value])
    return numbers.expand(made).clone() if len(value) == 1 else numbers.reshape(made)


BUILDERS: dict[str, Builder] = {
    "Dense": _dense,
    "Dropout": lambda site, made: nn.Dropout(site.number("rate")),
    "Embedding": lambda site, made: Embedding(site.id, site.integer("num_embeddings"), made[-1]),
    "Identity": lambda site, made: nn.Identity(),
    "Output": lambda site, made: nn.Identity(),
    "Lambda": lambda site, made: Apply(site),
    "Constant": _constant,
    "Parameter": _parameter,
}
