"""What each type of step does to a frame; one code for NumPy and CuPy.

Chance is drawn by NumPy on the host from the job's seed and the step's number, so that both draw the same. Statistics
are computed in float64 and leave missing values out; what was learned is told to `Frame.learned`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.preprocess import images
from cyxwiz.compute.preprocess.frame import TEST, TRAIN, VALIDATION, Frame, check_values
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph import Step

if TYPE_CHECKING:
    import numpy as np

Apply = Callable[[Frame, Step, "np.random.Generator"], dict[str, Any]]
_MAX_TOLD = 1_000_000  # numbers of one step that are told


def apply(frame: Frame, number: int, step: Step, seed: int) -> None:
    """Does one step. Raises CyxError INVALID naming it by number and type."""
    import numpy as np

    chance = np.random.default_rng([number, seed & (2**64 - 1)])
    try:
        with np.errstate(over="ignore"):
            learned = _APPLY[step.type](frame, step, chance)
        if bool(frame.xp.isinf(frame.x).any()):  # from which the next step would learn nothing
            raise invalid("a value becomes too large for float32")
    except CyxError as error:
        raise CyxError(error.code, f"steps.{number} ({step.type}): {error.message}", error.details) from None
    columns = {} if step.columns is None else {"columns": list(step.columns)}
    frame.learned.append(
        {"type": step.type, **dict(step.params), **columns, **({"learned": learned} if learned else {})}
    )


def _told(xp: Any, values: Any) -> Any:
    """Numbers as JSON has them; null if there are too many."""
    host = values.get() if hasattr(values, "get") else values
    return None if host.size > _MAX_TOLD else host.tolist()


def _no_column_empty(xp: Any, train: Any, instead: str = "") -> None:
    """Raises CyxError INVALID for a column of training rows that a step can learn nothing from."""
    if bool(xp.isnan(train).all(axis=0).any()):
        raise invalid(f"a column has no value in any training row; drop it{instead}")


def _at(frame: Frame, step: Step) -> Any:
    """What picks the step's columns out of rows; all of them for every shape."""
    return ... if step.columns is None else (slice(None), frame.xp.asarray(step.columns))


def _put(frame: Frame, at: Any, values: Any) -> None:
    """Changes columns of a copy: what was read is nobody's to change."""
    if at is ...:
        frame.x = values.astype(frame.xp.float32)
    else:
        frame.x = frame.x.copy()
        frame.x[at] = values


# --- values


def _impute(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    xp, at, how = frame.xp, _at(frame, step), step.params["with"]
    train = frame.train()[at].astype(xp.float64)
    if how == "constant":
        fill = xp.full(train.shape[1:], step.params["value"], dtype=xp.float64)
    else:
        _no_column_empty(xp, train, ", or use with = constant")
        if how == "most_frequent":
            fill = _most_frequent(xp, train)
        else:
            fill = xp.nanmean(train, axis=0) if how == "mean" else xp.nanmedian(train, axis=0)
    values = frame.x[at]
    _put(frame, at, xp.where(xp.isnan(values), fill.astype(xp.float32), values))
    return {"fill": _told(xp, fill)}


def _most_frequent(xp: Any, train: Any) -> Any:
    """The lowest of those that occur most."""
    flat = train.reshape(len(train), -1)
    found: list[float] = []
    for column in range(flat.shape[1]):
        values = flat[:, column]
        distinct, counts = xp.unique(values[~xp.isnan(values)], return_counts=True)
        found.append(float(distinct[int(counts.argmax())]))
    return xp.asarray(found, dtype=xp.float64).reshape(train.shape[1:])


def _drop_missing(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    xp = frame.xp
    values = frame.x[_at(frame, step)]
    whole = ~xp.isnan(values.reshape(len(values), -1)).any(axis=1)
    frame.keep(_host(whole))
    return {}


def _host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


def _clip(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    at = _at(frame, step)
    _put(frame, at, frame.xp.clip(frame.x[at], step.params.get("min"), step.params.get("max")))
    return {}


def _scale(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    at, xp = _at(frame, step), frame.xp
    values = frame.x[at].astype(xp.float64) * step.params["factor"] + step.params["offset"]
    _put(frame, at, values.astype(xp.float32))
    return {}


def _log1p(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    at, xp = _at(frame, step), frame.xp
    values = frame.x[at]
    if bool((values <= -1).any()):
        raise invalid("a value is -1 or below, which has no logarithm of 1 + x")
    _put(frame, at, xp.log1p(values))
    return {}


def _standardize(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    xp, at = frame.xp, _at(frame, step)
    train = frame.train()[at].astype(xp.float64)
    _no_column_empty(xp, train)
    mean, std = xp.nanmean(train, axis=0), xp.nanstd(train, axis=0)
    std = xp.where((std > 0) & xp.isfinite(std), std, 1.0)  # a constant column must not divide by nothing
    _put(frame, at, ((frame.x[at].astype(xp.float64) - mean) / std).astype(xp.float32))
    return {"mean": _told(xp, mean), "std": _told(xp, std)}


def _normalize(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    xp, at = frame.xp, _at(frame, step)
    params: Mapping[str, Any] = step.params
    low, high = params["low"], params["high"]
    train = frame.train()[at].astype(xp.float64)
    _no_column_empty(xp, train)
    least, most = xp.nanmin(train, axis=0), xp.nanmax(train, axis=0)
    span = xp.where(most > least, most - least, 1.0)
    values = (frame.x[at].astype(xp.float64) - least) / span * (high - low) + low
    _put(frame, at, values.astype(xp.float32))
    return {"min": _told(xp, least), "max": _told(xp, most)}


def _cast(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    frame.dtype = str(step.params["to"])
    return {}


# --- columns


def _one_hot(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    xp = frame.xp
    assert step.columns is not None
    classes = step.params.get("classes")
    told: dict[str, list[float]] = {}
    train = frame.train()
    if classes is None:
        _no_column_empty(xp, train[:, list(step.columns)], ", or say how many classes there are")
    for column in step.columns:
        seen = xp.arange(classes) if classes is not None else xp.unique(train[:, column])
        seen = seen.astype(xp.float32)
        told[str(column)] = _host(seen[~xp.isnan(seen)]).tolist()
    check_values(len(frame) * (frame.x.shape[1] + sum(map(len, told.values())) - len(told)))
    parts: list[Any] = []
    for column in range(frame.x.shape[1]):
        values = frame.x[:, column : column + 1]
        if str(column) in told:
            values = (values == xp.asarray(told[str(column)], dtype=xp.float32)).astype(xp.float32)
        parts.append(values)
    frame.x = xp.concatenate(parts, axis=1)
    return {"categories": told}


def _select(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    frame.x = frame.x[:, frame.xp.asarray(step.columns)]
    return {}


def _drop(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    left = [column for column in range(frame.x.shape[1]) if column not in set(step.columns or ())]
    frame.x = frame.x[:, frame.xp.asarray(left)]
    return {}


def _pca(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    """Eigenvectors of the covariance of the training rows, the widest first; of each the largest entry is positive."""
    xp, components = frame.xp, step.params["components"]
    train = frame.train().astype(xp.float64)
    if bool(xp.isnan(frame.x).any()):
        raise invalid("values are missing; impute them before")
    mean = train.mean(axis=0)
    centred = train - mean
    values, vectors = xp.linalg.eigh(centred.T @ centred / max(1, len(train) - 1))
    values, axes = values[::-1][:components], vectors[:, ::-1][:, :components].T
    largest = xp.abs(axes).argmax(axis=1)
    axes = axes * xp.sign(axes[xp.arange(len(axes)), largest])[:, None]
    made = (frame.x.astype(xp.float64) - mean) @ axes.T
    if step.params["whiten"]:
        made = made / xp.sqrt(xp.maximum(values, 1e-12))
    frame.x = made.astype(xp.float32)
    return {"mean": _told(xp, mean), "components": _told(xp, axes), "variance": _told(xp, values)}


def _reshape(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    shape: Any = step.params["shape"]
    frame.x = frame.x.reshape(len(frame), *shape)
    return {}


# --- rows


def _filter(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    import numpy as np

    params: Mapping[str, Any] = step.params
    if "labels" in params:
        if frame.classes is None:
            raise invalid("labels: the data have numbers to predict, no classes")
        if frame.rows["y"].ndim > 1:
            raise invalid("labels: a row has a class for every step, not one")
        frame.keep(np.isin(frame.rows["y"], [int(label) for label in params["labels"]]))
        return {}
    values = _host(frame.x[:, params["column"]])
    keeps = ~np.isnan(values)
    keeps &= values >= params.get("min", -np.inf)
    keeps &= values <= params.get("max", np.inf)
    frame.keep(keeps)
    return {}


def _shuffle(frame: Frame, _: Step, chance: np.random.Generator) -> dict[str, Any]:
    frame.keep(chance.permutation(len(frame)))
    return {}


def _sample(frame: Frame, step: Step, chance: np.random.Generator) -> dict[str, Any]:
    import numpy as np

    rows: Any = step.params["rows"]
    if rows < len(frame):
        frame.keep(np.sort(chance.permutation(len(frame))[:rows]))
    return {}


def _split(frame: Frame, step: Step, chance: np.random.Generator) -> dict[str, Any]:
    import numpy as np

    params: Mapping[str, Any] = step.params
    labels = frame.rows["y"]
    stratified = params["stratify"] and frame.classes is not None and labels.ndim == 1
    groups = labels if stratified else np.zeros(len(frame), np.int64)
    part = np.full(len(frame), TRAIN, np.int8)
    for group in np.unique(groups):
        rows = chance.permutation(np.flatnonzero(groups == group))
        test = int(len(rows) * params["test"] + 0.5)
        validation = int(len(rows) * params["validation"] + 0.5)
        test = min(test, len(rows) - 1)  # a group keeps a row to train on
        validation = min(validation, len(rows) - 1 - test)
        part[rows[:test]] = TEST
        part[rows[test : test + validation]] = VALIDATION
    frame.part = part
    return {}


# --- images


def _resize(frame: Frame, step: Step, _: np.random.Generator) -> dict[str, Any]:
    import math

    size: Any = step.params["size"]
    layout = str(step.params["layout"])
    at = layout.index("h") + 1
    others = math.prod(frame.x.shape) // math.prod(frame.x.shape[at : at + 2])
    check_values(others * math.prod(size))
    frame.x = images.resize(frame.xp, frame.x, layout, size, str(step.params["method"]))
    return {}


def _augment(frame: Frame, step: Step, chance: np.random.Generator) -> dict[str, Any]:
    import numpy as np

    params: Mapping[str, Any] = step.params
    rows = np.arange(len(frame)) if frame.part is None else np.flatnonzero(frame.part == TRAIN)
    source = frame.train()
    check_values((len(frame) + params["copies"] * len(rows)) * int(np.prod(frame.x.shape[1:])))
    for _ in range(params["copies"]):
        made = images.vary(frame.xp, source, params, chance)
        if params["noise"]:
            noise = chance.standard_normal(made.shape, dtype=np.float32) * np.float32(params["noise"])
            made = made + frame.xp.asarray(noise)
        frame.add(made, rows)
    return {}


_APPLY: Mapping[str, Apply] = MappingProxyType(
    {
        "impute": _impute,
        "drop_missing": _drop_missing,
        "clip": _clip,
        "scale": _scale,
        "log1p": _log1p,
        "standardize": _standardize,
        "normalize": _normalize,
        "one_hot": _one_hot,
        "select": _select,
        "drop": _drop,
        "reshape": _reshape,
        "resize": _resize,
        "cast": _cast,
        "filter": _filter,
        "shuffle": _shuffle,
        "sample": _sample,
        "split": _split,
        "augment": _augment,
        "pca": _pca,
    }
)
