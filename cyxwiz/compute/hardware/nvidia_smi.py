"""NVIDIA GPUs by the tool nvidia-smi, for where NVML can't be loaded: CSV of fields, the list with MIG, the banner."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine
from cyxwiz.compute.hardware.nvml import ON_CHIP

Slices = list[tuple[int, str, str]]  # of one GPU: (device number, profile, uuid)

WSL = "/usr/lib/wsl/lib/nvidia-smi"
MIB = 1 << 20
FIELDS = (
    "index",
    "uuid",
    "pci.bus_id",
    "name",
    "memory.total",
    "memory.free",
    "driver_version",
    "pcie.link.gen.max",
    "pcie.link.width.max",
    "utilization.gpu",
    "temperature.gpu",
    "power.draw",
    "mig.mode.current",
    "compute_cap",
)
NEWER = ("mig.mode.current", "compute_cap")  # older drivers refuse a query that names one
# What the tool writes in place of a value, with and without brackets.
NOTHING = frozenset({"n/a", "not supported", "unknown error", ""})


def read(machine: Machine, ram: Ram) -> Answer:
    tool = machine.tool("nvidia-smi", WSL)
    if tool is None:
        return Answer("nvidia-smi")
    fields = FIELDS
    ran = machine.run([tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
    if any(name in ran.problem for name in NEWER):
        fields = tuple(name for name in FIELDS if name not in NEWER)
        ran = machine.run([tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
    gpus = parse_query(ran.text, fields, ram)
    if ran.problem and not gpus:
        return Answer("nvidia-smi", notes=(f"nvidia-smi: {ran.problem}",))
    # Beside a GPU that does not answer it lists the others, and may end with a failure for all that.
    notes = [f"nvidia-smi: {line}" for line in strays(ran.text, fields) or ([ran.problem] if ran.problem else [])]
    banner = machine.run([tool]).text
    cuda = parse_cuda(banner)
    slices = parse_list(machine.run([tool, "-L"]).text)
    sizes = parse_mig_table(banner)
    devices: list[Facts] = []
    for gpu, mig in gpus:
        gpu = replace(gpu, cuda=cuda)
        made = _slices(gpu, slices.get(gpu.uuid or "", []), sizes)
        devices += made if made or mig else [gpu]
        if mig and not made:
            notes.append(f"cuda:{gpu.index} {gpu.name}: MIG is on and no slice is made, so that nothing can run there")
    return Answer("nvidia-smi", tuple(devices), tuple(notes), answered=True)


def parse_query(text: str, fields: tuple[str, ...], ram: Ram) -> list[tuple[Facts, bool]]:
    """(GPU, whether MIG is on) from --query-gpu with noheader and nounits: MiB, watts, degrees Celsius, percent."""
    found: list[tuple[Facts, bool]] = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != len(fields):
            continue
        cells = dict(zip(fields, row, strict=True))
        why: dict[str, str] = {}
        total, free = _number(cells, "memory.total", "memory_total", why), _number(cells, "memory.free", "", why)
        mig = _word(cells.get("mig.mode.current", "")) == "enabled"
        # N/A for the size with a working GPU: it has none of its own, unless MIG has shared it out. Any other word is
        # a failure to read it.
        unified = _word(cells["memory.total"]) in ("n/a", "not supported") and not mig
        if unified:
            total, free = ram.total / MIB, ram.available / MIB
            why.pop("memory_total", None)
            why.update(pcie_generation=ON_CHIP, pcie_lanes=ON_CHIP)
        lanes = None if unified else _number(cells, "pcie.link.width.max", "pcie_lanes", why)
        generation = None if unified else _number(cells, "pcie.link.gen.max", "pcie_generation", why)
        usage = _number(cells, "utilization.gpu", "utilisation", why)
        index = _number(cells, "index", "index", why)
        facts = Facts(
            "nvidia",
            name=cells["name"] or None,
            index=int(index) if index is not None else None,
            pci=pci_address(cells["pci.bus_id"]),
            uuid=cells["uuid"] if cells["uuid"].startswith("GPU-") else None,
            memory_total=int(total * MIB) if total else None,
            memory_free=int(free * MIB) if free is not None and total else None,
            unified=unified,
            driver=cells["driver_version"] if _word(cells["driver_version"]) not in NOTHING else None,
            capability=_number(cells, "compute_cap", "capability", why) if "compute_cap" in cells else None,
            pcie_generation=int(generation) if generation else None,
            pcie_lanes=int(lanes) if lanes else None,
            utilisation=usage / 100 if usage is not None else None,
            temperature_c=_number(cells, "temperature.gpu", "temperature_c", why),
            power_watts=_number(cells, "power.draw", "power_watts", why),
            why=why,
        )
        found.append((facts, mig))
    return found


def strays(text: str, fields: tuple[str, ...]) -> list[str]:
    """The lines of the query's output that are no GPU's: what the tool says of one that it can't read."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and len(next(csv.reader([line]))) != len(fields)]


def _word(cell: str) -> str:
    return cell.strip().strip("[]").strip().lower()


def _number(cells: dict[str, str], name: str, fact: str, why: dict[str, str]) -> float | None:
    try:
        return float(cells[name])
    except ValueError:
        if fact:
            why[fact] = f"nvidia-smi says {cells[name]!r}"
        return None


def parse_cuda(banner: str) -> str | None:
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", banner)
    return match[1] if match else None


def parse_list(text: str) -> dict[str, Slices]:
    """`nvidia-smi -L`: a GPU's uuid to its MIG slices."""
    found: dict[str, Slices] = {}
    gpu = ""
    for line in text.splitlines():
        if match := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            gpu = match[1]
            found[gpu] = []
        elif match := re.match(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)", line):
            found.setdefault(gpu, []).append((int(match[2]), match[1], match[3]))
    return found


def parse_mig_table(banner: str) -> dict[tuple[int, int], tuple[int, int]]:
    """The banner's MIG table: (GPU, MIG device) to (used, total) bytes."""
    row = re.compile(r"^\|\s+(\d+)\s+\d+\s+\d+\s+(\d+)\s+\|\s+(\d+)MiB\s*/\s*(\d+)MiB\s", re.MULTILINE)
    return {(int(m[1]), int(m[2])): (int(m[3]) * MIB, int(m[4]) * MIB) for m in row.finditer(banner)}


def _slices(gpu: Facts, slices: Slices, sizes: dict[tuple[int, int], tuple[int, int]]) -> list[Facts]:
    found: list[Facts] = []
    for number, profile, uuid in slices:
        used, total = sizes.get((gpu.index or 0, number), (None, None))
        why = {
            "utilisation": "nvidia-smi shows no load of a MIG slice",
            "power_watts": "nvidia-smi shows the power of the whole GPU, not of a slice",
            "compute_units": "nvidia-smi's list does not say",
        }
        if total is None:
            why.update(memory_total="nvidia-smi's table does not show it", memory_free="as memory_total")
        found.append(
            Facts(
                "nvidia",
                name=f"{gpu.name} MIG {profile}",
                pci=gpu.pci,
                uuid=uuid,
                slice_of=gpu.uuid,
                memory_total=total,
                memory_free=total - used if total is not None and used is not None else None,
                unified=False,
                driver=gpu.driver,
                cuda=gpu.cuda,
                capability=gpu.capability,
                pcie_generation=gpu.pcie_generation,
                pcie_lanes=gpu.pcie_lanes,
                temperature_c=gpu.temperature_c,
                why=why,
            )
        )
    return found
