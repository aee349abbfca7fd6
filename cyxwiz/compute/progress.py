"""What a job that goes through its data once reports on the way, and whether it is to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cyxwiz.compute.course import Stopped
from cyxwiz.compute.orders import Orders
from cyxwiz.ports.executor import FirstStep, Progressed, Report

REPORT_SECONDS = 0.5

Send = Callable[[Report], None]


class Pass:
    """One pass over `units`: rows, or steps. Its one epoch counts as the job's."""

    def __init__(self, units: int, send: Send, orders: Orders, began: float, done: int = 0) -> None:
        self._units, self._send, self._orders, self._began = units, send, orders, began
        self._already = done  # by an earlier run
        self._reported = began
        self._first = True

    def stopped(self) -> bool:
        """Whether to save what there is and stop. Raises `Stopped` where nothing is wanted any more."""
        if self._orders.cancelled:
            raise Stopped
        return self._orders.preempted

    def done(self, units: int, metrics: Mapping[str, float] | None = None) -> None:
        """So many are done; a report goes out now and then, and at the end."""
        if self._first:
            self._first = False
            self._send(FirstStep())
        now = time.perf_counter()
        ended = units >= self._units
        if not ended and now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        share = units / self._units
        elapsed = max(now - self._began, 1e-9)
        fresh = units - self._already
        figures = {"samples_per_second": fresh / elapsed, **(metrics or {})}
        left = elapsed * (self._units - units) / fresh if fresh else 0.0
        batch, batches = min(units, 2**31), min(self._units, 2**31)
        self._send(Progressed(1, 1, batch, batches, share, figures, elapsed, left, epoch_ended=ended))
