"""The digest of the weights in a result's file, as the last link of its proof names it: from the file's bytes alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cyxwiz.domain.proof import Array, arrays_digest

WEIGHTS = "model.safetensors"  # the file of a result that its proof is about
MOST_HEADER = 100 << 20  # bytes, as safetensors has it
CHUNK = 1 << 24


def weights_digest(path: Path) -> str:
    """Empty for a file that no result has: results are safetensors of float32."""
    with path.open("rb") as file:
        try:
            return arrays_digest(_arrays(file, path.stat().st_size))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return ""


def _arrays(file: BinaryIO, size: int) -> list[Array]:
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, MOST_HEADER):
        raise ValueError("the header is longer than the file")
    header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = []
    for name, told in header.items():
        start, end = (8 + length + int(each) for each in told["data_offsets"])
        if told["dtype"] != "F32" or not 8 + length <= start <= end <= size:
            raise ValueError(f"{name} is no tensor of float32 in this file")
        found.append(Array(name, "f4", tuple(told["shape"]), _read(file, start, end)))
    return found


def _read(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end:
        data = file.read(min(CHUNK, end - start))
        if not data:
            raise ValueError("the file has become shorter")
        start += len(data)
        yield data
