"""Mixed precision of a training job."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from cyxwiz.ports.executor import Logged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cyxwiz.compute.course import Send


class Precision:
    """What is computed in 16 bits, and the scaling that float16's gradients need."""

    def __init__(self, wanted: str, device: torch.device, send: Send) -> None:
        import torch

        on_gpu = device.type == "cuda"
        if wanted == "auto":
            wanted = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "float32"
        if wanted == "fp16" and not on_gpu:
            send(Logged("warning", "fp16 needs a GPU; bf16 is taken instead"))
            wanted = "bf16"
        self._device = device.type
        self._type = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(wanted)
        self._scaler = torch.amp.GradScaler(device.type) if wanted == "fp16" else None

    def context(self) -> Any:
        import torch

        return _PLAIN if self._type is None else torch.autocast(self._device, self._type)

    def backward(self, loss: Tensor) -> None:
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)


_PLAIN = contextlib.nullcontext()
