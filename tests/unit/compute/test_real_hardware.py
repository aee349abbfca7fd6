"""What the readers make of what real machines said: tests/fixtures/hardware/README.md tells which and from where."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cyxwiz.compute.hardware import Detector, Inventory, cpu, intel, nvidia_smi, opencl
from cyxwiz.compute.hardware.cpu import Ram
from cyxwiz.compute.hardware.facts import Facts
from cyxwiz.compute.hardware.machine import Machine, outcome
from tests import machines
from tests.machines import CPU, FIXTURES

MIB = 1 << 20
HERE = "recorded/epyc-vm"
MI100 = Facts(
    "amd",
    name="Arcturus GL-XL [Instinct MI100]",
    memory_total=34342961152,
    memory_free=34342961152 - 6750208,
    driver="6.3.6",
    utilisation=0.0,
)
MAX1100 = Facts("intel", name="Intel(R) Data Center GPU Max 1100")
MACHINES = {
    "rx6700xt": [  # this version writes the vendor's number in place of each name
        Facts(
            "amd",
            index=0,
            pci="0000:07:00.0",
            memory_total=12868124672,
            memory_free=12868124672 - 1622728704,
            driver="6.3.6",
            utilisation=0.0,
            temperature_c=47.0,
            power_watts=6.0,
        )
    ],
    "mi50": [
        Facts(
            "amd",
            name="Radeon Instinct MI50 32GB",
            index=0,
            pci="0000:63:00.0",
            memory_total=34342961152,
            memory_free=34342961152 - 10850304,
            driver="5.9.17",
            utilisation=0.0,
            temperature_c=38.0,
            power_watts=26.0,
        )
    ],
    "mi100-x4": [
        replace(MI100, index=0, pci="0000:83:00.0", temperature_c=55.0, power_watts=36.0),
        replace(MI100, index=1, pci="0000:a3:00.0", temperature_c=58.0, power_watts=44.0),
        replace(MI100, index=2, pci="0000:c3:00.0", temperature_c=57.0, power_watts=43.0),
        replace(MI100, index=3, pci="0000:e3:00.0", temperature_c=53.0, power_watts=39.0),
    ],
    "rx7900xt": [
        Facts(
            "amd",
            name="Radeon RX 7900 XT",
            index=0,
            memory_total=21458059264,
            memory_free=21458059264 - 27856896,
            utilisation=0.0,
        )
    ],
    "radeon-780m": [
        Facts(
            "amd",
            name="Phoenix3",
            index=0,
            pci="0000:c4:00.0",
            utilisation=0.19,
            temperature_c=31.0,
            power_watts=7.222,
        )
    ],
    "rx7800xt": [
        Facts(
            "amd",
            name="AMD Radeon RX 7800 XT",
            index=0,
            pci="0000:03:00.0",
            memory_total=16368 * MIB,
            compute_units=60,
            pcie_lanes=16,
            utilisation=0.02,
            temperature_c=41.0,
        )
    ],
    "rx570": [Facts("amd", pci_id="1002:????", memory_total=4294967296, unified=False)],
    "amdgpu-8gb": [
        Facts(
            "amd",
            pci_id="1002:????",
            memory_total=8573157376,
            memory_free=8573157376 - 1490378752,
            unified=False,
            utilisation=0.04,
        )
    ],
    "arc-b60": [
        Facts(
            "intel",
            name="Intel(R) Graphics [0xe211]",
            index=0,
            memory_total=25669140480,
            memory_free=25447600128,
            driver="7B7A46009E666C4D10E1134",
        )
    ],
    "max1100-x2": [
        replace(
            MAX1100,
            index=0,
            pci="0000:29:00.0",
            uuid="00000000-0000-0001-0000-000000000000",
            memory_total=51522830336,
            memory_free=51493543936,
            driver="I915_23.10.72_PSB_231129.76",
        ),
        replace(MAX1100, index=1, pci="0000:9a:00.0", uuid="00000000-0000-0002-0000-000000000000"),
    ],
}
METAL = {"m1": "kHW_AppleM1Item", "m3-pro": "Apple M3 Pro"}
PROCESSORS = {"power7": "POWER7 (architected), altivec supported", "armv7": "sun8i"}
NVIDIA = "nvidia-smi"


def found(name: str, root: Path) -> Inventory:
    return Detector(("all",), machines.machine(name, root, torch=CPU, nvml=False)).inspect()


def said(file: str) -> str:
    return (FIXTURES / "published" / NVIDIA / file).read_text()


@pytest.mark.parametrize("name", MACHINES)
def test_every_fact_that_was_told_is_read(tmp_path: Path, name: str) -> None:
    read = [replace(gpu.facts, sources=(), why={}) for gpu in found(f"published/{name}", tmp_path).gpus]
    assert read == MACHINES[name]


@pytest.mark.parametrize("name", METAL)
def test_metal_is_seen_whatever_the_system_calls_its_family(tmp_path: Path, name: str) -> None:
    (gpu,) = found(f"published/{name}", tmp_path).gpus
    assert (gpu.label, gpu.name) == ("metal:0", METAL[name])


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_that_are_no_x86(tmp_path: Path, name: str) -> None:
    assert found(f"published/{name}", tmp_path).hardware.cpu_model == PROCESSORS[name]


@pytest.mark.parametrize(
    ("file", "cuda"),
    [("gb10.txt", "13.0"), ("linux-520.txt", "11.8"), ("wsl-rtx4070.txt", "12.5"), ("wsl-rtx3060.txt", None)],
)
def test_the_cuda_version_of_a_banner(file: str, cuda: str | None) -> None:
    """Below Windows it may be "ERR!"; there the tool's version and the driver's differ."""
    assert nvidia_smi.parse_cuda(said(file)) == cuda


def test_the_mig_table_of_two_gpus() -> None:
    assert nvidia_smi.parse_mig_table(said("mig-table.txt")) == {
        (1, 0): (14366 * MIB, 19968 * MIB),
        (1, 1): (9826 * MIB, 19968 * MIB),
        (1, 2): (13 * MIB, 19968 * MIB),
        (2, 0): (15210 * MIB, 19968 * MIB),
    }


def test_the_list_of_a_gpus_slices() -> None:
    (slices,) = nvidia_smi.parse_list(said("mig-list.txt")).values()
    assert [(number, profile) for number, profile, _ in slices] == [(0, "3g.48gb"), (1, "2g.24gb"), (2, "1g.24gb")]
    assert len({uuid for _, _, uuid in slices}) == 3


def test_a_machine_of_this_project(tmp_path: Path) -> None:
    """No GPU, no limit: its groups are of cgroup v1, whose numbers for "none" are 2^63 and -1."""
    there = machines.machine(HERE, tmp_path, torch=CPU, nvml=False)
    inventory = Detector(("all",), there).inspect()
    assert inventory.gpus == ()
    assert inventory.hardware.cpu_model == "AMD EPYC"
    assert inventory.hardware.unknown == (
        "rocm-smi: rocm-smi printed nothing: ERROR:root:Driver not initialized (amdgpu not found in modules)",
    )
    assert cpu.ram(there).total == psutil.virtual_memory().total
    assert cpu.cores(there) == cpu.cores(Machine(tmp_path / "nothing", "Linux"))


def test_the_layout_of_clinfo() -> None:
    """The one device there is a processor, which is no GPU; as a GPU it would be read whole."""
    text = (FIXTURES / HERE / "clinfo.txt").read_text()
    ram = Ram(24 << 30, 20 << 30)
    assert opencl.parse_raw(text, ram) == []
    (facts,) = opencl.parse_raw(text.replace("CL_DEVICE_TYPE_CPU", "CL_DEVICE_TYPE_GPU"), ram)
    assert replace(facts, why={}) == Facts(
        "amd",
        name="pthread-AMD EPYC",
        memory_total=21972078592,
        memory_free=20 << 30,
        unified=True,
        compute_units=2,
        driver="3.0-rc2",
        opencl="OpenCL 3.0 PoCL HSTR: pthread-x86_64-unknown-linux-gnu-generic",
    )


# what the readers got wrong, where no whole output could be had


def test_minus_one_is_no_pcie_generation() -> None:
    """Told of a Flex 170: https://github.com/intel/xpumanager/issues/69"""
    facts = intel.parse_device({"pcie_generation": "-1", "pcie_max_link_width": "-1", "number_of_eus": "0"}, 0, "", "")
    assert (facts.pcie_generation, facts.pcie_lanes, facts.compute_units) == (None, None, None)


def test_what_is_measured_of_tiles_is_the_gpus() -> None:
    def tile(used: float, watts: float, heat: float, load: float) -> dict[str, object]:
        values = {"MEMORY_USED": used, "POWER": watts, "GPU_CORE_TEMPERATURE": heat, "GPU_UTILIZATION": load}
        return {"data_list": [{"metrics_type": f"XPUM_STATS_{name}", "value": each} for name, each in values.items()]}

    stats = {
        "device_level": [{"metrics_type": "XPUM_STATS_POWER", "value": 63.5}],
        "tile_level": [tile(61, 24, 28, 100), tile(63, 25, 29, 50)],
    }
    row = {"memory_physical_size_byte": str(1024 * MIB)}
    facts = intel.parse_device(row, 0, "", json.dumps(stats))
    assert (facts.memory_free, facts.power_watts) == (900 * MIB, 63.5), "what the device says itself comes first"
    assert (facts.temperature_c, facts.utilisation) == (29, 0.75)


def test_a_tool_that_only_complains_has_failed() -> None:
    assert outcome("tool", 0, "", "first\nwhy\n").problem == "tool printed nothing: why"
    assert outcome("tool", 0, "answer", "a warning").problem == ""


# the list of sources


def test_each_is_listed_with_where_it_was_published() -> None:
    folders = {each.name for each in (FIXTURES / "published").iterdir()}
    assert folders == {*MACHINES, *METAL, *PROCESSORS, NVIDIA}
    text = (FIXTURES / "README.md").read_text()
    rows = re.findall(r"^\| `published/([^`/]+)[^`]*` \|.*\| (https://\S+) \|$", text, re.MULTILINE)
    assert {name for name, _ in rows} == folders
    files = {each.name for each in (FIXTURES / "published" / NVIDIA).iterdir()}
    assert files == set(re.findall(rf"^\| `published/{NVIDIA}/([^`]+)` ", text, re.MULTILINE))
