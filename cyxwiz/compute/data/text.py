"""Comma- or tab-separated tables, read by NumPy's parser.

The first line is a header if a column holds a word there and a number in the second line, or if the options say so. A
word for a missing value is none.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cyxwiz.compute.data.columns import MAX_COLUMNS, Chosen, Columns, choose, fault
from cyxwiz.compute.data.dataset import Raw, check_size, is_number
from cyxwiz.domain.errors import invalid
from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_DELIMITERS = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";"}
MISSING = "missing"  # an option that no URI has: a cell without a value becomes NaN
_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_LINE = 16 * 1024 * 1024  # characters of a line, at most


def read_text(uri: str, path: Path, delimiter: str, options: Mapping[str, str], wanted: Columns) -> Raw:
    """A table of text; `delimiter` holds unless the options name another. Labels come as text."""
    import numpy as np

    check_size(uri, path.stat().st_size)
    delimiter = mark_of(options, delimiter)
    try:
        # From an open file: given a name, numpy would also unpack archives, past the limit of size.
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first, second, above = head(uri, lines, delimiter)
            notes: list[Logged] = []
            header = is_header(first, second, options, notes)
            names = first if header else [str(index) for index in range(len(first))]
            chosen = choose(uri, names, options, wanted, named=header)
            skip = above + int(header)
            count, labels = _labels(uri, lines, delimiter, skip, chosen, names)
            check_size(uri, count * len(chosen.features), "values")
            if MISSING in options:
                features = _with_missing(uri, lines, delimiter, skip, chosen, names)
            else:
                features = _features(uri, lines, delimiter, skip, chosen, names)
    except (UnicodeDecodeError, csv.Error) as error:
        raise invalid(f"The dataset {uri} is no table of text: {str(error)[:200]}.", uri=uri) from error
    made = np.array(labels, dtype=object)
    return Raw(features, made, standardize=True, columns=chosen.columns, notes=(*chosen.notes, *notes))


def delimiter_of(path: Path) -> str:
    """By the first line: a tab, a semicolon or a comma, else blanks."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(_LINE)
    return next((mark for mark in "\t,;" if mark in first), " ")


def mark_of(options: Mapping[str, str], delimiter: str) -> str:
    """What stands between two columns: as the options say, else `delimiter`."""
    given = options.get("delimiter", delimiter)
    return _DELIMITERS.get(given, given)


def head(uri: str, lines: IO[str], delimiter: str) -> tuple[list[str], list[str], int]:
    """The fields of the first two lines that are not empty, and how many empty ones stand above them."""
    found: list[list[str]] = []
    above = 0
    while len(found) < 2 and (line := lines.readline(_LINE)):
        if len(line) >= _LINE:
            raise invalid(f"The dataset {uri} has a line of more than {_LINE} characters.", uri=uri)
        if line.strip():
            found += list(_rows([line], delimiter))
        elif not found:
            above += 1
    first, second = [*found, [], []][:2]
    if len(first) > MAX_COLUMNS:
        raise invalid(f"The dataset {uri} has {len(first)} columns; at most {MAX_COLUMNS} are read.", uri=uri)
    return [field.strip() for field in first], second, above


def _rows(lines: Any, delimiter: str) -> Any:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")


def is_header(first: Sequence[str], second: Sequence[str], options: Mapping[str, str], notes: list[Logged]) -> bool:
    """Whether the first line names the columns; a warning is added to `notes` where it could as well be a row."""
    if "header" in options:
        return options["header"] == "true"
    if not second:
        return not any(is_number(field) for field in first)
    words = [
        word
        for word, below in zip(first, second, strict=False)
        if word.lower() not in _NOTHING and not is_number(word) and is_number(below)
    ]
    if words and any(is_number(field) for field in first):
        notes.append(
            Logged(
                "warning",
                f"the first line is taken for the columns' names, as {words[0][:100]!r} stands above a number. If "
                "it is a row, add ?header=false to the dataset's URI (#header=false to a web address)",
            )
        )
    return bool(words)


def body(lines: IO[str], delimiter: str, skip: int) -> Iterator[tuple[int, list[str]]]:
    """Every row below the header with its number, from 1."""
    lines.seek(0)
    for number, row in enumerate(_rows(lines, delimiter), 1):
        if number > skip and row:
            yield number, row


def _labels(
    uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]
) -> tuple[int, list[str]]:
    """(rows, the column of labels, if one is wanted); refuses a row with more or fewer columns than the first."""
    labels: list[str] = []
    count = 0
    for number, row in body(lines, delimiter, skip):
        if len(row) != len(names):
            raise invalid(
                f"The dataset {uri}: row {number} has {len(row)} columns, the first has {len(names)}.",
                uri=uri,
                row=number,
            )
        count += 1
        if chosen.label is not None:
            labels.append(row[chosen.label])
    return count, labels


def _with_missing(uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]) -> Array:
    import numpy as np

    rows: list[Array] = []
    for number, row in body(lines, delimiter, skip):
        made = np.empty(len(chosen.features), np.float32)
        for at, index in enumerate(chosen.features):
            word = row[index].strip()
            if word.lower() in _NOTHING:
                made[at] = np.nan
            elif is_number(word):
                made[at] = float(word)
            else:
                raise fault(uri, number, names[index], word)
        rows.append(made)
    return np.stack(rows) if rows else np.empty((0, len(chosen.features)), np.float32)


def _features(uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]) -> Array:
    import numpy as np

    separator = None if delimiter == " " else delimiter  # None: any run of blanks
    lines.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an empty table, which is refused later
            return np.loadtxt(
                lines,
                dtype=np.float32,
                delimiter=separator,
                skiprows=skip,
                usecols=chosen.features,
                comments=None,
                quotechar='"',
                ndmin=2,
            )
    except ValueError as error:
        # Which value it was, as numpy counts rows in its own way.
        for number, row in body(lines, delimiter, skip):
            for index in chosen.features:
                if not is_number(row[index]):
                    raise fault(uri, number, names[index], row[index]) from None
        raise invalid(f"The dataset {uri} is no table of numbers: {str(error)[:200]}.", uri=uri) from None
