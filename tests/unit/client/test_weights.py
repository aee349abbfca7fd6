"""The digest of a file's weights, without torch: the one that the trainer puts into the last link."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cyxwiz.client import weights
from cyxwiz.compute.chain import weights_digest

TENSORS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(0.5), "c": torch.zeros(0, 4)}


def test_it_is_the_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "CHUNK", 5)
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, {"cyxwiz.loss": "x"})
    assert weights.weights_digest(path) == weights_digest(TENSORS)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert weights.weights_digest(path) not in ("", weights_digest(TENSORS))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"weights",
        b"\xff" * 40,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (9).to_bytes(8, "little") + b'{"a":"b"}',
        (54).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        (54).to_bytes(8, "little") + b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}' + b"....",
        (54).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'[:54],
    ],
)
def test_what_is_no_such_file_has_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert weights.weights_digest(path) == ""
