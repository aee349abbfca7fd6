"""A checked model definition as a value: layers as a directed acyclic graph, plus what its other nodes say.

Every `Graph` comes from `parse`: its layers are of supported types, in topological order, with parameters in bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.graph.catalogue import ParamValue


def _no_params() -> Mapping[str, ParamValue]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `inputs` names the layers, or the entries of `Graph.inputs`, that it reads."""

    id: str
    type: str  # canonical name, see the catalogue
    name: str
    params: Mapping[str, ParamValue]
    inputs: tuple[str, ...]

    def describe(self) -> str:
        return f"layer {self.id} ({self.type})"


@dataclass(frozen=True, slots=True)
class Part:
    """The loss or the optimizer that the definition asks for; only the parameters that it states."""

    type: str
    params: Mapping[str, ParamValue] = field(default_factory=_no_params)


@dataclass(frozen=True, slots=True)
class Graph:
    """A model: `layers` in topological order. What is None or empty was not stated by the definition."""

    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shape: tuple[int, ...] | None = None
    loss: Part | None = None
    optimizer: Part | None = None
    normalize: tuple[float, float] | None = None  # mean, std
    validation_split: float | None = None
    batch_size: int | None = None
    shuffle: bool | None = None
    one_hot: int | None = None  # classes that the labels are encoded to
    notes: tuple[str, ...] = ()  # what the definition states without any effect, for the job's log

    @property
    def last(self) -> Layer:
        return self.layers[-1]
