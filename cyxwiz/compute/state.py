"""A script's own state as a file: nested containers of plain values and arrays, without pickle.

Arrays and long bytes are tensors of a safetensors file. The structure around them is JSON, the bytes of one more
tensor, in which a tensor is `{"$": "tensor", "name": …}`; whatever JSON has no word for (tuples, bytes, dicts with
other keys than text) is tagged the same way. Files of before have it in their metadata, which readers bound.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.tensors import read_tensors, write_tensors
from cyxwiz.domain.errors import invalid
from cyxwiz.ports.executor import Artefact

if TYPE_CHECKING:
    from torch import Tensor

_META = "cyxwiz.state"  # where files of before have the structure
_STRUCTURE = "structure"
_FIGURES = "figures"
_SHORT = 1024  # bytes that stand in the structure, as each tensor takes room in the head of the file
MAX_DEPTH = 100


def write_state(path: Path, state: Any, figures: Mapping[str, float] | None = None) -> Artefact:
    """`figures`: what the script has reported so far, for the run that goes on from it.

    Raises TypeError naming the place of what can't be kept, ValueError for more tensors than a file has room for.
    """
    tensors: dict[str, Tensor] = {}
    structure = _out(state, "state", tensors, 0)
    tensors[_STRUCTURE] = _tensor_of(json.dumps(structure).encode())
    if figures:
        tensors[_FIGURES] = _tensor_of(json.dumps(dict(figures)).encode())
    return write_tensors(path, tensors, {"format": "pt"}, lasting=False)


def read_state(path: Path) -> Any:
    """What `write_state` was given. Raises CyxError INVALID for what it did not write."""
    tensors, metadata = read_tensors(path)
    try:
        text = _bytes_of(tensors[_STRUCTURE]) if _STRUCTURE in tensors else metadata[_META]
        return _in(json.loads(text), tensors)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise invalid(f"{path.name} is no saved state: {type(error).__name__}: {error}") from error


def read_figures(path: Path) -> dict[str, float]:
    """The figures that `write_state` was given. Raises CyxError INVALID for what it did not write."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            if _FIGURES not in set(file.keys()):
                return {}
            read = json.loads(_bytes_of(file.get_tensor(_FIGURES)))
        return {str(name): float(value) for name, value in read.items()}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise invalid(f"{path.name} is no saved state: {type(error).__name__}: {error}") from error


def _out(value: Any, place: str, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TypeError(f"{place}: nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": "float", "value": repr(float(value))}
    if isinstance(value, bytes):
        if len(value) <= _SHORT:
            return {"$": "bytes", "value": base64.b64encode(value).decode()}
        return _named("bytes", _tensor_of(value), tensors)
    if isinstance(value, list):
        return [_out(each, f"{place}[{index}]", tensors, depth + 1) for index, each in enumerate(value)]
    if isinstance(value, tuple):
        items = [_out(each, f"{place}[{index}]", tensors, depth + 1) for index, each in enumerate(value)]
        return {"$": "tuple", "items": items}
    if isinstance(value, Mapping):
        return _mapping(value, place, tensors, depth)
    return _array(value, place, tensors)


def _mapping(value: Mapping[Any, Any], place: str, tensors: dict[str, Tensor], depth: int) -> Any:
    if all(isinstance(key, str) for key in value) and "$" not in value:
        return {key: _out(each, f"{place}[{key!r}]", tensors, depth + 1) for key, each in value.items()}
    pairs = [
        [_out(key, f"{place}'s key", tensors, depth + 1), _out(each, f"{place}[{key!r}]", tensors, depth + 1)]
        for key, each in value.items()
    ]
    return {"$": "dict", "pairs": pairs}


def _array(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return _named("tensor", value.detach().to("cpu", copy=True).contiguous(), tensors)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _named("array", torch.from_numpy(np.array(value, order="C")), tensors)
    plain = value.item() if isinstance(value, np.generic) else None
    if not isinstance(plain, bool | int | float):
        raise TypeError(f"{place}: {type(value).__name__} can't be saved; keep plain values, tensors and arrays")
    return _out(plain, place, tensors, 0)


def _named(kind: str, tensor: Tensor, tensors: dict[str, Tensor]) -> dict[str, str]:
    name = f"{len(tensors)}"
    tensors[name] = tensor
    return {"$": kind, "name": name}


def _tensor_of(value: bytes) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(value), dtype=torch.uint8)  # of its own bytes: torch warns of what is fixed


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def _in(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_in(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None:
        return {key: _in(each, tensors) for key, each in value.items()}
    if kind == "tuple":
        return tuple(_in(each, tensors) for each in value["items"])
    if kind == "dict":
        return {_in(key, tensors): _in(each, tensors) for key, each in value["pairs"]}
    if kind == "bytes" and "value" in value:
        return base64.b64decode(value["value"])
    if kind == "float":
        return float(value["value"])
    tensor = tensors[value["name"]]
    if kind == "bytes":
        return _bytes_of(tensor)
    return tensor.numpy() if kind == "array" else tensor
