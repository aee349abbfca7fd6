"""`Kernel`: a named operation on arrays, with what it takes; and the readers of its parameters.

A kernel's arithmetic is written once against `call.xp`, which is NumPy or CuPy. A package of the node's owner adds its
own through the entry point group `cyxwiz.kernels`: see docs/guides/compute.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.operation import ELEMENT_BYTES

SECTION = "node.operations"  # of the node's settings: refusals name the one that holds
FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "int32", "int64")
ALL = tuple(ELEMENT_BYTES)
_SHOWN = 60

Shape = tuple[int, ...]
Outputs = Mapping[str, Any]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


@dataclass(frozen=True, slots=True)
class Parameter:
    """How the text of a parameter is read. `read` raises ValueError for what is not `expects`."""

    read: Callable[[str], Any]
    expects: str
    default: Any = REQUIRED


def flag(default: bool = False) -> Parameter:
    """`true` or `false`."""
    return Parameter({"true": True, "false": False}.__getitem__, "true or false", default)


def number(
    default: float = REQUIRED,
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> Parameter:
    """A finite decimal number within bounds."""

    def read(text: str) -> float:
        value = float(_plain(text))
        if not math.isfinite(value) or not (at_least <= value <= at_most and above < value < below):
            raise ValueError(text)
        return value

    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    words = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
    return Parameter(read, " ".join(["a finite number", " and ".join(words)]).strip(), default)


def whole(default: int = REQUIRED, *, at_least: int = 0, at_most: int = 2**31 - 1) -> Parameter:
    """A whole number within bounds."""

    def read(text: str) -> int:
        value = int(_plain(text))
        if not at_least <= value <= at_most:
            raise ValueError(text)
        return value

    return Parameter(read, f"a whole number from {at_least} to {at_most}", default)


def choice(*names: str, default: str = REQUIRED) -> Parameter:
    """One of some words."""
    return Parameter({name: name for name in names}.__getitem__, f"one of {', '.join(names)}", default)


def wholes(
    default: Shape | None = REQUIRED, *, counts: Sequence[int] = (), at_least: int = 0, at_most: int = 2**31 - 1
) -> Parameter:
    """Whole numbers: `2`, `2,3` or `[2, 3]`. `counts` are the allowed numbers of them; empty allows any up to 16."""

    def read(text: str) -> Shape:
        inner = text.strip()
        if inner.startswith("[") or inner.endswith("]"):
            listed = json.loads(inner)
            parts = [str(part) if type(part) is int else "no" for part in listed]
        else:
            parts = inner.split(",")
        values = tuple(int(_plain(part.strip())) for part in parts)
        if any(not at_least <= value <= at_most for value in values):
            raise ValueError(text)
        if len(values) not in (counts or range(1, 17)):
            raise ValueError(text)
        return values

    many = f"{' or '.join(map(str, counts))} " if counts else ""
    return Parameter(read, f"{many}whole numbers from {at_least} to {at_most}", default)


def pair(default: Shape = REQUIRED, *, at_least: int = 0) -> Parameter:
    """One whole number for both, or two: rows, columns."""
    inner = wholes(default, counts=(1, 2), at_least=at_least, at_most=2**20)

    def read(text: str) -> Shape:
        values = inner.read(text)
        return (values[0], values[-1])

    return Parameter(read, f"one or two whole numbers from {at_least}", default)


def either(first: Parameter, second: Parameter) -> Parameter:
    """What the first reads or else the second."""

    def read(text: str) -> Any:
        try:
            return first.read(text)
        except (ValueError, KeyError):
            return second.read(text)

    return Parameter(read, f"{first.expects}, or {second.expects}", first.default)


def _plain(text: str) -> str:
    """The text of a number. Python alone would also take 1_000, other scripts' digits and spaces around."""
    if not text or not text.isascii() or text.strip() != text or "_" in text:
        raise ValueError(text)
    return text


@dataclass(frozen=True, slots=True)
class Call:
    """What a kernel gets: `inputs` are arrays of `xp`, whose shapes and types (by name) stand beside them."""

    xp: Any
    inputs: Sequence[Any]
    shapes: Sequence[Shape]
    dtypes: Sequence[str]
    parameters: Mapping[str, Any]
    room_bytes: int

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter."""
        return self.parameters[name]

    def need(self, true: bool, message: str) -> None:
        """Raises INVALID with the message unless it is true."""
        if not true:
            raise invalid(message)

    def fits(self, shape: Sequence[int], dtype: str, what: str = "The result") -> None:
        """Raises EXHAUSTED when an array of that size is more than may be made. Call it before the arithmetic."""
        size = math.prod(shape) * ELEMENT_BYTES[dtype]
        if size > self.room_bytes:
            message = (
                f"{what} of shape {list(shape)} takes {size} bytes; at most {self.room_bytes} may be made "
                f"({SECTION}.room_bytes of this node)."
            )
            raise CyxError(Code.EXHAUSTED, message, retryable=False)

    def axis(self, value: int, rank: int) -> int:
        """The number of a dimension, counted from the end when it is negative. Raises INVALID outside of the shape."""
        self.need(-rank <= value < rank, f"axis {value} is not in a shape of {rank} dimensions.")
        return value % rank


@dataclass(frozen=True, slots=True)
class Kernel:
    """A named operation.

    Args:
        run: does the arithmetic with `call.xp`; returns the outputs by name, in order.
        check: raises INVALID for shapes that don't fit and calls `call.fits` for what will be made.
        inputs: names of the inputs that must be there.
        optional: names of those that may follow.
        dtypes: the types that inputs may have.
        mixed: whether the inputs may differ in type.
        parameters: by name; others are refused.
        torch: does the same with torch tensors in `call.inputs` and torch as `call.xp`; None has no such backend.
    """

    run: Callable[[Call], Outputs]
    inputs: Sequence[str]
    check: Callable[[Call], None] = lambda call: None
    optional: Sequence[str] = ()
    dtypes: Sequence[str] = FLOATS
    mixed: bool = False
    parameters: Mapping[str, Parameter] | None = None
    torch: Callable[[Call], Outputs] | None = None

    def read(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The parameters' values. Raises INVALID for one that is unknown, missing or wrong."""
        known = self.parameters or {}
        for name in texts:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise invalid(f"parameter {name[:_SHOWN]!r} is unknown to this kernel: {has}.", parameter=name[:_SHOWN])
        return {name: _value(name, each, texts.get(name)) for name, each in known.items()}

    def check_inputs(self, shapes: Sequence[Shape], dtypes: Sequence[str]) -> None:
        """Raises INVALID when their number or their types are not what this kernel takes."""
        names = [*self.inputs, *self.optional]
        if not len(self.inputs) <= len(shapes) <= len(names):
            words = ", ".join([*self.inputs, *(f"{name} (optional)" for name in self.optional)])
            raise invalid(f"{len(shapes)} inputs were sent; this kernel takes {words}.")
        for name, dtype in zip(names, dtypes, strict=False):
            if dtype not in self.dtypes:
                raise invalid(f"input {name} is of type {dtype}; taken are {', '.join(self.dtypes)}.")
        if not self.mixed and len(set(dtypes)) > 1:
            raise invalid(f"the inputs must be of one type, not of {', '.join(dtypes)}.")


def _value(name: str, parameter: Parameter, text: str | None) -> Any:
    if text is None:
        if parameter.default is REQUIRED:
            raise invalid(f"parameter {name} is missing; it is {parameter.expects}.", parameter=name)
        return parameter.default
    try:
        return parameter.read(text)
    except (ValueError, KeyError, OverflowError, TypeError, RecursionError):
        got = text[:_SHOWN]
        raise invalid(f"parameter {name} must be {parameter.expects}, not {got!r}.", parameter=name) from None
