"""What a running job is told from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable

_LOOK_SECONDS = 0.1  # between two looks whether to stop


class Orders:
    """Looked at by the job between two steps; `given` is the one thing that it must look at each time."""

    def __init__(self) -> None:
        self.given = False
        self.cancelled = False  # stop, nothing is wanted any more
        self.preempted = False  # save a checkpoint and stop

        self.answers = Answers(lambda: self.given)

    def give(self, order: str) -> None:
        """`cancel` or `preempt`; safe from another thread."""
        if order == "cancel":
            self.cancelled = True
        else:
            self.preempted = True
        self.given = True


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
