"""`Model`: the torch module of a whole graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cyxwiz.graph import Shape, Source


@dataclass(frozen=True, slots=True)
class Step:
    """One layer: its module's name, the values that it reads by number, and those that nothing reads after it."""

    module: str
    reads: tuple[int, ...]
    done: tuple[int, ...]


class Entry:
    """What one DatasetInput gives: an array or columns of the features, in the shape that it states."""

    def __init__(self, source: Source, shape: Shape) -> None:
        self.array = source.field or "x"
        self._columns, self._shape = source.columns, shape

    def __call__(self, x: Tensor) -> Tensor:
        if self._columns is not None:
            x = x.flatten(1)[:, self._columns[0] : self._columns[1]]
        return x if x.shape[1:] == self._shape else x.reshape(x.shape[0], *self._shape)


class Model(nn.Module):
    """The layers of a graph in their order, named `layer0`, `layer1`, ….

    Reads the features (N, …), or several arrays by name when the graph's inputs name fields.
    """

    def __init__(self, entries: Sequence[Entry], modules: Mapping[str, nn.Module], steps: Sequence[Step]) -> None:
        super().__init__()
        self.entries = tuple(entries)
        for name, module in modules.items():
            self.add_module(name, module)
        self.steps = tuple(steps)

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        values: list[Tensor | None] = [entry(x if isinstance(x, Tensor) else x[entry.array]) for entry in self.entries]
        first = values[0]
        for step in self.steps:
            # A layer that reads nothing still has to know how many samples there are.
            inputs = [values[number] for number in step.reads] or [first]
            values.append(self._modules[step.module](*inputs))  # type: ignore[misc]
            for number in step.done:
                values[number] = None
        made = values[-1]
        assert made is not None
        return made
