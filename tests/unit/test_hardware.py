"""What nodes say of themselves: bounded, and always numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import DeviceInfo, GpuLoad
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.hardware import check_hardware, hardware_of, sample_of
from cyxwiz.services.nodes import Registration, check_registration
from cyxwiz.services.watch import Cursor
from cyxwiz.transports.grpc.mapping import info_to
from tests.contract import make
from tests.fakes import hardware

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_an_ordinary_machine_is_taken() -> None:
    check_hardware(hardware(gpus=(2**37,)))
    check_registration(Registration("rig", hardware(), region="eu", version="1.2.3", services=("a",)))


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_cores": 0},
        {"cpu_cores": 2**31 - 1},
        {"ram_total_bytes": 2**62},
        {"ram_available_bytes": -1},
        {"cpu_model": "x" * 257},
        {"devices": (DeviceInfo(Device.CUDA, "x"),) * 257},
        {"devices": (DeviceInfo(Device.CUDA, "x" * 257),)},
        {"devices": (DeviceInfo(Device.CUDA, "x", driver_version="x" * 257),)},
        {"devices": (DeviceInfo(Device.CUDA, "x", memory_total_bytes=2**62),)},
        {"devices": (DeviceInfo(Device.CUDA, "x", compute_capability=math.inf),)},
        {"devices": (DeviceInfo(Device.CUDA, "x", compute_capability=math.nan),)},
    ],
)
def test_what_no_machine_has_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CyxError) as caught:
        check_hardware(replace(hardware(), **changes))
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize(
    "changes",
    [
        *({field: "x" * 257} for field in ("region", "host", "wallet_address", "version", "boot_id")),
        *({field: "x\0"} for field in ("region", "host", "version")),
        {"name": "x\0"},
        *({field: ("x",) * 65} for field in ("services", "supported_formats", "runtimes")),
        {"services": ("x" * 257,)},
        {"max_concurrent_jobs": 1025},
        {"public_key": b"x" * 4097},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_registration_is_bounded(changes: dict[str, Any]) -> None:
    with pytest.raises(CyxError) as caught:
        check_registration(replace(Registration("rig", hardware()), **changes))
    assert caught.value.code is Code.INVALID
    assert next(iter(changes)) in caught.value.message


def test_a_load_that_is_no_number_is_unknown() -> None:
    sample = sample_of(pb.Beat(cpu_usage=math.inf, memory_usage=0.5, power_watts=math.nan), NOW)
    assert (sample.cpu_usage, sample.memory_usage, sample.power_watts) == (None, 0.5, None)
    gpus = [pb.GpuBeat(name="x" * 1000, usage=math.nan, temperature_c=50), *[pb.GpuBeat()] * 1000]
    sample = sample_of(pb.Beat(gpus=gpus), NOW)
    assert sample.gpus[:2] == (GpuLoad("x" * 64, temperature_c=50.0), GpuLoad())
    assert len(sample.gpus) == 32


def test_what_could_not_be_read_is_cut_short() -> None:
    found = hardware_of(pb.Hardware(unknown=["x" * 1000] * 100))
    assert (len(found.unknown), len(found.unknown[0])) == (64, 500)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1.2.3+x", (1, 2, 3)), ("99999999999.0.1", (0, 0, 1)), ("\N{SUPERSCRIPT TWO}.1", (0, 1, 0)), ("", (0, 0, 0))],
)
def test_any_version_can_be_shown(text: str, numbers: tuple[int, int, int]) -> None:
    version = info_to(make.node(version=text), NOW).version
    assert (version.major, version.minor, version.patch) == numbers


def test_a_cursor_of_digits_that_are_no_numbers_is_refused() -> None:
    with pytest.raises(CyxError) as caught:
        Cursor.parse("\N{SUPERSCRIPT TWO}.0.0")
    assert caught.value.code is Code.INVALID
