"""A checked model definition as a value: layers as a directed acyclic graph, plus what its other nodes say.

Every `Graph` comes from `parse`: its layers are in topological order, with parameters in bounds, and the last one is
the one output that the loss reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.graph.params import ParamValue


def _no_params() -> Mapping[str, ParamValue]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `inputs` names the layers, or the entries of `Graph.inputs`, that it reads, in the order of its pins.

    A Split stands here once for every part that is read, with `part` among its parameters and `ID:PART` as its id.
    """

    id: str
    type: str  # canonical name, see the catalogue
    name: str
    params: Mapping[str, ParamValue]
    inputs: tuple[str, ...]

    def describe(self) -> str:
        return f"layer {self.id} ({self.type})"


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the model, a DatasetInput: the features that it reads and the shape that it gives them."""

    id: str
    shape: tuple[int, ...] | None = None
    columns: tuple[int, int] | None = None  # a half-open range of the sample's flattened features
    field: str | None = None  # the dataset's array of that name; None: its features


@dataclass(frozen=True, slots=True)
class Part:
    """A loss, an optimizer, a schedule, a regulariser or the augmentation that the definition asks for.

    `also` are further losses: all are summed with their `weight`s.
    """

    type: str
    params: Mapping[str, ParamValue] = field(default_factory=_no_params)
    also: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A model: `layers` in topological order. What is None or empty was not stated by the definition."""

    layers: tuple[Layer, ...]
    sources: tuple[Source, ...]
    loss: Part | None = None
    optimizer: Part | None = None
    schedules: tuple[Part, ...] = ()
    regularizers: tuple[Part, ...] = ()
    augment: Part | None = None
    normalize: tuple[float, float] | None = None  # mean, std
    validation_split: float | None = None
    test_split: float | None = None
    batch_size: int | None = None
    shuffle: bool | None = None
    one_hot: int | None = None  # classes that the labels are encoded to
    notes: tuple[str, ...] = ()  # what the definition states without any effect, for the job's log

    @property
    def last(self) -> Layer:
        """The output: every other layer leads to it."""
        return self.layers[-1]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(source.id for source in self.sources)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.last.id,)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape that the only DatasetInput states."""
        return self.sources[0].shape if len(self.sources) == 1 else None
