"""A node's side of streamed data in the test's own process: rows come when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cyxwiz.compute.data.streamed import Info, RowStore
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import Stopped, train
from cyxwiz.ports.executor import Finished, Report, Wanted, Work


def samples(count: int, shape: tuple[int, ...] = (8,), classes: int = 3) -> tuple[Any, Any]:
    """Noisy clusters, one a class."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, count)
    centres = rng.normal(size=(classes, *shape))
    return (centres[y] + rng.normal(size=(count, *shape))).astype(np.float32), y


class Streaming:
    """Trains on rows that `feed` brings. `bring` is called with each report that is no `Wanted`, and may feed more or
    give orders; `at_first` rows are there as soon as they are wanted."""

    def __init__(
        self,
        folder: Path,
        x: Any,
        y: Any,
        *,
        classes: int = 3,
        at_first: int | None = None,
        bring: Callable[[Streaming, Report], None] | None = None,
    ) -> None:
        self.x, self.y, self.orders = x, y, Orders()
        self.store = RowStore.create(folder, Info(len(x), x.shape[1:], classes, ()))
        self.order: list[int] = []
        self.fed = 0
        self.reports: list[Report] = []
        self._at_first = len(x) if at_first is None else at_first
        self._bring = bring

    def feed(self, count: int) -> None:
        """So many rows more, in the order in which they are wanted."""
        rows = np.array(self.order[self.fed : self.fed + count], dtype=np.int64)
        if len(rows):
            self.store.write(rows, self.x[rows], self.y[rows])
            self.fed += len(rows)
            self.orders.give("fed", {"count": self.fed})

    def _said(self, report: Report) -> None:
        if isinstance(report, Wanted):
            self.order += np.frombuffer(report.rows, "<u4").tolist()
            self.feed(self._at_first - self.fed)
            return
        self.reports.append(report)
        if self._bring is not None:
            self._bring(self, report)

    def run(self, work: Work) -> Finished | None:
        """The end of the job; None when it was stopped."""
        try:
            end = train(work, self._said, self.orders)
        except Stopped:
            return None
        assert isinstance(end, Finished)
        return end
