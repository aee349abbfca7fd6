"""Any vendor's GPUs as the Linux kernel shows them: /sys/class/drm, hwmon, /proc/driver/nvidia. No tool is run.

Files and units: https://docs.kernel.org/gpu/amdgpu/driver-misc.html and thermal.html, and the kernel's hwmon ABI
(millidegrees, microwatts, microjoules).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, read, read_int

VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
# GT/s a lane to the PCIe generation; the kernel writes 2.5, 5.0, 8.0, 16.0, 32.0, 64.0.
GENERATIONS = {"2.5": 1, "5": 2, "8": 3, "16": 4, "32": 5, "64": 6}
OWN_VRAM_LEAST = 1 << 30  # an AMD GPU with less is part of the processor and lives in the RAM


def find(machine: Machine, ram: Ram) -> Answer:
    """Every GPU with a DRM card, and NVIDIA's, which may have none."""
    if machine.system != "Linux":
        return Answer("sysfs")
    devices = [facts for folder in cards(machine) if (facts := card(folder, ram)) is not None]
    known = {facts.pci for facts in devices}
    for facts in nvidia(machine):
        if facts.pci in known:
            devices = [
                replace(each, name=facts.name or each.name, driver=facts.driver, uuid=facts.uuid)
                if each.pci == facts.pci
                else each
                for each in devices
            ]
        else:
            devices.append(facts)
    return Answer("sysfs", tuple(devices), answered=True)


def cards(machine: Machine) -> list[Path]:
    """The device folders of card0, card1, …; not of their connectors (card0-DP-1)."""
    root = machine.path("/sys/class/drm")
    found = [each for each in root.glob("card*") if re.fullmatch(r"card\d+", each.name)] if root.is_dir() else []
    return [each / "device" for each in sorted(found, key=lambda each: int(each.name[4:]))]


def card(folder: Path, ram: Ram) -> Facts | None:
    """One GPU; None for what is no GPU of the three vendors (a virtual or a board-management display)."""
    vendor = VENDORS.get(read(folder / "vendor") or "")
    if vendor is None:
        return None
    uevent = read(folder / "uevent") or ""
    slot = re.search(r"^PCI_SLOT_NAME=(\S+)$", uevent, re.MULTILINE)
    kernel = re.search(r"^DRIVER=(\S+)$", uevent, re.MULTILINE)
    why: dict[str, str] = {}
    total, free, unified = _memory(folder, vendor, ram, why)
    busy = read_int(folder / "gpu_busy_percent")
    if busy is None:
        why["utilisation"] = f"the kernel's driver {kernel[1] if kernel else '(none)'} shows none"
    return Facts(
        vendor,
        name=read(folder / "product_name") or None,
        pci_id=f"{(read(folder / 'vendor') or '')[2:]}:{(read(folder / 'device') or '0x????')[2:]}",
        pci=pci_address(slot[1] if slot else None),
        uuid=read(folder / "unique_id") or None,
        memory_total=total,
        memory_free=free,
        unified=unified,
        driver=kernel[1] if kernel and vendor != "nvidia" else None,
        pcie_generation=None if unified else generation(read(folder / "max_link_speed")),
        pcie_lanes=None if unified else read_int(folder / "max_link_width") or None,
        utilisation=busy / 100 if busy is not None else None,
        temperature_c=temperature(folder),
        power_watts=power(folder),
        why=why,
    )


def _memory(folder: Path, vendor: str, ram: Ram, why: dict[str, str]) -> tuple[int | None, int | None, bool | None]:
    total, used = read_int(folder / "mem_info_vram_total"), read_int(folder / "mem_info_vram_used")
    if vendor == "amd" and total is not None and total < OWN_VRAM_LEAST and read_int(folder / "mem_info_gtt_total"):
        # An APU: the small carve-out is no measure of what it can use; the graphics translation table is.
        shared = read_int(folder / "mem_info_gtt_total") or 0
        return min(shared, ram.total), min(shared, ram.available), True
    if total:
        return total, max(0, total - used) if used is not None else None, False
    local = read_int(folder / "lmem_total_bytes")  # i915 on discrete cards
    if local:
        return local, read_int(folder / "lmem_avail_bytes"), False
    if vendor == "intel" and (read(folder / "uevent") or "").find("PCI_SLOT_NAME=0000:00:02.0") >= 0:
        return ram.total, ram.available, True  # the processor's own GPU is always in this slot
    reason = "the kernel shows no size of its memory"
    why.update(memory_total=reason, memory_free=reason)
    return None, None, None


def generation(speed: str | None) -> int | None:
    match = re.match(r"(\d+(?:\.\d+)?) GT/s", speed or "")
    return GENERATIONS.get(f"{float(match[1]):g}") if match else None


def hwmon(folder: Path) -> list[Path]:
    found = folder / "hwmon"
    return sorted(found.iterdir()) if found.is_dir() else []


def temperature(folder: Path) -> float | None:
    """The hottest sensor of the card, degrees Celsius."""
    values = [
        value / 1000
        for sensors in hwmon(folder)
        for path in sensors.glob("temp*_input")
        if (value := read_int(path)) is not None
    ]
    return max(values, default=None)


def power(folder: Path) -> float | None:
    """Watts; what the driver averages, else what it measures at the moment."""
    for name in ("power1_average", "power1_input"):
        for sensors in hwmon(folder):
            if (value := read_int(sensors / name)) is not None:
                return value / 1e6
    return None


def energy(folder: Path) -> float | None:
    """Joules since the driver was loaded (i915 and xe have this counter)."""
    for sensors in hwmon(folder):
        if (value := read_int(sensors / "energy1_input")) is not None:
            return value / 1e6
    return None


def nvidia(machine: Machine) -> list[Facts]:
    """What NVIDIA's kernel driver says without NVML: the model and the bus address."""
    root = machine.path("/proc/driver/nvidia/gpus")
    version = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)", machine.read("/proc/driver/nvidia/version") or "")
    found: list[Facts] = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        rows = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", read(folder / "information") or "", re.MULTILINE))
        uuid = rows.get("GPU UUID", "")
        found.append(
            Facts(
                "nvidia",
                name=rows.get("Model") or None,
                pci=pci_address(rows.get("Bus Location", "")),
                uuid=uuid if re.fullmatch(r"GPU-[0-9a-f-]{36}", uuid) else None,
                driver=version[1] if version else None,
            )
        )
    return found
