"""Training on data that still come: `Stream` says in which order they are needed, and waits for those that are next.

The order is that of the epoch at hand, drawn by the job's seed: what is left to train on, then what is held out, then
what the epoch has behind it. Rows are there in that order, so that the first step waits for the first batch alone. What
is held out is drawn over all rows alike, not class by class: nobody knows the labels yet.

Nothing here holds more than a batch of samples; labels are few bytes each and are held once they were read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyxwiz.compute.course import Send, Stopped
from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.compute.data.streamed import Rows, read_info
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.samples import CLASS_LOSSES, Samples, Shares, draw, targets_of
from cyxwiz.graph import Graph
from cyxwiz.ports.executor import Logged, Wanted, Work

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 1 << 20  # rows that one `Wanted` names


class Stream:
    def __init__(self, work: Work, send: Send, orders: Orders) -> None:
        """Of a run whose `dataset_path` is a folder of `data.streamed`. Raises OSError."""
        assert work.dataset_path is not None
        self._send, self._orders = send, orders
        self._info = info = read_info(work.dataset_path)
        self.features, self.labels = Rows(work.dataset_path / "x.npy"), Rows(work.dataset_path / "y.npy")
        self.count = info.samples
        self._places: Tensor | None = None  # by row: its place in the order
        self._parts: tuple[Tensor, Tensor] | None = None  # rows to train on, rows held out
        classes = max(2, info.classes) if info.classes else None
        self.dataset = Dataset(
            work.dataset_uri, self.features.array, self.labels.array, classes, class_names=info.names, streamed=True,
            nominal=True,
        )  # fmt: skip

    def bring(self, why: str) -> None:
        """Waits for all of it. Raises `Stopped` when told to stop meanwhile."""
        import torch

        self._send(Logged("info", f"waiting for all of the data: {why}"))
        self._ask(torch.arange(self.count))
        if not self._orders.fed.wait(self.count):
            raise Stopped

    def complete(self, why: str) -> None:
        """Returns when all of it is there, which is asked for if no epoch has. Raises `Stopped` as `bring`."""
        if self._places is None and not self.whole:
            self.bring(why)
        elif not self._orders.fed.wait(self.count):
            raise Stopped

    def count_classes(self) -> None:
        """For data whose client does not say how many classes there are: all of them must be there."""
        from dataclasses import replace

        self.dataset = replace(self.dataset, classes=max(2, int(self.labels.array.max()) + 1))

    def split(
        self, graph: Graph, shares: Shares, loss: str, outputs: tuple[int, ...], seed: int, device: torch.device
    ) -> tuple[Samples, Samples, Samples, dict[str, object]]:
        """As `samples.split`."""
        import torch

        kept, held_out, test = draw(torch.zeros(self.count, dtype=torch.int64), shares, seed)
        self._parts = kept, torch.cat([held_out, test])
        scaling: dict[str, object] = {"divisor": 1.0}
        if graph.normalize is not None:
            scaling = {"mean": graph.normalize[0], "std": graph.normalize[1], "divisor": 1.0}
        width = math.prod(outputs)
        train, held, tested = (
            StreamedSamples(self, rows, graph.normalize, self.dataset.classes, loss, width, device)
            for rows in (kept, held_out, test)
        )
        return train, held, tested, scaling

    def begin(self, shuffled: Tensor, done: int) -> None:
        """An epoch's order, of which the first `done` samples are behind it. The first call of a run counts."""
        import torch

        assert self._parts is not None
        kept, held_out = self._parts
        if self._places is None:
            self._ask(torch.cat([kept[shuffled[done:]], held_out, kept[shuffled[:done]]]))

    def _ask(self, order: Tensor) -> None:
        import torch

        self._places = torch.empty(self.count, dtype=torch.int64)
        self._places[order] = torch.arange(self.count)
        rows = order.numpy().astype("<u4")
        for start in range(0, self.count, AT_ONCE):
            self._send(Wanted(rows[start : start + AT_ONCE].tobytes()))

    @property
    def whole(self) -> bool:
        return self._orders.fed.count >= self.count

    def reach(self, rows: Tensor) -> int:
        """How many of the order must be there for these rows."""
        assert self._places is not None
        return int(self._places[rows].max()) + 1 if len(rows) else 0

    def wait_for(self, batches: Sequence[Tensor] | None = None) -> bool:
        """Waits for the samples of these batches, by their place in the training part, or for all that are held out.
        False when the job is to stop and they are not there."""
        import torch

        if self.whole:
            return True
        assert self._parts is not None
        kept, held_out = self._parts
        return self._orders.fed.wait(self.reach(held_out if batches is None else kept[torch.cat(list(batches))]))

    def there(self, rows: Tensor) -> bool:
        return self.whole or self._orders.fed.count >= self.reach(rows)


class StreamedSamples(Samples):
    """Samples that are read as they are taken. Labels and what the loss compares with are filled in with them, and stay
    on the CPU, as does what says which samples to take."""

    def __init__(
        self,
        stream: Stream,
        rows: Tensor,
        normalize: tuple[float, float] | None,
        classes: int | None,
        loss: str,
        width: int,
        device: torch.device,
    ) -> None:
        import torch

        labels = torch.zeros(len(rows), dtype=torch.int64)
        super().__init__(torch.empty(0), targets_of(labels, classes, loss, width), labels)
        self._stream, self._rows, self._normalize, self._device = stream, rows, normalize, device
        self._of = (classes, loss, width)
        self._filled = False
        if stream.whole:
            self._fill(torch.arange(len(rows)))

    def take(self, index: Tensor) -> Tensor:
        """Raises RuntimeError for samples that are not there: whoever takes them waits for them first."""
        rows = self._rows[index]
        if not self._filled:
            if not self._stream.there(rows):
                raise RuntimeError("samples were taken that have not come yet")
            self._fill(index)
        return self._read(rows).to(self._device)

    def example(self, count: int) -> Tensor:
        import torch

        shape = (min(count, len(self)), *self._stream.features.array.shape[1:])
        return torch.zeros(shape, device=self._device)

    def _read(self, rows: Tensor) -> Tensor:
        import torch

        values = torch.from_numpy(self._stream.features.take(rows.numpy()))
        if self._normalize is None:
            return values
        mean, std = self._normalize
        return (values - mean) / std

    def _fill(self, index: Tensor) -> None:
        """The labels of these samples; of all, once all are there."""
        import torch

        assert self.labels is not None
        if self._stream.whole:
            self._filled = True
            index = torch.arange(len(self))
        labels = torch.from_numpy(self._stream.labels.take(self._rows[index].numpy()))
        self.labels[index] = labels
        classes, loss, width = self._of
        if loss not in CLASS_LOSSES:  # else they are the labels themselves
            self.y[index] = targets_of(labels, classes, loss, width)


def open_stream(work: Work, send: Send, orders: Orders, *, all_of_it: str) -> Stream:
    """`all_of_it`: why nothing can begin before all is there; empty when it can. Raises `Stopped` and OSError."""
    stream = Stream(work, send, orders)
    if stream.dataset.classes is None:
        stream.bring("its client does not say how many classes they have")
        stream.count_classes()
    elif all_of_it:
        stream.bring(all_of_it)
    return stream
