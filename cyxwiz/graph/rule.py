"""What is declared of a type of layer: its parameters, the shape it gives, and what it costs.

Shapes leave out the batch; channels come last: images are (H, W, C), sequences (T, F), volumes (D, H, W, C).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph.params import Param, Params

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Trainable parameters and the floating-point operations of one sample's forward pass (2 per multiply-add)."""

    parameters: int
    forward_flops: int


@dataclass(frozen=True, slots=True)
class Site:
    """One layer with the shapes that come in: what a rule decides on, and what a module is made from."""

    id: str
    type: str
    params: Params
    inputs: tuple[Shape, ...]

    @property
    def given(self) -> Shape:
        return self.inputs[0]

    def integer(self, name: str) -> int:
        value = self.params[name]
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        value = self.params[name]
        assert isinstance(value, int | float)
        return float(value)

    def flag(self, name: str) -> bool:
        return bool(self.params[name])

    def word(self, name: str) -> str:
        value = self.params[name]
        assert isinstance(value, str)
        return value

    def whole(self, name: str) -> tuple[int, ...]:
        """A parameter of several whole numbers."""
        value = self.params[name]
        assert isinstance(value, tuple)
        return tuple(int(size) for size in value)

    def sizes(self, name: str, axes: int) -> tuple[int, ...]:
        """A parameter of sizes, one per axis; one alone counts for every axis."""
        value = self.whole(name)
        if len(value) == 1:
            return value * axes
        if len(value) != axes:
            raise self.refuse(f"one {name} or {axes} of them", str(list(value)))
        return value

    def axis(self, name: str, rank: int) -> int:
        """An axis parameter from 0; negative values count from the end. One past the last is the last: so graphs name
        it that count the batch, as the editor's Concatenate does with its 1 on rows."""
        return self.position(self.integer(name), rank)

    def position(self, value: int, rank: int) -> int:
        if not -rank <= value <= rank:
            raise self.refuse(f"an axis from {-rank} to {rank - 1}", str(value))
        return rank - 1 if value == rank else value % rank

    def refuse(self, expected: str, got: Shape | str, hint: str = "") -> CyxError:
        """INVALID that names the layer, what it needs and what it has."""
        shown = got if isinstance(got, str) else show(got)
        return invalid(
            f"layer {self.id} ({self.type}): expected {expected}, got {shown}.{hint and ' ' + hint}",
            layer=self.id,
            type=self.type,
            expected=expected,
            got=shown,
        )


def show(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _no_params() -> Mapping[str, Param]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rule:
    """A type of layer. `shape` and `cost` refuse with CyxError INVALID what cannot be built.

    `takes` and `gives` say the same for the documentation. `inputs` are the fewest and the most layers that it reads.
    """

    takes: str
    gives: str
    shape: Callable[[Site], Shape]
    cost: Callable[[Site, Shape], Cost]
    params: Mapping[str, Param] = field(default_factory=_no_params)
    inputs: tuple[int, int] = (1, 1)
