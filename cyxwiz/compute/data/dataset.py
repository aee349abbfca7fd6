"""What every reader gives: `Raw` as it stands in the files, and the `Dataset` that training takes.

Bounds: MAX_BYTES of one file, MAX_VALUES features in all, MAX_CLASSES classes. Refuses with CyxError naming the URI.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.tables import is_number
from cyxwiz.graph.dataset_uri import DataShape
from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_BYTES = 4 * 1024**3
MAX_VALUES = 2**30
MAX_CLASSES = 65_536
MAX_LABEL = 200  # characters of a label that is text


@dataclass(frozen=True, slots=True)
class Dataset:
    """Features as float32, labels as int64 classes (n, or n x … with one for every step) or float32 targets
    (n x targets)."""

    uri: str
    features: Array
    labels: Array
    classes: int | None
    standardize: bool = False
    divisor: float = 1.0  # what the features were divided by to fit 0..1
    class_names: tuple[str, ...] = ()  # of class 0, 1, …, where the classes have names
    fields: Mapping[str, Array] = field(default_factory=dict[str, Any])  # further arrays of an npz, float32, n each
    streamed: bool = False  # a client streams it: what is held out of it is drawn before its labels are known
    columns: Columns = TRAINING  # the names of what a table has, where it has names
    notes: tuple[Logged, ...] = ()  # for the job's log
    nominal: bool = False  # as `DataShape` has it

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of one sample's classes: () for one, (T,) for one a step; () as well for numbers to predict."""
        return tuple(self.labels.shape[1:]) if self.classes is not None else ()

    @property
    def shape(self) -> DataShape:
        targets = 1 if self.classes is not None else int(self.labels.shape[1])
        fields = {name: tuple(array.shape[1:]) for name, array in self.fields.items()}
        shape = tuple(self.features.shape[1:])
        return DataShape(
            len(self.features), shape, self.classes, targets, self.label_shape, fields, self.nominal, self.standardize
        )

    def as_targets(self) -> Dataset:
        """The same with its labels as numbers to predict."""
        import numpy as np

        targets = self.labels.reshape(len(self.labels), -1).astype(np.float32)
        return replace(self, labels=targets, classes=None, class_names=())


@dataclass(slots=True)
class Raw:
    """Features n x … of numbers, labels n or n x … of numbers, or n objects that are text; none where none are wanted.

    Whole numbers are classes, several in a row one for every step, and floating ones are to be predicted, unless the
    job's loss reads them otherwise. Text is whole where all of it is written so.
    `names` names the classes where the labels are numbers already.
    """

    features: Array
    labels: Array
    standardize: bool = False
    names: tuple[str, ...] = ()
    fields: dict[str, Array] = field(default_factory=dict[str, Any])
    columns: Columns = TRAINING
    notes: tuple[Logged, ...] = ()


def check_size(uri: str, size: int, what: str = "bytes") -> None:
    bound = MAX_BYTES if what == "bytes" else MAX_VALUES
    if size > bound:
        raise invalid(f"The dataset {uri} has {size} {what}; at most {bound} are read.", uri=uri, bound=bound)


def joined(parts: Sequence[Raw], uri: str) -> Raw:
    """The parts one after the other; INVALID if their shapes, or the names of their columns, differ."""
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    shapes = {(part.features.shape[1:], part.labels.shape[1:]) for part in parts}
    kinds = {part.labels.dtype == object for part in parts}
    if len(kinds) > 1:
        raise invalid(
            f"The dataset {uri} has labels that are text in some of its files and numbers in others.", uri=uri
        )
    if len(shapes) > 1:
        raise invalid(f"The dataset {uri} has files whose columns differ: {sorted(map(str, shapes))[:3]}.", uri=uri)
    names = {(*part.columns.features, part.columns.label) for part in parts if part.columns.features}
    if len(names) > 1:
        shown = "; ".join(sorted(", ".join(each)[:200] for each in names)[:2])
        raise invalid(f"The dataset {uri} has files whose columns have other names: {shown}.", uri=uri)
    check_size(uri, sum(part.features.size for part in parts), "values")
    features = np.concatenate([part.features for part in parts])
    return replace(parts[0], features=features, labels=np.concatenate([part.labels for part in parts]), fields={})


def labelled(uri: str, raw: Raw, reads: str = "") -> Dataset:
    """Checks that features and labels are finite and go together; whole labels become classes, bytes are scaled."""
    import numpy as np

    check_rows(uri, raw)
    features = raw.features
    divisor = 255.0 if features.dtype == np.uint8 else 1.0
    features = _finite(uri, features, "column") / np.float32(divisor)
    further = {name: _finite(uri, array, f"the array {name} at") for name, array in raw.fields.items()}
    labels, classes, names = labels_of(uri, raw, reads)
    return Dataset(
        uri,
        features,
        labels,
        classes,
        raw.standardize,
        divisor,
        names,
        further,
        columns=raw.columns,
        notes=raw.notes,
        nominal=bool(names),
    )


def check_rows(uri: str, raw: Raw) -> None:
    """CyxError INVALID unless there are samples with features, and a label each."""
    if len(raw.features) != len(raw.labels):
        raise invalid(f"The dataset {uri} has {len(raw.features)} samples but {len(raw.labels)} labels.", uri=uri)
    if not len(raw.features) or raw.features.ndim < 2 or raw.features[0].size == 0:
        raise invalid(f"The dataset {uri} has no samples with features.", uri=uri)


def labels_of(uri: str, raw: Raw, reads: str = "") -> tuple[Array, int | None, tuple[str, ...]]:
    """(labels as a `Dataset` has them, classes or None, the classes' names). `reads` is `labels_for` of the job's loss:
    where that is on classes, floating labels may stand for some, and where it is on numbers, whole ones need not be
    classes."""
    import numpy as np

    labels, names = raw.labels, raw.names
    if labels.dtype == object:
        labels, names = _words(uri, labels)
    single = labels.size == len(labels)
    if reads == "classes" and single and labels.dtype.kind == "f" and _are_classes(labels):
        labels = labels.astype(np.int64)
    whole = labels.dtype.kind in "biu"
    if whole and (not single or reads == "numbers") and not _are_classes(labels):
        whole = False  # as steps have no such classes either, they can only be meant as numbers
    if not whole:
        return _finite(uri, labels.reshape(len(labels), -1), "label"), None, ()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise invalid(
            f"The dataset {uri} has whole labels from {low} to {high}; classes run from 0 to {MAX_CLASSES - 1}. "
            "To predict them as numbers name a loss such as MSELoss.",
            uri=uri,
        )
    labels = labels.astype(np.int64)
    return labels.reshape(len(labels)) if single else labels, max(2, high + 1, len(names)), names


def _are_classes(labels: Array) -> bool:
    import numpy as np

    return bool((labels == np.rint(labels)).all()) and 0 <= labels.min() <= labels.max() < MAX_CLASSES


def _finite(uri: str, values: Array, where: str) -> Array:
    import numpy as np

    values = as_float32(values)
    if not np.isfinite(values).all():
        raise _not_finite(uri, np.isfinite(values), where, "missing or infinite")
    return values


def not_infinite(uri: str, values: Array) -> Array:
    """Features as float32, where NaN is a missing value. Raises CyxError INVALID for what is infinite in float32."""
    import numpy as np

    values = as_float32(values)
    if np.isinf(values).any():
        raise _not_finite(uri, ~np.isinf(values), "column", "infinite")
    return values


def as_float32(values: Any) -> Array:
    """What is too large becomes infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _not_finite(uri: str, sound: Array, where: str, what: str) -> CyxError:
    import numpy as np

    row, *rest = np.unravel_index(int(np.argmin(sound)), sound.shape)
    place = ", ".join(str(int(each)) for each in rest)
    return invalid(
        f"The dataset {uri} holds {what} values, first in sample {int(row)}, {where} {place} (from 0); fill or drop "
        "them.",
        uri=uri,
        sample=int(row),
    )


def _words(uri: str, labels: Array) -> tuple[Array, tuple[str, ...]]:
    """Labels written as text: whole numbers if all are written so, else numbers, else classes in sorted order."""
    import numpy as np

    words = [str(label).strip() for label in labels]
    distinct = sorted(set(words))
    if "" in distinct:
        row = words.index("")
        raise invalid(f"The dataset {uri} has no label in sample {row} (from 0); fill or drop it.", uri=uri, sample=row)
    if all(word[word[0] in "+-" :].isdecimal() and len(word) < 19 for word in distinct):
        return np.array([int(word) for word in words], dtype=np.int64), ()
    if all(is_number(word) for word in distinct):
        return np.array([float(word) for word in words]), ()
    if len(distinct) > MAX_CLASSES or max(map(len, distinct)) > MAX_LABEL:
        raise invalid(
            f"The dataset {uri} has {len(distinct)} different labels that are text; at most {MAX_CLASSES}, of "
            f"{MAX_LABEL} characters each, make classes. Name another column with ?label=.",
            uri=uri,
        )
    if broken := next((word for word in distinct if not _is_text(word)), None):
        row = words.index(broken)
        raise invalid(
            f"The dataset {uri} has the label {broken!a} in sample {row} (from 0), which is no valid Unicode text; "
            "correct or drop it.",
            uri=uri,
            sample=row,
        )
    numbers = {word: number for number, word in enumerate(distinct)}
    return np.array([numbers[word] for word in words], dtype=np.int64), tuple(distinct)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can write it
        return False
    return True
