"""A driver that does not come back holds nobody up for ever."""

from __future__ import annotations

import threading
import time

import pynvml
import pytest

from cyxwiz.compute.hardware.nvml import ask
from cyxwiz.compute.hardware.patience import Patient


class Hanging:
    """pynvml whose driver answers while it is let to."""

    NVMLError, NVML_ERROR_TIMEOUT = pynvml.NVMLError, pynvml.NVML_ERROR_TIMEOUT

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0

    def nvmlDeviceGetCount(self) -> int:
        self.asked += 1
        assert self.gate.wait(30)
        return 2

    def nvmlDeviceGetName(self, handle: int) -> str:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_a_call_that_does_not_come_back_is_given_up_and_others_fail_at_once() -> None:
    driver = Hanging()
    nvml = Patient(driver, 0.05)
    why: dict[str, str] = {}
    assert ask(nvml, why, "count", "nvmlDeviceGetCount") is None
    assert why == {"count": str(pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT))}
    patient = Patient(driver, 3600)  # would wait an hour for each
    patient._late = nvml._late
    for _ in range(100):
        assert ask(patient, why, "count", "nvmlDeviceGetCount") is None
    assert driver.asked == 1
    driver.gate.set()
    assert nvml._late is not None
    nvml._late.result(10)
    assert ask(nvml, {}, "count", "nvmlDeviceGetCount") == 2


def test_answers_and_errors_pass() -> None:
    driver = Hanging()
    driver.gate.set()
    nvml = Patient(driver, 10)
    assert nvml.nvmlDeviceGetCount() == 2
    with pytest.raises(pynvml.NVMLError_NotSupported):
        nvml.nvmlDeviceGetName(0)
    assert nvml.NVMLError is pynvml.NVMLError
    with pytest.raises(AttributeError):
        _ = nvml.nvmlNoSuchCall


def test_those_that_stood_behind_it_are_not_made_later() -> None:
    driver = Hanging()
    nvml = Patient(driver, 0.2)
    done: list[object] = []
    askers = [threading.Thread(target=lambda: done.append(ask(nvml, {}, "count", "nvmlDeviceGetCount"))) for _ in "ab"]
    for each in askers:
        each.start()
    for each in askers:
        each.join(10)
    assert done == [None, None]
    driver.gate.set()
    end = time.monotonic() + 10
    while (late := nvml._late) is not None and not late.done() and time.monotonic() < end:
        time.sleep(0.01)
    assert ask(nvml, {}, "count", "nvmlDeviceGetCount") == 2
    assert driver.asked == 2
