"""Files of tensors, as the library of the format has them."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from cyxwiz.compute import tensors
from cyxwiz.compute.tensors import read_tensors, write_tensors

WORDS = [
    *("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2"),
    *("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


def mixed() -> dict[str, torch.Tensor]:
    each = {f"ü/{word}": torch.arange(3).to(getattr(torch, word)) for word in WORDS}
    each |= {"scalar": torch.tensor(1.5), "none": torch.zeros(0, 3), "cube": torch.rand(2, 3, 4)}
    return each | {"large": torch.rand(3, 1000)}


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


@pytest.mark.parametrize("piece", [tensors._PIECE, 1000])
def test_a_file_is_laid_out_as_the_library_lays_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(tensors, "_PIECE", piece)
    given = mixed()
    metadata = {"format": "pt", "b": "ü", "a": "1"}
    artefact = write_tensors(tmp_path / "new" / "file", given, metadata)
    written = artefact.path.read_bytes()
    assert (artefact.sha256, artefact.size) == (hashlib.sha256(written).hexdigest(), len(written))
    head, body = parts(written)
    assert (head.pop("__metadata__"), head, body) == (metadata, *parts(save(given)))
    again = write_tensors(tmp_path / "again", dict(reversed(given.items())), metadata)
    assert again.path.read_bytes() == written
    assert not list(tmp_path.rglob("*.part"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    given = {name: value for name, value in mixed().items() if "e8m0" not in name}  # the library can't read that one
    given["same"] = given["cube"]
    found, metadata = read_tensors(write_tensors(tmp_path / "file", given, {"a": "1"}).path)
    assert metadata == {"a": "1"}
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, dtype=torch.complex128), torch.rand(3, 4).T, torch.eye(2).to_sparse()]
)
def test_what_the_format_has_no_word_for_is_refused_by_its_name(tmp_path: Path, tensor: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="odd"):
        write_tensors(tmp_path / "file", {"odd": tensor}, {})
    assert not list(tmp_path.iterdir())


def test_writing_takes_no_memory_of_the_size_of_the_tensors(tmp_path: Path) -> None:
    given = {"large": torch.rand(1 << 22)}
    tracemalloc.start()
    try:
        write_tensors(tmp_path / "file", given, {})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
