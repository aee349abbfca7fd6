"""Where arrays live: NumPy, CuPy, or PyTorch on either device. In the child only."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from cyxwiz.domain.errors import unsupported

log = logging.getLogger(__name__)

NAMES = ("numpy", "cupy", "torch")


class Backend:
    """A library of arrays on one device. `xp` is its module."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.xp = _module(name)

    def take(self, host: Any) -> Any:
        """The NumPy array as one of this backend; it may be the same."""
        if self.name == "cupy":
            return self.xp.asarray(host)
        if self.name == "torch":
            return self.xp.from_numpy(host.copy()).to(self.device)
        return host

    def give(self, array: Any) -> Any:
        """The array as one of NumPy; it may be the same. Waits for the device."""
        if self.name == "cupy":
            return self.xp.asnumpy(array)
        return array.cpu().numpy() if self.name == "torch" else array


@cache
def backend(name: str, device: str) -> Backend:
    """The backend of that name for `cpu` or `cuda`; `auto` takes NumPy, or on a GPU CuPy and else PyTorch.

    Raises:
        CyxError: UNSUPPORTED where it is not installed or does not go with the device.
    """
    if device == "cpu":
        if name == "cupy":
            raise unsupported("backend cupy computes on a GPU: set target_device to CUDA, or backend to numpy.")
        return Backend("numpy" if name == "auto" else name, device)
    if name == "numpy":
        raise unsupported("backend numpy computes on the CPU: set target_device to CPU, or backend to cupy or torch.")
    if name in ("auto", "cupy") and cupy_works():
        return Backend("cupy", device)
    if name in ("auto", "torch") and torch_works():
        return Backend("torch", device)
    there = [each for each, works in (("cupy", cupy_works), ("torch", torch_works)) if works()]
    raise unsupported(f"backend {name} has no GPU in this node; it has {', '.join(['numpy on the CPU', *there])}.")


def cupy_works() -> bool:
    """Whether CuPy is installed and sees a GPU."""
    try:
        return bool(_module("cupy").cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy has its own kinds for a driver that is missing, too old or broken
        log.warning("cupy finds no GPU: %s: %s", type(error).__name__, error)
        return False


def torch_works() -> bool:
    """Whether PyTorch is installed and sees a GPU."""
    try:
        return bool(_module("torch").cuda.is_available())
    except ImportError:
        return False


def _module(name: str) -> Any:
    if name == "cupy":
        import cupy  # pyright: ignore[reportMissingImports]

        return cupy
    if name == "torch":
        import torch

        return torch
    import numpy

    return numpy
