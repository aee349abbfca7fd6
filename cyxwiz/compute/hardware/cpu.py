"""The processor and the RAM, as far as this process may use them."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from cyxwiz.compute.hardware.machine import Machine, read, read_int

NO_LIMIT_V1 = 1 << 60  # cgroup v1 writes a number near 2^63 where nothing is limited


@dataclass(frozen=True, slots=True)
class Ram:
    """Bytes."""

    total: int
    available: int


def ram(machine: Machine) -> Ram:
    """The machine's RAM, or what a container's limit leaves of it."""
    host = psutil.virtual_memory()
    total, available = host.total, host.available
    for limit, used in _memory_limits(machine):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Ram(total, available)


def _memory_limits(machine: Machine) -> list[tuple[int, int]]:
    """(limit, used without reclaimable cache) of every control group above this process that has a limit."""
    found: list[tuple[int, int]] = []
    for folder in _groups(machine, ""):
        limit = read_int(machine.path(f"{folder}/memory.max"))
        if limit is not None:  # "max" is no number
            found.append((limit, _used(machine, folder, "memory.current", "inactive_file")))
    for folder in _groups(machine, "memory"):
        limit = read_int(machine.path(f"{folder}/memory.limit_in_bytes"))
        if limit is not None and limit < NO_LIMIT_V1:
            found.append((limit, _used(machine, folder, "memory.usage_in_bytes", "total_inactive_file")))
    return [each for each in found if each[0] > 0]


def _used(machine: Machine, folder: str, current: str, cache: str) -> int:
    used = read_int(machine.path(f"{folder}/{current}")) or 0
    match = re.search(rf"^{cache} (\d+)$", machine.read(f"{folder}/memory.stat") or "", re.MULTILINE)
    return max(0, used - (int(match[1]) if match else 0))


def _groups(machine: Machine, controller: str) -> list[str]:
    """Folders of the control groups that this process is in, from its own up to the root. "" is cgroup v2."""
    base = f"/sys/fs/cgroup/{controller}".rstrip("/")
    for line in (machine.read("/proc/self/cgroup") or "").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if (controller in names.split(",")) if controller else not names:
            parts = [part for part in path.split("/") if part and part != ".."]
            return ["/".join([base, *parts[:count]]) for count in range(len(parts), -1, -1)]
    return []


def cores(machine: Machine) -> int:
    """The cores that this process may use: a container, a mask or a quota may allow fewer than there are."""
    try:
        count = len(psutil.Process().cpu_affinity() or ())
    except (AttributeError, psutil.Error):
        count = psutil.cpu_count() or 1
    for quota, period in _quotas(machine):
        if quota.isdigit() and period.isdigit() and int(period):
            count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def _quotas(machine: Machine) -> Iterator[tuple[str, str]]:
    """(quota, period) in microseconds of every control group above this process, as texts: no quota is "max" or -1."""
    for folder in _groups(machine, ""):
        quota, _, period = (machine.read(f"{folder}/cpu.max") or "").partition(" ")
        yield quota, period
    for folder in _groups(machine, "cpu"):
        quota, period = (machine.read(f"{folder}/cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
        yield quota, period


def model(machine: Machine, unknown: list[str]) -> str:
    """The processor's name, from the first that says it."""
    if machine.system == "Darwin":
        ran = machine.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"])
        if ran.text.strip():
            return ran.text.strip()
    found = parse_cpuinfo(read(machine.path("/proc/cpuinfo")) or "")
    if found:
        return found
    if name := platform.processor() or platform.machine():
        return name
    unknown.append("cpu_model: neither /proc/cpuinfo nor the platform names it")
    return "unknown"


def parse_cpuinfo(text: str) -> str:
    """x86 and POWER give a name; Arm gives numbers, which are better than nothing."""
    rows: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            rows.setdefault(name.strip().lower(), value.strip())
    for name in ("model name", "cpu model", "hardware", "cpu"):
        if rows.get(name):
            return rows[name]
    if "cpu part" in rows:
        return f"Arm processor (implementer {rows.get('cpu implementer', '?')}, part {rows['cpu part']})"
    return ""
