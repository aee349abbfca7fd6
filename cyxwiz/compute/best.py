"""The best epoch of a training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyxwiz.compute import checkpoint
from cyxwiz.graph import Hyperparameters

if TYPE_CHECKING:
    from torch import Tensor, nn


class Best:
    """The best epoch by the monitored figure, for early stopping and for `keep_best`."""

    def __init__(self, hyper: Hyperparameters, validates: bool, classifies: bool) -> None:
        monitor = hyper.monitor
        if not validates or (monitor == "val_accuracy" and not classifies):
            monitor = "loss" if not validates else "val_loss"
        self.monitor = monitor
        self._hyper = hyper
        self._waited = 0
        self.value: float | None = None
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, Tensor] | None = None

    @property
    def replaced(self) -> str:
        """What to tell the job's owner where what goes by the monitor goes by another one; empty where nothing does."""
        users = {
            "early_stopping": self._hyper.early_stopping > 0,
            "keep_best": self._hyper.keep_best,
            "ReduceOnPlateau": any(part.type == "ReduceOnPlateau" for part in self._hyper.schedules),
        }
        named = ", ".join(name for name, used in users.items() if used)
        if not named or self.monitor == self._hyper.monitor:
            return ""
        return f"{self._hyper.monitor} is not measured in this job; {self.monitor} takes its place for {named}"

    def value_of(self, metrics: dict[str, float]) -> float:
        return metrics[self.monitor]

    def see(self, epoch: int, metrics: dict[str, float], model: nn.Module) -> None:
        value = self.value_of(metrics)
        gain = value - self.value if self.value is not None else 0.0
        gain = gain if self.monitor == "val_accuracy" else -gain
        if self.value is not None and gain <= self._hyper.early_stopping_min_delta:
            self._waited += 1
            return
        self.value, self.epoch, self.metrics, self._waited = value, epoch, dict(metrics), 0
        if self._hyper.keep_best:
            shown = model.state_dict()
            self.weights = {name: checkpoint.whole(each.detach()).to("cpu", copy=True) for name, each in shown.items()}

    @property
    def exhausted(self) -> bool:
        return 0 < self._hyper.early_stopping <= self._waited

    @property
    def why(self) -> str:
        return (
            f"{self.monitor} has not been better than {self.value:.6g} of epoch {self.epoch} for {self._waited} epochs"
        )

    def figures(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch, "metrics": self.metrics, "waited": self._waited}

    def load(self, figures: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.value, self.epoch, self._waited = figures["value"], int(figures["epoch"]), int(figures["waited"])
        self.metrics, self.weights = dict(figures["metrics"]), weights or None
