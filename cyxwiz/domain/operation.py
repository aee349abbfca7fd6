"""Tensor operations that a caller asks a node for, and the order of those that feed each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from cyxwiz.domain.errors import invalid, unsupported

# Bytes of one element.
ELEMENT_BYTES: Mapping[str, int] = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1}
MAX_RANK = 8
MAX_INPUTS = 16
MAX_NAME = 256
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements in row-major order, little endian. `compressed` data are a zlib stream (RFC 1950) of those bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: bytes = field(repr=False)
    compressed: bool = False

    @property
    def nbytes(self) -> int:
        """What the elements take, uncompressed."""
        return math.prod(self.shape) * ELEMENT_BYTES[self.dtype]

    def check(self, where: str) -> None:
        """Raises INVALID, naming the tensor by `where`, when shape, type and bytes don't fit together."""
        if self.dtype not in ELEMENT_BYTES:
            raise invalid(f"{where}: {self.dtype} is no type of elements; known are {', '.join(ELEMENT_BYTES)}.")
        if len(self.shape) > MAX_RANK:
            raise invalid(f"{where}: {len(self.shape)} dimensions; at most {MAX_RANK} are taken.")
        if any(size < 1 for size in self.shape):
            raise invalid(f"{where}: shape {list(self.shape)} has a dimension below 1.")
        if not self.compressed and len(self.data) != self.nbytes:
            expected = f"shape {list(self.shape)} of {self.dtype} takes {self.nbytes} bytes"
            raise invalid(f"{where}: {expected}, but {len(self.data)} were sent.")


@dataclass(frozen=True, slots=True)
class Reference:
    """Output number `output` of an operation of the same graph."""

    operation: str
    output: int = 0

    @property
    def key(self) -> str:
        """What it is called on the wire: `ID` for the first output, `ID:NUMBER` for the others."""
        return f"{self.operation}:{self.output}" if self.output else self.operation


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a kernel. `kind` is the kernel's name; "custom" leaves the name to the parameter `kernel`."""

    id: str
    kind: str
    inputs: tuple[Tensor | Reference, ...]
    parameters: Mapping[str, str]
    device: str = "cpu"

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(each for each in self.inputs if isinstance(each, Reference))

    def check(self) -> None:
        """Raises INVALID when something is wrong with it that needs no kernel to be seen, UNSUPPORTED for a device of
        a kind that no node computes on."""
        label = f"Operation {self.id!r}"
        if len(self.id) > MAX_NAME:
            raise invalid(f"The id of an operation has {len(self.id)} characters; at most {MAX_NAME} are taken.")
        if self.device not in DEVICES:
            raise unsupported(f"{label}: nothing is computed on {self.device}; ask for cpu or cuda.")
        if not 1 <= len(self.inputs) <= MAX_INPUTS:
            raise invalid(f"{label} has {len(self.inputs)} inputs; from 1 to {MAX_INPUTS} are taken.")
        for number, each in enumerate(self.inputs):
            if isinstance(each, Tensor):
                each.check(f"{label}, input {number}")


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that an operation made, and which of its outputs it is."""

    source: Reference
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Computed:
    """The outputs that no operation of the graph reads, and the seconds that the arithmetic took."""

    outputs: tuple[Output, ...]
    seconds: float


def find_reference(name: str, ids: Sequence[str] | Mapping[str, object]) -> Reference:
    """The output that `ID` or `ID:NUMBER` names. Raises INVALID when no operation has that id."""
    if name in ids:
        return Reference(name)
    operation, colon, number = name.rpartition(":")
    if colon and operation in ids and number.isdecimal() and number.isascii() and len(number) < 4:
        return Reference(operation, int(number))
    raise invalid(f"An input without data names {name[:MAX_NAME]!r}: no operation of this graph has that id.")


def arrange(operations: Sequence[Operation], order: Sequence[str] = ()) -> tuple[Operation, ...]:
    """The operations in an order in which each comes after those that it reads.

    Args:
        order: the ids of all operations; empty leaves the order open.
    Raises:
        CyxError: INVALID for an id that is missing or not unique, for an order that leaves one out, names a stranger,
            or runs an operation before one that it reads, and for operations that read each other in a circle.
    """
    if not operations:
        raise invalid("The graph has no operations.")
    by_id = {operation.id: operation for operation in operations}
    if "" in by_id or len(by_id) < len(operations):
        raise invalid("The operations of a graph need ids, each its own.")
    if not order:
        sorter = TopologicalSorter({each.id: [read.operation for read in each.references] for each in operations})
        try:
            order = tuple(sorter.static_order())
        except CycleError as error:
            raise invalid(f"The operations read each other in a circle: {' -> '.join(error.args[1])}.") from None
    elif sorted(order) != sorted(by_id):
        odd = sorted(set(order) ^ set(by_id))
        what = ", ".join(odd) if odd else "an id that comes twice"
        raise invalid(f"execution_order must name each operation once; not so: {what[:MAX_NAME]}.")
    seen: set[str] = set()
    for ident in order:
        for read in by_id[ident].references:
            if read.operation not in seen:
                raise invalid(f"Operation {ident!r} reads {read.key!r}, which execution_order does not put before it.")
        seen.add(ident)
    return tuple(by_id[ident] for ident in order)
