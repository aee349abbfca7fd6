"""What moves the weights: optimizer, learning-rate schedule, penalty and loss, made from their parsed parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.tally import weight_of
from cyxwiz.graph import Hyperparameters, Part
from cyxwiz.graph.hyperparameters import check_class_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")
Loss = Callable[["Tensor", "Tensor"], "Tensor"]


def make_optimizer(hyper: Hyperparameters, model: nn.Module) -> torch.optim.Optimizer:
    from torch import optim

    parameters, rate, decay = model.parameters(), hyper.learning_rate, hyper.weight_decay
    betas, eps = (hyper.beta1, hyper.beta2), hyper.eps
    makers: dict[str, Callable[[], optim.Optimizer]] = {
        "SGD": lambda: optim.SGD(parameters, rate, momentum=hyper.momentum, weight_decay=decay),
        "Adam": lambda: optim.Adam(parameters, rate, betas, eps, decay),
        "AdamW": lambda: optim.AdamW(parameters, rate, betas, eps, decay),
        "NAdam": lambda: optim.NAdam(parameters, rate, betas, eps, decay),
        "RMSprop": lambda: optim.RMSprop(parameters, rate, hyper.alpha, eps, decay, hyper.momentum),
        "Adagrad": lambda: optim.Adagrad(parameters, rate, hyper.lr_decay, decay, eps=eps),
    }
    return makers[hyper.optimizer]()


# --- schedule


class Schedule:
    """The learning rate over the course of training.

    A warm-up raises it step by step from `start_factor` of the rate to all of it. The other schedules count whole
    epochs from the warm-up's end; several of them act together. Call `step_batch` after every optimizer step and
    `step_epoch` after every epoch.
    """

    def __init__(
        self, parts: Sequence[Part], optimizer: torch.optim.Optimizer, highest: bool, epochs: int, steps_per_epoch: int
    ) -> None:
        """`highest`: the monitored value is the better the higher it is, unless a part says otherwise."""
        self._optimizer = optimizer
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._per_epoch = max(1, steps_per_epoch)
        self._warm, self._start = _warm_up(parts, self._per_epoch)
        warm_epochs = -(-self._warm // self._per_epoch)
        self._length = max(1, epochs - warm_epochs)
        self._parts = [part for part in parts if part.type not in ("WarmupScheduler", "ReduceOnPlateau")]
        self._plateaus = [_Plateau.of(part, highest) for part in parts if part.type == "ReduceOnPlateau"]
        self._step = self._epoch = 0
        if parts:
            self._apply()

    def step_batch(self) -> None:
        """One optimizer step was done."""
        self._step += 1
        if self._step <= self._warm:
            self._apply()

    def step_epoch(self, metric: float | None = None) -> None:
        """One epoch was done; `metric` is the monitored value, which only ReduceOnPlateau reads."""
        self._epoch += 1
        self._step = self._epoch * self._per_epoch
        for plateau in self._plateaus:
            if metric is not None and self._step >= self._warm:
                plateau.see(metric)
        if self._parts or self._plateaus or self._warm:
            self._apply()

    @property
    def rate(self) -> float:
        """The learning rate now, of the first group of weights."""
        return float(self._optimizer.param_groups[0]["lr"])

    def set_base(self, rate: float) -> None:
        """Another learning rate from now on; the schedules act on it as they did on the first one."""
        first = self._base[0]
        self._base = [base * rate / first if first else rate for base in self._base]
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        plateaus = [[one.best, one.waited, one.factor] for one in self._plateaus]
        return {"step": self._step, "epoch": self._epoch, "plateaus": plateaus, "base": list(self._base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken, and sets the rate of the optimizer."""
        self._step, self._epoch = int(state["step"]), int(state["epoch"])
        self._base = [float(base) for base in state.get("base", self._base)]
        for plateau, (best, waited, factor) in zip(self._plateaus, state["plateaus"], strict=True):
            plateau.best, plateau.waited, plateau.factor = best, int(waited), float(factor)
        if self._parts or self._plateaus or self._warm:
            self._apply()

    def _apply(self) -> None:
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = self._rate(base)

    def _rate(self, base: float) -> float:
        if self._step < self._warm:
            return base * (self._start + (1 - self._start) * self._step / self._warm)
        # Of the last epoch's end, where they act: within an epoch this is no other number after a checkpoint.
        epoch = max(0, (self._epoch * self._per_epoch - self._warm) // self._per_epoch)
        rate = base
        for part in self._parts:
            rate = self._of(part, rate, base, epoch)
        return rate * math.prod(plateau.factor for plateau in self._plateaus)

    def _of(self, part: Part, rate: float, base: float, epoch: int) -> float:
        match part.type:
            case "StepLR":
                return rate * _number(part, "gamma") ** (epoch // int(_number(part, "step_size")))
            case "ExponentialLR":
                return rate * _number(part, "gamma") ** epoch
            case _:  # CosineAnnealing, one half wave without restarts (Loshchilov and Hutter 2017)
                length = int(_number(part, "t_max")) if "t_max" in part.params else self._length
                low = min(_number(part, "eta_min"), base)
                share = (1 + math.cos(math.pi * min(epoch, length) / length)) / 2
                return rate / base * (low + (base - low) * share)


@dataclass(slots=True)
class _Plateau:
    """The factor of one ReduceOnPlateau: it falls when the metric has not been better for more than `patience`."""

    patience: int
    by: float
    highest: bool
    best: float | None = None
    waited: int = 0
    factor: float = 1.0

    @staticmethod
    def of(part: Part, highest: bool) -> _Plateau:
        mode = part.params.get("mode", "max" if highest else "min")
        return _Plateau(int(_number(part, "patience")), _number(part, "factor"), mode == "max")

    def see(self, metric: float) -> None:
        # Better by a ten-thousandth, as in PyTorch's default.
        step = 1e-4 * abs(self.best or 0.0)
        better = self.best is None or (metric > self.best + step if self.highest else metric < self.best - step)
        if better:
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor * self.by, 0


def make_schedule(
    hyper: Hyperparameters, optimizer: torch.optim.Optimizer, monitor: str, *, epochs: int, steps_per_epoch: int
) -> Schedule:
    """The job's schedule on this optimizer, its rate set for the first step; without one the rate stays as it is.

    `monitor` is what is really watched. Where the job named an accuracy and there is none, a mode that it stated with
    it would have the rate fall as the loss gets better, and is left out.
    """
    highest = monitor.endswith("accuracy")
    parts = hyper.schedules
    if highest != hyper.monitor.endswith("accuracy"):
        parts = tuple(replace(part, params={k: v for k, v in part.params.items() if k != "mode"}) for part in parts)
    return Schedule(parts, optimizer, highest, epochs, steps_per_epoch)


def _warm_up(parts: Sequence[Part], per_epoch: int) -> tuple[int, float]:
    for part in parts:
        if part.type == "WarmupScheduler":
            stated = part.params.get("warmup_steps")
            steps = int(_number(part, "warmup_epochs")) * per_epoch if stated is None else int(stated)  # type: ignore[arg-type]
            return steps, _number(part, "start_factor")
    return 0, 1.0


def _number(part: Part, name: str) -> float:
    value = part.params[name]
    assert isinstance(value, int | float)
    return float(value)


# --- penalty


def penalty(hyper: Hyperparameters, model: nn.Module) -> Callable[[], Tensor] | None:
    """What is added to the loss: l1 x sum |w| + l2 x sum w^2 over the weights (tensors of two axes or more: biases and
    the scales of normalisations stay free). None when there is nothing to add."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    l1, l2 = hyper.l1, hyper.l2
    if not weights or (l1 == 0 and l2 == 0):
        return None

    def add() -> Tensor:
        made = weights[0].new_zeros(())
        for weight in weights:
            if l1:
                made = made + l1 * weight.abs().sum()
            if l2:
                made = made + l2 * weight.square().sum()
        return made

    return add


# --- loss


def class_weights(hyper: Hyperparameters, counts: Tensor) -> Tensor | None:
    """One weight per class from the job: as stated, or by how rare it is (`counts` samples of each in training), scaled
    so that the average sample weighs 1."""
    import torch

    if hyper.class_weights == "none":
        return None
    if isinstance(hyper.class_weights, tuple):
        check_class_weights(hyper.class_weights, len(counts))
        return torch.tensor(hyper.class_weights, dtype=torch.float32)
    present = (counts > 0).sum()
    return torch.where(counts > 0, counts.sum() / (present * counts.clamp(min=1)), 0.0).float()


def loss_function(part: Part, *, weights: Tensor | None = None, smoothing: float = 0.0) -> Loss:
    """The loss as a function of outputs and targets: class numbers for the two class losses, numbers for the rest.

    Outputs are one row per sample; for the class losses also (N, T, C) with a class for every step (N, T). Several
    losses are summed by their weights; those on numbers then read the classes one by one as 0 and 1.

    Args:
        weights: one for each class, on the outputs' device.
        smoothing: share of the target spread over all classes, for the class losses.
    """
    first = _one(part, weights, smoothing)
    if not part.also:
        return first
    classes = part.type in _CLASS_LOSSES
    others = [(_one(other, weights, smoothing), _share(other), _is_class(other)) for other in part.also]

    def summed(outputs: Tensor, targets: Tensor) -> Tensor:
        made = _share(part) * first(outputs, targets)
        for loss, share, of_classes in others:
            same = of_classes or not classes
            made = made + share * loss(outputs, targets if same else _columns(outputs, targets))
        return made

    return summed


def _is_class(part: Part) -> bool:
    return part.type in _CLASS_LOSSES


def _share(part: Part) -> float:
    return _number(part, "weight") if "weight" in part.params else 1.0


def _columns(outputs: Tensor, labels: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)


def _one(part: Part, weights: Tensor | None, smoothing: float) -> Loss:
    from torch import nn
    from torch.nn import functional

    params: dict[str, Any] = {key: value for key, value in part.params.items() if key != "weight"}
    if part.type in _CLASS_LOSSES:

        def on_classes(outputs: Tensor, labels: Tensor) -> Tensor:
            scores = outputs.transpose(1, 2) if outputs.dim() == 3 else outputs
            if weights is None:
                return functional.cross_entropy(scores, labels, label_smoothing=smoothing)
            # Outputs may be more than there are classes; those weigh 1.
            known = _padded(weights, scores.shape[1])
            total = functional.cross_entropy(scores, labels, known, reduction="sum", label_smoothing=smoothing)
            weight = weight_of(weights, labels)
            return total / weight.where(weight > 0, math.inf)  # of nothing but classes that weigh 0 it is 0

        return on_classes
    if part.type in ("BCELoss", "BCEWithLogits"):
        plain = functional.binary_cross_entropy
        on_scores = functional.binary_cross_entropy_with_logits
        of = plain if part.type == "BCELoss" else on_scores
        return lambda outputs, targets: of(outputs, targets, _cells(weights, outputs, targets))
    makers: dict[str, Callable[..., nn.Module]] = {
        "MSELoss": nn.MSELoss,
        "L1Loss": nn.L1Loss,
        "SmoothL1Loss": nn.SmoothL1Loss,
        "HuberLoss": nn.HuberLoss,
    }
    return makers[part.type](**params)


def _padded(weights: Tensor, width: int) -> Tensor:
    from torch.nn import functional

    return functional.pad(weights, (0, width - len(weights)), value=1.0)


def _cells(weights: Tensor | None, outputs: Tensor, targets: Tensor) -> Tensor | None:
    """A weight for every output: by its column, or by its target when one output tells two classes apart."""
    if weights is None:
        return None
    if outputs.shape[1] == 1 and len(weights) == 2:
        return targets * weights[1] + (1 - targets) * weights[0]
    return _padded(weights, outputs.shape[1]).expand_as(outputs)
