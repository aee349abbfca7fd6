"""AMD GPUs by ROCm's tools: amd-smi, and rocm-smi, which came before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, parse_json
from cyxwiz.compute.hardware.sysfs import OWN_VRAM_LEAST

ROCM_SMI = (
    "--showproductname", "--showbus", "--showmeminfo", "vram", "--showuse", "--showtemp", "--showpower",
    "--showuniqueid", "--showdriverversion", "--json",
)  # fmt: skip
# Bytes of the units that amd-smi writes, which are binary.
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def read(machine: Machine) -> Answer:
    """The newer tool's answer, or the older one's."""
    problems: list[str] = []
    if tool := machine.tool("amd-smi", "/opt/rocm/bin/amd-smi"):
        static, metric = machine.run([tool, "static", "--json"]), machine.run([tool, "metric", "--json"])
        try:
            return Answer("amd-smi", tuple(parse_amd_smi(static.text, metric.text)), answered=True)
        except ValueError as error:
            problems.append(f"amd-smi: {static.problem or error}")
    if tool := machine.tool("rocm-smi", "/opt/rocm/bin/rocm-smi"):
        ran = machine.run([tool, *ROCM_SMI])
        try:
            return Answer("rocm-smi", tuple(parse_rocm_smi(ran.text)), tuple(problems), answered=True)
        except ValueError as error:
            problems.append(f"rocm-smi: {ran.problem or error}")
    return Answer("amd-smi", notes=tuple(problems))


def parse_amd_smi(static: str, metric: str) -> list[Facts]:
    """`amd-smi static --json` beside `amd-smi metric --json`. Raises ValueError for what is no list of GPUs.

    Both are a list of objects, in newer versions below the key gpu_data.
    """
    measured = {each.get("gpu"): each for each in _gpus(metric)} if metric.strip() else {}
    found: list[Facts] = []
    for gpu in _gpus(static):
        index = gpu.get("gpu")
        now = measured.get(index, {})
        asic, bus = _part(gpu, "asic"), _part(gpu, "bus")
        memory = _part(now, "mem_usage")
        shown = _size(memory.get("total_vram")) or _size(_part(gpu, "vram").get("size"))
        total = _own(shown)
        temperatures = [_value(each) for each in _part(now, "temperature").values()]
        generation = re.search(r"(\d+)", str(bus.get("pcie_interface_version", "")))
        usage = _value(_part(now, "usage").get("gfx_activity"))
        found.append(
            Facts(
                "amd",
                name=_text(asic.get("market_name")),
                index=index if isinstance(index, int) else None,
                pci=pci_address(str(bus.get("bdf", ""))),
                memory_total=total,
                memory_free=_size(memory.get("free_vram")) if total else None,
                compute_units=_whole(asic.get("num_compute_units")),
                driver=_text(_part(gpu, "driver").get("version")),
                pcie_generation=int(generation[1]) if generation else None,
                pcie_lanes=_whole(bus.get("max_pcie_width")),
                utilisation=usage / 100 if usage is not None else None,
                temperature_c=max((each for each in temperatures if each is not None), default=None),
                power_watts=_value(_part(now, "power").get("socket_power")),
                why=_missing(shown, "amd-smi"),
            )
        )
    return found


def _gpus(text: str) -> list[Mapping[str, Any]]:
    document = parse_json(text)
    if isinstance(document, dict):
        document = document.get("gpu_data", [])
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise ValueError("no list of GPUs in the output")
    return document


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _value(cell: Any) -> float | None:
    """A number, bare or as {"value": 45, "unit": "C"}."""
    if isinstance(cell, dict):
        cell = cell.get("value")
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return None
    try:
        return float(cell)
    except ValueError:
        return None  # N/A


def _whole(cell: Any) -> int | None:
    value = _value(cell)
    return int(value) if value else None


def _size(cell: Any) -> int | None:
    value = _value(cell)
    unit = str(cell.get("unit", "MB")).upper() if isinstance(cell, dict) else "MB"
    return int(value * UNITS[unit]) if value is not None and unit in UNITS else None


def _text(cell: Any) -> str | None:
    return cell.strip() if isinstance(cell, str) and cell.strip() not in ("", "N/A") else None


def _own(shown: int | None) -> int | None:
    """Of a processor's own GPU these tools show the RAM that is set aside for it, which says nothing of its size."""
    return shown if shown and shown >= OWN_VRAM_LEAST else None


def _missing(shown: int | None, tool: str) -> dict[str, str]:
    if _own(shown):
        return {}
    aside = f"{tool} shows only the {shown >> 20} MiB of the RAM that are set aside for it" if shown else ""
    reason = aside or f"{tool} does not say"
    return {"memory_total": reason, "memory_free": reason}


def parse_rocm_smi(text: str) -> list[Facts]:
    """`rocm-smi … --json`: an object a card, all values texts. Raises ValueError.

    The case of the names differs between versions ("Card series", "Card Series").
    """
    document = parse_json(text)
    if not isinstance(document, dict):
        raise ValueError("no object in the output")
    system = document.get("system")
    driver = _text(_folded(system).get("driver version")) if isinstance(system, dict) else None
    found: list[Facts] = []
    for card, cells in document.items():
        match = re.fullmatch(r"card(\d+)", card)
        if match is None or not isinstance(cells, dict):
            continue
        row = _folded(cells)
        shown, used = _whole(row.get("vram total memory (b)")), _value(row.get("vram total used memory (b)"))
        total = _own(shown)
        usage = _value(row.get("gpu use (%)"))
        heat = [_value(value) for name, value in row.items() if name.startswith("temperature (sensor")]
        watts = [_value(value) for name, value in row.items() if "graphics package power" in name and "max" not in name]
        found.append(
            Facts(
                "amd",
                name=_name(row.get("card series")) or _name(row.get("device name")) or _name(row.get("card model")),
                index=int(match[1]),
                pci=pci_address(_text(row.get("pci bus"))),
                memory_total=total,
                memory_free=int(total - used) if total and used is not None else None,
                driver=driver,
                utilisation=usage / 100 if usage is not None else None,
                temperature_c=max((each for each in heat if each is not None), default=None),
                power_watts=max((each for each in watts if each is not None), default=None),
                why=_missing(shown, "rocm-smi"),
            )
        )
    return found


def _name(cell: Any) -> str | None:
    """Where no name is known, older versions write the number of the vendor or of the model in its place."""
    text = _text(cell)
    return None if text is None or re.fullmatch(r"0x[0-9a-fA-F]+", text) else text


def _folded(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in cells.items()}
