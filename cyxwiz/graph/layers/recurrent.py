"""Recurrent layers over sequences (T, F), in one direction and in both.

A sample of shape (T,) is read as (T, 1). Gates as in PyTorch: RNN 1 (Elman 1990), LSTM 4 (Hochreiter and Schmidhuber
1997), GRU 3 (Cho et al. 2014), each with two biases.
"""

from __future__ import annotations

from cyxwiz.graph.layers.dense import MAX_UNITS
from cyxwiz.graph.params import Param, flag, integer
from cyxwiz.graph.rule import Cost, Rule, Shape, Site

CELLS = {"RNN": 1, "LSTM": 4, "GRU": 3}


def cell(site: Site) -> str:
    return site.word("layer") if site.type == "Bidirectional" else site.type


def sequence(site: Site) -> tuple[int, int]:
    """Steps and features of what comes in."""
    if len(site.given) == 1:
        return site.given[0], 1
    if len(site.given) != 2:
        raise site.refuse("(T, F) or (T,)", site.given, "Add a Reshape, or a TimeDistributed Flatten.")
    return site.given[0], site.given[1]


def both_ways(site: Site) -> bool:
    return site.type == "Bidirectional" or site.flag("bidirectional")


def merge(site: Site) -> str:
    """How the two directions are joined; a cell that says only that it is bidirectional has them side by side."""
    return site.word("merge") if "merge" in site.params else "concat"


def width(site: Site) -> int:
    """Features that come out of every step."""
    return site.integer("units") * (2 if both_ways(site) and merge(site) == "concat" else 1)


def _recurrent(site: Site) -> Shape:
    steps, _ = sequence(site)
    return (steps, width(site)) if site.flag("return_sequences") else (width(site),)


def _recurrent_cost(site: Site, made: Shape) -> Cost:
    steps, features = sequence(site)
    units, ways = site.integer("units"), 2 if both_ways(site) else 1
    weights = biases = 0
    for _ in range(site.integer("num_layers")):
        weights += ways * CELLS[cell(site)] * units * (features + units)
        biases += ways * CELLS[cell(site)] * 2 * units
        features = ways * units
    return Cost(weights + biases, 2 * steps * weights)


_CELL = {
    "units": integer(1, MAX_UNITS, 128, "hidden_size", "hidden_units"),
    "return_sequences": flag(False, meaning="all steps, else the last one"),
    "num_layers": integer(1, 64, 1, "layers"),
    "dropout": Param("float", 0.0, 0.0, 1.0, below=True, meaning="between stacked layers"),
    "bidirectional": flag(False, meaning="as a Bidirectional that concatenates"),
}

RULES: dict[str, Rule] = {
    "RNN": Rule(
        "(T, F) or (T,)", "(units,) or (T, units)", _recurrent, _recurrent_cost,
        {**_CELL, "nonlinearity": Param("choice", "tanh", choices=("tanh", "relu"), aliases=("activation",))},
    ),
    "LSTM": Rule("(T, F) or (T,)", "(units,) or (T, units)", _recurrent, _recurrent_cost, _CELL),
    "GRU": Rule("(T, F) or (T,)", "(units,) or (T, units)", _recurrent, _recurrent_cost, _CELL),
    "Bidirectional": Rule(
        "(T, F) or (T,)", "as the inner layer, twice as wide when concatenated", _recurrent, _recurrent_cost,
        {
            "layer": Param("layer", "LSTM", choices=tuple(CELLS), aliases=("inner", "cell", "layer_type", "wrapped")),
            "merge": Param(
                "choice", "concat", choices=("concat", "sum", "multiply", "average"), aliases=("merge_mode",)
            ),
        },
    ),
}  # fmt: skip
