"""What a running job is told from outside."""

from __future__ import annotations


class Orders:
    """Looked at by the job between two steps; `given` is the one thing that it must look at each time."""

    def __init__(self) -> None:
        self.given = False
        self.cancelled = False  # stop, nothing is wanted any more
        self.preempted = False  # save a checkpoint and stop

    def give(self, order: str) -> None:
        """`cancel` or `preempt`; safe from another thread."""
        if order == "cancel":
            self.cancelled = True
        else:
            self.preempted = True
        self.given = True
