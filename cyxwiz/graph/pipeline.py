"""The steps of a preprocessing job, read and checked before any data are touched.

A definition is `{"steps": [{"type": "standardize"}, …]}`. Steps act in their order. What a step has to learn from the
data (a mean, the categories, the axes of a PCA) it learns from the rows for training: those that a `split` before it
left, else all. Where the data's shape is known at submit, so is the shape after every step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph import values
from cyxwiz.graph.dataset_uri import DataShape
from cyxwiz.graph.params import Param, ParamValue, flag, integer, needed
from cyxwiz.graph.rule import Shape, show

MAX_STEPS = 100
MAX_COLUMN = 1_000_000
MAX_LISTED = 65_536
CASTS = ("float16", "float32", "float64", "uint8", "int16", "int32", "int64")
LAYOUTS = ("hw", "hwc", "chw")

_COLUMNS = "columns"
_FILL = Param("choice", "mean", choices=("mean", "median", "most_frequent", "constant"), meaning="of its column")
_LAYOUT = Param("choice", "hw", choices=LAYOUTS, meaning="the axes of one sample")
_NUMBER = Param("float", None, -1e30, 1e30)


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of step: its parameters, and whether it takes `columns` (all without them) or needs them."""

    params: Mapping[str, Param]
    columns: str = ""  # "", "may" or "must"
    meaning: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "impute": Kind(
            {"with": _FILL, "value": Param("float", 0.0, -1e30, 1e30, meaning="of constant")},
            "may",
            "fills missing values",
        ),
        "drop_missing": Kind({}, "may", "leaves out rows with missing values"),
        "clip": Kind({"min": _NUMBER, "max": _NUMBER}, "may", "bounds values"),
        "scale": Kind(
            {"factor": Param("float", 1.0, -1e30, 1e30), "offset": Param("float", 0.0, -1e30, 1e30)},
            "may",
            "x times factor plus offset",
        ),
        "log1p": Kind({}, "may", "ln(1 + x); values must be above -1"),
        "standardize": Kind({}, "may", "takes the mean off and divides by the deviation"),
        "normalize": Kind(
            {"low": Param("float", 0.0, -1e30, 1e30), "high": Param("float", 1.0, -1e30, 1e30)},
            "may",
            "the smallest value becomes low, the largest high",
        ),
        "one_hot": Kind(
            {"classes": integer(1, 65_536, None, meaning="how many; without it, the values that training rows have")},
            "must",
            "a column for each value; other values give zeros",
        ),
        "select": Kind({}, "must", "keeps these columns, in this order"),
        "drop": Kind({}, "must", "leaves these columns out"),
        "reshape": Kind({"shape": needed(Param("target"))}, "", "of each sample"),
        "resize": Kind(
            {
                "size": needed(Param("shape", meaning="height and width")),
                "layout": _LAYOUT,
                "method": Param("choice", "bilinear", choices=("bilinear", "nearest")),
            },
            "",
            "images",
        ),
        "cast": Kind({"to": needed(Param("choice", choices=CASTS))}, "", "the type that is written"),
        "filter": Kind(
            {
                "column": integer(0, MAX_COLUMN),
                "min": _NUMBER,
                "max": _NUMBER,
                "labels": Param("numbers", meaning="the classes to keep"),
            },
            "",
            "keeps the rows whose column lies between, or whose label is listed",
        ),
        "shuffle": Kind({}, "", "the rows, by the job's seed"),
        "sample": Kind({"rows": needed(integer(2, 2**31))}, "", "so many rows at most, drawn by the seed"),
        "split": Kind(
            {
                "validation": Param("float", 0.0, 0.0, 0.9),
                "test": Param("float", 0.2, 0.0, 0.9),
                "stratify": flag(True, meaning="the same share of every class"),
            },
            "",
            "into train, validation and test",
        ),
        "augment": Kind(
            {
                "copies": integer(1, 100, 1),
                "noise": Param("float", 0.0, 0.0, 1e6, meaning="deviation of what is added"),
                "flip": Param(
                    "choice", "none", choices=("none", "horizontal", "vertical"), meaning="half of the copies"
                ),
                "shift": integer(0, 4096, 0, meaning="pixels at most, each way"),
                "layout": _LAYOUT,
            },
            "",
            "adds changed copies of the training rows",
        ),
        "pca": Kind(
            {"components": needed(integer(1, 65_536)), "whiten": flag(False, meaning="to a deviation of 1")},
            "",
            "the main axes of the training rows",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `columns` is None for all of them, or where the type takes none."""

    type: str
    params: Mapping[str, ParamValue] = field(default_factory=dict[str, ParamValue])
    columns: tuple[int, ...] | None = None


def parse_pipeline(text: str) -> tuple[Step, ...]:
    """The steps of a definition.

    Raises:
        CyxError: INVALID naming the step by its number (from 0) and type, the value and the bound.
    """
    try:
        document = cast("object", json.loads(text))
    except (ValueError, RecursionError):
        raise invalid("steps: the definition is no JSON object with steps", field="steps") from None
    given = cast("Mapping[str, object]", document).get("steps") if isinstance(document, dict) else None
    if not isinstance(given, list) or not given or set(cast("dict[str, object]", document)) != {"steps"}:
        raise invalid(
            'steps: a preprocessing job needs a list of steps such as {type = "standardize"}, and nothing beside it',
            field="steps",
        )
    listed = cast("list[object]", given)
    if len(listed) > MAX_STEPS:
        raise invalid(f"steps: at most {MAX_STEPS}, not {len(listed)}", field="steps")
    steps = tuple(_step(number, each) for number, each in enumerate(listed))
    splits = [number for number, step in enumerate(steps) if step.type == "split"]
    if len(splits) > 1:
        raise _wrong(splits[1], "split", f"there is a split already, step {splits[0]}")
    return steps


def check_pipeline(steps: tuple[Step, ...], data: DataShape | None) -> Shape | None:
    """The shape of a sample's features after all steps, None where it depends on the data.

    Raises:
        CyxError: INVALID naming the step that can't act on what the one before gives.
    """
    shape = None if data is None else data.features
    for number, step in enumerate(steps):
        if shape is not None:
            shape = shape_after(number, step, shape)
    if data is not None and data.classes is None:
        for number, step in enumerate(steps):
            if "labels" in step.params:
                raise _wrong(number, step.type, "labels: the data have numbers to predict, no classes")
    return shape


def shape_after(number: int, step: Step, shape: Shape) -> Shape | None:
    """What the step makes of a sample's features; None where the data decide. Raises as `check_pipeline`."""
    params = step.params
    if step.columns is not None or step.type == "pca" or "column" in params:
        if len(shape) != 1:
            raise _wrong(number, step.type, f"needs rows of columns, a sample has the shape {show(shape)}")
        last = max(step.columns or (cast("int", params.get("column", 0)),))
        if last >= shape[0]:
            raise _wrong(number, step.type, f"there is no column {last}: a sample has {shape[0]}, counted from 0")
    match step.type:
        case "select":
            return (len(step.columns or ()),)
        case "drop":
            left = shape[0] - len(step.columns or ())
            if left < 1:
                raise _wrong(number, step.type, "leaves no column")
            return (left,)
        case "one_hot":
            taken = step.columns or ()
            classes = params.get("classes")
            return None if classes is None else (shape[0] + len(taken) * (cast("int", classes) - 1),)
        case "pca":
            components = cast("int", params["components"])
            if components > shape[0]:
                raise _wrong(number, step.type, f"components is {components}, a sample has {shape[0]} columns")
            return (components,)
        case "reshape":
            return _reshaped(number, shape, cast("tuple[int, ...]", params["shape"]))
        case "resize" | "augment":
            return _image(number, step, shape)
        case _:
            return shape


def _reshaped(number: int, shape: Shape, target: tuple[int, ...]) -> Shape:
    size, known = math.prod(shape), math.prod(each for each in target if each != -1)
    if size % known or (-1 not in target and size != known):
        raise _wrong(number, "reshape", f"{size} values don't fill the shape {show(target)}")
    return tuple(size // known if each == -1 else each for each in target)


def _image(number: int, step: Step, shape: Shape) -> Shape:
    moves = step.type == "resize" or step.params["flip"] != "none" or step.params["shift"]
    if not moves:
        return shape
    layout = cast("str", step.params["layout"])
    if len(shape) != len(layout):
        raise _wrong(number, step.type, f"layout is {layout}, a sample has the shape {show(shape)}; reshape it first")
    if step.type != "resize":
        return shape
    height, width = cast("tuple[int, ...]", step.params["size"])
    at = layout.index("h")
    return (*shape[:at], height, width, *shape[at + 2 :])


def _step(number: int, given: object) -> Step:
    if not isinstance(given, dict):
        raise invalid(f"steps.{number}: must be an object with a type, not {values.quote(given)}", field="steps")
    stated = cast("dict[str, object]", given)
    name = stated.get("type")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(name, str):
        known = ", ".join(KINDS)
        raise invalid(
            f"steps.{number}: there is no step {values.quote(name)}. Known: {known}", field="steps", step=number
        )
    known_keys = {"type", *kind.params, *((_COLUMNS,) if kind.columns else ())}
    if unknown := sorted(stated.keys() - known_keys):
        takes = ", ".join(sorted(known_keys - {"type"})) or "nothing"
        raise _wrong(number, name, f"{values.quote(unknown[0])} is unknown; it takes {takes}")
    where = f"steps.{number} ({name}): "
    params: dict[str, ParamValue] = {}
    for key, param in kind.params.items():
        if key in stated:
            params[key] = param.read(where + key, stated[key])
        elif param.required:
            raise _wrong(number, name, f"{key} is missing; it must be {param.bound()}")
        elif param.default is not None:
            params[key] = param.default
    columns = _columns(where + _COLUMNS, stated[_COLUMNS]) if _COLUMNS in stated else None
    if kind.columns == "must" and columns is None:
        raise _wrong(number, name, 'columns is missing; it must be numbers from 0, such as [0, 2] or "0:4,7"')
    step = Step(name, MappingProxyType(params), columns)
    _check_together(number, step)
    return step


def _check_together(number: int, step: Step) -> None:
    """What holds between the parameters of one step."""
    params = step.params

    def number_of(key: str) -> float:
        return cast("float", params[key])

    low, high = ("low", "high") if step.type == "normalize" else ("min", "max")
    if low in params and high in params and number_of(low) >= number_of(high):
        raise _wrong(number, step.type, f"{low} must be below {high}")
    if step.type == "clip" and not params:
        raise _wrong(number, step.type, "needs min, max or both")
    if step.type == "scale" and number_of("factor") == 0:
        raise _wrong(number, step.type, "factor must not be 0")
    if step.type == "split" and not 0 < number_of("validation") + number_of("test") < 0.95:
        raise _wrong(number, step.type, "validation and test together must be above 0 and below 0.95")
    if step.type == "resize":
        size = cast("tuple[int, ...]", params["size"])
        if len(size) != 2 or max(size) > 4096:
            raise _wrong(number, step.type, "size must be height and width, each at most 4096")
    if step.type == "filter":
        by_column = "column" in params
        if by_column != ("min" in params or "max" in params) or by_column == ("labels" in params):
            raise _wrong(number, step.type, "needs either labels, or a column with min, max or both")
    if step.type == "augment" and params["noise"] == 0 and params["flip"] == "none" and params["shift"] == 0:
        raise _wrong(number, step.type, "changes nothing: give noise, flip or shift")


def _columns(where: str, value: object) -> tuple[int, ...]:
    """Numbers from 0 from `3`, `[0, 2]` or `"0:4,7"`, whose ranges leave their end out; each once."""
    bound = 'numbers from 0, each once, such as [0, 2] or "0:4,7"'
    parts: list[object] = cast("list[object]", value) if isinstance(value, list) else [value]
    if isinstance(value, str) and len(value) <= MAX_LISTED:
        parts = list(value.split(","))
    found: list[int] = []
    for part in parts:
        if isinstance(part, str) and ":" in part:
            start, end = values.columns(where, part.strip())
            if end > MAX_COLUMN or len(found) + end - start > MAX_LISTED:
                raise invalid(f"{where} names more than {MAX_LISTED} columns; it must be {bound}.", field="steps")
            found += range(start, end)
        else:
            found.append(values.integer(where, part, 0, MAX_COLUMN))
    if not found or len(found) > MAX_LISTED or len(set(found)) < len(found):
        raise invalid(f"{where} must be {bound}.", field="steps")
    return tuple(found)


def _wrong(number: int, name: str, what: str) -> CyxError:
    return invalid(f"steps.{number} ({name}): {what}", field="steps", step=number, type=name)
