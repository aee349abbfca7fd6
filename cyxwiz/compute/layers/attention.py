"""Attention and transformer blocks, batch first, by torch's scaled dot product with its fused kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyxwiz.compute.layers.typing import Builder
from cyxwiz.graph.layers.attention import hidden, sources
from cyxwiz.graph.rule import Shape, Site


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class Attention(nn.Module):
    """Multi-head attention of queries (N, T, F) over keys and values (N, S, …)."""

    def __init__(
        self, width: int, key: int, value: int, heads: int, *, bias: bool = True, dropout: float = 0.0, causal: bool
    ) -> None:
        super().__init__()
        self.query, self.key = _linear(width, width, bias), _linear(key, width, bias)
        self.value, self.out = _linear(value, width, bias), _linear(width, width, bias)
        self._heads, self._dropout, self._causal = heads, dropout, causal

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        key = query if key is None else key
        value = key if value is None else value
        made = self._attend(self._apart(self.query(query)), self._apart(self.key(key)), self._apart(self.value(value)))
        return self.out(made.transpose(1, 2).flatten(2))

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self._heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dropout = self._dropout if self.training else 0.0
        return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self._causal)


class LinearAttention(Attention):
    """Attention in time linear in the steps, by the feature map elu(x) + 1 (Katharopoulos et al. 2020)."""

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        if self._causal:
            # (N, heads, T, D, E): sums up to every step
            memory = (key.unsqueeze(-1) * value.unsqueeze(-2)).cumsum(2)
            made = (query.unsqueeze(-2) @ memory).squeeze(-2)
            weight = (query * key.cumsum(2)).sum(-1, keepdim=True)
        else:
            made = query @ (key.transpose(-2, -1) @ value)
            weight = (query * key.sum(2, keepdim=True)).sum(-1, keepdim=True)
        return made / weight.clamp(min=1e-6)


class Block(nn.Module):
    """One encoder block; with `memory`, the width of what it reads beside, a decoder block."""

    def __init__(self, site: Site, memory: int | None) -> None:
        super().__init__()
        width, heads, dropout = site.given[-1], site.integer("num_heads"), site.number("dropout")
        self.attention = Attention(width, width, width, heads, dropout=dropout, causal=site.flag("causal"))
        self.cross = None if memory is None else Attention(width, memory, memory, heads, dropout=dropout, causal=False)
        self.widen, self.narrow = _linear(width, hidden(site)), _linear(hidden(site), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 if memory is None else 3))
        self.dropout = nn.Dropout(dropout)
        self._first, self._gelu = site.flag("norm_first"), site.word("activation") == "gelu"

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        norms = iter(self.norms)
        x = self._add(x, next(norms), self.attention)
        if self.cross is not None:
            cross = self.cross
            x = self._add(x, next(norms), lambda query: cross(query, memory))
        return self._add(x, next(norms), self._feed)

    def _feed(self, x: Tensor) -> Tensor:
        wide = self.widen(x)
        return self.narrow(self.dropout(functional.gelu(wide) if self._gelu else functional.relu(wide)))

    def _add(self, x: Tensor, norm: nn.Module, part: nn.Module | object) -> Tensor:
        assert callable(part)
        if self._first:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class Blocks(nn.Module):
    """Blocks one after the other, all reading the same memory."""

    def __init__(self, site: Site, memory: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(site, memory) for _ in range(site.integer("num_layers")))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, memory)
        return x


class PositionalEncoding(nn.Module):
    """Adds a vector for every position: sines and cosines (Vaswani et al. 2017), or learned."""

    table: Tensor

    def __init__(self, length: int, width: int, dropout: float, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.table = nn.Parameter(torch.randn(length, width) * 0.02)
        else:
            self.register_buffer("table", sinusoids(length, width), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.table[: x.shape[1]])


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sin(p / 10000^(2i / width)) at even columns 2i, the cosine of the same at the odd ones."""
    place = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(place * rate)
    table[:, 1::2] = torch.cos(place * rate[: width // 2])
    return table


def _attention(site: Site, made: Shape) -> nn.Module:
    query, key, value = (shape[-1] for shape in sources(site))
    return Attention(
        query, key, value, site.integer("num_heads"), bias=site.flag("bias"), dropout=site.number("dropout"),
        causal=bool(site.params.get("causal")),
    )  # fmt: skip


def _linear_attention(site: Site, made: Shape) -> nn.Module:
    width = made[-1]
    heads = site.integer("num_heads")
    return LinearAttention(width, width, width, heads, bias=site.flag("bias"), causal=site.flag("causal"))


def _positional(site: Site, made: Shape) -> nn.Module:
    learned = site.word("mode") == "learned"
    length = site.integer("max_length") if learned and "max_length" in site.params else made[0]
    return PositionalEncoding(length, made[1], site.number("dropout"), learned=learned)


BUILDERS: dict[str, Builder] = {
    "MultiHeadAttention": _attention,
    "SelfAttention": _attention,
    "CrossAttention": _attention,
    "LinearAttention": _linear_attention,
    "TransformerEncoder": lambda site, made: Blocks(site, None),
    "TransformerDecoder": lambda site, made: Blocks(site, site.inputs[1][-1]),
    "PositionalEncoding": _positional,
}
