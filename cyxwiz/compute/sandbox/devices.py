"""The GPUs that a node lends, as a sandbox needs them: their device files, and the name that CUDA knows them by."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. Its place in the node's list is the N of `cuda:N`."""

    uuid: str
    minor: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (*map(Path, _SHARED), Path(f"/dev/nvidia{self.minor}"))


def lent_gpus(wanted: tuple[str, ...] = ("all",)) -> tuple[Gpu, ...]:
    """The GPUs that `node.devices` names, in the order of `hardware.detect`; none where NVML does not answer."""
    try:
        import pynvml as nvml
    except ImportError:
        return ()
    names = {name.lower() for name in wanted}
    found: list[Gpu] = []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            if {"all", "cuda", f"cuda:{index}"} & names:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = nvml.nvmlDeviceGetUUID(handle)
                text = uuid.decode() if isinstance(uuid, bytes) else str(uuid)
                found.append(Gpu(text, int(nvml.nvmlDeviceGetMinorNumber(handle))))
    except nvml.NVMLError as error:
        log.warning("GPUs can't be given to jobs: %s", error)
        return ()
    finally:
        nvml.nvmlShutdown()
    return tuple(found)
