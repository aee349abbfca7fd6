"""`cyxwiz node bench`: the challenge on every device that the node would lend, on the disk and on the network."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cyxwiz.compute.hardware import challenge, cpu, disk, score
from cyxwiz.compute.hardware.detect import Detector, Inventory
from cyxwiz.compute.hardware.energy import EnergyMeter
from cyxwiz.compute.hardware.machine import Machine
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.domain.errors import CyxError, unsupported
from cyxwiz.ports.clock import Clock

Json = dict[str, Any]


def run(
    wanted: tuple[str, ...],
    directory: Path,
    clock: Clock,
    *,
    seed: int,
    seconds: float,
    network: Callable[[], Json | str],
) -> Json:
    """Takes about `seconds` a device, and as long for the disk. `network` measures, or says why it can't.

    Raises UNSUPPORTED without NumPy, INTERNAL when a device computes wrongly.
    """
    if importlib.util.find_spec("numpy") is None:
        raise unsupported("The challenge needs NumPy: pip install 'cyxwiz[node]'")
    inventory = Detector(wanted).inspect()
    os.environ.update(inventory.environment())
    meter, unset = EnergyMeter(clock, Sensors()), dict[str, str]()
    devices = _devices(inventory, seed, seconds, meter, unset)
    found_disk = _disk(directory, seed, seconds, unset)
    found_network = network()
    if isinstance(found_network, str):
        unset["network"] = found_network
    measured: dict[str, float | None] = {
        "matrix": sum(each["matrix_gflops"] for each in devices) or None,
        "memory": sum(each["memory_gb_per_second"] for each in devices) or None,
        "disk_write": found_disk["write_mb_per_second"] if found_disk else None,
        "disk_read": found_disk["read_mb_per_second"] if found_disk else None,
        "network": found_network["upload_mb_per_second"] if isinstance(found_network, dict) else None,
    }
    parts = score.parts(measured)
    joules = meter.read()
    if joules is None:
        unset["joules"] = "; ".join(meter.missing) or "readings of power came too far apart"
    total = score.compute_score(parts)
    return {
        "at": clock.now().isoformat(timespec="seconds"),
        "seed": seed,
        "seconds": seconds,
        "compute_score": round(total, 2) if total is not None else None,
        "terms": [
            {
                "name": part.term.name,
                "unit": part.term.unit,
                "value": round(part.value, 3) if part.value is not None else None,
                "reference": part.term.reference,
                "weight": part.term.weight,
                "ratio": round(part.ratio, 4) if part.ratio is not None else None,
            }
            for part in parts
        ],
        "devices": devices,
        "disk": found_disk,
        "network": found_network if isinstance(found_network, dict) else None,
        "joules": round(joules, 3) if joules is not None else None,
        "joules_of": list(meter.sources),
        "unset": unset,
        "hardware_unknown": list(inventory.hardware.unknown),
    }


def _devices(inventory: Inventory, seed: int, seconds: float, meter: EnergyMeter, unset: dict[str, str]) -> list[Json]:
    has_torch = importlib.util.find_spec("torch") is not None
    found: list[Json] = []
    free = cpu.ram(Machine()).available
    processor = _torch_device("cpu", free) if has_torch else lambda: challenge.NumpyBackend(free)
    names = [("cpu", inventory.hardware.cpu_model, processor, challenge.CPU_SHAPE)]
    for index, gpu in enumerate(inventory.lent):
        make = _torch_device(f"cuda:{index}", gpu.facts.memory_free or 0)
        names.append((gpu.label, gpu.name, make, challenge.GPU_SHAPE))
    for label, name, make, shape in names:
        try:
            result = challenge.run(make(), label, seed, seconds, shape)
        except CyxError as error:
            if error.code != "EXHAUSTED":
                raise
            unset[label] = error.message
            continue
        meter.read()
        found.append({"name": name, **asdict(result)})
    return found


def _torch_device(device: str, free: int) -> Callable[[], challenge.Backend]:
    return lambda: challenge.TorchBackend(device, free)


def _disk(directory: Path, seed: int, seconds: float, unset: dict[str, str]) -> Json | None:
    try:
        return asdict(disk.run(directory, seed, seconds))
    except CyxError as error:
        if error.code == "INTERNAL":
            raise
        unset["disk"] = error.message
        return None
