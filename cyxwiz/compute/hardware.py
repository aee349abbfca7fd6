"""What this machine is and how loaded it is.

What can't be read is unknown, with the reason; never 0 for what is there.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, Hardware, LoadSample
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)


def detect(wanted: tuple[str, ...] = ("all",)) -> Hardware:
    """The CPU, the RAM and every NVIDIA GPU that NVML shows and `wanted` names (all, cpu, cuda, cuda:0)."""
    unknown: list[str] = []
    memory = psutil.virtual_memory()
    cores = _cores()
    cpu = _cpu_model(unknown)
    devices = [
        DeviceInfo(
            Device.CPU,
            cpu,
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            compute_units=cores,
            supports_fp64=True,
            supports_fp16=True,
        )
    ]
    gpus = _nvidia(unknown)
    devices += [
        gpu for index, gpu in enumerate(gpus) if {"all", "cuda", f"cuda:{index}"} & {name.lower() for name in wanted}
    ]
    return Hardware(cpu, cores, memory.total, memory.available, tuple(devices), tuple(unknown))


def _cores() -> int:
    """The cores that this process may use: a container or a mask may allow fewer than there are."""
    try:
        return max(1, len(psutil.Process().cpu_affinity() or ()))
    except (AttributeError, psutil.Error):
        return psutil.cpu_count() or 1


def _cpu_model(unknown: list[str]) -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    if name := platform.processor() or platform.machine():
        return name
    unknown.append("cpu_model: neither /proc/cpuinfo nor the platform names it")
    return "unknown"


def _nvidia(unknown: list[str]) -> list[DeviceInfo]:
    """NVIDIA GPUs by NVML, in its order. No driver is no GPU; a driver that fails is unknown, said why."""
    try:
        import pynvml as nvml
    except ImportError:
        if Path("/dev/nvidiactl").exists():
            unknown.append(
                "cuda: an NVIDIA driver is there, the package nvidia-ml-py is not (pip install cyxwiz[node])"
            )
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if Path("/dev/nvidiactl").exists():
            unknown.append(f"cuda: NVML does not start: {error}")
        return []
    try:
        return [_gpu(nvml, index, unknown) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        unknown.append(f"cuda: NVML stopped answering: {error}")
        return []
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, unknown: list[str]) -> DeviceInfo:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(what: str, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except nvml.NVMLError as error:
            unknown.append(f"cuda:{index} {what}: {error}")
            return None

    memory = ask("memory", nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = ask("compute capability", nvml.nvmlDeviceGetCudaComputeCapability, handle)
    cuda = ask("CUDA version", nvml.nvmlSystemGetCudaDriverVersion_v2)
    name = ask("name", nvml.nvmlDeviceGetName, handle)
    driver = ask("driver", nvml.nvmlSystemGetDriverVersion)
    return DeviceInfo(
        Device.CUDA,
        _text(name) or f"NVIDIA GPU {index}",
        memory_total_bytes=memory.total if memory else None,
        memory_available_bytes=memory.free if memory else None,
        compute_units=ask("cores", nvml.nvmlDeviceGetNumGpuCores, handle),
        supports_fp64=True,
        supports_fp16=capability is not None and capability >= (5, 3),
        driver_version=_text(driver),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        pcie_generation=ask("PCIe generation", nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_lanes=ask("PCIe lanes", nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        compute_capability=float(f"{capability[0]}.{capability[1]}") if capability else None,
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(slots=True)
class _Counters:
    at: float
    received: int
    sent: int


class Sampler:
    """Samples the machine's load: CPU and network as means since the sample before, the rest as it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        psutil.cpu_percent()  # the first answer would be for no span at all
        self._last = self._counters()
        self._nvml: Any = _open_nvml()

    def _counters(self) -> _Counters:
        net = psutil.net_io_counters()
        return _Counters(self._clock.monotonic(), net.bytes_recv if net else 0, net.bytes_sent if net else 0)

    def sample(self, active_jobs: int) -> LoadSample:
        before, self._last = self._last, self._counters()
        span = max(1e-3, self._last.at - before.at)
        memory = psutil.virtual_memory()
        usage, gpu_memory, power = self._gpus()
        return LoadSample(
            at=self._now(),
            cpu_usage=min(1.0, psutil.cpu_percent() / 100),
            memory_usage=memory.percent / 100,
            gpu_usage=usage,
            gpu_memory_usage=gpu_memory,
            network_rx_bytes_per_second=max(0, self._last.received - before.received) / span,
            network_tx_bytes_per_second=max(0, self._last.sent - before.sent) / span,
            power_watts=power,
            active_jobs=active_jobs,
        )

    def _now(self) -> datetime:
        return self._clock.now()

    def _gpus(self) -> tuple[float | None, float | None, float | None]:
        """(mean utilisation, used share of all GPU memory, watts of all GPUs); None where nothing answers."""
        nvml = self._nvml
        if nvml is None:
            return None, None, None
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            if not handles:
                return None, None, None
            rates = [nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100 for handle in handles]
            memory = [nvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
            watts = sum(nvml.nvmlDeviceGetPowerUsage(handle) for handle in handles) / 1000
            return sum(rates) / len(rates), sum(m.used for m in memory) / sum(m.total for m in memory), watts
        except nvml.NVMLError as error:
            log.debug("the GPUs can't be sampled: %s", error)
            return None, None, None


def _open_nvml() -> Any:
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except (ImportError, OSError) as error:
        log.debug("no NVML: %s", error)
        return None
    except Exception as error:
        # NVML's own errors have no common base that can be named without its import.
        log.debug("NVML does not start: %s", error)
        return None
    return nvml
