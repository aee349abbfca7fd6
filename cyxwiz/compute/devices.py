"""The device that a job was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyxwiz.domain.errors import Code, CyxError

if TYPE_CHECKING:
    import torch


def device_of(name: str) -> torch.device:
    """`cpu` or `cuda:0` as torch's; computing there gives the same sums each time where it can.

    Raises:
        CyxError: UNAVAILABLE for a CUDA device that this PyTorch does not see.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CyxError(Code.UNAVAILABLE, f"The device {name} is not usable: this PyTorch sees no CUDA device.")
    if name.startswith("cuda"):
        torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device(name)
