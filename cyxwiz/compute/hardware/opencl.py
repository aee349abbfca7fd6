"""GPUs by OpenCL, whichever vendor made them: the package pyopencl if it is installed, else the tool clinfo.

Drivers are loaded in a child process: a broken one takes nothing else along.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from typing import Any

from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, parse_json

_PROBE = """
import json, pyopencl as cl
found = []
for platform in cl.get_platforms():
    for device in platform.get_devices(cl.device_type.GPU | cl.device_type.ACCELERATOR):
        found.append({
            "name": device.name, "vendor": device.vendor, "total": device.global_mem_size,
            "units": device.max_compute_units, "unified": bool(device.host_unified_memory),
            "driver": device.driver_version, "version": device.version,
        })
print(json.dumps(found))
"""
WHY = {
    "memory_free": "OpenCL does not say",
    "utilisation": "OpenCL does not say",
    "temperature_c": "OpenCL does not say",
    "power_watts": "OpenCL does not say",
}


def read(machine: Machine, ram: Ram) -> Answer:
    problems: list[str] = []
    if importlib.util.find_spec("pyopencl") is not None:
        ran = machine.run([sys.executable, "-I", "-c", _PROBE])
        try:
            return Answer("pyopencl", tuple(parse_pyopencl(ran.text, ram)), answered=True)
        except ValueError as error:
            problems.append(f"pyopencl: {ran.problem or error}")
    if tool := machine.tool("clinfo"):
        ran = machine.run([tool, "--raw"])
        if not ran.problem:
            return Answer("clinfo", tuple(parse_raw(ran.text, ram)), tuple(problems), answered=True)
        problems.append(f"clinfo: {ran.problem}")
    return Answer("opencl", notes=tuple(problems))


def parse_pyopencl(text: str, ram: Ram) -> list[Facts]:
    """The list that the child printed. Raises ValueError."""
    listed = parse_json(text)
    if not isinstance(listed, list):
        raise ValueError(f"a list was expected, not {json.dumps(listed)[:80]}")
    return [
        _facts(
            each["name"],
            each["vendor"],
            each["total"],
            each["units"],
            each["unified"],
            each["driver"],
            each["version"],
            None,
            ram,
        )
        for each in listed
    ]


def parse_raw(text: str, ram: Ram) -> list[Facts]:
    """`clinfo --raw`: a line a property, `[PLATFORM/DEVICE]  NAME  VALUE`; properties of a platform have device `*`."""
    devices: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"\[([^\]]+/\d+)\]\s+(CL_\w+)\s+(.*?)\s*$", line)
        if match:
            devices.setdefault(match[1], {})[match[2]] = match[3]
    found: list[Facts] = []
    for cells in devices.values():
        kind = cells.get("CL_DEVICE_TYPE", "")
        if "GPU" not in kind and "ACCELERATOR" not in kind:
            continue
        name = cells.get("CL_DEVICE_BOARD_NAME_AMD") or cells.get("CL_DEVICE_NAME", "OpenCL device")
        total, units = cells.get("CL_DEVICE_GLOBAL_MEM_SIZE", ""), cells.get("CL_DEVICE_MAX_COMPUTE_UNITS", "")
        found.append(
            _facts(
                name,
                cells.get("CL_DEVICE_VENDOR", ""),
                int(total) if total.isdigit() else None,
                int(units) if units.isdigit() else None,
                cells.get("CL_DEVICE_HOST_UNIFIED_MEMORY", "") == "CL_TRUE",
                cells.get("CL_DRIVER_VERSION"),
                cells.get("CL_DEVICE_VERSION"),
                _pci(cells),
                ram,
            )
        )
    return found


def _pci(cells: dict[str, str]) -> str | None:
    for name in ("CL_DEVICE_PCI_BUS_INFO_KHR", "CL_DEVICE_TOPOLOGY_AMD"):
        match = re.search(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", cells.get(name, "").lower())
        if match:
            return pci_address(match[0])
    return None


def _facts(
    name: str, vendor: str, total: int | None, units: int | None, unified: bool, driver: Any, version: Any,
    pci: str | None, ram: Ram,
) -> Facts:  # fmt: skip
    words = vendor.lower()
    known = {"nvidia": "nvidia", "advanced micro": "amd", "amd": "amd", "intel": "intel", "apple": "apple"}
    short = next((known[word] for word in known if word in words), vendor or "unknown vendor")
    why = dict(WHY)
    if not total:
        why["memory_total"] = "the OpenCL driver says 0 bytes"
    if unified:
        why.pop("memory_free")
    return Facts(
        short,
        name=name.strip(),
        pci=pci,
        memory_total=total or None,
        memory_free=min(ram.available, total) if unified and total else None,
        unified=unified or None,
        compute_units=units,
        driver=str(driver) if driver else None,
        opencl=str(version) if version else None,
        why=why,
    )
