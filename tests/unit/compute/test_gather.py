"""Reports in lists: all of them, in order, lines together and the rest at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TypeVar

import pytest

from cyxwiz.compute.gather import AT_ONCE, gathered
from cyxwiz.ports.executor import Cancelled, FirstStep, Logged, Progressed, Report, Started
from cyxwiz.runtime.clock import VirtualLoop

T = TypeVar("T")
LINES = [Logged("info", f"line {number}") for number in range(5)]


def run_virtual(work: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


async def said(reports: Sequence[Report | float]) -> AsyncIterator[Report]:
    """Reports, with seconds of silence between them."""
    for each in reports:
        if isinstance(each, float):
            await asyncio.sleep(each)
        else:
            yield each


def lists(reports: Sequence[Report | float]) -> list[tuple[float, list[Report]]]:
    """Each list with the time when it came."""

    async def read() -> list[tuple[float, list[Report]]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        return [(round(loop.time() - began, 3), batch) async for batch in gathered(said(reports), "test")]

    return run_virtual(read())


def test_lines_wait_for_each_other() -> None:
    pause = 0.04
    assert lists([LINES[0], pause, LINES[1], pause, LINES[2], pause, LINES[3], 1.0, Cancelled()]) == [
        (0.1, LINES[:3]),
        (0.22, LINES[3:4]),
        (1.12, [Cancelled()]),
    ]


def test_points_wait_as_lines_do() -> None:
    points = [Progressed(1, 1, step, 10, step / 10, {}, 0.0, 0.0, False) for step in (1, 2)]
    assert lists([points[0], 0.02, LINES[0], 0.02, points[1], 1.0, Cancelled()]) == [
        (0.1, [points[0], LINES[0], points[1]]),
        (1.04, [Cancelled()]),
    ]


def test_nothing_else_waits() -> None:
    assert lists([Started(1), 0.01, LINES[0], 0.01, FirstStep(), 1.0, Cancelled()]) == [
        (0.0, [Started(1)]),
        (0.02, [LINES[0], FirstStep()]),
        (1.02, [Cancelled()]),
    ]


def test_who_talks_too_fast_waits() -> None:
    many = [Logged("info", str(number)) for number in range(3 * AT_ONCE + 1)]
    found = lists([*many, Cancelled()])
    assert max(len(batch) for _, batch in found) == AT_ONCE
    assert [report for _, batch in found for report in batch] == [*many, Cancelled()]


def test_a_fault_comes_after_what_was_said_before_it() -> None:
    async def broken() -> AsyncIterator[Report]:
        yield LINES[0]
        raise OSError("gone")

    async def read() -> list[Report]:
        found: list[Report] = []
        with pytest.raises(OSError, match="gone"):
            async for batch in gathered(broken(), "test"):
                found += batch
        return found

    assert run_virtual(read()) == [LINES[0]]
