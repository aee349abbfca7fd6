"""What a node and its child for tensor operations say to each other over the child's descriptor 3.

A frame is two lengths, of 4 and 8 bytes, big endian; then a UTF-8 JSON object with `"v": 1` and `"type"`; then the
bytes of tensors, one after the other, which the object describes in order. The node sends `open` once and then `run`;
the child answers each `run` with `done` or `failed`. Nothing is pickled. What the child says is checked like any input
from outside: a frame that is too large or is not what it should be raises `ProtocolError`.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyxwiz.compute.child_protocol import Frame, ProtocolError
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.operation import Computed, Operation, Output, Reference, Tensor

VERSION = 1
MAX_HEAD = 4 << 20

_LENGTHS = struct.Struct(">IQ")


def encode(kind: str, fields: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> list[bytes]:
    """A frame in parts, so that the bodies are not copied."""
    head = json.dumps({"v": VERSION, "type": kind, **fields}, allow_nan=False, separators=(",", ":")).encode()
    if len(head) > MAX_HEAD:
        raise ProtocolError(f"a frame of type {kind} describes itself in {len(head)} bytes; at most {MAX_HEAD}")
    return [_LENGTHS.pack(len(head), sum(map(len, bodies))) + head, *bodies]


class Decoder:
    """Bytes in, whole frames out: for the node. The bytes of tensors are the frame's `body`."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while len(self._buffer) >= _LENGTHS.size:
            head, body = _lengths(self._buffer, self._max_body)
            start, end = _LENGTHS.size + head, _LENGTHS.size + head + body
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                frame = _frame(bytes(view[_LENGTHS.size : start]), bytes(view[start:end]))
            del self._buffer[:end]
            yield frame


def read_frame(channel: socket.socket, max_body: int) -> Frame | None:
    """Waits for the next frame; None at the end of the stream. For the child."""
    lengths = _read(channel, _LENGTHS.size)
    if lengths is None:
        return None
    head, body = (_read(channel, size) for size in _lengths(lengths, max_body))
    return None if head is None or body is None else _frame(head, body)


def _read(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = channel.recv_into(view[got:])
        if not count:
            return None
        got += count
    return bytes(data)


def _lengths(data: bytes | bytearray, max_body: int) -> tuple[int, int]:
    head, body = _LENGTHS.unpack_from(data)
    if head > MAX_HEAD or body > max_body:
        raise ProtocolError(f"a frame of {head} and {body} bytes; at most {MAX_HEAD} and {max_body} are read")
    return head, body


def _frame(head: bytes, body: bytes) -> Frame:
    try:
        frame = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame that is not JSON") from error
    if not isinstance(frame, dict) or frame.get("v") != VERSION or not isinstance(frame.get("type"), str):
        raise ProtocolError("a frame of another protocol")
    frame["body"] = body
    return frame


# --- operations and their outputs


def encode_run(operations: Sequence[Operation]) -> list[bytes]:
    """The frame that asks for operations."""
    described: list[Any] = []
    bodies: list[bytes] = []
    for each in operations:
        inputs: list[Any] = []
        for value in each.inputs:
            if isinstance(value, Reference):
                inputs.append([value.operation, value.output])
            else:
                inputs.append(_describe(value))
                bodies.append(value.data)
        described.append([each.id, each.kind, inputs, dict(each.parameters), each.device])
    return encode("run", {"operations": described}, bodies)


def decode_run(frame: Frame) -> list[Operation]:
    """The operations that the node sent: the child trusts its node."""
    body, at = memoryview(frame["body"]), 0
    operations: list[Operation] = []
    for ident, kind, described, parameters, device in frame["operations"]:
        inputs: list[Tensor | Reference] = []
        for value in described:
            if isinstance(value, list):
                inputs.append(Reference(*value))
            else:
                data = body[at : at + value["size"]]
                at += value["size"]
                inputs.append(Tensor(value["name"], tuple(value["shape"]), value["dtype"], data, value["compressed"]))  # type: ignore[arg-type]
        operations.append(Operation(ident, kind, tuple(inputs), parameters, device))
    return operations


def encode_done(computed: Computed) -> list[bytes]:
    """The frame with the outputs."""
    described = [
        {**_describe(each.tensor), "operation": each.source.operation, "output": each.source.output}
        for each in computed.outputs
    ]
    return encode(
        "done", {"outputs": described, "seconds": computed.seconds}, [each.tensor.data for each in computed.outputs]
    )


def encode_failed(error: CyxError) -> list[bytes]:
    """The frame of an error."""
    return encode("failed", {"code": str(error.code), "message": error.message[:4000], "retryable": error.retryable})


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype, "size": len(tensor.data),
        "compressed": tensor.compressed,
    }  # fmt: skip


def decode_answer(frame: Frame) -> Computed:
    """What the child computed. Raises the CyxError that it failed with, or ProtocolError when it is no answer."""
    try:
        if frame["type"] == "failed":
            message, retryable = frame["message"], frame["retryable"]
            if not isinstance(message, str) or not isinstance(retryable, bool):
                raise ProtocolError("a failure without a message")
            error = CyxError(Code(frame["code"]), message, retryable=retryable)
        elif frame["type"] == "done":
            return _computed(frame)
        else:
            raise ProtocolError(f"a frame of the unknown type {frame['type'][:40]!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise ProtocolError(f"an answer that can't be read: {type(wrong).__name__}") from wrong
    raise error


def _computed(frame: Frame) -> Computed:
    body, at = frame["body"], 0
    outputs: list[Output] = []
    for each in frame["outputs"]:
        texts, shape, sizes = (each["name"], each["dtype"], each["operation"]), each["shape"], (each["output"],)
        if not all(isinstance(text, str) for text in texts) or any(type(size) is not int for size in (*shape, *sizes)):
            raise ProtocolError("an output that is described wrongly")
        tensor = Tensor(each["name"], tuple(shape), each["dtype"], b"")
        size = tensor.nbytes
        if any(one < 0 for one in shape) or at + size > len(body):
            raise ProtocolError("an output that is longer than its frame")
        source = Reference(each["operation"], each["output"])
        outputs.append(Output(source, replace(tensor, data=body[at : at + size])))
        at += size
    seconds = float(frame["seconds"])
    if at != len(body) or not math.isfinite(seconds):
        raise ProtocolError("an answer with more than its outputs")
    return Computed(tuple(outputs), seconds)
