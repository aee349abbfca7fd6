"""Hardware and its load between the wire and the domain. On the wire 0 means unknown; inside, unknown is None."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, GpuLoad, Hardware, LoadSample
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.protocol import common_pb2 as common

DEVICE_TO_WIRE = {
    Device.ANY: common.DEVICE_UNKNOWN,
    Device.CPU: common.DEVICE_CPU,
    Device.CUDA: common.DEVICE_CUDA,
    Device.OPENCL: common.DEVICE_OPENCL,
    Device.METAL: common.DEVICE_METAL,
    Device.VULKAN: common.DEVICE_VULKAN,
}
DEVICE_FROM_WIRE = {number: device for device, number in DEVICE_TO_WIRE.items()}


MAX_DEVICES = 256
MAX_GPUS = 32  # of a sample, as there are many
MAX_TEXT = 256  # characters of a name or a version
MAX_UNKNOWN = 64
MAX_UNKNOWN_TEXT = 500


def check_hardware(hardware: Hardware) -> None:
    """Raises INVALID for what no machine has."""
    if not 1 <= hardware.cpu_cores <= 65536:
        raise invalid(f"cpu_cores: must be from 1 to 65536, not {hardware.cpu_cores}", field="cpu_cores")
    if not 0 < hardware.ram_total_bytes < 2**60:
        raise invalid(
            f"ram_total: must be above 0 and below 2^60 bytes, not {hardware.ram_total_bytes}", field="ram_total"
        )
    if not 0 <= hardware.ram_available_bytes < 2**60:
        raise invalid("ram_available: must be from 0 to 2^60 bytes", field="ram_available")
    if len(hardware.devices) > MAX_DEVICES:
        raise invalid(f"devices: at most {MAX_DEVICES}, not {len(hardware.devices)}", field="devices")
    check_texts("cpu_model", [hardware.cpu_model])
    for device in hardware.devices:
        check_texts("devices", [device.name, device.driver_version, device.cuda_version])
        sizes = (device.memory_total_bytes or 0, device.memory_available_bytes or 0)
        counts = (device.compute_units or 0, device.pcie_generation or 0, device.pcie_lanes or 0)
        capability = device.compute_capability or 0.0
        if max(sizes) >= 2**60 or max(counts) >= 2**31 or min(*sizes, *counts) < 0 or not 0 <= capability < 1000:
            raise invalid(f"devices: no machine has figures such as those of {device.name!r}", field="devices")


def check_texts(field: str, texts: Sequence[str], *, most: int = MAX_DEVICES, length: int = MAX_TEXT) -> None:
    """Raises INVALID for too many texts, too long ones, and those with a NUL character."""
    if len(texts) > most:
        raise invalid(f"{field}: at most {most}, not {len(texts)}", field=field)
    longest = max(map(len, texts), default=0)
    if longest > length:
        raise invalid(f"{field}: at most {length} characters, not {longest}", field=field)
    if any("\0" in text for text in texts):
        raise invalid(f"{field}: holds a NUL character, which can't be stored", field=field)


def device_of(caps: common.DeviceCaps) -> DeviceInfo:
    return DeviceInfo(
        kind=DEVICE_FROM_WIRE.get(caps.device_type, Device.CPU) if caps.device_type else Device.CPU,
        name=caps.gpu_model or caps.device_name,
        memory_total_bytes=caps.vram_total or caps.memory_total or None,
        memory_available_bytes=caps.vram_available or caps.memory_available or None,
        compute_units=caps.compute_units or None,
        supports_fp64=caps.supports_fp64,
        supports_fp16=caps.supports_fp16,
        driver_version=caps.driver_version,
        cuda_version=caps.cuda_version,
        pcie_generation=caps.pcie_generation or None,
        pcie_lanes=caps.pcie_lanes or None,
        compute_capability=caps.compute_capability or None,
    )


def device_to(device: DeviceInfo) -> common.DeviceCaps:
    total, available = device.memory_total_bytes or 0, device.memory_available_bytes or 0
    return common.DeviceCaps(
        device_type=DEVICE_TO_WIRE[device.kind],
        device_name=device.name,
        memory_total=total,
        memory_available=available,
        compute_units=device.compute_units or 0,
        supports_fp64=device.supports_fp64,
        supports_fp16=device.supports_fp16,
        gpu_model=device.name if device.is_gpu else "",
        vram_total=total if device.is_gpu else 0,
        vram_available=available if device.is_gpu else 0,
        driver_version=device.driver_version,
        cuda_version=device.cuda_version,
        pcie_generation=device.pcie_generation or 0,
        pcie_lanes=device.pcie_lanes or 0,
        compute_capability=device.compute_capability or 0.0,
    )


def hardware_of(report: pb.Hardware) -> Hardware:
    return Hardware(
        cpu_model=report.cpu_model,
        cpu_cores=report.cpu_cores,
        ram_total_bytes=report.ram_total_bytes,
        ram_available_bytes=report.ram_available_bytes,
        devices=tuple(device_of(caps) for caps in report.devices),
        unknown=tuple(text[:MAX_UNKNOWN_TEXT] for text in report.unknown[:MAX_UNKNOWN]),
    )


def hardware_to(hardware: Hardware) -> pb.Hardware:
    return pb.Hardware(
        cpu_model=hardware.cpu_model,
        cpu_cores=hardware.cpu_cores,
        ram_total_bytes=hardware.ram_total_bytes,
        ram_available_bytes=hardware.ram_available_bytes,
        devices=[device_to(device) for device in hardware.devices],
        unknown=list(hardware.unknown),
    )


_MEASURES = (
    "cpu_usage",
    "memory_usage",
    "gpu_usage",
    "gpu_memory_usage",
    "network_rx_bytes_per_second",
    "network_tx_bytes_per_second",
    "power_watts",
)


_GPU_MEASURES = ("usage", "memory_total_bytes", "memory_free_bytes", "temperature_c", "power_watts")


def sample_of(beat: pb.Beat, at: datetime) -> LoadSample:
    """What the node did not measure, or measured as no number, is None."""
    gpus = tuple(GpuLoad(gpu.name[:64], **_measured(gpu, _GPU_MEASURES)) for gpu in beat.gpus[:MAX_GPUS])
    return LoadSample(at=at, active_jobs=beat.active_jobs, gpus=gpus, **_measured(beat, _MEASURES))


def _measured(message: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if message.HasField(name) and math.isfinite(value := getattr(message, name))}


def sample_to(sample: LoadSample) -> pb.Beat:
    gpus = [pb.GpuBeat(name=gpu.name, **_known(gpu, _GPU_MEASURES)) for gpu in sample.gpus]
    at = int(sample.at.timestamp() * 1000)
    return pb.Beat(at_ms=at, active_jobs=sample.active_jobs, gpus=gpus, **_known(sample, _MEASURES))


def _known(one: LoadSample | GpuLoad, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(one, name)) is not None}
