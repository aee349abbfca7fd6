"""NVIDIA GPUs by NVML, the library below nvidia-smi. MIG slices are devices of their own."""

from __future__ import annotations

import contextlib
from typing import Any

from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, NoNvmlError

NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED
NOT_FOUND = 6  # NVML_ERROR_NOT_FOUND
UNIFIED = "the driver gives none: the GPU shares the machine's RAM, whose size is taken"
ON_CHIP = "the GPU is part of the processor"


def read(machine: Machine, ram: Ram) -> Answer:
    """Every GPU in NVML's order, which is that of the PCI bus."""
    try:
        nvml = machine.nvml()
    except NoNvmlError as error:
        return Answer("nvml", notes=(f"nvml: {error}",) if str(error) else ())
    notes: list[str] = []
    devices: list[Facts] = []
    try:
        system = _System(nvml)
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
            except nvml.NVMLError as error:
                notes.append(f"cuda:{index}: it is there and can't be opened: {error}")
                continue
            devices += _gpu(system, handle, index, ram, notes)
    except nvml.NVMLError as error:
        return Answer("nvml", tuple(devices), (*notes, f"nvml: stopped answering: {error}"), answered=bool(devices))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    return Answer("nvml", tuple(devices), tuple(notes), answered=True)


class _System:
    """NVML, with calls that answer None and a reason instead of raising."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.why: dict[str, str] = {}
        self.driver = text(self.ask("driver", "nvmlSystemGetDriverVersion")) or None
        cuda = self.ask("cuda", "nvmlSystemGetCudaDriverVersion_v2")
        self.cuda = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None

    def ask(self, fact: str, call: str, *args: Any) -> Any:
        return ask(self.nvml, self.why, fact, call, *args)


def ask(nvml: Any, why: dict[str, str], fact: str, call: str, *args: Any) -> Any:
    """The call's answer, or None with the reason in `why`."""
    function = getattr(nvml, call, None)
    if function is None:
        why[fact] = f"this nvidia-ml-py has no {call}"
        return None
    try:
        return function(*args)
    except nvml.NVMLError as error:
        why[fact] = str(error)
        return None


def _gpu(system: _System, handle: Any, index: int, ram: Ram, notes: list[str]) -> list[Facts]:
    nvml, why = system.nvml, dict(system.why)

    def get(fact: str, call: str, *args: Any) -> Any:
        return ask(nvml, why, fact, call, handle, *args)

    capability = get("capability", "nvmlDeviceGetCudaComputeCapability")
    rates = get("utilisation", "nvmlDeviceGetUtilizationRates")
    power = get("power_watts", "nvmlDeviceGetPowerUsage")
    total, free, unified = memory(nvml, handle, ram, why)
    pci = get("pci", "nvmlDeviceGetPciInfo")
    whole = Facts(
        "nvidia",
        name=text(get("name", "nvmlDeviceGetName")) or f"NVIDIA GPU {index}",
        index=index,
        pci=pci_address(text(pci.busId)) if pci is not None else None,
        uuid=text(get("uuid", "nvmlDeviceGetUUID")) or None,
        memory_total=total,
        memory_free=free,
        unified=unified,
        compute_units=get("compute_units", "nvmlDeviceGetNumGpuCores"),
        driver=system.driver,
        cuda=system.cuda,
        capability=float(f"{capability[0]}.{capability[1]}") if capability else None,
        pcie_generation=None if unified else get("pcie_generation", "nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_lanes=None if unified else get("pcie_lanes", "nvmlDeviceGetMaxPcieLinkWidth"),
        utilisation=rates.gpu / 100 if rates is not None else None,
        temperature_c=get("temperature_c", "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        power_watts=power / 1000 if power is not None else None,
        why=why,
    )
    if unified:
        why.update(pcie_generation=ON_CHIP, pcie_lanes=ON_CHIP)
    if not _has_mig(nvml, handle):
        return [whole]
    slices = _slices(system, handle, whole, ram)
    if not slices:
        notes.append(f"cuda:{index} {whole.name}: MIG is on and no slice is made, so that nothing can run there")
    return slices


def _slices(system: _System, parent: Any, whole: Facts, ram: Ram) -> list[Facts]:
    nvml, found = system.nvml, list[Facts]()
    for place in range(ask(nvml, {}, "mig", "nvmlDeviceGetMaxMigDeviceCount", parent) or 0):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, place)
        except nvml.NVMLError as error:
            if error.value in (NOT_FOUND, NOT_SUPPORTED):
                continue  # no slice in this place
            raise
        why: dict[str, str] = {
            "utilisation": "NVML measures no load of a MIG slice",
            "power_watts": "NVML measures the power of the whole GPU, not of a slice",
        }
        total, free, _ = memory(nvml, handle, ram, why)
        shape = ask(nvml, why, "compute_units", "nvmlDeviceGetAttributes_v2", handle)
        found.append(
            Facts(
                "nvidia",
                name=text(ask(nvml, why, "name", "nvmlDeviceGetName", handle)) or f"{whole.name} MIG slice {place}",
                pci=whole.pci,
                uuid=text(ask(nvml, why, "uuid", "nvmlDeviceGetUUID", handle)) or None,
                slice_of=whole.uuid or f"cuda:{whole.index}",
                memory_total=total,
                memory_free=free,
                unified=False,
                compute_units=shape.multiprocessorCount if shape is not None else None,
                driver=whole.driver,
                cuda=whole.cuda,
                capability=whole.capability,
                pcie_generation=whole.pcie_generation,
                pcie_lanes=whole.pcie_lanes,
                temperature_c=whole.temperature_c,
                why=why,
            )
        )
    return found


def _has_mig(nvml: Any, handle: Any) -> bool:
    mode = ask(nvml, {}, "mig", "nvmlDeviceGetMigMode", handle)
    return bool(mode) and mode[0] == 1


def memory(nvml: Any, handle: Any, ram: Ram, why: dict[str, str]) -> tuple[int | None, int | None, bool]:
    """(total, free, whether it is the machine's RAM). A GPU of which the driver supports no answer has no memory of its
    own, unless MIG has shared it out."""
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if error.value == NOT_SUPPORTED and not _has_mig(nvml, handle):
            return ram.total, ram.available, True
        why.update(memory_total=str(error), memory_free=str(error))
        return None, None, False
    if not found.total:
        return ram.total, ram.available, True
    return found.total, found.free, False


def text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
