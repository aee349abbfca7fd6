"""Detection on machines that we lack, from the text that their tools print. Long, as it is a list: a machine each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from cyxwiz.compute.hardware import Detector, Inventory, amd, apple, cpu, machine, nvidia_smi, sysfs
from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Answer, Facts, merge, pci_address
from cyxwiz.compute.hardware.machine import Ran, parse_torch_build
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo
from tests import machines
from tests.machines import CPU, ROCM, Replay

GIB = 1 << 30
MIB = 1 << 20


def found(name: str, root: Path, wanted: Sequence[str] = ("all",), **given: Any) -> Inventory:
    return Detector(tuple(wanted), machines.machine(name, root, **given)).inspect()


def one(inventory: Inventory) -> DeviceInfo:
    """The one GPU that is lent."""
    (gpu,) = inventory.hardware.gpus
    return gpu


def said(inventory: Inventory, beginning: str) -> str:
    (line,) = [each for each in inventory.hardware.unknown if each.startswith(beginning)]
    return line


# NVIDIA


def test_h200_by_nvml(tmp_path: Path) -> None:
    inventory = found("h200", tmp_path)
    assert one(inventory) == DeviceInfo(
        Device.CUDA,
        "NVIDIA H200",
        memory_total_bytes=150754820096,
        memory_available_bytes=150122397696,
        compute_units=16896,
        supports_fp64=True,
        supports_fp16=True,
        driver_version="570.86.15",
        cuda_version="12.8",
        pcie_generation=5,
        pcie_lanes=16,
        compute_capability=9.0,
    )
    facts = inventory.gpus[0].facts
    assert (facts.temperature_c, facts.power_watts, facts.utilisation) == (29, 76.543, 0.0)
    assert facts.sources == ("nvml", "sysfs")
    assert inventory.hardware.unknown == ()
    assert inventory.environment() == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": facts.uuid}


def test_4090s_by_nvidia_smi_where_nvml_is_missing(tmp_path: Path) -> None:
    inventory = found("rtx4090", tmp_path)
    first, second = inventory.hardware.gpus
    assert (first.name, first.memory_total_bytes, first.memory_available_bytes) == (
        "NVIDIA GeForce RTX 4090",
        24564 * MIB,
        23810 * MIB,
    )
    assert (first.driver_version, first.cuda_version, first.compute_capability) == ("550.54.14", "12.4", 8.9)
    assert (first.pcie_generation, first.pcie_lanes) == (4, 16)
    assert inventory.gpus[0].facts.power_watts == 21.37
    assert inventory.gpus[1].facts.utilisation is None
    assert said(inventory, "cuda:1 utilisation") == "cuda:1 utilisation: nvidia-smi says '[Unknown Error]'"
    assert said(inventory, "nvml") == "nvml: NVML does not start: NVML Shared Library Not Found"
    assert second.memory_total_bytes == first.memory_total_bytes


def test_an_older_driver_is_asked_for_less(tmp_path: Path) -> None:
    inventory = found("old-driver", tmp_path)
    gpu = one(inventory)
    assert (gpu.memory_total_bytes, gpu.driver_version, gpu.cuda_version) == (8119 * MIB, "430.64", "10.1")
    assert gpu.compute_capability is None
    assert "does not say" in said(inventory, "cuda:0 compute capability")


@pytest.mark.parametrize("nvml", [True, False], ids=["nvml", "nvidia-smi"])
def test_unified_memory_is_the_machines_ram_and_said_so(tmp_path: Path, nvml: bool) -> None:
    inventory = found("gb10", tmp_path, nvml=nvml)
    gpu = one(inventory)
    assert gpu.memory_total_bytes == inventory.hardware.ram_total_bytes > 0
    assert gpu.memory_available_bytes == pytest.approx(inventory.hardware.ram_available_bytes, rel=0.01)
    assert (gpu.compute_capability, gpu.cuda_version, gpu.pcie_generation) == (12.1, "13.0", None)
    assert "shares the machine's RAM" in said(inventory, "cuda:0 memory of its own")
    assert "part of the processor" in said(inventory, "cuda:0 PCIe generation")
    assert inventory.gpus[0].facts.pci == "000f:01:00.0"


def test_an_arm_processor_is_named_by_its_numbers(tmp_path: Path) -> None:
    assert "0xd85" in found("gb10", tmp_path).hardware.cpu_model


@pytest.mark.parametrize("nvml", [True, False], ids=["nvml", "nvidia-smi"])
def test_mig_slices_are_devices_of_their_own(tmp_path: Path, nvml: bool) -> None:
    inventory = found("a100-mig", tmp_path, nvml=nvml)
    first, second = inventory.gpus
    assert [gpu.name for gpu in (first, second)] == [
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA A100-SXM4-40GB MIG 2g.10gb",
    ]
    assert [gpu.facts.memory_total for gpu in (first, second)] == [19968 * MIB, 9984 * MIB]
    assert first.facts.memory_free == (19968 - 38) * MIB
    assert first.facts.capability == 8.0
    assert "of the whole GPU" in said(inventory, "cuda:0 power")
    # CUDA gives a process one slice: the other is there, told and not lent.
    assert one(inventory).name == first.name
    assert "one MIG slice" in said(inventory, "cuda:1")
    assert inventory.environment()["CUDA_VISIBLE_DEVICES"] == first.facts.uuid
    assert str(first.facts.uuid).startswith("MIG-")


def test_mig_without_slices_is_nothing_to_lend(tmp_path: Path) -> None:
    there = machines.machine("a100-mig", tmp_path)
    replay = there.nvml()
    replay.recorded["gpus"][0]["slices"] = []
    inventory = Detector(("all",), replace(there, nvml=lambda: replay)).inspect()
    assert inventory.hardware.gpus == ()
    assert "no slice is made" in said(inventory, "cuda:0")


LOST = "Unable to determine the device handle for GPU0: 0000:41:00.0: Unknown Error\n"


@pytest.mark.parametrize("status", [0, 255])
def test_a_gpu_off_the_bus_hides_no_other_from_nvidia_smi(tmp_path: Path, status: int) -> None:
    """The tool tells of it in a line of its own, lists the rest, and ends well or badly by its version."""
    there = machines.machine("rtx4090", tmp_path)

    def run(command: Sequence[str]) -> Ran:
        ran = there.run(command)
        if len(command) < 3:
            return ran
        rest = "".join(ran.text.splitlines(keepends=True)[1:])
        return Ran(LOST + rest, f"nvidia-smi ended with status {status}: {rest.strip()}" if status else "")

    inventory = Detector(("all",), replace(there, run=run)).inspect()
    assert one(inventory).memory_total_bytes == 24564 * MIB
    assert said(inventory, "nvidia-smi") == f"nvidia-smi: {LOST.strip()}"


def test_a_size_that_mig_has_shared_out_is_not_the_machines_ram() -> None:
    row = "0, GPU-1, 00000000:61:00.0, NVIDIA RTX PRO 6000, [N/A], [N/A], 610.43, 5, 16, [N/A], 34, 108.2, {}, 12.0"
    ram = Ram(64 * GIB, 32 * GIB)
    for mig, unified, total in (("Enabled", False, None), ("Disabled", True, 64 * GIB)):
        ((facts, _),) = nvidia_smi.parse_query(row.format(mig), nvidia_smi.FIELDS, ram)
        assert (facts.unified, facts.memory_total, facts.pcie_lanes) == (unified, total, None if unified else 16)


def test_nor_is_it_to_nvml(tmp_path: Path) -> None:
    there = machines.machine("a100-mig", tmp_path)
    replay = there.nvml()
    replay.recorded["gpus"][0]["memory"] = {"error": 3}
    gpu = one(Detector(("all",), replace(there, nvml=lambda: replay)).inspect())
    assert (gpu.memory_total_bytes, gpu.pcie_generation, gpu.pcie_lanes) == (19968 * MIB, 4, 16)
    (load,) = Sensors(replace(there, nvml=lambda: replay)).gpus()
    assert (load.memory_total_bytes, load.memory_free_bytes) == (None, None)


def test_wsl_finds_the_tool_where_windows_puts_it(tmp_path: Path) -> None:
    inventory = found("wsl-laptop", tmp_path)
    gpu = one(inventory)
    assert (gpu.name, gpu.memory_total_bytes) == ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188 * MIB)
    assert said(inventory, "cuda:0 power") == "cuda:0 power: nvidia-smi says '[N/A]'"


def test_wsl_without_a_driver_says_so(tmp_path: Path) -> None:
    there = machines.machine("wsl-laptop", tmp_path)
    (tmp_path / "usr/lib/wsl/lib/nvidia-smi").unlink()
    inventory = Detector(("all",), there).inspect()
    assert inventory.gpus == ()
    assert "install it on Windows" in said(inventory, "gpu")


def test_a_gpu_that_can_not_be_read_is_unknown_and_not_zero(tmp_path: Path) -> None:
    there = machines.machine("h200", tmp_path)
    replay = there.nvml()
    replay.recorded["gpus"][0].update(memory={"error": 15}, capability={"error": 15}, cores={"error": 999})
    inventory = Detector(("all",), replace(there, nvml=lambda: replay)).inspect()
    gpu = one(inventory)
    assert (gpu.memory_total_bytes, gpu.memory_available_bytes, gpu.compute_units) == (None, None, None)
    assert "lost" in said(inventory, "cuda:0 memory").lower()
    assert said(inventory, "cuda:0 compute units")


def test_a_gpu_that_can_not_be_opened_hides_no_other(tmp_path: Path) -> None:
    there = machines.machine("h200", tmp_path)
    replay = there.nvml()
    replay.recorded["gpus"].insert(0, {"error": 15})
    inventory = Detector(("all",), replace(there, nvml=lambda: replay)).inspect()
    assert one(inventory).name == "NVIDIA H200"
    assert "can't be opened" in said(inventory, "cuda:0: ")


SEEN = [
    {"index": 0, "name": "NVIDIA H200", "total": 150754820096, "free": 150000000000, "pci": "0000:18:00.0", "uuid": "",
     "units": 132, "capability": [9, 0], "integrated": False}
]  # fmt: skip


def test_torch_in_a_child_is_asked_when_no_driver_library_answers(tmp_path: Path) -> None:
    there = machines.machine("h200", tmp_path, nvml=False, seen_by_torch=Ran(json.dumps(SEEN)))
    asked: list[int] = []

    def ask() -> Ran:
        asked.append(1)
        return there.ask_torch()

    detector = Detector(("all",), replace(there, ask_torch=ask))
    gpu = one(detector.inspect())
    assert (gpu.name, gpu.memory_total_bytes, gpu.compute_capability) == ("NVIDIA H200", 150754820096, 9.0)
    assert (gpu.pcie_generation, gpu.pcie_lanes) == (5, 16), "the kernel's files complete it"
    detector.inspect()
    assert asked == [1], "it costs seconds: once is enough"


def test_torch_is_not_asked_where_nvml_answers(tmp_path: Path) -> None:
    def ask() -> Ran:
        raise AssertionError("torch was asked")

    Detector(("all",), replace(machines.machine("h200", tmp_path), ask_torch=ask)).inspect()


@pytest.mark.parametrize(
    ("torch", "reason"),
    [(CPU, "built without CUDA"), (None, "torch is not installed"), (ROCM, "built without CUDA")],
)
def test_what_torch_can_not_use_is_told_and_not_lent(tmp_path: Path, torch: Any, reason: str) -> None:
    inventory = found("h200", tmp_path, torch=torch)
    assert inventory.hardware.gpus == ()
    line = said(inventory, "cuda:0")
    assert "NVIDIA H200 (140.4 GiB): not lent" in line
    assert reason in line
    assert "CUDA_VISIBLE_DEVICES" not in inventory.environment()


@pytest.mark.parametrize(
    ("wanted", "lent"),
    [
        (("all",), [0, 1]),
        (("cuda",), [0, 1]),
        (("cpu", "cuda:1"), [1]),
        (("CUDA:0",), [0]),
        (("cpu",), []),
        (("opencl",), []),
    ],
)
def test_node_devices_chooses(tmp_path: Path, wanted: tuple[str, ...], lent: list[int]) -> None:
    inventory = found("rtx4090", tmp_path, wanted)
    uuids = [inventory.gpus[index].facts.uuid for index in lent]
    assert [gpu.facts.uuid for gpu in inventory.lent] == uuids
    assert inventory.environment().get("CUDA_VISIBLE_DEVICES", "") == ",".join(str(each) for each in uuids)
    assert not [each for each in inventory.hardware.unknown if "not lent" in each], "the owner knows what he chose"


@pytest.mark.parametrize(("visible", "count"), [("0", 1), ("1", 1), ("0,1", 2), ("", 0), ("GPU-00000041", 1)])
def test_cuda_visible_devices_hides(tmp_path: Path, visible: str, count: int) -> None:
    inventory = found("rtx4090", tmp_path, environ={"CUDA_VISIBLE_DEVICES": visible})
    assert len(inventory.lent) == count
    if count == 1:
        assert inventory.lent[0].label == f"cuda:{int(visible[-1])}"


# AMD, Intel, Apple, OpenCL


def test_rx7900xtx_by_rocm_smi_and_the_kernel(tmp_path: Path) -> None:
    seen = [{**SEEN[0], "name": "AMD Radeon RX 7900 XTX", "pci": "0000:03:00.0", "total": 25753026560, "units": 48}]
    inventory = found("rx7900xtx", tmp_path, torch=ROCM, seen_by_torch=Ran(json.dumps(seen)))
    gpu = one(inventory)
    assert (gpu.kind, gpu.name) == (Device.OPENCL, "Radeon RX 7900 XTX")
    assert (gpu.memory_total_bytes, gpu.memory_available_bytes) == (25753026560, 25753026560 - 1180893184)
    assert (gpu.pcie_generation, gpu.pcie_lanes, gpu.driver_version) == (4, 16, "6.10.5")
    facts = inventory.gpus[0].facts
    assert (facts.utilisation, facts.temperature_c, facts.power_watts) == (0.07, 62.0, 28.0)
    assert inventory.environment()["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_kernel_alone_tells_the_same_of_an_rx7900xtx(tmp_path: Path) -> None:
    there = replace(machines.machine("rx7900xtx", tmp_path, torch=CPU), which=lambda _: None)
    inventory = Detector(("all",), there).inspect()
    assert inventory.hardware.gpus == ()
    assert "AMD GPU 1002:744c (24.0 GiB): not lent" in said(inventory, "opencl:0")
    facts = inventory.gpus[0].facts
    assert (facts.memory_free, facts.temperature_c, facts.power_watts) == (25753026560 - 1180893184, 62.0, 28.0)


def test_the_memory_of_a_processors_own_radeon_is_not_its_carve_out(tmp_path: Path) -> None:
    facts = found("apu", tmp_path, torch=CPU).gpus[0].facts
    assert (facts.memory_total, facts.unified) == (min(8 * GIB, psutil.virtual_memory().total), True)


ASIDE = 512 * MIB
BUS = "0000:C4:00.0"
SMALL = {
    "rocm-smi": {"card0": {"PCI Bus": BUS, "VRAM Total Memory (B)": str(ASIDE), "VRAM Total Used Memory (B)": "9"}},
    "amd-smi": {"gpu_data": [{"gpu": 0, "bus": {"bdf": BUS}, "vram": {"size": {"value": 512, "unit": "MB"}}}]},
}


@pytest.mark.parametrize("tool", SMALL)
def test_nor_is_it_where_a_tool_shows_the_carve_out(tmp_path: Path, tool: str) -> None:
    there = machines.machine("apu", tmp_path, torch=CPU)
    there = replace(
        there, which=lambda name: name if name == tool else None, run=lambda _: Ran(json.dumps(SMALL[tool]))
    )
    facts = Detector(("all",), there).inspect().gpus[0].facts
    assert (facts.memory_total, facts.unified) == (min(8 * GIB, psutil.virtual_memory().total), True)
    assert facts.memory_free is not None
    assert facts.memory_free > ASIDE
    (tmp_path / "sys/class/drm/card0/device/mem_info_vram_total").unlink()
    alone = Detector(("all",), there).inspect().gpus[0].facts
    assert (alone.memory_total, alone.memory_free) == (None, None)
    assert alone.why["memory_total"] == f"{tool} shows only the 512 MiB of the RAM that are set aside for it"


def test_mi300x_by_amd_smi(tmp_path: Path) -> None:
    first, second = found("mi300x", tmp_path, torch=CPU).gpus
    facts = first.facts
    assert (facts.name, facts.memory_total, facts.memory_free) == ("AMD Instinct MI300X", 196592 * MIB, 196307 * MIB)
    assert (facts.compute_units, facts.pcie_generation, facts.pcie_lanes, facts.driver) == (304, 5, 16, "6.12.12")
    assert (facts.utilisation, facts.temperature_c, facts.power_watts) == (0.12, 43, 136)
    assert second.facts.memory_total is None
    assert second.facts.why["memory_total"] == "amd-smi does not say"


def test_arc_by_xpu_smi_is_there_and_not_lent(tmp_path: Path) -> None:
    inventory = found("arc-a770", tmp_path)
    (gpu,) = inventory.gpus
    facts = gpu.facts
    assert (gpu.name, facts.memory_total, facts.memory_free) == (
        "Intel(R) Arc(TM) A770 Graphics",
        17079205888,
        16900000000,
    )
    assert (facts.pcie_generation, facts.pcie_lanes, facts.compute_units) == (4, 16, 512)
    assert (facts.utilisation, facts.temperature_c, facts.power_watts) == (0.015, 44.0, 38.2)
    assert "not on this kind" in said(inventory, "opencl:0")


def test_m2_by_system_profiler(tmp_path: Path) -> None:
    inventory = found("m2", tmp_path)
    (gpu,) = inventory.gpus
    assert (gpu.kind, gpu.name, gpu.facts.compute_units) == (Device.METAL, "Apple M2", 10)
    assert gpu.facts.memory_total == inventory.hardware.ram_total_bytes
    assert inventory.hardware.cpu_model == "Apple M2"
    assert "shared with the machine's RAM" in said(inventory, "metal:0")


def test_macos_11_names_the_family_of_metal_under_another_key() -> None:
    gpu = {"_name": "kHW_AppleM1Item", "sppci_model": "Apple M1", "spdisplays_vendor": "sppci_vendor_Apple"}
    text = json.dumps({"SPDisplaysDataType": [{**gpu, "spdisplays_metalfamily": "spdisplays_mtlgpufamilyapple7"}]})
    (facts,) = apple.parse(text, Ram(8 * GIB, 4 * GIB))
    assert (facts.name, facts.memory_total, facts.unified) == ("Apple M1", 8 * GIB, True)


def test_opencl_completes_what_the_kernel_does_not_name(tmp_path: Path) -> None:
    inventory = found("uhd770", tmp_path)
    (gpu,) = inventory.gpus
    assert (gpu.name, gpu.facts.memory_total) == ("Intel(R) UHD Graphics 770", 13316530176)
    assert gpu.facts.sources == ("sysfs", "clinfo")


# the parts


def test_a_source_that_breaks_costs_its_own_facts_only(tmp_path: Path) -> None:
    there = machines.machine("arc-a770", tmp_path)

    def run(command: Sequence[str]) -> Ran:
        if command[:2] == ["xpu-smi", "discovery"]:
            return Ran('{"device_list": [{"device_id": 0, "device_name": {}, "pci_bdf_address": 5, "uuid": {"a": 1}}]}')
        raise UnicodeError("nobody foresaw this")

    inventory = Detector(("all",), replace(there, run=run)).inspect()
    assert inventory.gpus[0].facts.memory_total == 17079205888, "from the kernel"
    assert "nobody foresaw this" in said(inventory, "xpu-smi")


@pytest.mark.parametrize(
    ("text", "pci"),
    [
        ("00000000:41:00.0", "0000:41:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("c4:00.1", "0000:c4:00.1"),
        ("x", None),
    ],
)
def test_bus_addresses_have_one_form(text: str, pci: str | None) -> None:
    assert pci_address(text) == pci


def test_the_first_source_that_knows_a_fact_wins_and_reasons_stay() -> None:
    first = Facts("amd", name="A", pci="0000:03:00.0", memory_total=5, why={"power_watts": "first"})
    second = Facts("amd", name="B", pci="0000:03:00.0", memory_total=6, driver="d", why={"power_watts": "second"})
    other = Facts("amd", name="A", pci="0000:04:00.0")
    merged = merge([Answer("one", (first,)), Answer("two", (second, other))])
    assert [(each.name, each.memory_total, each.driver, each.sources) for each in merged] == [
        ("A", 5, "d", ("one", "two")),
        ("A", None, None, ("two",)),
    ]
    assert merged[0].why == {"power_watts": "first"}


def test_a_whole_gpus_memory_is_not_its_slices() -> None:
    slice_ = Facts("nvidia", name="MIG", uuid="MIG-1", slice_of="GPU-1")
    whole = Facts("nvidia", name="A100", uuid="GPU-1", memory_total=40, capability=8.0)
    (merged,) = merge([Answer("nvml", (slice_,)), Answer("nvidia-smi", (whole,))])
    assert (merged.memory_total, merged.capability) == (None, 8.0)


@pytest.mark.parametrize(
    ("text", "cuda", "hip"),
    [
        ("__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "12.8", None),
        ("__version__ = '2.9.0+cpu'\ncuda: Optional[str] = None\n", None, None),
        ("__version__ = '2.9.0+rocm6.4'\ncuda = None\nhip = '6.4.43482'\n", None, "6.4.43482"),
    ],
)
def test_what_torch_is_built_for_is_read_without_importing_it(text: str, cuda: str | None, hip: str | None) -> None:
    build = parse_torch_build(text)
    assert (build.cuda, build.hip) == (cuda, hip)
    assert build.version.startswith("2.9.0+")


def test_the_installed_torch_is_what_its_own_file_says() -> None:
    from importlib.metadata import version

    build = machine.installed_torch()
    assert build is not None
    assert build.version.partition("+")[0] == version("torch").partition("+")[0]


def test_a_tool_that_fails_is_a_reason() -> None:
    assert machine.run_tool(["/nonexistent/tool"]).problem == "/nonexistent/tool is not installed"
    failed = machine.run_tool(
        [sys.executable, "-c", "import sys; print('no permission', file=sys.stderr); sys.exit(3)"]
    )
    assert failed.problem.endswith("ended with status 3: no permission")
    slow = machine.run_tool([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)
    assert slow.problem.endswith("did not answer within 0.2 s")


@pytest.mark.parametrize("text", ["", "no json", '{"gpu_data": 5}', "[1, 2]"])
def test_what_is_no_list_of_gpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|list"):
        amd.parse_amd_smi(text, "")


def test_pcie_generations() -> None:
    speeds = ["2.5 GT/s PCIe", "5.0 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe", "64.0 GT/s PCIe"]
    assert [sysfs.generation(each) for each in speeds] == [1, 2, 3, 4, 5, 6]
    assert sysfs.generation("Unknown") is None


def test_the_cuda_version_of_the_newer_banner() -> None:
    assert nvidia_smi.parse_cuda("| NVIDIA-SMI 590.1   Driver Version: 590.1   CUDA UMD Version: 13.1  |") == "13.1"


def test_an_empty_row_of_the_kernel_driver_takes_nothing_of_the_next(tmp_path: Path) -> None:
    there = put(
        tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\nBus Location: \t 0000:01:00.0\n"}
    )
    (facts,) = sysfs.nvidia(there)
    assert (facts.name, facts.pci) == (None, "0000:01:00.0")


# the processor and the RAM


def put(root: Path, files: dict[str, str]) -> machine.Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return machine.Machine(root, "Linux")


V2 = {
    "proc/self/cgroup": "0::/pod/box\n",
    "sys/fs/cgroup/pod/box/memory.max": "max\n",
    "sys/fs/cgroup/pod/memory.max": "1073741824\n",
    "sys/fs/cgroup/pod/memory.current": "600000000\n",
    "sys/fs/cgroup/pod/memory.stat": "anon 100000000\ninactive_file 500000000\n",
    "sys/fs/cgroup/pod/cpu.max": "50000 100000\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu,memory:/docker/abc\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "1073741824\n",
    "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "100000000\n",
    "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_a_container_has_the_ram_that_it_may_use(tmp_path: Path, files: dict[str, str]) -> None:
    assert cpu.ram(put(tmp_path, files)) == Ram(GIB, GIB - 100000000)


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_a_container_has_the_cores_that_it_may_use(tmp_path: Path, files: dict[str, str]) -> None:
    assert cpu.cores(put(tmp_path, files)) == 1


def test_without_a_limit_it_is_the_machines_own(tmp_path: Path) -> None:
    host = psutil.virtual_memory()
    assert cpu.ram(put(tmp_path, {})).total == host.total
    assert cpu.cores(put(tmp_path, {})) >= 1


def test_nvml_replay_is_true_to_the_package() -> None:
    """The recordings answer calls that the real package has."""
    import pynvml

    assert [name for name in vars(Replay) if name.startswith("nvml") and not hasattr(pynvml, name)] == []


def test_detection_does_not_import_torch() -> None:
    program = (
        "import sys; from cyxwiz.runtime.clock import SystemClock;"
        "from cyxwiz.compute.hardware import Detector, Sampler;"
        "Detector().inspect(); Sampler(SystemClock()).sample(0); print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    ran = machine.run_tool([sys.executable, "-c", program], 60)
    assert (ran.text.strip(), ran.problem) == ("[]", "")


def test_this_machine() -> None:
    here = Detector().inspect().hardware
    assert 1 <= here.cpu_cores <= (psutil.cpu_count() or 1)
    assert here.ram_total_bytes <= psutil.virtual_memory().total
    assert all(device.memory_total_bytes != 0 for device in here.devices)
