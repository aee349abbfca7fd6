"""Machines from tests/fixtures/hardware, for detection to look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

from cyxwiz.compute.hardware.machine import Machine, NoNvmlError, Ran, TorchBuild, outcome

FIXTURES = Path(__file__).parent / "fixtures" / "hardware"
CUDA = TorchBuild("2.9.0+cu128", cuda="12.8")
ROCM = TorchBuild("2.9.0+rocm6.4", hip="6.4.43482")
CPU = TorchBuild("2.9.0+cpu")


class Replay:
    """pynvml's calls, answered from a file. Its errors and constants are the package's own."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, recorded: dict[str, Any]) -> None:
        self.recorded = recorded

    def _take(self, value: Any) -> Any:
        if isinstance(value, dict) and "error" in value:
            raise pynvml.NVMLError(value["error"])
        return value

    def nvmlShutdown(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._take(self.recorded["driver"])

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self._take(self.recorded["cuda"])

    def nvmlDeviceGetCount(self) -> int:
        return len(self.recorded["gpus"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._take(self.recorded["gpus"][index])

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return self._take(handle["name"])

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return self._take(handle["uuid"])

    def nvmlDeviceGetPciInfo(self, handle: Any) -> Any:
        return SimpleNamespace(busId=self._take(handle["bus"]))

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return SimpleNamespace(**self._take(handle["memory"]))

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:
        return tuple(self._take(handle["capability"]))

    def nvmlDeviceGetNumGpuCores(self, handle: Any) -> int:
        return self._take(handle["cores"])

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: Any) -> int:
        return self._take(handle["generation"])

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: Any) -> int:
        return self._take(handle["lanes"])

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return SimpleNamespace(gpu=self._take(handle["utilisation"]))

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return self._take(handle["milliwatts"])

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._take(handle["celsius"])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        return self._take(handle["millijoules"])

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        return self._take(handle["mig"])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return handle["places"]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, place: int) -> Any:
        found = [each for each in handle["slices"] if each["place"] == place]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found[0]

    def nvmlDeviceGetAttributes_v2(self, handle: Any) -> Any:
        return SimpleNamespace(multiprocessorCount=handle["processors"])


def machine(
    name: str,
    root: Path,
    *,
    torch: TorchBuild | None = CUDA,
    nvml: bool = True,
    seen_by_torch: Ran | None = None,
    environ: dict[str, str] | None = None,
) -> Machine:
    """A machine whose files lie below `root`. Without `nvml` the library can't be loaded there."""
    folder = FIXTURES / name
    described = json.loads((folder / "machine.json").read_text())
    if (folder / "root").exists():
        shutil.copytree(folder / "root", root, dirs_exist_ok=True)
    for path, text in described["files"].items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def run(command: Sequence[str]) -> Ran:
        said = described["commands"].get(" ".join(command))
        if said is None:
            return Ran("", f"{command[0]} was not recorded with {list(command[1:])}")
        if isinstance(said, dict):
            return outcome(command[0], said["status"], said["output"], said.get("errors", ""))
        return Ran((folder / said).read_text())

    def load() -> Any:
        recorded = folder / "nvml.json"
        if not nvml or not recorded.exists():
            raise NoNvmlError("" if not nvml else "NVML does not start: NVML Shared Library Not Found")
        return Replay(json.loads(recorded.read_text()))

    tools = described.get("tools", [])
    return Machine(
        root,
        described["system"],
        run,
        lambda tool: tool if tool in tools else None,
        load,
        lambda: torch,
        lambda: seen_by_torch or Ran("", "torch was not recorded"),
        environ or {},
    )
