"""The owner's limits, the load of others and the energy that is counted."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.hardware import EnergyMeter, OthersLoad, Sampler
from cyxwiz.compute.hardware import sampler as sampling
from cyxwiz.compute.hardware.energy import MAX_GAP_SECONDS, Counter, Integral, Shares
from cyxwiz.compute.hardware.machine import Machine
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.compute.limits import Limits, State, Watchman, judge
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, Hardware
from cyxwiz.domain.schedule import parse_schedule
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services.hardware import sample_of, sample_to
from tests import machines


class Clock:
    def __init__(self) -> None:
        self.at = 0.0
        self.time = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def follow(
    limits: Limits, *, heat: list[float | None] | None = None, load: list[float | None] | None = None
) -> list[str]:
    """The reasons, one after the other; empty is open."""
    state, clock, told = State(), Clock(), []
    measures = [(each, None) for each in heat] if heat else [(None, each) for each in load or []]
    for temperature, share in measures:
        state = judge(limits, state, clock, temperature, share)
        told.append(state.closed)
    return told


def test_it_closes_at_the_limit_and_opens_when_it_has_cooled() -> None:
    limits = Limits(parse_schedule("always"), 80.0)
    reasons = follow(limits, heat=[70, 79.9, 80, 79, 75.1, 75, 79, 81, None])
    hot = "hotter than its owner allows (80 °C)"
    assert reasons == ["", "", hot, hot, hot, "", "", hot, ""]


def test_others_close_it_and_it_opens_when_they_are_done() -> None:
    reasons = follow(Limits(parse_schedule("idle")), load=[0.0, 0.24, 0.25, 0.11, 0.09, 0.2, 0.9, None])
    busy = "its owner uses the machine"
    assert reasons == ["", "", busy, busy, "", "", busy, ""]


def test_what_others_use_is_nothing_to_a_schedule_that_does_not_ask() -> None:
    assert follow(Limits(parse_schedule("always")), load=[1.0, 1.0]) == ["", ""]


def test_the_schedule_is_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(parse_schedule("Mon 20:00-22:00"))
    clock = Clock()
    clock.time = datetime(2030, 1, 7, 12, 30, tzinfo=UTC)
    told = {}
    for zone in ("UTC", "Asia/Tokyo"):  # 21:30 there
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        told[zone] = judge(limits, State(), clock, None, None).closed
    monkeypatch.undo()
    time.tzset()
    assert told == {"UTC": "its owner's schedule is Mon 20:00-22:00", "Asia/Tokyo": ""}


def test_only_what_the_owner_set_is_a_limit() -> None:
    assert not Limits(parse_schedule("always")).any
    assert Limits(parse_schedule("always"), 80).any
    assert Limits(parse_schedule("idle")).any


def test_the_watchman_reads_the_hottest_of_gpu_and_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = Sensors(machines.machine("h200", tmp_path))
    watchman = Watchman(Limits(parse_schedule("always"), 60), Clock(), sensors)
    monkeypatch.setattr(sampling, "cpu_temperatures", list)
    assert watchman.look() == ""
    sensors.nvml.recorded["gpus"][0]["celsius"] = 61
    assert "hotter" in watchman.look()
    sensors.nvml.recorded["gpus"][0]["celsius"] = 30
    assert watchman.look() == ""
    monkeypatch.setattr(sampling, "cpu_temperatures", lambda: [65.0, 40.0])
    assert "hotter" in watchman.look()


# what others use


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        hashlib.sha256(bytes(1000)).digest()


def test_own_work_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    clock = SystemClock()
    others = OthersLoad(clock)
    own_before = others._read()
    spin(0.6)
    subprocess.run([sys.executable, "-c", "sum(range(6_000_000))"], check=True, timeout=60)
    own = others._read()[2] - own_before[2]
    assert own > 0.6, "a child that ended counts as own"
    share = others.measure()
    assert 0.0 <= share <= 1.0


def test_the_load_of_others_is_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    readings = iter([(0.0, 100.0, 10.0), (10.0, 116.0, 22.0), (20.0, 117.0, 22.0), (30.0, 119.0, 26.0)])
    monkeypatch.setattr(OthersLoad, "_read", lambda self: next(readings))
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    others = OthersLoad(clock)
    assert [others.measure() for _ in range(3)] == [pytest.approx(0.1), pytest.approx(0.025), 0.0]


# samples


def test_a_sample_keeps_what_can_be_read_beside_what_can_not(tmp_path: Path) -> None:
    sensors = Sensors(machines.machine("gb10", tmp_path))
    sampler = Sampler(Clock(), sensors)
    sample = sampler.sample(2)
    assert (sample.gpu_usage, sample.power_watts, sample.active_jobs) == (0.0, 11.17, 2)
    assert sample.gpu_memory_usage == pytest.approx(sample.memory_usage, abs=0.05), "it is the same memory"
    assert sampler.temperature_c is not None
    assert sampler.temperature_c >= 35
    (gpu,) = sample.gpus
    assert (gpu.name, gpu.usage, gpu.power_watts) == ("NVIDIA GB10", 0.0, 11.17)
    assert sample_of(sample_to(sample), sample.at) == sample, "central is told the same"


def test_a_radeon_is_sampled_from_the_kernels_files(tmp_path: Path) -> None:
    sample = Sampler(Clock(), Sensors(machines.machine("rx7900xtx", tmp_path))).sample(0)
    assert (sample.gpu_usage, sample.power_watts) == (0.07, 28.0)
    assert sample.gpu_memory_usage == pytest.approx(1180893184 / 25753026560)
    (gpu,) = sample.gpus
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (25753026560, 25753026560 - 1180893184)
    assert (gpu.temperature_c, gpu.power_watts) == (62.0, 28.0)


def test_nothing_to_read_is_none(tmp_path: Path) -> None:
    sample = Sampler(Clock(), Sensors(machines.machine("m2", tmp_path))).sample(0)
    assert (sample.gpu_usage, sample.gpu_memory_usage, sample.power_watts) == (None, None, None)


# energy


def test_counters_are_differences(tmp_path: Path) -> None:
    sensors = Sensors(machines.machine("h200", tmp_path))
    meter = EnergyMeter(Clock(), sensors)
    assert meter.read() == 0.0
    sensors.nvml.recorded["gpus"][0]["millijoules"] += 2500
    assert meter.read() == 2.5
    assert meter.sources == ("cuda:0",)
    assert meter.missing == ("cpu: the kernel shows no RAPL counter",)


def test_power_is_integrated_while_readings_come_often_enough(tmp_path: Path) -> None:
    clock, sensors = Clock(), Sensors(machines.machine("gb10", tmp_path))
    meter = EnergyMeter(clock, sensors)
    clock.at = 10.0
    sensors.nvml.recorded["gpus"][0]["milliwatts"] = 31170
    assert meter.read() == pytest.approx(10 * (11.17 + 31.17) / 2)
    clock.at += MAX_GAP_SECONDS + 1
    assert meter.read() is None, "what was used in the gap is unknown"


def test_the_kernels_counter_of_an_arc(tmp_path: Path) -> None:
    there = machines.machine("arc-a770", tmp_path)
    meter = EnergyMeter(Clock(), Sensors(there))
    (tmp_path / "sys/class/drm/card0/device/hwmon/hwmon3/energy1_input").write_text("5003500000\n")
    assert meter.read() == 3.5


def test_rapl_wraps(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder.parent / "intel-rapl:0:0").mkdir()  # a part of the package, not counted twice
    (folder.parent / "intel-rapl:0:0" / "energy_uj").write_text("5\n")
    for name, text in (("name", "package-0"), ("energy_uj", "9000000"), ("max_energy_range_uj", "10000000")):
        (folder / name).write_text(text)
    meter = EnergyMeter(Clock(), Sensors(replace(machines.machine("m2", tmp_path), root=tmp_path)))
    (folder / "energy_uj").write_text("500000")
    assert meter.read() == pytest.approx(1.5)
    assert meter.sources == ("cpu package-0",)
    (folder / "energy_uj").unlink()
    meter.read()
    assert "root only" in meter.missing[0]


def test_what_a_laptop_counts_for_the_whole_board_has_its_package_in_it(tmp_path: Path) -> None:
    for number, name in ((0, "package-0"), (1, "psys")):
        folder = tmp_path / f"sys/class/powercap/intel-rapl:{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("9000000\n")
    meter = EnergyMeter(Clock(), Sensors(Machine(tmp_path, "Linux", nvml=machines.machine("m2", tmp_path).nvml)))
    assert meter.sources == ("cpu package-0",)


def test_nothing_readable_is_none(tmp_path: Path) -> None:
    meter = EnergyMeter(Clock(), Sensors(Machine(tmp_path, "Linux", nvml=machines.machine("m2", tmp_path).nvml)))
    assert meter.read() is None
    assert meter.missing == ("cpu: the kernel shows no RAPL counter",)


def test_runs_share_what_was_used_while_they_were_there(tmp_path: Path) -> None:
    sensors = Sensors(machines.machine("h200", tmp_path))
    shares = Shares(Clock(), sensors)

    def use(joules: float) -> None:
        sensors.nvml.recorded["gpus"][0]["millijoules"] += 1000 * joules

    use(1000)  # nobody's
    shares.begin("a")
    use(10)
    shares.begin("b")
    use(6)
    assert shares.end("a") == 10 + 3
    use(4)
    shares.look()
    assert shares.end("b") == 3 + 4
    use(1000)
    shares.begin("c")
    assert (shares.end("c"), shares.end("c")) == (0.0, None)


def test_a_run_during_which_nobody_looked_has_no_figure(tmp_path: Path) -> None:
    clock, sensors = Clock(), Sensors(machines.machine("gb10", tmp_path))
    shares = Shares(clock, sensors)
    shares.begin("a")
    clock.at = MAX_GAP_SECONDS + 1
    shares.begin("b")
    clock.at += 2
    assert (shares.end("a"), shares.end("b")) == (None, pytest.approx(11.17)), "half of two seconds"


def test_a_counter_that_was_reset_counts_from_nothing() -> None:
    counter = Counter()
    for value in (100.0, 130.0, 5.0, 6.0):
        counter.add(value)
    assert counter.joules == 36.0


def test_an_integral_stays_broken() -> None:
    integral = Integral()
    for at in (0.0, 10.0, 100.0, 101.0):
        integral.add(at, 2.0)
    assert integral.broken


# changes

BASE = Hardware("CPU", 8, 64, 32, (DeviceInfo(Device.CPU, "CPU", 64, 32, 8), DeviceInfo(Device.CUDA, "GPU", 24, 20)))


def with_gpu(**changes: Any) -> Hardware:
    return replace(BASE, devices=(BASE.devices[0], replace(BASE.devices[1], **changes)))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(BASE, ram_available_bytes=1, devices=(replace(BASE.devices[0], memory_available_bytes=1),)), ["gone"]),
        (with_gpu(memory_available_bytes=1), []),
        (with_gpu(driver_version="571"), ["device 1 driver version:  -> 571"]),
        (with_gpu(memory_total_bytes=None), ["device 1 memory total bytes: 24 -> None"]),
        (replace(BASE, devices=(*BASE.devices, DeviceInfo(Device.CUDA, "New"))), ["device 2 New is new"]),
        (replace(BASE, cpu_cores=4), ["cores: 8 -> 4"]),
        (replace(BASE, unknown=("cuda:0 power: why",)), ["unknown now: cuda:0 power: why"]),
    ],
)
def test_what_counts_as_a_change(now: Hardware, told: list[str]) -> None:
    changes = now.changes(BASE)
    assert len(changes) == len(told)
    assert all(word in change for word, change in zip(told, changes, strict=True))
    assert bool(BASE.changes(now)) == bool(told)


def test_a_recorded_machine_is_json() -> None:
    found = list(machines.FIXTURES.rglob("machine.json"))
    assert found
    for described in found:
        assert json.loads(described.read_text())["system"] in ("Linux", "Darwin")
