"""JSON tables: a list of objects or lists, lines of them, or one object with the arrays x and y."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cyxwiz.compute.data.columns import Columns, choose, fault
from cyxwiz.compute.data.dataset import Raw, check_size
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph.values import no_json

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

MAX_JSON_BYTES = 512 * 1024**2  # what is read becomes objects of several times its size


def read_json(uri: str, path: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    document = _parse(uri, _text(uri, path), "the file")
    if isinstance(document, dict):
        for x, y in (("x", "y"), ("features", "labels"), ("data", "target")):
            if x in document and (y in document or not wanted.labels):
                return _raw(uri, [document[x]], document[y] if wanted.labels else None, joined=True)
        raise invalid(f"The dataset {uri} must be a list of objects, or an object with the arrays x and y.", uri=uri)
    return _records(uri, document, options, wanted)


def read_jsonl(uri: str, path: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    lines = _text(uri, path).split("\n")  # a text of JSON may hold what else ends a line
    rows = [_parse(uri, line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return _records(uri, rows, options, wanted)


def _text(uri: str, path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise invalid(
            f"The dataset {uri} has {size} bytes of JSON; at most {MAX_JSON_BYTES} are read: write parquet or npz.",
            uri=uri,
            bound=MAX_JSON_BYTES,
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise no_utf8(uri, f"{error.reason} at byte {error.start}") from None


def no_utf8(uri: str, why: str) -> CyxError:
    return invalid(f"The dataset {uri} is no UTF-8 text: {why}.", uri=uri)


def _parse(uri: str, text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise invalid(f"The dataset {uri}: {where} is no JSON: {no_json(error)}.", uri=uri) from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _records(uri: str, rows: Any, options: Mapping[str, str], wanted: Columns) -> Raw:
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict | list):
        raise invalid(f"The dataset {uri} must be a list of objects (or of lists), one a sample.", uri=uri)
    first = rows[0]
    names = list(first) if isinstance(first, dict) else [str(index) for index in range(len(first))]
    of_objects = isinstance(first, dict)
    chosen = choose(uri, names, options, wanted, named=of_objects, by_name=of_objects)
    keys: list[Any] = names if of_objects else list(range(len(names)))
    columns: dict[int, list[Any]] = {index: [] for index in chosen.all}
    for number, row in enumerate(rows, 1):
        if type(row) is not type(first) or (isinstance(row, list) and len(row) != len(names)):
            raise invalid(f"The dataset {uri}: row {number} is not of the same form as the first.", uri=uri, row=number)
        for index, column in columns.items():
            try:
                column.append(row[keys[index]])
            except KeyError:
                raise invalid(
                    f"The dataset {uri}: row {number} has no {names[index]!r}, the first row has.", uri=uri, row=number
                ) from None
    features = [columns[index] for index in chosen.features]
    labels = None if chosen.label is None else columns[chosen.label]
    made = _raw(uri, features, labels, names=[names[index] for index in chosen.features])
    return replace(made, columns=chosen.columns, notes=chosen.notes)


def _raw(uri: str, columns: list[Any], labels: Any, *, names: list[str] | None = None, joined: bool = False) -> Raw:
    """Columns side by side; a single one may hold lists of numbers of one shape. `labels` of None: none are wanted."""
    import numpy as np

    names = names or ["x"]
    arrays = [_array(uri, name, column) for name, column in zip(names, columns, strict=True)]
    if len(arrays) == 1:
        features = arrays[0] if arrays[0].ndim > 1 else arrays[0][:, None]
    else:
        for name, array in zip(names, arrays, strict=True):
            if array.ndim > 1:
                raise invalid(
                    f"The dataset {uri}: column {name} holds lists; then it must be the only feature: "
                    f"?features={name}.",
                    uri=uri,
                )
        features = np.stack(arrays, axis=1)
    check_size(uri, features.size, "values")
    return Raw(features, np.empty(0) if labels is None else _labels(uri, labels), standardize=not joined)


def _array(uri: str, name: str, column: Any) -> Array:
    import numpy as np

    try:
        array = np.array(column, dtype=np.float32) if isinstance(column, list) else None
    except (ValueError, TypeError, OverflowError):
        array = None
    if array is None or array.ndim == 0:
        raise _fault(uri, name, column)
    return array


def _fault(uri: str, name: str, column: Any) -> CyxError:
    for number, value in enumerate(column if isinstance(column, list) else [], 1):
        if not isinstance(value, int | float | list):
            return fault(uri, number, name, value)
    return invalid(f"The dataset {uri}: column {name} must hold numbers, or lists of one shape.", uri=uri)


def _labels(uri: str, values: Any) -> Array:
    import numpy as np

    if not isinstance(values, list) or not values:
        raise invalid(f"The dataset {uri} has no list of labels.", uri=uri)
    if None in values:
        row = values.index(None)
        raise invalid(f"The dataset {uri} has no label in sample {row} (from 0); fill or drop it.", uri=uri, sample=row)
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    try:
        labels = np.array(values)
    except ValueError:
        labels = np.array(None)
    if labels.dtype.kind not in "biuf" or labels.ndim == 0:
        raise invalid(f"The dataset {uri} has labels that are neither all numbers nor all text.", uri=uri)
    return labels
