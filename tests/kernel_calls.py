"""Calls of kernels in this process, with NumPy arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyxwiz.compute.kernels.run import run
from cyxwiz.domain.operation import Operation, Reference, Tensor

ROOM = 1 << 20


def tensor(array: Any, name: str = "") -> Tensor:
    """The array as it travels."""
    plain = np.asarray(array)
    little = np.ascontiguousarray(plain, plain.dtype.newbyteorder("<"))
    return Tensor(name, plain.shape, plain.dtype.name, little.tobytes())


def array(tensor: Tensor) -> np.ndarray:
    """What travelled, as an array."""
    return np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)


def operation(kind: str, *inputs: Any, ident: str = "", device: str = "cpu", **parameters: str) -> Operation:
    """A call of a kernel of the contract by its name, or of another by OP_CUSTOM."""
    known = kind in ("matmul", "conv2d", "pool", "activation", "loss", "optimizer_step", "custom")
    named = parameters if known else {"kernel": kind, **parameters}
    sent = tuple(each if isinstance(each, Tensor | Reference) else tensor(each) for each in inputs)
    return Operation(ident, kind if known else "custom", sent, named, device)


def call(kind: str, *inputs: Any, room: int = ROOM, **parameters: str) -> dict[str, np.ndarray]:
    """The outputs by name."""
    computed = run([operation(kind, *inputs, **parameters)], room)
    return {each.tensor.name: array(each.tensor) for each in computed.outputs}


def result(kind: str, *inputs: Any, **parameters: str) -> np.ndarray:
    """The only output."""
    (only,) = call(kind, *inputs, **parameters).values()
    return only
