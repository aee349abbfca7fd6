"""Apple's GPUs by system_profiler. On Apple silicon the GPU's memory is the machine's RAM."""

from __future__ import annotations

import re
from typing import Any

from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts
from cyxwiz.compute.hardware.machine import Machine, parse_json

COMMAND = ("/usr/sbin/system_profiler", "SPDisplaysDataType", "-json")
UNITS = {"MB": 1 << 20, "GB": 1 << 30}
UNREADABLE = "macOS shows it to the superuser only (powermetrics)"


def read(machine: Machine, ram: Ram) -> Answer:
    if machine.system != "Darwin":
        return Answer("system_profiler")
    ran = machine.run(COMMAND)
    try:
        return Answer("system_profiler", tuple(parse(ran.text, ram)), answered=True)
    except ValueError as error:
        return Answer("system_profiler", notes=(f"metal: {ran.problem or error}",))


def parse(text: str, ram: Ram) -> list[Facts]:
    """The GPUs that Metal can use. Raises ValueError."""
    document = parse_json(text)
    listed = document.get("SPDisplaysDataType") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no SPDisplaysDataType in the output")
    found: list[Facts] = []
    for index, gpu in enumerate(each for each in listed if isinstance(each, dict) and _has_metal(each)):
        on_chip = "apple" in str(gpu.get("spdisplays_vendor", "")).lower()
        own = _size(gpu.get("spdisplays_vram"))
        shared = on_chip or "spdisplays_vram_shared" in gpu
        units = str(gpu.get("sppci_cores", ""))
        why: dict[str, str] = dict.fromkeys(("utilisation", "temperature_c", "power_watts"), UNREADABLE)
        if not shared:
            why["memory_free"] = "macOS does not say"
            if own is None:
                why["memory_total"] = "macOS does not say"
        found.append(
            Facts(
                "apple",
                name=gpu.get("sppci_model") or gpu.get("_name") or "Metal GPU",
                index=index,
                memory_total=ram.total if shared else own,
                memory_free=ram.available if shared else None,
                unified=shared,
                compute_units=int(units) if units.isdigit() else None,
                why=why,
            )
        )
    return found


def _has_metal(gpu: dict[str, Any]) -> bool:
    """Newer systems name a family (spdisplays_metal3), macOS 11 under another key; older ones name a feature set."""
    keys = ("spdisplays_mtlgpufamilysupport", "spdisplays_metalfamily", "spdisplays_metal")
    said = [str(gpu.get(name, "")) for name in keys]
    return any(each and "notsupported" not in each.lower() for each in said)


def _size(text: Any) -> int | None:
    match = re.fullmatch(r"(\d+)\s*(MB|GB)", str(text or "").strip())
    return int(match[1]) * UNITS[match[2]] if match else None
