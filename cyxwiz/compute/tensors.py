"""Files of tensors: safetensors, the same bytes for the same content, complete under their name or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Artefact

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEAD = 100_000_000  # bytes that readers of the format take
_PIECE = 1 << 24  # bytes hashed or written at a time: each one asks for the interpreter, which training has
# torch's types by their words in a file, in the order of a file.
_TYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_ORDER = {word: rank for rank, word in enumerate(_TYPES)}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, lasting: bool = True
) -> Artefact:
    """Writes contiguous CPU tensors, from where they lie: no copy is made. The file is durable (fsynced, renamed into
    place) and named by its content; without `lasting` it is neither, for who reads it once and stores it elsewhere.
    Raises TypeError for a tensor that such a file has no word for, ValueError for more than its head has room for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(tensors.items(), key=lambda item: (_rank(*item), item[0]))
    head = _head(ordered, metadata)
    digest, size = hashlib.sha256(), 0
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        for piece in (head, *_pieces(ordered)):
            if lasting:
                digest.update(piece)
            file.write(piece)
            size += len(piece)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
    if lasting:
        _sync_folder(path.parent)
    return Artefact(path.name, path, digest.hexdigest() if lasting else "", size)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata. Raises CyxError INVALID for what is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CyxError(Code.INVALID, f"{path.name} is no readable safetensors file: {str(error)[:200]}") from error


def _rank(name: str, tensor: Tensor) -> int:
    """Where tensors of this type stand in a file: the wide ones first, so that each is aligned."""
    word = str(tensor.dtype).removeprefix("torch.")
    if word not in _ORDER or not tensor.is_contiguous():
        raise TypeError(f"{name}: a file of tensors can't keep a {word} tensor that lies like this one.")
    return _ORDER[word]


def _head(ordered: Sequence[tuple[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    """The library's own writer puts metadata in random order, and the same job must give the same bytes."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in ordered:
        end = start + tensor.nbytes
        word = _TYPES[str(tensor.dtype).removeprefix("torch.")]
        entries[name] = {"dtype": word, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > _MAX_HEAD:
        raise ValueError(
            f"{len(ordered)} tensors are more than one file can keep: what it says of them takes {len(head)} bytes, "
            f"at most {_MAX_HEAD}; join some of them into one."
        )
    return len(head).to_bytes(8, "little") + head


def _pieces(ordered: Sequence[tuple[str, Tensor]]) -> Iterator[memoryview]:
    import torch

    for _, tensor in ordered:
        if tensor.numel():
            data: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
            data = memoryview(data)
            for start in range(0, len(data), _PIECE):
                yield data[start : start + _PIECE]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
