"""Detection: which sources are asked, in which order, and which of the devices found are lent.

NVIDIA: NVML, then torch, then nvidia-smi, whichever answers. AMD: amd-smi or rocm-smi. Intel: xpu-smi. Apple:
system_profiler. Then the kernel's files for all of them, and OpenCL for what is still nameless or of unknown size.
A device is lent when node.devices names it and the installed torch can compute on it; one that is there and is not
lent is said with the reason. A size that nobody tells is unknown, never 0.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cyxwiz.compute.hardware import amd, apple, cpu, intel, nvidia_smi, nvml, opencl, sysfs, torch_probe
from cyxwiz.compute.hardware.facts import Answer, Facts, merge
from cyxwiz.compute.hardware.machine import Machine, TorchBuild
from cyxwiz.compute.hardware.nvml import UNIFIED
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, Hardware

log = logging.getLogger(__name__)

KINDS = {"nvidia": Device.CUDA, "apple": Device.METAL}  # every other GPU counts as an OpenCL device
TITLES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}
NVIDIA_SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/nvmap", nvidia_smi.WSL)
WSL_DEVICE = "/dev/dxg"
# A fact of a device, its name in `unknown`, and the vendors of which it can be known (empty: of all).
TOLD = (
    ("memory_total", "memory", ()),
    ("memory_free", "free memory", ()),
    ("compute_units", "compute units", ()),
    ("driver", "driver", ()),
    ("cuda", "CUDA version", ("nvidia",)),
    ("capability", "compute capability", ("nvidia",)),
    ("pcie_generation", "PCIe generation", ()),
    ("pcie_lanes", "PCIe lanes", ()),
    ("utilisation", "utilisation", ()),
    ("temperature_c", "temperature", ()),
    ("power_watts", "power", ()),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that is there. `withheld` says why it is not lent; empty: it is."""

    label: str  # cuda:0
    kind: Device
    facts: Facts
    withheld: str = ""

    @property
    def name(self) -> str:
        title = TITLES.get(self.facts.vendor, self.facts.vendor)
        return self.facts.name or f"{title} GPU {self.facts.pci_id or self.label}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that detection found; `hardware` is what of it the node tells central."""

    hardware: Hardware
    gpus: tuple[Gpu, ...] = ()

    @property
    def lent(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if not gpu.withheld)

    def environment(self) -> Mapping[str, str]:
        """Variables by which a child's cuda:N is the N-th lent GPU; none where no GPU is lent.

        NVIDIA's are named by UUID. ROCm heeds the same variable, with its own numbers.
        """
        lent = [gpu.facts for gpu in self.lent]
        names = [facts.uuid if facts.vendor == "nvidia" else _number(facts.torch_index) for facts in lent]
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if lent else {}
        if not lent or not all(names):
            return order
        return {**order, "CUDA_VISIBLE_DEVICES": ",".join(str(name) for name in names)}


def _number(index: int | None) -> str | None:
    return None if index is None else str(index)


def _safe(source: str, read: Callable[[], Answer]) -> Answer:
    """A tool whose output nobody foresaw costs its own facts, not the node."""
    try:
        return read()
    except Exception as error:
        log.warning("%s: its answer can't be read", source, exc_info=True)
        return Answer(source, notes=(f"{source}: its answer can't be read: {type(error).__name__}: {error}"[:300],))


class Detector:
    """Detects as often as it is asked. What torch says is asked once for the same set of devices."""

    def __init__(self, wanted: tuple[str, ...] = ("all",), machine: Machine | None = None) -> None:
        self._wanted = frozenset(name.lower() for name in wanted)
        self._machine = machine or Machine()
        self._torch: dict[tuple[str | None, ...], Answer] = {}

    def inspect(self) -> Inventory:
        machine, unknown = self._machine, list[str]()
        ram = cpu.ram(machine)
        build = machine.torch()
        answers = self._ask(ram, build)
        gpus = self._judge(merge(answers), build)
        unknown += [note for answer in answers for note in answer.notes]
        if not gpus and machine.path(WSL_DEVICE).exists():
            unknown.append("gpu: WSL shares one (/dev/dxg) and no driver here tells of it; install it on Windows")
        lent = [gpu for gpu in gpus if not gpu.withheld]
        for gpu in gpus:
            if gpu.withheld and self._wants(gpu):
                unknown.append(f"{gpu.label} {gpu.name} ({_memory(gpu.facts)}): not lent: {gpu.withheld}")
        for gpu in lent:
            unknown += _unknown(gpu)
        name, cores = cpu.model(machine, unknown), cpu.cores(machine)
        processor = DeviceInfo(
            Device.CPU,
            name,
            memory_total_bytes=ram.total,
            memory_available_bytes=ram.available,
            compute_units=cores,
            supports_fp64=True,
            supports_fp16=True,
        )
        devices = (processor, *(_device(gpu) for gpu in lent))
        return Inventory(Hardware(name, cores, ram.total, ram.available, devices, tuple(unknown)), tuple(gpus))

    def _ask(self, ram: cpu.Ram, build: TorchBuild | None) -> list[Answer]:
        machine = self._machine
        answers = [_safe("nvml", lambda: nvml.read(machine, ram))]
        if not answers[0].answered and self._nvidia_there():
            if build is not None and build.cuda:
                answers.append(self._ask_torch(build, ("nvidia",)))
            answers.append(_safe("nvidia-smi", lambda: nvidia_smi.read(machine, ram)))
        answers += [
            _safe("amd-smi", lambda: amd.read(machine)),
            _safe("xpu-smi", lambda: intel.read(machine)),
            _safe("system_profiler", lambda: apple.read(machine, ram)),
            _safe("sysfs", lambda: sysfs.find(machine, ram)),
        ]
        found = merge(answers)
        radeons = tuple(facts.pci for facts in found if facts.vendor == "amd")
        if radeons and build is not None and build.hip:
            answers.append(self._ask_torch(build, radeons))
        if not found or any(facts.memory_total is None and facts.vendor not in KINDS for facts in found):
            answers.append(_safe("opencl", lambda: opencl.read(machine, ram)))
        return answers

    def _nvidia_there(self) -> bool:
        return any(self._machine.path(sign).exists() for sign in NVIDIA_SIGNS) or bool(
            self._machine.which("nvidia-smi")
        )

    def _ask_torch(self, build: TorchBuild, key: tuple[str | None, ...]) -> Answer:
        """Asking costs seconds: once an answer was had for these devices, it stands."""
        answer = self._torch.get(key)
        if answer is None:
            answer = _safe("torch", lambda: torch_probe.read(self._machine, build))
            if answer.answered:
                self._torch = {key: answer}
        return answer

    # lending

    def _wants(self, gpu: Gpu) -> bool:
        return bool(self._wanted & {"all", str(gpu.kind), gpu.label})

    def _judge(self, found: tuple[Facts, ...], build: TorchBuild | None) -> list[Gpu]:
        numbers: Counter[Device] = Counter()
        judged: list[Gpu] = []
        visible = self._machine.environ.get("CUDA_VISIBLE_DEVICES")
        for facts in found:
            kind = KINDS.get(facts.vendor, Device.OPENCL)
            gpu = Gpu(f"{kind}:{numbers[kind]}", kind, facts)
            numbers[kind] += 1
            withheld = unable(facts, build)
            if not withheld and not self._wants(gpu):
                withheld = "node.devices does not name it"
            if not withheld and visible is not None and not _is_visible(facts, gpu, visible):
                withheld = f"CUDA_VISIBLE_DEVICES={visible} hides it"
            if not withheld and facts.slice_of and any(not each.withheld for each in judged):
                withheld = "CUDA shows a process one MIG slice at most, and another device is lent already"
            judged.append(Gpu(gpu.label, kind, facts, withheld))
        return judged


def unable(facts: Facts, build: TorchBuild | None) -> str:
    """Why no job can run on a device, or nothing."""
    if facts.vendor not in ("nvidia", "amd"):
        return "jobs run on the CPU and on CUDA and ROCm devices, not on this kind"
    if build is None:
        return "torch is not installed (pip install cyxwiz[node])"
    if facts.vendor == "nvidia":
        if not build.cuda:
            return f"the installed torch {build.version} is built without CUDA"
        if not {"nvml", "torch", "nvidia-smi"} & set(facts.sources):
            return "its driver does not answer"
        return ""
    if not build.hip:
        return f"the installed torch {build.version} is built without ROCm"
    return "" if facts.torch_index is not None else f"torch {build.version} does not list it"


def _is_visible(facts: Facts, gpu: Gpu, visible: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES, a list of numbers or of beginnings of UUIDs, has the device."""
    number = gpu.label.partition(":")[2] if facts.torch_index is None else str(facts.torch_index)
    for name in (each.strip() for each in visible.split(",")):
        if name == number or (re.match(r"(GPU|MIG)-", name) and (facts.uuid or "").startswith(name)):
            return True
        if facts.torch_index is not None and facts.vendor == "nvidia":
            return True  # torch listed it, under that very variable
    return False


# telling


def _device(gpu: Gpu) -> DeviceInfo:
    facts = gpu.facts
    return DeviceInfo(
        gpu.kind,
        gpu.name,
        memory_total_bytes=facts.memory_total or None,
        memory_available_bytes=facts.memory_free,
        compute_units=facts.compute_units,
        supports_fp64=facts.vendor in ("nvidia", "amd"),
        supports_fp16=facts.vendor == "amd" or (facts.capability or 0) >= 5.3,
        driver_version=facts.driver or "",
        cuda_version=facts.cuda or "",
        pcie_generation=facts.pcie_generation,
        pcie_lanes=facts.pcie_lanes,
        compute_capability=facts.capability,
    )


def _unknown(gpu: Gpu) -> list[str]:
    facts = gpu.facts
    told = [
        f"{gpu.label} {title}: {facts.why.get(name) or f'{_listed(facts.sources)} does not say'}"
        for name, title, vendors in TOLD
        if getattr(facts, name) is None and (not vendors or facts.vendor in vendors)
    ]
    if facts.unified:
        told.insert(0, f"{gpu.label} memory of its own: {UNIFIED}")
    return told


def _listed(sources: tuple[str, ...]) -> str:
    return " or ".join(sources)


def _memory(facts: Facts) -> str:
    if not facts.memory_total:
        return f"memory unknown: {facts.why.get('memory_total', 'no source says')}"
    shared = ", shared with the machine's RAM" if facts.unified else ""
    return f"{facts.memory_total / 2**30:.1f} GiB{shared}"
