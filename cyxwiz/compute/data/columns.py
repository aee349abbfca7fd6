"""Which columns of a table are features and which is the label, by the options of the URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cyxwiz.domain.errors import CyxError, invalid

LABELS = ("label", "labels", "target", "class", "y")  # where no option says which column is the label
MAX_COLUMNS = 100_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Indices of columns, from 0."""

    features: tuple[int, ...]
    label: int


def choose(uri: str, names: Sequence[str], options: Mapping[str, str], *, by_name: bool) -> Chosen:
    """The columns that the options name; without them the label is the last column, all others are features.

    `by_name`: a column named as in LABELS comes before the last one, as the order of columns says little there.
    """
    if not 2 <= len(names) <= MAX_COLUMNS:
        raise invalid(
            f"The dataset {uri} needs a feature column and a label column, at most {MAX_COLUMNS} in all; it has "
            f"{len(names)}.",
            uri=uri,
        )
    if "label" in options:
        label = _find(uri, names, options["label"])
    else:
        lower = [name.lower() for name in names] if by_name else []
        label = next((lower.index(word) for word in LABELS if word in lower), len(names) - 1)
    if "features" in options:
        features = tuple(_find(uri, names, word) for word in options["features"].split(","))
    else:
        features = tuple(index for index in range(len(names)) if index != label)
    if label in features or len(set(features)) < len(features):
        raise invalid(f"The dataset {uri} names a column twice among ?features= and ?label=.", uri=uri)
    return Chosen(features, label)


def _find(uri: str, names: Sequence[str], word: str) -> int:
    word = word.strip()
    if word in names:
        return list(names).index(word)
    if word.isdecimal() and len(word) < 9 and int(word) < len(names):
        return int(word)
    known = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise invalid(f"The dataset {uri} has no column {word!r}; it has {known}.", uri=uri, column=word)


def fault(uri: str, row: int, column: str, got: object) -> CyxError:
    """`row` counts from 1, as an editor does."""
    return invalid(
        f"The dataset {uri}: row {row}, column {column} holds {str(got)[:40]!r}, which is no number; fill it, or leave "
        "the column out with ?features=.",
        uri=uri,
        row=row,
        column=column,
    )
