"""Intel GPUs by the tool xpu-smi: `discovery -j`, and of each device `discovery -d` and `stats -d`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, parse_json

# How the values of a GPU's tiles make the GPU's.
OF_TILES: dict[str, Callable[[Sequence[float]], float]] = {
    "XPUM_STATS_MEMORY_USED": sum,
    "XPUM_STATS_POWER": sum,
    "XPUM_STATS_GPU_CORE_TEMPERATURE": max,
    "XPUM_STATS_GPU_UTILIZATION": fmean,
}


def read(machine: Machine) -> Answer:
    tool = machine.tool("xpu-smi")
    if tool is None:
        return Answer("xpu-smi")
    ran = machine.run([tool, "discovery", "-j"])
    try:
        listed = parse_list(ran.text)
    except ValueError as error:
        return Answer("xpu-smi", notes=(f"xpu-smi: {ran.problem or error}",))
    found: list[Facts] = []
    for number, facts in listed:
        details = machine.run([tool, "discovery", "-d", str(number), "-j"]).text
        stats = machine.run([tool, "stats", "-d", str(number), "-j"]).text
        found.append(parse_device(facts, number, details, stats))
    return Answer("xpu-smi", tuple(found), answered=True)


def parse_list(text: str) -> list[tuple[int, Mapping[str, Any]]]:
    """(device id, its object) of the GPUs that are there in hardware. Raises ValueError."""
    document = parse_json(text)
    listed = document.get("device_list") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no device_list in the output")
    return [
        (each["device_id"], each)
        for each in listed
        if isinstance(each, dict)
        and isinstance(each.get("device_id"), int)
        and each.get("device_type", "GPU") == "GPU"
        and each.get("device_function_type", "physical") == "physical"
    ]


def parse_device(listed: Mapping[str, Any], number: int, details: str, stats: str) -> Facts:
    """One device from its entry in the list, its details and its statistics; numbers may be texts."""
    row = {**listed, **_object(details)}
    measured = _measured(_object(stats))
    total = _number(row.get("memory_physical_size_byte"))
    free = _number(row.get("memory_free_size_byte"))
    used_mib = measured.get("XPUM_STATS_MEMORY_USED")
    if free is None and total and used_mib is not None:
        free = total - used_mib * 2**20
    usage = measured.get("XPUM_STATS_GPU_UTILIZATION")
    reason = "xpu-smi does not say"
    return Facts(
        "intel",
        name=str(row["device_name"]) if row.get("device_name") else None,
        index=number,
        pci=pci_address(str(row.get("pci_bdf_address", ""))),
        uuid=str(row["uuid"]) if row.get("uuid") else None,
        memory_total=int(total) if total else None,
        memory_free=int(free) if total and free is not None else None,
        compute_units=_count(row.get("number_of_eus")),
        driver=str(row["driver_version"]) if row.get("driver_version") else None,
        pcie_generation=_count(row.get("pcie_generation")),
        pcie_lanes=_count(row.get("pcie_max_link_width")),
        utilisation=usage / 100 if usage is not None else None,
        temperature_c=measured.get("XPUM_STATS_GPU_CORE_TEMPERATURE"),
        power_watts=measured.get("XPUM_STATS_POWER"),
        why={} if total else {"memory_total": reason, "memory_free": reason},
    )


def _measured(stats: Mapping[str, Any]) -> dict[str, float]:
    """What is measured of the device. Of one with several tiles much is measured of each tile only."""
    found = {name: values[0] for name, values in _metrics([stats], "device_level").items()}
    for name, values in _metrics(stats.get("tile_level"), "data_list").items():
        join = OF_TILES.get(name)
        if join is not None:
            found.setdefault(name, join(values))
    return found


def _metrics(parts: Any, key: str) -> dict[str, list[float]]:
    """A metric's name to its value in each part that has one."""
    found: dict[str, list[float]] = {}
    for part in parts if isinstance(parts, list) else []:
        listed = part.get(key) if isinstance(part, dict) else None
        for each in listed if isinstance(listed, list) else []:
            value = _number(each.get("value")) if isinstance(each, dict) else None
            if value is not None:
                found.setdefault(str(each.get("metrics_type")), []).append(value)
    return found


def _count(cell: Any) -> int | None:
    """A number above 0: what the driver does not tell is "N/A", -1 or 0, by the tool's version."""
    number = _number(cell)
    return int(number) if number is not None and number > 0 else None


def _object(text: str) -> Mapping[str, Any]:
    try:
        document = parse_json(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _number(cell: Any) -> float | None:
    try:
        return float(cell) if isinstance(cell, (int, float, str)) else None
    except ValueError:
        return None
