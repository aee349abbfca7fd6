"""The GPUs that a node lends, as a sandbox needs them: their device files, and the name that CUDA knows them by.

They are those of the node's inventory, in its order: the N-th is `cuda:N` for central, for the child and here.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from cyxwiz.compute.hardware.detect import WSL_DEVICE, Inventory
from cyxwiz.compute.hardware.facts import Facts
from cyxwiz.compute.hardware.machine import Machine, NoNvmlError

log = logging.getLogger(__name__)

_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
_MINOR = "Device Minor:"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One lent GPU. `name` stands in CUDA_VISIBLE_DEVICES: NVIDIA's UUID, ROCm's number; "" where nobody tells one."""

    name: str
    files: tuple[Path, ...]


def lent_gpus(inventory: Inventory, machine: Machine | None = None) -> tuple[Gpu, ...]:
    """The lent GPUs; one whose device files nobody tells has none, and no job can use it."""
    where = machine or Machine()
    found = tuple(Gpu(_name(each.facts), _files(each.facts, where)) for each in inventory.lent)
    for gpu, each in zip(found, inventory.lent, strict=True):
        if not gpu.files:
            log.warning("%s %s can't be given to jobs: its device files are not known", each.label, each.name)
    return found


def _name(facts: Facts) -> str:
    if facts.vendor == "nvidia":
        return facts.uuid or ""
    return "" if facts.torch_index is None else str(facts.torch_index)


def _files(facts: Facts, machine: Machine) -> tuple[Path, ...]:
    if facts.vendor == "nvidia" and machine.path(WSL_DEVICE).exists():
        return (Path(WSL_DEVICE),)
    if facts.vendor == "nvidia":
        minor = _minor(facts, machine)
        return () if minor is None else (*map(Path, _SHARED), Path(f"/dev/nvidia{minor}"))
    if facts.vendor == "amd" and facts.pci:
        link = Path(f"/dev/dri/by-path/pci-{facts.pci}-render")
        if machine.path(str(link)).exists():
            return Path("/dev/kfd"), Path("/dev/dri") / machine.path(str(link)).resolve().name
    return ()


def _minor(facts: Facts, machine: Machine) -> int | None:
    """The N of /dev/nvidiaN, as the driver tells it below /proc, else NVML."""
    told = machine.read(f"/proc/driver/nvidia/gpus/{facts.pci}/information") if facts.pci else None
    for line in (told or "").splitlines():
        if line.startswith(_MINOR) and line.removeprefix(_MINOR).strip().isdigit():
            return int(line.removeprefix(_MINOR))
    uuid = facts.slice_of or facts.uuid
    try:
        nvml = machine.nvml()
    except NoNvmlError:
        return None
    try:
        return int(nvml.nvmlDeviceGetMinorNumber(nvml.nvmlDeviceGetHandleByUUID(uuid))) if uuid else None
    except nvml.NVMLError as error:
        log.warning("GPU %s can't be given to jobs: %s", uuid, error)
        return None
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
