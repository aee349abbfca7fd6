"""`Param`: how one parameter of a node is read, its bounds, and what it is when the node does not state it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cyxwiz.graph import values

ParamValue = int | float | bool | str | tuple[int, ...] | tuple[float, ...]
Params = Mapping[str, ParamValue]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. A default of None leaves it out of a node that does not state it.

    `kind` is one of: int, float, bool, choice (one of `choices`), word (a name), shape (sizes), sizes (one number for
    every axis, or one per axis), padding (sizes, `same` or `valid`), target (a shape with at most one -1), axes (one or
    several whole numbers), numbers, columns (`from:to`), layer (the type of an inner layer).
    """

    kind: str
    default: ParamValue | None = None
    low: float = 0
    high: float = 0
    above: bool = False  # low itself is refused
    below: bool = False  # high itself is refused
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    required: bool = False
    meaning: str = ""  # for the documentation, where the name does not say it

    def read(self, where: str, value: object) -> ParamValue:
        """The checked value; CyxError INVALID naming `where`, the value and the bound."""
        match self.kind:
            case "int":
                return values.integer(where, value, int(self.low), int(self.high))
            case "float":
                return values.decimal(where, value, self.low, self.high, above=self.above, below=self.below)
            case "bool":
                return values.flag(where, value)
            case "choice":
                return values.choice(where, value, self.choices)
            case "sizes" | "axes":
                return values.integers(where, value, int(self.low), int(self.high))
            case "padding":
                return self._padding(where, value)
            case "target":
                return values.target(where, value)
            case "numbers":
                return values.numbers(where, value)
            case "columns":
                return values.columns(where, value)
            case "word":
                return values.word(where, value)
            case _:
                return values.shape(where, value)

    def _padding(self, where: str, value: object) -> ParamValue:
        if isinstance(value, str) and value.strip().lower() in ("same", "valid"):
            return "same" if value.strip().lower() == "same" else (0,)
        return values.integers(where, value, int(self.low), int(self.high))

    def bound(self) -> str:
        """The bounds in words, for the documentation."""
        if self.kind == "int":
            return f"{int(self.low):,} to {int(self.high):,}"
        if self.kind == "float":
            left, right = "above " if self.above else "", "below " if self.below else ""
            return f"{left}{self.low:g} to {right}{self.high:g}"
        return {
            "bool": "true or false",
            "choice": ", ".join(self.choices),
            "sizes": f"one for all axes or one per axis, {self.low:g} to {self.high:g}",
            "padding": f"same, valid, or {self.low:g} to {self.high:g}",
            "target": "a shape, one size may be -1",
            "axes": "one or several whole numbers",
            "numbers": "a number or a list",
            "columns": "from:to",
            "word": "a name",
            "layer": ", ".join(self.choices) if len(self.choices) < 10 else "any type that reads one input",
            "shape": "sizes of at least 1",
        }[self.kind]


def integer(low: int, high: int, default: int | None = None, *aliases: str, meaning: str = "") -> Param:
    return Param("int", default, low, high, aliases=aliases, meaning=meaning)


def flag(default: bool | None, *aliases: str, meaning: str = "") -> Param:
    return Param("bool", default, aliases=aliases, meaning=meaning)


def axis(default: int | None = -1, meaning: str = "") -> Param:
    return Param("int", default, -values.MAX_RANK, values.MAX_RANK - 1, aliases=("dim",), meaning=meaning)


def needed(param: Param) -> Param:
    """The same parameter, refused when the node does not state it."""
    return Param(
        param.kind, None, param.low, param.high, param.above, param.below, param.aliases, param.choices, True,
        param.meaning,
    )  # fmt: skip
