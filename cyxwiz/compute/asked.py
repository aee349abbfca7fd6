"""A trained model that is asked: read from safetensors, a `.cyxmodel` (or its tar) or ONNX, whichever the file is.

Features go in as training takes them from the same data: bytes divided by 255, nothing else done. What the model's own
training did to them beyond that stands in its file and is done here. Files are only read, never unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cyxwiz.compute.archive import is_tar
from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.compute.samples import CLASS_LOSSES
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.graph import Part, skipped_softmax

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cyxwiz.compute.export import Saved, Trained

    Array = np.ndarray[Any, np.dtype[Any]]

Shape = tuple[int, ...]
CYXMODEL = b"WXYC"  # 0x43595857, little endian


class Asked(Protocol):
    """`shapes` are those of a sample of each array that it reads, None in a place that is free; `loss` is the one that
    it was trained with, empty where the file does not say; `class_names` of its classes, if it has such; `columns` are
    those that it learned from, where its file says so."""

    kind: str
    shapes: Mapping[str, tuple[int | None, ...]]
    class_names: tuple[str, ...]
    columns: Columns

    @property
    def loss(self) -> str: ...

    def loss_part(self, name: str) -> Part | None:
        """The loss of that name with the parameters that the definition gives it; None where it has no such."""
        ...

    def scores(self, arrays: Mapping[str, Array], divisor: float) -> Tensor:
        """What its loss reads, for these rows; `divisor` is what their `x` was divided by."""
        ...

    def answers(self, scores: Tensor) -> Tensor:
        """What who asks gets: the scores, through the Softmax that training left out."""
        ...


def read_asked(path: Path, definition: str, shapes: Mapping[str, Shape], device: torch.device, threads: int) -> Asked:
    """The model in that file. `definition` takes the place of the file's own if it is not empty; a file that has none
    is then built for data of `shapes`.

    Raises:
        CyxError: INVALID for what is no model, or not the definition's.
    """
    with path.open("rb") as file:
        head = file.read(9)
    size = path.stat().st_size
    if head[:4] == CYXMODEL or is_tar(path):
        from cyxwiz.compute.export import read_cyxmodel

        return _built(_defined(read_cyxmodel(path), definition), device)
    if len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return _built(_safetensors(path, definition, shapes), device)
    if definition:
        raise invalid("model: an ONNX file is a whole program; leave graph, layers and definition out", field="model")
    return OnnxModel(path, device, threads)


def builds_itself(path: Path) -> bool:
    """Whether the file says by itself what model it holds. Plain weights don't: their model is built for the data."""
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9 or head[:4] == CYXMODEL or head[8:] != b"{" or is_tar(path):
        return True
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as tensors:
            return "cyxwiz.definition" in (tensors.metadata() or {})
    except (SafetensorError, OSError):
        return True  # whoever reads it says what is wrong


def check_arrays(model: Asked, shapes: Mapping[str, Shape], uri: str) -> None:
    """CyxError INVALID naming the array, when the data are not what the model reads."""
    for name, wanted in model.shapes.items():
        got = shapes.get(name)
        if got is None:
            raise invalid(f"The model reads an array {name!r}, the dataset {uri} has {sorted(shapes)}.", uri=uri)
        free = None in wanted
        fits = len(got) == len(wanted) and all(b is None or a == b for a, b in zip(got, wanted, strict=True))
        if not fits and (free or math.prod(got) != math.prod(each or 1 for each in wanted)):
            raise invalid(
                f"The model reads {name} with the shape {_show(wanted)} a sample, the dataset {uri} has {_show(got)}.",
                uri=uri,
            )


def _show(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def rows_at_once(batch_size: int, shapes: Mapping[str, Shape]) -> int:
    """Rows of a batch that is only asked: as many as the job says, or more where they are small."""
    values = sum(math.prod(shape) for shape in shapes.values())
    return max(1, batch_size, min(4096, 2**20 // max(1, values)))


# --- torch


@dataclass(slots=True)
class TorchModel:
    trained: Trained
    device: torch.device
    shapes: Mapping[str, tuple[int | None, ...]]
    kind: str = "torch"
    class_names: tuple[str, ...] = ()
    columns: Columns = TRAINING

    @property
    def loss(self) -> str:
        return self.trained.loss

    def loss_part(self, name: str) -> Part | None:
        return graph.loss if (graph := self.trained.graph).loss is not None and graph.loss.type == name else None

    def scores(self, arrays: Mapping[str, Array], divisor: float) -> Tensor:
        import torch

        trained = self.trained
        given: dict[str, Tensor] = {}
        for name, shape in self.shapes.items():
            tensor = torch.from_numpy(arrays[name]).to(self.device)
            given[name] = tensor.reshape(len(tensor), *(size or -1 for size in shape))
        if "x" in given:
            given["x"] = _scaled(given["x"], divisor, trained.scaling)
        with torch.inference_mode():
            made: Tensor = trained.model(given if isinstance(trained.features, Mapping) else given["x"])
        return made

    def answers(self, scores: Tensor) -> Tensor:
        if skipped_softmax(self.trained.graph, self.trained.features, self.trained.loss) is None:
            return scores
        return scores.softmax(-1)


def _scaled(x: Tensor, divisor: float, scaling: Mapping[str, Any]) -> Tensor:
    """As the model's training had it; the numbers are those of `compute.samples`."""
    import torch

    ratio = divisor / float(scaling.get("divisor", 1.0))
    x = x if ratio == 1.0 else x * ratio
    if "mean" not in scaling:
        return x
    mean = torch.tensor(scaling["mean"], dtype=torch.float64, device=x.device)
    std = torch.tensor(scaling["std"], dtype=torch.float64, device=x.device)
    return ((x.double() - mean) / std).float() if mean.dim() else (x - float(mean)) / float(std)


def _built(saved: Saved, device: torch.device) -> TorchModel:
    trained = saved.trained()
    trained.model.to(device)
    return TorchModel(trained, device, trained.arrays(), class_names=trained.class_names, columns=trained.columns)


def _defined(saved: Saved, definition: str) -> Saved:
    return replace(saved, definition=definition) if definition else saved


def _safetensors(path: Path, definition: str, shapes: Mapping[str, Shape]) -> Saved:
    from cyxwiz.compute.export import Saved, read_safetensors
    from cyxwiz.compute.tensors import read_tensors

    if not definition:
        return read_safetensors(path)
    tensors, metadata = read_tensors(path)
    if "cyxwiz.definition" in metadata:
        return _defined(read_safetensors(path), definition)
    features = dict(shapes) if len(shapes) > 1 else shapes["x"]
    weights = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    return Saved(definition, features, "", (), {}, weights)


# --- ONNX

_TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}  # fmt: skip


class OnnxModel:
    """An ONNX program, run by onnxruntime: on the GPU where its build has CUDA, else on the CPU.

    One that this project wrote takes raw features. Of its outputs the first one of floating numbers is the answer.
    """

    kind = "onnx"
    loss = ""

    def loss_part(self, name: str) -> Part | None:
        return None

    def __init__(self, path: Path, device: torch.device, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            message = "This node has no onnxruntime to run ONNX files with."
            raise CyxError(Code.UNSUPPORTED, message, retryable=True) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        there = onnxruntime.get_available_providers()
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [name for name in (*wanted, "CPUExecutionProvider") if name in there]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            metadata = dict(self._session.get_modelmeta().custom_metadata_map)
            self.class_names = tuple(str(name) for name in json.loads(metadata.get("cyxwiz.classes", "[]")))
            self.columns = Columns.of(json.loads(metadata.get("cyxwiz.columns", "{}")))
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise invalid(f"The model is no safetensors, no .cyxmodel and no ONNX file: {str(error)[:200]}") from None
        self._raw = "cyxwiz.definition" in metadata
        self._inputs = self._session.get_inputs()
        for entry in self._inputs:
            if entry.type not in _TYPES or len(entry.shape) < 2:
                raise invalid(f"The model's input {entry.name!r} is a {entry.type} of the shape {entry.shape}.")
        single = len(self._inputs) == 1
        self._names = ["x" if single else entry.name for entry in self._inputs]
        self.shapes: Mapping[str, tuple[int | None, ...]] = {
            name: tuple(size if isinstance(size, int) and size > 0 else None for size in entry.shape[1:])
            for name, entry in zip(self._names, self._inputs, strict=True)
        }
        floating = [entry.name for entry in self._session.get_outputs() if entry.type in list(_TYPES)[:3]]
        if not floating:
            raise invalid("The model has no output of floating numbers.")
        self._output = floating[0]
        fixed = self._inputs[0].shape[0]
        self._batch = fixed if isinstance(fixed, int) and fixed > 0 else None

    def scores(self, arrays: Mapping[str, Array], divisor: float) -> Tensor:
        import numpy as np
        import torch

        rows = len(arrays[self._names[0]])
        size = self._batch or rows
        parts: list[Array] = []
        for start in range(0, rows, size):
            given: dict[str, Array] = {}
            for name, entry in zip(self._names, self._inputs, strict=True):
                part = arrays[name][start : start + size]
                if name == "x" and self._raw and divisor != 1.0:
                    part = part * np.float32(divisor)
                shape = self.shapes[name]
                if part.shape[1:] != shape and None not in shape:
                    part = part.reshape(len(part), *(each or 1 for each in shape))
                if len(part) < size:  # a program of one fixed batch; what is added is cut off again
                    part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
                given[entry.name] = part.astype(_TYPES[entry.type])
            made = self._run(given)
            parts.append(made[: min(size, rows - start)])
        made = np.concatenate(parts).astype(np.float32)
        return torch.from_numpy(made if made.ndim > 1 else made[:, None])

    def _run(self, given: dict[str, Array]) -> Array:
        try:
            made: Any = self._session.run([self._output], given)[0]
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise invalid(f"The model can't be run on these data: {str(error)[:300]}") from None
        rows = len(next(iter(given.values())))
        if made.ndim == 0 or len(made) != rows:
            raise invalid(f"The model gives {made.shape} for {rows} rows; one each is needed.")
        answers: Array = made
        return answers

    def answers(self, scores: Tensor) -> Tensor:
        return scores


def are_probabilities(answers: Tensor) -> bool:
    """Whether every row is a distribution over classes."""
    rows = answers.reshape(-1, answers.shape[-1])
    if rows.shape[1] < 2 or bool((rows < 0).any()):
        return False
    return bool(((rows.sum(1) - 1).abs() < 1e-3).all())


def chosen_classes(scores: Tensor, loss: str) -> Tensor:
    """Class numbers; one output stands for the second of two classes."""
    if scores.shape[-1] > 1:
        return scores.argmax(-1)
    return (scores[..., 0] > (0.0 if loss == "BCEWithLogits" else 0.5)).long()


def gives_classes(model: Asked, stated: str) -> bool:
    """Whether the outputs are scores of classes: as the job says, else by the model file."""
    if stated != "auto":
        return stated == "true"
    return bool(model.class_names) or model.loss in (*CLASS_LOSSES, "BCELoss", "BCEWithLogits")
