"""Energy that the machine has used: counters of the GPUs and of the processor, where they can be read.

NVML counts millijoules of a GPU since its driver was loaded (Volta and later), RAPL microjoules of a processor package,
i915 and xe microjoules of a card. A GPU that has only a power reading is integrated by trapezoids, as long as readings
come often enough. What has neither is named in `missing`: the figure is of the sources, not of the wall socket.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from cyxwiz.compute.hardware import sysfs
from cyxwiz.compute.hardware.machine import read, read_int
from cyxwiz.compute.hardware.nvml import ask
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.ports.clock import Clock

MAX_GAP_SECONDS = 30.0  # a longer time between two readings of power leaves the energy between them unknown
RAPL = "/sys/class/powercap"


@dataclass(slots=True)
class Integral:
    """Power over time, by trapezoids."""

    joules: float = 0.0
    broken: bool = False
    _at: float | None = None
    _watts: float = 0.0

    def add(self, at: float, watts: float) -> None:
        """A reading at a monotonic second. After too long a gap the sum is unknown for good."""
        if self._at is not None:
            span = at - self._at
            self.broken = self.broken or span > MAX_GAP_SECONDS
            self.joules += span * (watts + self._watts) / 2
        self._at, self._watts = at, watts


@dataclass(slots=True)
class Counter:
    """A counter that only grows and, above `wraps_at`, starts from 0 again."""

    wraps_at: float | None = None
    joules: float = 0.0
    _last: float | None = None

    def add(self, value: float) -> None:
        if self._last is not None:
            step = value - self._last
            if step < 0:
                # RAPL's counter wraps; any other that falls was reset with its driver and counts from 0.
                step = step + self.wraps_at if self.wraps_at is not None else value
            self.joules += step
        self._last = value


@dataclass(slots=True)
class EnergyMeter:
    """Joules since it was made. `read` it around a run and take the difference: no process is singled out."""

    clock: Clock
    sensors: Sensors
    missing: tuple[str, ...] = ()  # "what: why", of the last reading
    _counters: dict[str, Counter] = field(default_factory=dict[str, Counter])
    _integrals: dict[str, Integral] = field(default_factory=dict[str, Integral])

    def __post_init__(self) -> None:
        self.read()

    @property
    def sources(self) -> tuple[str, ...]:
        return (*self._counters, *self._integrals)

    def read(self) -> float | None:
        """Joules, or None where nothing can be read or a reading of power came too late."""
        missing: list[str] = []
        self._read_nvidia(missing)
        self._read_cards(missing)
        self._read_rapl(missing)
        self.missing = tuple(missing)
        if not self.sources or any(each.broken for each in self._integrals.values()):
            return None
        counted = sum(each.joules for each in self._counters.values())
        return counted + sum(each.joules for each in self._integrals.values())

    def _read_nvidia(self, missing: list[str]) -> None:
        for index, handle in enumerate(self.sensors.handles()):
            name, why = f"cuda:{index}", dict[str, str]()
            total = ask(self.sensors.nvml, why, "energy", "nvmlDeviceGetTotalEnergyConsumption", handle)
            if total is not None:
                self._count(name, total / 1000)
                continue
            milliwatts = ask(self.sensors.nvml, why, "power", "nvmlDeviceGetPowerUsage", handle)
            if milliwatts is None:
                missing.append(f"{name}: {why['power']}")
            else:
                self._integrals.setdefault(name, Integral()).add(self.clock.monotonic(), milliwatts / 1000)

    def _read_cards(self, missing: list[str]) -> None:
        machine = self.sensors.machine
        for folder in sysfs.cards(machine) if machine.system == "Linux" else []:
            vendor = sysfs.VENDORS.get(read(folder / "vendor") or "")
            if vendor in (None, "nvidia"):
                continue
            name = f"{vendor} {folder.parent.name}"
            joules, watts = sysfs.energy(folder), sysfs.power(folder)
            if joules is not None:
                self._count(name, joules)
            elif watts is not None:
                self._integrals.setdefault(name, Integral()).add(self.clock.monotonic(), watts)
            else:
                missing.append(f"{name}: the kernel's driver shows neither energy nor power")

    def _read_rapl(self, missing: list[str]) -> None:
        packages = rapl_packages(self.sensors.machine.path(RAPL))
        for folder in packages:
            name = f"cpu {read(folder / 'name') or folder.name}"
            microjoules = read_int(folder / "energy_uj")
            if microjoules is None:
                missing.append(f"{name}: {folder}/energy_uj is readable by root only")
                continue
            most = read_int(folder / "max_energy_range_uj")
            self._counters.setdefault(name, Counter(most / 1e6 if most else None)).add(microjoules / 1e6)
        if not packages:
            missing.append("cpu: the kernel shows no RAPL counter")

    def _count(self, name: str, joules: float) -> None:
        self._counters.setdefault(name, Counter()).add(joules)


class Shares:
    """What runs use of the machine's energy. What was used between two looks is shared equally by the runs that were
    there: no counter singles out a process. Safe to call from several threads, all of which may block."""

    def __init__(self, clock: Clock, sensors: Sensors) -> None:
        self._clock, self._sensors = clock, sensors
        self._lock = threading.Lock()
        self._meter: EnergyMeter | None = None  # while there are runs
        self._read = 0.0
        self._used: dict[object, float | None] = {}

    def begin(self, run: object) -> None:
        with self._lock:
            self._look()
            self._used[run] = 0.0

    def look(self) -> None:
        """To be called again and again while there are runs: power that is only read is summed between two looks."""
        with self._lock:
            self._look()

    def end(self, run: object) -> float | None:
        """Joules of that run; None where nothing can be read, or looks were too far apart."""
        with self._lock:
            if run not in self._used:
                return None
            self._look()
            return self._used.pop(run)

    def _look(self) -> None:
        now = self._meter.read() if self._used and self._meter is not None else None
        if now is None:
            self._meter, self._read = EnergyMeter(self._clock, self._sensors), 0.0
            self._used = dict.fromkeys(self._used)
            return
        step, self._read = (now - self._read) / len(self._used), now
        self._used = {run: None if joules is None else joules + step for run, joules in self._used.items()}


def rapl_packages(root: Path) -> list[Path]:
    """RAPL's packages (intel-rapl:0), which AMD's processors have under the same name; not their parts (…:0:0), nor
    what laptops count beside them for the whole board (psys), which has the packages in it."""
    found = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
    return [each for each in found if each.name.count(":") == 1 and read(each / "name") != "psys"]
