"""The best epoch of a training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyxwiz.compute import checkpoint
from cyxwiz.graph import Hyperparameters

if TYPE_CHECKING:
    from torch import Tensor, nn


class Best:
    """The best epoch by the monitored figure, for `keep_best`, and for early stopping the last one that was better than
    those before by more than `early_stopping_min_delta`."""

    def __init__(self, hyper: Hyperparameters, validates: bool, classifies: bool) -> None:
        monitor = hyper.monitor
        if not validates or (monitor == "val_accuracy" and not classifies):
            monitor = "loss" if not validates else "val_loss"
        self.monitor = monitor
        self._hyper = hyper
        self._waited = 0
        self._mark: tuple[float, int] | None = None  # what is to be bettered, and its epoch
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
        if self._mark is None or self._gain(value, self._mark[0]) > self._hyper.early_stopping_min_delta:
            self._mark, self._waited = (value, epoch), 0
        else:
            self._waited += 1
        if self.value is not None and self._gain(value, self.value) <= 0:
            return
        self.value, self.epoch, self.metrics = value, epoch, dict(metrics)
        if self._hyper.keep_best:
            shown = model.state_dict()
            self.weights = {name: checkpoint.whole(each.detach()).to("cpu", copy=True) for name, each in shown.items()}

    def _gain(self, value: float, before: float) -> float:
        return value - before if self.monitor == "val_accuracy" else before - value

    @property
    def exhausted(self) -> bool:
        return 0 < self._hyper.early_stopping <= self._waited

    @property
    def why(self) -> str:
        assert self._mark is not None
        value, epoch = self._mark
        least = self._hyper.early_stopping_min_delta
        by = f" by more than {least:g}" if least else ""
        return f"{self.monitor} has not been better than {value:.6g} of epoch {epoch}{by} for {self._waited} epochs"

    def figures(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "epoch": self.epoch,
            "metrics": self.metrics,
            "waited": self._waited,
            "mark": self._mark,
        }

    def load(self, figures: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.value, self.epoch, self._waited = figures["value"], int(figures["epoch"]), int(figures["waited"])
        self.metrics, self.weights = dict(figures["metrics"]), weights or None
        older = None if self.value is None else (self.value, self.epoch)
        mark = figures.get("mark", older)  # what saved it may be older
        self._mark = None if mark is None else (float(mark[0]), int(mark[1]))
