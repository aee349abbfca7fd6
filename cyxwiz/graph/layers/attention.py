"""Attention and transformer blocks over sequences (T, F), after Vaswani et al. 2017, "Attention is all you need"."""

from __future__ import annotations

import math

from cyxwiz.graph.layers.dense import MAX_UNITS
from cyxwiz.graph.params import Param, flag, integer
from cyxwiz.graph.rule import Cost, Rule, Shape, Site


def heads(site: Site) -> int:
    count, width = site.integer("num_heads"), site.given[-1]
    if width % count:
        raise site.refuse(f"features that {count} heads divide", site.given)
    return count


def hidden(site: Site) -> int:
    """Width of the feed-forward part: as stated, else four times the features."""
    if "dim_feedforward" in site.params:
        return site.integer("dim_feedforward")
    return 4 * site.given[-1]


def sources(site: Site) -> tuple[Shape, Shape, Shape]:
    """Shapes of query, key and value: one input is all three, the second of two is key and value."""
    query = site.inputs[0]
    key = site.inputs[1] if len(site.inputs) > 1 else query
    return query, key, site.inputs[2] if len(site.inputs) > 2 else key


def _check(site: Site) -> None:
    for shape in site.inputs:
        if len(shape) != 2:
            raise site.refuse("(T, F)", shape, "Add a Reshape, an Embedding or a recurrent layer with sequences.")
    heads(site)
    if "d_model" in site.params and site.integer("d_model") != site.given[-1]:
        hint = "Put a Dense with flatten false before it."
        raise site.refuse(f"(T, {site.integer('d_model')}), as d_model says", site.given, hint)


def _attended(site: Site) -> Shape:
    _check(site)
    query, key, value = sources(site)
    if key[0] != value[0]:
        raise site.refuse("a key and a value with the same number of steps", f"{key[0]} and {value[0]}")
    if site.params.get("causal") and query[0] != key[0]:
        raise site.refuse("as many steps in query and key, since it is causal", f"{query[0]} and {key[0]}")
    return query


def _projections(width: int, key: int, value: int, bias: bool) -> int:
    return width * (2 * width + key + value) + (4 * width if bias else 0)


def _attention_flops(queries: int, keys: int, width: int) -> int:
    return 4 * (queries + keys) * width * width + 4 * queries * keys * width


def _attended_cost(site: Site, made: Shape) -> Cost:
    query, key, value = sources(site)
    weights = _projections(query[1], key[1], value[1], site.flag("bias"))
    return Cost(weights, _attention_flops(query[0], key[0], query[1]))


def _linear_cost(site: Site, made: Shape) -> Cost:
    steps, width = made
    weights = _projections(width, width, width, site.flag("bias"))
    return Cost(weights, 8 * steps * width * width + 4 * steps * width * (width // heads(site)))


def _block_cost(site: Site, memory: Shape | None) -> Cost:
    steps, width = site.given
    wide = hidden(site)
    weights = _projections(width, width, width, True) + 2 * width * wide + wide + width + 4 * width
    flops = _attention_flops(steps, steps, width) + 4 * steps * width * wide
    if memory is not None:
        weights += _projections(width, memory[1], memory[1], True) + 2 * width
        flops += _attention_flops(steps, memory[0], width)
    return Cost(site.integer("num_layers") * weights, site.integer("num_layers") * flops)


def _encoded(site: Site) -> Shape:
    _check(site)
    return site.given


def _positioned(site: Site) -> Shape:
    if len(site.given) != 2:
        raise site.refuse("(T, F)", site.given)
    if "max_length" in site.params and site.integer("max_length") < site.given[0]:
        raise site.refuse(f"at most {site.integer('max_length')} steps, as max_length says", site.given)
    return site.given


def _positioned_cost(site: Site, made: Shape) -> Cost:
    learned = site.word("mode") == "learned"
    length = site.integer("max_length") if "max_length" in site.params else made[0]
    return Cost(length * made[1] if learned else 0, math.prod(made))


_WIDTH = integer(1, MAX_UNITS, None, "embed_dim", "dim", meaning="checked against the features that come in")
_CAUSAL = flag(False, "is_causal", meaning="no step sees a later one")
_DROPOUT = Param("float", 0.0, 0.0, 1.0, below=True)


def _heads(default: int) -> Param:
    return integer(1, 4096, default, "heads", "nhead")


def _attention(default: int, *, causal: bool = True) -> dict[str, Param]:
    params = {"num_heads": _heads(default), "d_model": _WIDTH, "bias": flag(True), "dropout": _DROPOUT}
    return {**params, "causal": _CAUSAL} if causal else params


_BLOCK = {
    "num_heads": _heads(8),
    "d_model": _WIDTH,
    "num_layers": integer(1, 256, 1, "layers"),
    "dim_feedforward": integer(1, MAX_UNITS, None, "ff_dim", "feedforward_dim", meaning="by default 4 x F"),
    "dropout": Param("float", 0.1, 0.0, 1.0, below=True),
    "activation": Param("choice", "relu", choices=("relu", "gelu")),
    "norm_first": flag(False, meaning="normalises before instead of after each part"),
}

RULES: dict[str, Rule] = {
    "MultiHeadAttention": Rule(
        "(T, F); or query, memory; or query, key, value", "the query's", _attended, _attended_cost, _attention(8),
        (1, 3),
    ),
    "SelfAttention": Rule("(T, F)", "the same", _attended, _attended_cost, _attention(1)),
    "CrossAttention": Rule(
        "query (T, F), memory (S, G); or query, key, value", "the query's", _attended, _attended_cost,
        _attention(1, causal=False), (2, 3),
    ),
    "LinearAttention": Rule(
        "(T, F)", "the same", _attended, _linear_cost,
        {"num_heads": _heads(1), "d_model": _WIDTH, "bias": flag(True), "causal": _CAUSAL},
    ),
    "TransformerEncoder": Rule(
        "(T, F)", "the same", _encoded, lambda site, made: _block_cost(site, None), {**_BLOCK, "causal": _CAUSAL}
    ),
    "TransformerDecoder": Rule(
        "query (T, F), memory (S, G)", "the query's", _encoded, lambda site, made: _block_cost(site, site.inputs[1]),
        {**_BLOCK, "causal": flag(True, "is_causal", meaning="no step sees a later one of the query")}, (2, 2),
    ),
    "PositionalEncoding": Rule(
        "(T, F)", "the same", _positioned, _positioned_cost,
        {
            "mode": Param("choice", "sinusoidal", choices=("sinusoidal", "learned"), aliases=("encoding",)),
            "max_length": integer(1, 10_000_000, None, "max_len", meaning="by default T"),
            "dropout": _DROPOUT,
        },
    ),
}  # fmt: skip
