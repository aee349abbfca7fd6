"""Which datasets a job may name, and whether a model fits one, decided without touching any data.

`check_dataset_uri` refuses an unknown scheme or set as INVALID and a scheme of later versions as UNSUPPORTED.
`check_model_fits` compares a graph with what is known of the set by its name alone; `check_fits` with what was read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.ir import Graph
from cyxwiz.graph.shapes import cost, infer

MAX_URI = 2048


@dataclass(frozen=True, slots=True)
class DatasetUri:
    """`scheme` is builtin, mock, file or blob; `kind` the builtin's name, csv, mnist or sha256; `rest` what follows."""

    scheme: str
    kind: str
    rest: str


@dataclass(frozen=True, slots=True)
class DataShape:
    """`classes` is None for a regression; `targets` counts the numbers to predict (1 for a classification)."""

    samples: int
    features: tuple[int, ...]
    classes: int | None
    targets: int = 1


BUILTIN: Mapping[str, DataShape] = MappingProxyType(
    {
        "digits": DataShape(1797, (64,), 10),
        "iris": DataShape(150, (4,), 3),
        "wine": DataShape(178, (13,), 3),
        "breast_cancer": DataShape(569, (30,), 2),
        "diabetes": DataShape(442, (10,), None, 1),
        "linnerud": DataShape(20, (3,), None, 3),
    }
)
MOCK = DataShape(1000, (784,), 10)

_LATER = ("https", "http", "s3", "hf", "ipfs", "remote")
_FILES = ("csv", "mnist")
_FORMS = "Use builtin:NAME, file://csv/PATH, file://mnist/DIRECTORY, blob://sha256/HEX or mock://NAME."
_CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")
_PROBABILITY_LOSSES = ("BCELoss", "BCEWithLogits")


def check_dataset_uri(uri: str) -> DatasetUri:
    """The parts of a dataset's URI; CyxError INVALID or UNSUPPORTED, naming the URI and what to write instead."""
    shown = values.quote(uri)
    if not isinstance(uri, str) or not uri.strip() or len(uri) > MAX_URI or not uri.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid(f"The dataset URI {shown} is empty, too long or not printable. {_FORMS}", uri=shown)
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if not colon:
        raise invalid(f"The dataset URI {shown} has no scheme. {_FORMS}", uri=shown)
    if scheme == "builtin":
        return _builtin(rest.removeprefix("//"), shown)
    if scheme in _LATER:
        raise unsupported(f"Datasets of {scheme}:// ({shown}) cannot be read yet. {_FORMS}", uri=shown, scheme=scheme)
    if scheme not in ("mock", "file", "blob") or not rest.startswith("//"):
        raise invalid(f"The dataset URI {shown} has an unknown scheme. {_FORMS}", uri=shown)
    rest = rest[2:]
    if scheme == "mock":
        return DatasetUri("mock", "random", rest)
    kind, _, rest = rest.partition("/")
    return _blob(kind, rest, shown) if scheme == "blob" else _file(kind, rest, shown)


def _builtin(name: str, shown: str) -> DatasetUri:
    name = name.strip().lower().replace("-", "_")
    if name not in BUILTIN:
        known = ", ".join(BUILTIN)
        raise invalid(f"There is no built-in dataset {shown}. Known: {known}.", uri=shown, known=list(BUILTIN))
    return DatasetUri("builtin", name, "")


def _file(kind: str, rest: str, shown: str) -> DatasetUri:
    if kind == "cifar10":
        raise unsupported(f"file://cifar10 ({shown}) cannot be read yet. {_FORMS}", uri=shown, scheme="file://cifar10")
    if kind not in _FILES:
        raise invalid(f"The dataset URI {shown} must start with file://csv/ or file://mnist/.", uri=shown)
    if not rest.strip("/"):
        raise invalid(f"The dataset URI {shown} names no path after file://{kind}/.", uri=shown)
    return DatasetUri("file", kind, rest)


def _blob(kind: str, rest: str, shown: str) -> DatasetUri:
    if kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", rest):
        raise invalid(f"The dataset URI {shown} must be blob://sha256/ and 64 lower-case hex digits.", uri=shown)
    return DatasetUri("blob", kind, rest)


def known_shape(uri: DatasetUri) -> DataShape | None:
    """What is known of a dataset by its URI alone."""
    return BUILTIN.get(uri.kind) if uri.scheme == "builtin" else MOCK if uri.scheme == "mock" else None


def default_loss(classes: int | None) -> str:
    return "MSELoss" if classes is None else "CrossEntropyLoss"


def check_model_fits(graph: Graph, uri: str, loss: str | None = None) -> None:
    """CyxError INVALID naming the layer, what was expected and what it has, when the model cannot learn that dataset.

    `loss` is the catalogue name that the job asks for; by default the graph's own, else the dataset's usual one.
    """
    data = known_shape(check_dataset_uri(uri))
    if data is not None:
        check_fits(graph, data, values.quote(uri), loss)
    elif graph.input_shape is not None:
        cost(graph, graph.input_shape)


def check_fits(graph: Graph, data: DataShape, shown: str, loss: str | None = None) -> None:
    """The same check against a dataset that is known by its shape; `shown` names it in the message."""
    chosen = loss or (graph.loss.type if graph.loss is not None else default_loss(data.classes))
    if graph.input_shape is not None and math.prod(graph.input_shape) != math.prod(data.features):
        raise invalid(
            f"The model's input {graph.inputs[0]} has {_times(graph.input_shape)} features, "
            f"the dataset {shown} has {_times(data.features)}.",
            layer=graph.inputs[0],
            expected=math.prod(data.features),
            got=math.prod(graph.input_shape),
        )
    if cost(graph, data.features).parameters == 0:
        raise invalid(f"{graph.last.describe()}: no layer of the model has weights to train; add a Dense layer.")
    shape = infer(graph, data.features)[graph.last.id]
    _check_loss(graph, data, chosen, shown)
    _check_width(graph, data, chosen, shown, math.prod(shape))


def _check_loss(graph: Graph, data: DataShape, loss: str, shown: str) -> None:
    if data.classes is None and loss in _CLASS_LOSSES + _PROBABILITY_LOSSES:
        raise invalid(
            f"The loss {loss} needs classes, the dataset {shown} has numbers to predict; use MSELoss.", loss=loss
        )
    if loss == "BCELoss" and not _ends_in_probability(graph):
        raise invalid(
            f"{graph.last.describe()}: BCELoss needs a Sigmoid as last layer; add one, or use BCEWithLogits.",
            layer=graph.last.id,
            loss=loss,
        )


def _ends_in_probability(graph: Graph) -> bool:
    kinds = [layer.type for layer in graph.layers if layer.type not in ("Identity", "Output", "Flatten")]
    return bool(kinds) and kinds[-1] in ("Sigmoid", "Softmax")


def _check_width(graph: Graph, data: DataShape, loss: str, shown: str, width: int) -> None:
    if data.classes is None:
        expected, fits = f"{data.targets}", width == data.targets
    elif loss not in _CLASS_LOSSES and data.classes <= 2:
        expected, fits = "1, or at least 2", width >= 1
    else:
        expected, fits = f"at least {data.classes}", width >= data.classes
    if fits and graph.one_hot is not None and data.classes is not None and graph.one_hot < data.classes:
        raise invalid(
            f"OneHotEncode has num_classes {graph.one_hot}, the dataset {shown} has {data.classes} classes.",
            expected=data.classes,
            got=graph.one_hot,
        )
    if not fits:
        raise invalid(
            f"{graph.last.describe()} has {width} outputs, the dataset {shown} needs {expected} with {loss}.",
            layer=graph.last.id,
            expected=expected,
            got=width,
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
