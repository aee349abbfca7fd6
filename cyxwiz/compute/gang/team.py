"""What a training loop asks of those it trains with. `Alone` is the answer of a job on one node."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cyxwiz.compute.gang.elastic import Member
    from cyxwiz.graph import Hyperparameters
    from cyxwiz.ports.executor import Reached

VOTE_SECONDS = 0.25  # about, between two votes
_NOTHING = contextlib.nullcontext()


class Alone:
    """One member: nothing is shared, split or agreed on."""

    rank = 0
    world = 1
    stops = False  # a member was told to save and stop, and all do
    reached: Sequence[Reached] = ()  # what it measured to others as they met
    rows = slice(None)  # of a batch, or of the data that is validated: those of this member

    @property
    def leads(self) -> bool:
        """Whether it speaks for the job."""
        return self.rank == 0

    def join(self, model: nn.Module) -> None:
        """Once, before there is an optimizer."""

    def take(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
        """Once the optimizer is there; what to call for the outputs."""
        return model

    def draw(self, seed: int, epoch: int, batch: int, augment: torch.Generator) -> None:
        """Before each batch: what chance it computes with, in the model and in `augment`."""

    def weigh(self, loss: Tensor, mine: float, all_of_them: float) -> Tensor:
        """The mean loss of its rows so that the mean over the members is the mean of the batch; `mine` is what its rows
        weigh in it, `all_of_them` what the batch does."""
        return loss

    def gathering(self, stepping: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward pass; gradients are exchanged only if a step follows."""
        return _NOTHING

    def stepped(self, step: int) -> None:
        """After each optimizer step."""

    def agree(self, given: bool, due: bool, *, now: bool = False) -> bool:
        """Whether to attend to an order or a checkpoint: all members get the same answer. `now` asks all at once."""
        return given or due

    def settle(self) -> None:
        """Makes all members' weights the same, before they are kept."""

    def sums(self, figures: Sequence[float]) -> Sequence[float]:
        """Each figure summed over the members."""
        return figures

    def together(self) -> AbstractContextManager[Any]:
        """Within it the model has the weights that all members share."""
        return _NOTHING

    def tensors(self) -> Mapping[str, Tensor]:
        """What it wants kept in a checkpoint besides model and optimizer."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The weights are back in the model; these are what `tensors` gave."""

    @property
    def sharded(self) -> bool:
        """Whether a member alone has no whole weights, so that all must take part in copying them."""
        return False

    def figures(self) -> dict[str, float]:
        """What to report of the exchange itself."""
        return {}

    def leave(self) -> None:
        """Its part has ended well: returns when those of all have."""


class Team(Alone):
    """A member of a gang whose process group is there. Strategies say what is exchanged, and when."""

    member: Member

    def __init__(self, rank: int, world: int, device: torch.device, hyper: Hyperparameters) -> None:
        self.rank, self.world = rank, world
        self.rows = slice(rank, None, world)
        self._device, self._hyper = device, hyper
        self._steps = 0
        self._vote_at = 1
        self._voted = (0, time.perf_counter())  # the last vote: after how many steps, and when
        self._gradient_bytes = 0
        self._buffers: list[Tensor] = []  # what members have of their own rows, such as batch norm's means

    def join(self, model: nn.Module) -> None:
        self._buffers = [each for each in model.buffers() if each.is_floating_point()]
        self._gradient_bytes = sum(each.numel() * each.element_size() for each in model.parameters())

    def draw(self, seed: int, epoch: int, batch: int, augment: torch.Generator) -> None:
        """Begins it anew, by the job's seed, the member and the batch: no two members draw alike, and to go on from a
        checkpoint, which has the first member's state alone, nobody else's is needed."""
        import torch

        digest = hashlib.blake2b(f"{seed} {self.rank} {epoch} {batch}".encode(), digest_size=16).digest()
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
        if self._device.type == "cuda":
            torch.cuda.manual_seed(int.from_bytes(digest[:8], "big"))
        augment.manual_seed(int.from_bytes(digest[8:], "big"))

    def weigh(self, loss: Tensor, mine: float, all_of_them: float) -> Tensor:
        return loss * (mine * self.world / (all_of_them or 1.0))

    def stepped(self, step: int) -> None:
        self._steps += 1

    def agree(self, given: bool, due: bool, *, now: bool = False) -> bool:
        """Asked after each optimizer step, it votes only every so many of them; the first member says how many. A vote
        of `now` puts the next one off by nothing: where epochs are short, no order would ever be heard."""
        if not now and self._steps < self._vote_at:
            return False
        ahead = self._ahead() if self.leads and not now else 0
        stop, save, ahead = self._most([float(given), float(due and self.leads), float(ahead)])
        if not now:
            self._vote_at = self._steps + max(1, int(ahead))
        self.stops = stop > 0
        return self.stops or save > 0

    def _ahead(self) -> int:
        """Steps to the next vote: as many as fit into VOTE_SECONDS at the pace since the last one."""
        (steps, at), now = self._voted, time.perf_counter()
        self._voted = (self._steps, now)
        return max(1, min(1000, round((self._steps - steps) * VOTE_SECONDS / max(now - at, 1e-6))))

    def _most(self, figures: Sequence[float]) -> list[float]:
        return self._reduced(figures, "MAX")

    def sums(self, figures: Sequence[float]) -> Sequence[float]:
        return self._reduced(figures, "SUM")

    def _reduced(self, figures: Sequence[float], operation: str) -> list[float]:
        import torch
        import torch.distributed as dist

        values = torch.tensor(figures, dtype=torch.float64, device=self._device)
        dist.all_reduce(values, getattr(dist.ReduceOp, operation))
        return [float(value) for value in values.tolist()]

    def figures(self) -> dict[str, float]:
        """`bytes_sent`: the mean over the members since the group met, measured (`traffic`).
        `bytes_sent_ddp_equivalent`: computed, what as many steps of ddp would send: 2 (n - 1) / n of all gradients each
        (ring all-reduce; Patarasuk and Yuan, 2009). Of the links that were measured as it met, the longest round trip
        and the slowest rate."""
        from cyxwiz.compute.gang.traffic import bytes_sent

        sent = bytes_sent()
        total, unknown = self.sums([float(sent or 0), float(sent is None)])
        ring = 2 * (self.world - 1) / self.world * self._gradient_bytes
        found = {"members": float(self.world), "bytes_sent_ddp_equivalent": ring * self._steps, **self._slowest()}
        return found if unknown else {**found, "bytes_sent": total / self.world}

    def leave(self) -> None:
        self.member.leave()

    def together(self) -> AbstractContextManager[Any]:
        """All members take the first one's buffers, as its model is what is kept: figures are of that model."""
        self._share_buffers()
        return _NOTHING

    def _share_buffers(self) -> None:
        import torch
        import torch.distributed as dist

        if not self._buffers:
            return
        with torch.no_grad():
            flat = torch.cat([each.reshape(-1) for each in self._buffers])  # in one message
            dist.broadcast(flat, 0)
            parts = flat.split([each.numel() for each in self._buffers])
            for buffer, part in zip(self._buffers, parts, strict=True):
                buffer.copy_(part.view_as(buffer))

    def _slowest(self) -> dict[str, float]:
        trips, rates = (
            [each.round_trip_seconds for each in self.reached],
            [each.bytes_per_second for each in self.reached],
        )
        trip, slowness = self._most([max(trips, default=0.0), max((1 / each for each in rates), default=0.0)])
        if not trip or not slowness:
            return {}
        return {"link_round_trip_ms": trip * 1000, "link_bytes_per_second": 1 / slowness}
