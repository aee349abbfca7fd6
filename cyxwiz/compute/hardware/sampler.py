"""The machine's load and heat, read again and again: NVML for NVIDIA, the kernel's files for the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from cyxwiz.compute.hardware import cpu, sysfs
from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.machine import Machine, NoNvmlError
from cyxwiz.compute.hardware.nvml import ask, memory, text
from cyxwiz.domain.node import GpuLoad, LoadSample
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")


class Sensors:
    """Reads what changes. Opens NVML once; safe to call from several threads, as NVML is."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine = machine or Machine()
        self.nvml: Any = None
        try:
            self.nvml = self.machine.nvml()
        except NoNvmlError as error:
            log.debug("no NVML: %s", error)

    def handles(self) -> list[Any]:
        """NVML's handles of the GPUs that answer, slices not counted."""
        nvml, found = self.nvml, list[Any]()
        for index in range(ask(nvml, {}, "count", "nvmlDeviceGetCount") or 0) if nvml else ():
            handle = ask(nvml, {}, "handle", "nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                found.append(handle)
        return found

    def gpus(self) -> list[GpuLoad]:
        ram = cpu.ram(self.machine)
        found = [self._nvidia(handle, ram) for handle in self.handles()]
        if self.machine.system == "Linux":
            states = [sysfs.card(folder, ram) for folder in sysfs.cards(self.machine)]
            found += [
                GpuLoad(
                    each.name or each.vendor,
                    each.utilisation,
                    each.memory_total,
                    each.memory_free,
                    each.temperature_c,
                    each.power_watts,
                )
                for each in states
                if each is not None and each.vendor != "nvidia"
            ]
        return found

    def _nvidia(self, handle: Any, ram: Ram) -> GpuLoad:
        nvml = self.nvml
        name = ask(nvml, {}, "name", "nvmlDeviceGetName", handle)
        rates = ask(nvml, {}, "utilisation", "nvmlDeviceGetUtilizationRates", handle)
        milliwatts = ask(nvml, {}, "power", "nvmlDeviceGetPowerUsage", handle)
        heat = ask(nvml, {}, "temperature", "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU)
        total, free, _ = memory(nvml, handle, ram, {})
        return GpuLoad(
            text(name),
            rates.gpu / 100 if rates is not None else None,
            total,
            free,
            heat,
            milliwatts / 1000 if milliwatts is not None else None,
        )

    def temperature(self, gpus: Sequence[GpuLoad] | None = None) -> float | None:
        """The hottest of the processor and the GPUs, degrees Celsius; None where no sensor can be read."""
        states = self.gpus() if gpus is None else gpus
        values = [state.temperature_c for state in states if state.temperature_c is not None]
        return max([*values, *cpu_temperatures()], default=None)


def cpu_temperatures() -> list[float]:
    read = getattr(psutil, "sensors_temperatures", None)  # Linux and FreeBSD only
    found = read() if read is not None else {}
    return [each.current for name in CPU_SENSORS for each in found.get(name, []) if each.current]


@dataclass(slots=True)
class _Counters:
    at: float
    received: int
    sent: int


class Sampler:
    """Samples the machine's load: CPU and network as means since the sample before, the rest as it is."""

    def __init__(self, clock: Clock, sensors: Sensors | None = None) -> None:
        self._clock = clock
        self.sensors = sensors or Sensors()
        self.temperature_c: float | None = None  # at the last sample
        psutil.cpu_percent()  # the first answer would be for no span at all
        self._last = self._counters()

    def _counters(self) -> _Counters:
        net = psutil.net_io_counters()
        return _Counters(self._clock.monotonic(), net.bytes_recv if net else 0, net.bytes_sent if net else 0)

    def sample(self, active_jobs: int) -> LoadSample:
        before, self._last = self._last, self._counters()
        span = max(1e-3, self._last.at - before.at)
        ram = cpu.ram(self.sensors.machine)
        gpus = self.sensors.gpus()
        self.temperature_c = self.sensors.temperature(gpus)
        rates = [gpu.usage for gpu in gpus if gpu.usage is not None]
        sized = [gpu for gpu in gpus if gpu.memory_total_bytes and gpu.memory_free_bytes is not None]
        total = sum(gpu.memory_total_bytes or 0 for gpu in sized)
        watts = [gpu.power_watts for gpu in gpus if gpu.power_watts is not None]
        return LoadSample(
            at=self._clock.now(),
            cpu_usage=min(1.0, psutil.cpu_percent() / 100),
            memory_usage=1 - ram.available / ram.total,
            gpu_usage=sum(rates) / len(rates) if rates else None,
            gpu_memory_usage=1 - sum(gpu.memory_free_bytes or 0 for gpu in sized) / total if total else None,
            network_rx_bytes_per_second=max(0, self._last.received - before.received) / span,
            network_tx_bytes_per_second=max(0, self._last.sent - before.sent) / span,
            power_watts=sum(watts) if watts else None,
            active_jobs=active_jobs,
            gpus=tuple(gpus),
        )
