"""The strategies of gangs, on torch.distributed's default process group.

`batch_size` is that of the whole gang: each member takes every n-th row of a batch. With ddp and fsdp a step is the one
that one node would take on the whole batch, up to the order of sums; layers that look at a whole batch (batch norm) see
the member's rows only. local_sgd and diloco let members step alone on their rows and exchange weights once in
`sync_every` steps: for slow links.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.gang.team import Alone, Team

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cyxwiz.graph import Hyperparameters
    from cyxwiz.ports.executor import Gang


def make_team(gang: Gang, device: torch.device, hyper: Hyperparameters) -> Team:
    """The team of the gang's strategy; the process group must be there."""
    kind = {"ddp": Ddp, "fsdp": Fsdp}.get(gang.strategy)
    if kind is not None:
        return kind(gang.rank, gang.world, device, hyper)
    outer = (hyper.outer_lr, hyper.outer_momentum) if gang.strategy == "diloco" else (1.0, 0.0)
    return Periodic(gang.rank, gang.world, device, hyper, *outer)


class Ddp(Team):
    """Gradients are averaged over the members before each step (torch's DistributedDataParallel)."""

    _wrapped: Any = None

    def take(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
        from torch.nn.parallel import DistributedDataParallel

        self._wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
        return self._wrapped  # type: ignore[no-any-return]

    def gathering(self, stepping: bool) -> AbstractContextManager[Any]:
        return Alone.gathering(self, stepping) if stepping else self._wrapped.no_sync()


class Fsdp(Team):
    """As ddp, but each member keeps its share of weights, gradients and optimizer state (torch's fully_shard)."""

    _model: Any = None

    def join(self, model: nn.Module) -> None:
        super().join(model)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._device.type, (self.world,))
        for module in model.children():
            if any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh)
        self._model = fully_shard(model, mesh=mesh)

    def gathering(self, stepping: bool) -> AbstractContextManager[Any]:
        self._model.set_requires_gradient_sync(stepping)
        return super().gathering(stepping)

    @property
    def sharded(self) -> bool:
        return True


class Periodic(Team):
    """Members step alone; every `sync_every` steps the mean of what they moved is one step of an outer optimizer.

    With the outer rate 1 and no momentum that is the mean of the weights: local SGD (Stich, 2019). With Nesterov
    momentum it is DiLoCo (Douillard et al., 2023). Averages of floating-point buffers are taken along.
    """

    def __init__(
        self, rank: int, world: int, device: torch.device, hyper: Hyperparameters, rate: float, momentum: float
    ) -> None:
        super().__init__(rank, world, device, hyper)
        self._rate, self._momentum = rate, momentum
        self._since = 0  # steps since the last exchange
        self._weights: list[Tensor] = []  # the model's own
        self._shared: list[Tensor] = []  # as all members had them after the last exchange

    def take(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
        import torch

        self._weights = [each for each in model.parameters() if each.requires_grad]
        self._shared = [torch.nn.Parameter(each.detach().clone()) for each in self._weights]
        self._outer = torch.optim.SGD(
            self._shared, lr=self._rate, momentum=self._momentum, nesterov=self._momentum > 0
        )  # fmt: skip
        return model

    def weigh(self, loss: Tensor, mine: float, all_of_them: float) -> Tensor:
        return loss if mine else loss * 0.0

    def stepped(self, step: int) -> None:
        super().stepped(step)
        self._since += 1
        if step % self._hyper.sync_every == 0:
            self.settle()
            self._vote_at = self._steps  # what all have in common can be kept now

    def agree(self, given: bool, due: bool, *, now: bool = False) -> bool:
        """A checkpoint waits for the next exchange, an order to stop does not."""
        attends = super().agree(given, due and (now or self._since == 0), now=now)
        if attends:
            self.settle()
        return attends

    def settle(self) -> None:
        import torch
        import torch.distributed as dist

        if not self._since:
            return
        self._since = 0
        with torch.no_grad():
            moved = [(shared - own).reshape(-1) for shared, own in zip(self._shared, self._weights, strict=True)]
            flat = torch.cat([*moved, *(each.reshape(-1).to(moved[0].dtype) for each in self._buffers)])
            dist.all_reduce(flat)
            parts = (flat / self.world).split([each.numel() for each in (*self._weights, *self._buffers)])
            for shared, part in zip(self._shared, parts, strict=False):
                shared.grad = part.view_as(shared)
            self._outer.step()
            self._outer.zero_grad()
            _copy(self._shared, self._weights)
            for buffer, part in zip(self._buffers, parts[len(self._weights) :], strict=True):
                buffer.copy_(part.view_as(buffer))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        if not self._since:
            yield
            return
        mine = [*self._weights, *self._buffers]
        own = [each.detach().clone() for each in mine]
        _copy(self._shared, self._weights)
        self._share_buffers()
        try:
            yield
        finally:
            _copy(own, mine)

    def tensors(self) -> Mapping[str, Tensor]:
        momenta = [self._outer.state.get(each, {}).get("momentum_buffer") for each in self._shared]
        return {f"outer/{index}": each for index, each in enumerate(momenta) if each is not None}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        _copy(self._weights, self._shared)
        for index, each in enumerate(self._shared):
            if self._momentum and f"outer/{index}" in tensors:
                self._outer.state[each]["momentum_buffer"] = tensors[f"outer/{index}"].to(each.device, copy=True)


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    import torch

    with torch.no_grad():
        for own, other in zip(target, source, strict=True):
            own.copy_(other)
