"""What the sources say of devices, and how their answers become one.

A source knows some facts of some devices. The first source that knows a fact wins; why a fact is unknown is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True)
class Facts:
    """One device as one source knows it. Sizes in bytes, shares 0 to 1; None is what the source does not say."""

    vendor: str  # nvidia, amd, intel, apple, or what an OpenCL platform calls itself
    name: str | None = None
    index: int | None = None  # in the numbering of the vendor's own tools
    pci: str | None = None  # 0000:41:00.0
    pci_id: str | None = None  # vendor and device: 10de:2684
    uuid: str | None = None
    slice_of: str | None = None  # uuid of the GPU that this MIG slice is part of
    memory_total: int | None = None
    memory_free: int | None = None
    unified: bool | None = None  # shares the machine's RAM
    compute_units: int | None = None
    driver: str | None = None
    cuda: str | None = None
    capability: float | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    utilisation: float | None = None
    temperature_c: float | None = None
    power_watts: float | None = None
    opencl: str | None = None
    torch_index: int | None = None
    sources: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict[str, str])  # name of an unknown fact: the reason


_PLAIN = tuple(each.name for each in fields(Facts) if each.name not in ("vendor", "sources", "why"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said."""

    source: str
    devices: tuple[Facts, ...] = ()
    notes: tuple[str, ...] = ()  # "what: why it could not be read"
    answered: bool = False  # it could be asked; then it lists all devices that it can know of


def merge(answers: Iterable[Answer]) -> tuple[Facts, ...]:
    """One entry a device, in the order in which they were first named."""
    found: list[Facts] = []
    for answer in answers:
        for facts in answer.devices:
            facts = replace(facts, sources=(answer.source,))
            places = [at for at, known in enumerate(found) if same(known, facts)]
            for at in places:
                found[at] = combine(found[at], facts)
            if not places:
                found.append(facts)
    return tuple(found)


def same(known: Facts, other: Facts) -> bool:
    """Whether two entries are of one device, by what names it best.

    What is said of a GPU is said of each of its MIG slices; two slices of a GPU are two devices.
    """
    if known.vendor != other.vendor:
        return known.pci is not None and known.pci == other.pci
    if known.uuid and other.uuid and _bare(known.uuid) == _bare(other.uuid):
        return True
    if known.slice_of and other.slice_of:
        return False
    if known.slice_of and known.slice_of == other.uuid:
        return True
    if known.pci and other.pci:
        return known.pci == other.pci
    if known.index is not None and other.index is not None:
        return known.index == other.index
    return known.name is not None and known.name == other.name


def _bare(uuid: str) -> str:
    return re.sub(r"^(GPU|MIG)-", "", uuid).lower()


def combine(known: Facts, other: Facts) -> Facts:
    """`known` with what only `other` says. A GPU's sizes are not its slices'."""
    taken = {
        name: getattr(other, name)
        for name in _PLAIN
        if getattr(known, name) is None and getattr(other, name) is not None
    }
    if known.slice_of and not other.slice_of:
        taken = {name: value for name, value in taken.items() if name in _OF_THE_WHOLE}
    if known.unified:
        taken.pop("pcie_generation", None)
        taken.pop("pcie_lanes", None)
    why = {**other.why, **known.why}
    sources = tuple(dict.fromkeys((*known.sources, *other.sources)))
    return replace(known, **taken, sources=sources, why=why)


_OF_THE_WHOLE = frozenset(
    {"driver", "cuda", "capability", "pcie_generation", "pcie_lanes", "temperature_c", "pci", "pci_id"}
)


def pci_address(text: str | None) -> str | None:
    """0000:41:00.0 from what tools write: 00000000:41:00.0, 0000:41:00.0, 41:00.0, in either case."""
    match = re.fullmatch(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", (text or "").strip().lower())
    if match is None:
        return None
    return f"{int(match[1] or '0', 16):04x}:{match[2]}:{match[3]}.{match[4]}"
