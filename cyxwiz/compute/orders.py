"""What a running job is told from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Wish:
    """What the job's owner would like: `checkpoint` now, or an `update` of hyperparameters to `values`."""

    order: str
    values: Mapping[str, Any]


class Orders:
    """Looked at by the job between two steps; `given` is the one thing that it must look at each time."""

    def __init__(self) -> None:
        self.given = False
        self.cancelled = False  # stop, nothing is wanted any more
        self.preempted = False  # save a checkpoint and stop
        self._wishes: deque[Wish] = deque()

    @property
    def ending(self) -> bool:
        """Whether the job is to stop."""
        return self.cancelled or self.preempted

    def give(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        """`cancel`, `preempt`, `checkpoint` or `update`; safe from another thread."""
        if order == "cancel":
            self.cancelled = True
        elif order == "preempt":
            self.preempted = True
        else:
            self._wishes.append(Wish(order, values or {}))
        self.given = True

    def take(self) -> list[Wish]:
        """The wishes since the last look; `given` then stands for the job's end alone."""
        self.given = self.ending  # before the wishes: one that comes meanwhile is seen at the next look at the latest
        taken: list[Wish] = []
        while self._wishes:
            taken.append(self._wishes.popleft())
        return taken
