"""Which columns of a table are features and which is the label: by the URI's options, by what a model that is asked
learned from, else by one rule for every reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.ports.executor import Logged

LABELS = ("label", "labels", "target", "class", "y")  # where no option says which column is the label
_WARNED = LABELS[:-1]  # a y beside an x is as often a feature
_SHOWN = 20
MAX_COLUMNS = 100_000
MISSING = "missing"  # an option that no URI has: a cell without a value becomes NaN


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table is read for, beyond what its URI says.

    `features` and `label` are the names that a model learned from, empty for training and where the data had none. Rows
    that a model is only asked about need no `labels`; `width` is how many features it reads then, if that is known.
    """

    features: tuple[str, ...] = ()
    label: str = ""
    labels: bool = True
    width: int | None = None

    def document(self) -> dict[str, Any]:
        """The names, as a model's files keep them."""
        return {"features": list(self.features), "label": self.label}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Columns:
        return cls(tuple(str(name) for name in document.get("features", ())), str(document.get("label", "")))


TRAINING = Columns()
ASKING = Columns(labels=False)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Indices of columns, from 0. `label` is None where no labels are wanted; `columns` are the names chosen, where the
    table has names."""

    features: tuple[int, ...]
    label: int | None
    columns: Columns
    notes: tuple[Logged, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return self.features if self.label is None else (*self.features, self.label)


def choose(
    uri: str, names: Sequence[str], options: Mapping[str, str], wanted: Columns, *, named: bool, by_name: bool = False
) -> Chosen:
    """The columns that the options name, else those of the names that the model learned from; without either the label
    is the last column and all others are features.

    `named`: the table names its columns, they are not just numbered. `by_name`: a column named as in LABELS comes
    before the last one, as the order of columns says little there.
    """
    least = 2 if wanted.labels else 1
    if not least <= len(names) <= MAX_COLUMNS:
        raise invalid(
            f"The dataset {uri} needs a feature column and a label column, at most {MAX_COLUMNS} in all; it has "
            f"{len(names)}.",
            uri=uri,
        )
    named = named and len(set(names)) == len(names)
    notes: list[Logged] = []
    known = _known(uri, names, wanted, notes) if named and "features" not in options else None
    label = _label(uri, names, options, wanted, named=named, by_name=named and by_name, known=known)
    if "features" in options:
        features = tuple(_find(uri, names, word) for word in options["features"].split(","))
    else:
        features = known or tuple(index for index in range(len(names)) if index != label)
    if len(set(features)) < len(features) or (label in features and (wanted.labels or "label" in options)):
        raise invalid(f"The dataset {uri} names a column twice among ?features= and ?label=.", uri=uri)
    if wanted.labels:
        assert label is not None
        notes += _told(names, label, options, named=named, by_name=by_name)
    elif left := sorted(set(range(len(names))).difference(features)):
        notes.append(Logged("info", f"columns that are not read: {_listed([names[index] for index in left])}"))
    columns = Columns(tuple(names[at] for at in features), "" if label is None else names[label])
    return Chosen(features, label if wanted.labels else None, columns if named else TRAINING, tuple(notes))


def _known(uri: str, names: Sequence[str], wanted: Columns, notes: list[Logged]) -> tuple[int, ...] | None:
    """The columns that the model learned from; None where it knows none of these names."""
    places = {name: index for index, name in enumerate(names)}
    lacking = [name for name in wanted.features if name not in places]
    if not lacking:
        return tuple(places[name] for name in wanted.features) or None
    if len(lacking) < len(wanted.features):
        raise invalid(
            f"The dataset {uri} has no column {lacking[0]!r}, which the model learned from or the first of its files "
            "has; name its columns in that order with ?features=.",
            uri=uri,
            column=lacking[0],
        )
    notes.append(
        Logged(
            "warning",
            f"the columns are read in their order: none has a name that the model learned from, such as {lacking[0]!r}",
        )
    )
    return None


def _label(
    uri: str,
    names: Sequence[str],
    options: Mapping[str, str],
    wanted: Columns,
    *,
    named: bool,
    by_name: bool,
    known: tuple[int, ...] | None,
) -> int | None:
    """The label's column; None where no labels are wanted and none is there."""
    if "label" in options:
        return _find(uri, names, options["label"])
    width, count = wanted.width, len(names)
    if not wanted.labels and known is None and count in (1, width):
        return None
    if named and wanted.label and wanted.label in names:
        return list(names).index(wanted.label)
    lower = [name.lower() for name in names]
    usual = next((lower.index(word) for word in LABELS if by_name and word in lower), count - 1)
    if known is not None:
        if usual in known and wanted.labels:
            raise invalid(
                f"The dataset {uri} has no column of labels beside what the model reads; name one with ?label=.",
                uri=uri,
            )
        return None if usual in known else usual
    pair = count == 2 and width is not None  # a column of lists or pictures, and its label
    return usual if wanted.labels or count - 1 == width or pair or (named and lower[usual] in LABELS) else None


def _told(names: Sequence[str], label: int, options: Mapping[str, str], *, named: bool, by_name: bool) -> list[Logged]:
    """Which column is the label, and a warning where another one looks more like it."""
    what = repr(names[label][:100]) if named else f"number {label} (from 0)"
    notes = [Logged("info", f"the label is the column {what} of {len(names)}")]
    others = [name for name in names if name.lower() in _WARNED]
    if named and not by_name and "label" not in options and len(others) == 1 and names[label] not in others:
        notes.append(
            Logged(
                "warning",
                f"the column {others[0]!r} is learned from as a feature: a table of text has its label last. If it is "
                f"the label, add ?label={others[0]} to the dataset's URI (#label={others[0]} to a web address)",
            )
        )
    return notes


def _find(uri: str, names: Sequence[str], word: str) -> int:
    word = word.strip()
    if word in names:
        return list(names).index(word)
    if word.isdecimal() and len(word) < 9 and int(word) < len(names):
        return int(word)
    raise invalid(f"The dataset {uri} has no column {word!r}; it has {_listed(names)}.", uri=uri, column=word)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name[:100] for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def fault(uri: str, row: int, column: str, got: object) -> CyxError:
    """`row` counts from 1, as an editor does."""
    return invalid(
        f"The dataset {uri}: row {row}, column {column} holds {str(got)[:40]!r}, which is no number; fill it, or leave "
        "the column out with ?features=.",
        uri=uri,
        row=row,
        column=column,
    )
