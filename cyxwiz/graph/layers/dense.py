"""Dense, Dropout, Embedding, Identity, Output, Lambda, and the two that read nothing: Constant and Parameter."""

from __future__ import annotations

import math

from cyxwiz.graph.params import Param, flag, integer, needed
from cyxwiz.graph.rule import Cost, Rule, Shape, Site

MAX_UNITS = 1_048_576
MAX_VOCABULARY = 16_777_216

FUNCTIONS = (
    "abs", "ceil", "clamp", "cos", "exp", "floor", "log", "log1p", "neg", "reciprocal", "round", "scale", "shift",
    "sign", "sin", "sqrt", "square", "identity", "lambda_x:_x",
)  # fmt: skip


def same(site: Site) -> Shape:
    return site.given


def free(site: Site, made: Shape) -> Cost:
    return Cost(0, 0)


def elementwise(site: Site, made: Shape) -> Cost:
    return Cost(0, math.prod(made))


def _dense(site: Site) -> Shape:
    units = (site.integer("units"),)
    return units if site.flag("flatten") or not site.given else site.given[:-1] + units


def _dense_cost(site: Site, made: Shape) -> Cost:
    places = 1 if site.flag("flatten") else math.prod(made[:-1])
    width = math.prod(site.given) // places
    bias = made[-1] if site.flag("bias") else 0
    return Cost(width * made[-1] + bias, 2 * places * width * made[-1])


def _embedding(site: Site) -> Shape:
    return (*site.given, site.integer("embedding_dim"))


def _embedding_cost(site: Site, made: Shape) -> Cost:
    return Cost(site.integer("num_embeddings") * site.integer("embedding_dim"), math.prod(made))


def _lambda(site: Site) -> Shape:
    if site.word("function") == "clamp" and site.number("min") > site.number("max"):
        raise site.refuse("a min of at most max", f"min {site.number('min'):g}, max {site.number('max'):g}")
    return site.given


def _tensor(site: Site) -> Shape:
    given = site.params.get("value")
    count = len(given) if isinstance(given, tuple) else 1
    shape = site.whole("shape") if "shape" in site.params else (count,)
    if count not in (1, math.prod(shape)):
        raise site.refuse(f"1 or {math.prod(shape)} numbers in value", str(count))
    return shape


_UNITS = integer(1, MAX_UNITS, 128, "out_features", "output_size", "size")
_SHAPE = Param("shape", meaning="that of one sample; by default as many as there are values")

RULES: dict[str, Rule] = {
    "Dense": Rule(
        "any", "(units,)", _dense, _dense_cost,
        {
            "units": _UNITS,
            "bias": flag(True, "use_bias"),
            "flatten": flag(True, meaning="reads the whole sample as one row; false: acts on the last axis"),
        },
    ),
    "Dropout": Rule(
        "any", "the same", same, elementwise,
        {"rate": Param("float", 0.5, 0.0, 1.0, below=True, aliases=("p", "dropout", "probability"))},
    ),
    "Embedding": Rule(
        "whole numbers of any shape", "(…, embedding_dim)", _embedding, _embedding_cost,
        {
            "num_embeddings": integer(1, MAX_VOCABULARY, 10_000, "vocab_size", "input_dim", "vocabulary"),
            "embedding_dim": integer(1, MAX_UNITS, 64, "dim", "output_dim", "embed_dim", "size"),
        },
    ),
    "Identity": Rule("any", "the same", same, free),
    "Output": Rule("any", "the same", same, free),
    "Lambda": Rule(
        "any", "the same", _lambda, elementwise,
        {
            "function": Param("choice", choices=FUNCTIONS, required=True, aliases=("name", "fn", "expression")),
            "value": Param("float", 1.0, -1e30, 1e30, meaning="the factor of scale, the summand of shift"),
            "min": Param("float", -1e30, -1e30, 1e30, meaning="of clamp"),
            "max": Param("float", 1e30, -1e30, 1e30, meaning="of clamp"),
        },
    ),
    "Constant": Rule(
        "nothing", "shape", _tensor, free,
        {"value": Param("numbers", (0.0,), aliases=("values",)), "shape": _SHAPE}, (0, 0),
    ),
    "Parameter": Rule(
        "nothing", "shape", _tensor, lambda site, made: Cost(math.prod(made), 0),
        {
            "shape": needed(_SHAPE),
            "init": Param("choice", "normal", choices=("zeros", "ones", "normal", "uniform", "xavier", "value")),
            "std": Param("float", 0.02, 0.0, 1e6, meaning="of normal; the half width of uniform"),
            "value": Param("numbers", None, aliases=("values",), meaning="with init value"),
        }, (0, 0),
    ),
}  # fmt: skip
