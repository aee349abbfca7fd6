"""Comma- or tab-separated tables, read by NumPy's parser.

The first line is a header if a column holds a word there and a number in the second line, or if the options say so. A
word for a missing value is none.
"""

from __future__ import annotations

import csv
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cyxwiz.compute.data.columns import MAX_COLUMNS, MISSING, Chosen, Columns, choose, fault
from cyxwiz.compute.data.dataset import Raw, as_float32, check_size
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.tables import NOTHING, is_number, titles
from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_DELIMITERS = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";"}
_LINE = 16 * 1024 * 1024  # characters of a line, at most
BROKEN = (UnicodeDecodeError, csv.Error)  # what is no table of text


def no_text(uri: str, error: Exception) -> CyxError:
    return invalid(f"The dataset {uri} is no table of text: {str(error)[:200]}.", uri=uri)


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
    except BROKEN as error:
        raise no_text(uri, error) from error
    made = np.array(labels, dtype=object)
    return Raw(features, made, standardize=True, columns=chosen.columns, notes=(*chosen.notes, *notes))


def delimiter_of(path: Path) -> str:
    """A comma in a .csv; else by the first line a tab, a comma or a semicolon, else blanks. What was uploaded has no
    name, and is taken for a .csv unless its first line has no comma."""
    ending = path.suffix.lower()
    if ending == ".csv":
        return ","
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(_LINE)
    marks, other = ("\t,;", " ") if ending else (",\t;", ",")
    return next((mark for mark in marks if mark in first), other)


def mark_of(options: Mapping[str, str], delimiter: str) -> str:
    """What stands between two columns: as the options say, else `delimiter`."""
    given = options.get("delimiter", delimiter)
    return _DELIMITERS.get(given, given)


def head(uri: str, lines: IO[str], delimiter: str) -> tuple[list[str], list[str], int]:
    """The fields of the first two rows that are not blank, and how many blank ones stand above them."""
    found: list[list[str]] = []
    above = 0
    for row in _rows(_bounded(uri, lines), delimiter):
        if not _is_blank(row):
            found.append([field.strip() for field in row])
            if len(found) == 2:
                break
        elif not found:
            above += 1
    first, second = [*found, [], []][:2]
    if len(first) > MAX_COLUMNS:
        raise invalid(f"The dataset {uri} has {len(first)} columns; at most {MAX_COLUMNS} are read.", uri=uri)
    _same_delimiter(uri, first, second)
    if len(first) > 1 and not first[-1] and _ends_empty(lines, delimiter, len(first)):
        first, second = first[:-1], second[: len(first) - 1]
    return first, second, above


def _bounded(uri: str, lines: IO[str]) -> Iterator[str]:
    while line := lines.readline(_LINE):
        if len(line) >= _LINE:
            raise invalid(f"The dataset {uri} has a line of more than {_LINE} characters.", uri=uri)
        yield line


def _same_delimiter(uri: str, first: Sequence[str], second: Sequence[str]) -> None:
    for word, mark in _DELIMITERS.items():
        if len(first) == len(second) == 1 and first[0].count(mark) == second[0].count(mark) > 0 and mark != " ":
            raise invalid(f"The dataset {uri} is split at {mark!r}: add the option delimiter={word}.", uri=uri)


def _ends_empty(lines: IO[str], delimiter: str, width: int) -> bool:
    """Whether what looks like a last column is but a delimiter at the end of every line."""
    lines.seek(0)
    return not any(len(row) >= width and row[-1].strip() for row in _rows(lines, delimiter))


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    if delimiter == " ":
        lines = (line.rstrip() + "\n" for line in lines)  # blanks at the end are no column
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")


def _is_blank(row: Sequence[str]) -> bool:
    return len(row) < 2 and not "".join(row).strip()


def is_header(first: Sequence[str], second: Sequence[str], options: Mapping[str, str], notes: list[Logged]) -> bool:
    """Whether the first line names the columns; a warning is added to `notes` where it could as well be a row."""
    if "header" in options:
        return options["header"] == "true"
    if not second:
        return not any(is_number(field) for field in first)
    words = titles(first, second)
    if words and any(is_number(field) for field in first):
        notes.append(
            Logged(
                "warning",
                f"the first line is taken for the columns' names, as {words[0][:100]!r} stands above a number. If "
                "it is a row, add ?header=false to the dataset's URI (#header=false to a web address)",
            )
        )
    return bool(words)


def body(uri: str, lines: IO[str], delimiter: str, skip: int, width: int) -> Iterator[tuple[int, list[str]]]:
    """Every row below the header with its number, from 1; blank ones are left out, and a delimiter at a row's end is no
    column. Raises CyxError INVALID for a row of another width."""
    lines.seek(0)
    for number, row in enumerate(_rows(lines, delimiter), 1):
        if number <= skip or _is_blank(row):
            continue
        if len(row) == width + 1 and not row[-1].strip():
            row.pop()
        if len(row) != width:
            raise invalid(
                f"The dataset {uri}: row {number} has {len(row)} columns, the first has {width}.", uri=uri, row=number
            )
        yield number, row


def _labels(
    uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]
) -> tuple[int, list[str]]:
    """(rows, the column of labels, if one is wanted)."""
    labels: list[str] = []
    count = 0
    for _, row in body(uri, lines, delimiter, skip, len(names)):
        count += 1
        if chosen.label is not None:
            labels.append(row[chosen.label])
    return count, labels


def _with_missing(uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]) -> Array:
    import numpy as np

    rows: list[Array] = []
    for number, row in body(uri, lines, delimiter, skip, len(names)):
        made = np.empty(len(chosen.features))
        for at, index in enumerate(chosen.features):
            word = row[index].strip()
            if word.lower() in NOTHING:
                made[at] = np.nan
            elif is_number(word):
                made[at] = float(word)
            else:
                raise fault(uri, number, names[index], word)
        rows.append(as_float32(made))
    return np.stack(rows) if rows else np.empty((0, len(chosen.features)), np.float32)


def _features(uri: str, lines: IO[str], delimiter: str, skip: int, chosen: Chosen, names: Sequence[str]) -> Array:
    import numpy as np

    separator = None if delimiter == " " else delimiter  # None: any run of blanks
    lines.seek(0)
    for _ in itertools.islice(_rows(lines, delimiter), skip):
        pass  # a row of the header may go over several lines, which numpy would count
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an empty table, which is refused later
            return np.loadtxt(
                (line for line in lines if line.strip()),
                dtype=np.float32,
                delimiter=separator,
                usecols=chosen.features,
                comments=None,
                quotechar='"',
                ndmin=2,
            )
    except ValueError as error:
        # Which value it was, as numpy counts rows in its own way.
        for number, row in body(uri, lines, delimiter, skip, len(names)):
            for index in chosen.features:
                if not is_number(row[index]):
                    raise fault(uri, number, names[index], row[index]) from None
        raise invalid(f"The dataset {uri} is no table of numbers: {str(error)[:200]}.", uri=uri) from None
