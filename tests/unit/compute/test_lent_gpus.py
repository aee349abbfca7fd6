"""What a sandbox opens for `cuda:N`: the N-th GPU of the inventory, whatever else the machine has."""

from __future__ import annotations

import json
from pathlib import Path

from cyxwiz.compute.hardware import Detector
from cyxwiz.compute.hardware.machine import Machine, Ran
from cyxwiz.compute.sandbox.devices import Gpu, lent_gpus
from tests import machines
from tests.machines import ROCM
from tests.unit.compute.test_hardware import SEEN

SHARED = tuple(map(Path, ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")))


def lent(machine: Machine, wanted: str = "all") -> tuple[Gpu, ...]:
    return lent_gpus(Detector((wanted,), machine).inspect(), machine)


def driver_tells(machine: Machine, minors: dict[str, int]) -> None:
    for pci, minor in minors.items():
        folder = machine.path(f"/proc/driver/nvidia/gpus/{pci}")
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t x\nDevice Minor: \t {minor}\n")


def test_each_gpu_has_its_own_file_in_the_order_of_the_inventory(tmp_path: Path) -> None:
    machine = machines.machine("rtx4090", tmp_path)
    found = [gpu.facts for gpu in Detector(("all",), machine).inspect().lent]
    assert len(found) == 2
    driver_tells(machine, {str(facts.pci): minor for facts, minor in zip(found, (1, 0), strict=True)})
    assert lent(machine) == (
        Gpu(str(found[0].uuid), (*SHARED, Path("/dev/nvidia1"))),
        Gpu(str(found[1].uuid), (*SHARED, Path("/dev/nvidia0"))),
    )
    assert lent(machine, "cuda:1") == (Gpu(str(found[1].uuid), (*SHARED, Path("/dev/nvidia0"))),)
    assert lent(machine, "cpu") == ()


def test_on_wsl_there_is_one_door(tmp_path: Path) -> None:
    (gpu,) = lent(machines.machine("wsl-laptop", tmp_path))
    assert gpu.name.startswith("GPU-")
    assert gpu.files == (Path("/dev/dxg"),)


def test_an_amd_gpu_has_its_render_node(tmp_path: Path) -> None:
    seen = [{**SEEN[0], "name": "AMD Radeon RX 7900 XTX", "pci": "0000:03:00.0", "total": 25753026560, "units": 48}]
    machine = machines.machine("rx7900xtx", tmp_path, torch=ROCM, seen_by_torch=Ran(json.dumps(seen)))
    (facts,) = [gpu.facts for gpu in Detector(("all",), machine).inspect().lent]
    node = machine.path("/dev/dri/renderD129")
    by_path = machine.path("/dev/dri/by-path")
    by_path.mkdir(parents=True)
    node.touch()
    (by_path / f"pci-{facts.pci}-render").symlink_to(node)
    assert lent(machine) == (Gpu(str(facts.torch_index), (Path("/dev/kfd"), Path("/dev/dri/renderD129"))),)


def test_one_whose_files_nobody_tells_has_none_and_keeps_its_place(tmp_path: Path) -> None:
    machine = machines.machine("rtx4090", tmp_path)
    found = [gpu.facts for gpu in Detector(("all",), machine).inspect().lent]
    driver_tells(machine, {str(found[1].pci): 7})
    assert [gpu.files for gpu in lent(machine)] == [(), (*SHARED, Path("/dev/nvidia7"))]
