"""Programs that run without this project: TorchScript, `torch.export`, ONNX. Any number of samples goes in at once.

Inputs are named as the data set's arrays (`x` alone is called `input`), the result `output`. ONNX is written by torch's
exporter over `torch.export`; an LSTM or GRU becomes one operator, a plain RNN is unrolled step by step.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cyxwiz.compute.export.trained import Trained, examples, inference_module
from cyxwiz.graph.hyperparameters import check_onnx_size

_TRACED = 3  # samples to trace with: neither 0 nor 1, which tracing would take for fixed


def write_torchscript(trained: Trained, path: Path) -> None:
    """A TorchScript archive, for `torch.jit.load`."""
    module = inference_module(trained)
    with _quiet(), torch.inference_mode():
        traced: Any = torch.jit.trace(module, examples(trained, _TRACED), check_trace=False)
        torch.jit.save(traced, str(path))


def write_torch_export(trained: Trained, path: Path) -> None:
    """A `torch.export` archive, for `torch.export.load`."""
    module, given = inference_module(trained), examples(trained, _TRACED)
    with _quiet():
        program = torch.export.export(module, given, dynamic_shapes=_dynamic(given))
        torch.export.save(program, str(path))


def write_onnx(trained: Trained, path: Path) -> None:
    """An ONNX file, with the definition in its metadata."""
    check_onnx_size(sum(value.numel() * 4 for value in trained.weights().values()))
    metadata = {
        "cyxwiz.definition": trained.definition,
        "cyxwiz.dataset": trained.dataset,
        "cyxwiz.classes": json.dumps(list(trained.class_names)),
        "cyxwiz.columns": json.dumps(trained.columns.document()),
    }
    names = list(trained.arrays())
    inputs = ["input"] if names == ["x"] else names
    path.write_bytes(to_onnx(inference_module(trained), examples(trained, _TRACED), inputs, ["output"], metadata))


def to_onnx(
    module: nn.Module,
    given: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: dict[str, str] | None = None,
) -> bytes:
    """The ONNX form of any module whose inputs and outputs are tensors with the batch first."""
    with _quiet():
        program: Any = torch.onnx.export(
            module, given, dynamo=True, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=_dynamic(given), verbose=False,
        )  # fmt: skip
    program.model.metadata_props.update(metadata or {})
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue()


def _dynamic(given: tuple[Tensor, ...]) -> Any:
    batch = torch.export.Dim("batch")
    return (tuple({0: batch} for _ in given),)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings about themselves, which no one who exports a model can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
