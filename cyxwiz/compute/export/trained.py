"""What is exported, what is read back, and the module that answers questions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cyxwiz.compute.build import build
from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.compute.layers import BUILDERS
from cyxwiz.domain.errors import invalid
from cyxwiz.graph import Features, Graph, Hyperparameters, Shape, parse, sites, skipped_softmax


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with what its files say of it.

    `features`, `loss` and `label_shape` are what `build` made `model` from. `scaling` is what was done to the raw
    features: they were divided by `divisor`, then `mean` was taken off and the rest divided by `std`.
    """

    model: nn.Module
    graph: Graph
    definition: str
    features: Features
    loss: str
    label_shape: Shape = ()
    scaling: Mapping[str, Any] = field(default_factory=_nothing)
    name: str = "model"
    dataset: str = ""
    created: str = ""  # RFC 3339
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    columns: Columns = TRAINING  # the names of the columns that it learned from, where its data had such
    hyper: Hyperparameters = field(default_factory=Hyperparameters)
    batch_size: int = 0
    epochs: int = 0
    metrics: Mapping[str, float] = field(default_factory=_nothing)
    history: Mapping[str, Sequence[float]] = field(default_factory=_nothing)  # by metric, one number an epoch

    def arrays(self) -> dict[str, Shape]:
        """The arrays that the model reads, by name, with a sample's shape."""
        return dict(self.features) if isinstance(self.features, Mapping) else {"x": self.features}

    def weights(self) -> dict[str, Tensor]:
        """Every trained tensor and running statistic on the CPU as float32. The counters of BatchNorm, which only its
        training reads, are left out."""
        state = self.model.state_dict()
        return {
            name: value.detach().to("cpu", torch.float32).contiguous()
            for name, value in state.items()
            if not name.endswith("num_batches_tracked")
        }


@dataclass(frozen=True, slots=True)
class Saved:
    """A model read from a file: what made it, and its weights by name."""

    definition: str
    features: Features
    loss: str
    label_shape: Shape
    scaling: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    info: Mapping[str, Any] = field(default_factory=_nothing)  # what else the file says
    class_names: tuple[str, ...] = ()
    columns: Columns = TRAINING

    def trained(self) -> Trained:
        """The model with these weights; CyxError INVALID when they are not those of the definition."""
        graph = parse(self.definition)
        model = build(graph, self.features, self.loss, self.label_shape)
        wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
        for name in sorted(set(wanted) ^ set(self.weights)):
            lacks = "lacks" if name in wanted else "has beside its definition"
            raise invalid(f"The model file {lacks} the weight {name}.", weight=name)
        for name, value in wanted.items():
            if value.shape != self.weights[name].shape:
                got, expected = tuple(self.weights[name].shape), tuple(value.shape)
                raise invalid(f"The weight {name} has the shape {got}, its layer {expected}.", weight=name)
        model.load_state_dict(dict(self.weights), strict=False)
        return Trained(
            model.eval(), graph, self.definition, self.features, self.loss, self.label_shape, self.scaling,
            class_names=self.class_names, columns=self.columns,
        )  # fmt: skip


class Inference(nn.Module):
    """The model as who predicts wants it: raw features in, the last layer's own output out."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, arrays: Mapping[str, Shape], single: bool, scaling: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._names, self._single = list(arrays), single
        self._divisor = float(scaling.get("divisor", 1.0))
        self._scaled = "mean" in scaling
        self.register_buffer("mean", torch.tensor(scaling.get("mean", 0.0), dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(scaling.get("std", 1.0), dtype=torch.float32), persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        arrays = dict(zip(self._names, inputs, strict=True))
        if "x" in arrays:
            x = arrays["x"] if self._divisor == 1.0 else arrays["x"] / self._divisor
            arrays["x"] = (x - self.mean) / self.std if self._scaled else x
        return self.model(arrays["x"] if self._single else arrays)


def inference_module(trained: Trained) -> nn.Module:
    """A copy on the CPU in evaluation mode, with the scaling inside and the Softmax that training left out."""
    model = copy.deepcopy(trained.model).to("cpu", torch.float32).eval()
    skipped = skipped_softmax(trained.graph, trained.features, trained.loss)
    if skipped is not None:
        for place, (site, made) in enumerate(sites(trained.graph, trained.features)):
            if site.id == skipped.id:
                setattr(model, f"layer{place}", BUILDERS["Softmax"](site, made))
    single = not isinstance(trained.features, Mapping)
    return Inference(model, trained.arrays(), single, trained.scaling).eval()


def examples(trained: Trained, count: int) -> tuple[Tensor, ...]:
    """Samples to trace with: zeros, which every layer can read."""
    return tuple(torch.zeros(count, *shape) for shape in trained.arrays().values())
