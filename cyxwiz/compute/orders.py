"""What a running job is told from outside."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LOOK_SECONDS = 0.1  # between two looks whether to stop


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
        self.answers = Answers(lambda: self.ending)
        self.fed = Fed(lambda: self.ending)

    @property
    def ending(self) -> bool:
        """Whether the job is to stop."""
        return self.cancelled or self.preempted

    def give(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        """`cancel`, `preempt`, `checkpoint`, `update` or `fed`; safe from another thread."""
        if order == "fed":
            self.fed.put(int((values or {})["count"]))
            return
        if order == "cancel":
            self.cancelled = True
        elif order == "preempt":
            self.preempted = True
        else:
            self._wishes.append(Wish(order, values or {}))
        self.given = True
        self.fed.wake()

    def take(self) -> list[Wish]:
        """The wishes since the last look; `given` then stands for the job's end alone."""
        self.given = False
        if self.ending:  # looked at afterwards: an order that comes meanwhile is not lost, nor is a wish
            self.given = True
        taken: list[Wish] = []
        while self._wishes:
            taken.append(self._wishes.popleft())
        return taken


class Answers:
    """What comes back of the questions that a gang's member asked. `stopped` says that no more is wanted."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._news = threading.Condition()
        self._given: dict[int, bytes] = {}

    def put(self, number: int, value: bytes) -> None:
        """Safe from another thread."""
        with self._news:
            self._given[number] = value
            self._news.notify_all()

    def take(self, number: int, seconds: float) -> bytes:
        """Waits for the answer.

        Raises:
            TimeoutError: it did not come in time.
            InterruptedError: the job was told to stop meanwhile.
        """
        left = seconds
        with self._news:
            while number not in self._given:
                if self._stopped():
                    raise InterruptedError("told to stop while its group was meeting")
                if left <= 0:
                    raise TimeoutError(f"no answer of the rendezvous within {seconds:.0f} s")
                self._news.wait(_LOOK_SECONDS)
                left -= _LOOK_SECONDS
            return self._given.pop(number)


class Fed:
    """How many rows of streamed data are there. `stopped` says that no more is wanted."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._news = threading.Condition()
        self.count = 0

    def put(self, count: int) -> None:
        """Safe from another thread."""
        with self._news:
            self.count = max(self.count, count)
            self._news.notify_all()

    def wake(self) -> None:
        """Has whoever waits look whether to stop."""
        with self._news:
            self._news.notify_all()

    def wait(self, count: int) -> bool:
        """Waits until so many are there; False when the job was told to stop before they were."""
        with self._news:
            self._news.wait_for(lambda: self.count >= count or self._stopped())
            return self.count >= count
