"""Files of tensors: safetensors, the same bytes for the same content, complete under their name or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Artefact

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Artefact:
    """Writes contiguous CPU tensors durably (fsynced, renamed into place)."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    head, body = _with_metadata(save(dict(tensors)), metadata)
    digest = hashlib.sha256(head)
    digest.update(body)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(head)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_folder(path.parent)
    return Artefact(path.name, path, digest.hexdigest(), len(head) + len(body))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata. Raises CyxError INVALID for what is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CyxError(Code.INVALID, f"{path.name} is no readable safetensors file: {str(error)[:200]}") from error


def _with_metadata(saved: bytes, metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """Head and body of a safetensors file with this metadata. The library's own writer puts metadata in random order,
    and the same job must give the same bytes."""
    start = 8 + int.from_bytes(saved[:8], "little")
    tensors = json.loads(saved[8:start])
    head = json.dumps({"__metadata__": dict(metadata), **tensors}, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head, memoryview(saved)[start:]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
