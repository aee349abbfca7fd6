"""Activations."""

from __future__ import annotations

from torch import nn

from cyxwiz.compute.layers.typing import Builder

BUILDERS: dict[str, Builder] = {
    "ReLU": lambda site, made: nn.ReLU(),
    "LeakyReLU": lambda site, made: nn.LeakyReLU(site.number("negative_slope")),
    "PReLU": lambda site, made: nn.PReLU(init=site.number("init")),
    "ELU": lambda site, made: nn.ELU(site.number("alpha")),
    "SELU": lambda site, made: nn.SELU(),
    "GELU": lambda site, made: nn.GELU(),
    "Swish": lambda site, made: nn.SiLU(),
    "Mish": lambda site, made: nn.Mish(),
    "Sigmoid": lambda site, made: nn.Sigmoid(),
    "Tanh": lambda site, made: nn.Tanh(),
    "Softmax": lambda site, made: nn.Softmax(dim=site.axis("axis", len(made)) + 1),
}
