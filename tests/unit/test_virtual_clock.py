"""Virtual time: hours pass in no time, in the same order every time, and a wait for nothing is told, not sat out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from cyxwiz.runtime.clock import Deadlock, SystemClock, VirtualClock, VirtualLoop

T = TypeVar("T")
START = datetime(2030, 1, 1, tzinfo=UTC)


def virtually(coro: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coro)


def test_a_hundred_days_pass_and_both_clocks_say_so() -> None:
    async def sleep() -> tuple[datetime, float]:
        clock = VirtualClock(START)
        before = clock.monotonic()
        await clock.sleep(100 * 86400)
        return clock.now(), clock.monotonic() - before

    at, passed = virtually(sleep())
    assert at == START + timedelta(days=100)
    assert passed == 100 * 86400


def test_time_stands_still_while_something_is_ready() -> None:
    async def work() -> float:
        clock = VirtualClock()
        for _ in range(1000):
            await clock.sleep(0)
        return clock.monotonic()

    assert virtually(work()) == 0.0


def test_sleepers_wake_in_the_order_of_their_instants() -> None:
    async def sleepers() -> list[tuple[str, float]]:
        clock, woken = VirtualClock(), list[tuple[str, float]]()

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((name, clock.monotonic()))

        await asyncio.gather(sleeper("c", 3600), sleeper("a", 0.001), sleeper("b", 5), sleeper("b2", 5))
        return woken

    assert virtually(sleepers()) == [("a", 0.001), ("b", 5.0), ("b2", 5.0), ("c", 3600.0)]


def test_timeouts_run_on_virtual_time() -> None:
    async def wait() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return VirtualClock().monotonic()

    assert virtually(wait()) == 30.0


@pytest.mark.parametrize("seed", range(5))
def test_the_same_program_takes_the_same_steps(seed: int) -> None:
    async def program() -> list[tuple[int, float]]:
        clock, steps, dice = VirtualClock(), list[tuple[int, float]](), random.Random(seed)
        queue: asyncio.Queue[int] = asyncio.Queue(3)

        async def put(number: int) -> None:
            for _ in range(5):
                await clock.sleep(dice.random())
                await queue.put(number)

        async def take() -> None:
            for _ in range(25):
                steps.append((await queue.get(), clock.monotonic()))
                await clock.sleep(dice.random() / 10)

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(put(number))
            group.create_task(take())
        return steps

    assert virtually(program()) == virtually(program())


def test_a_wait_for_nothing_is_a_deadlock() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="waits for ever"):
        virtually(forever())


def test_a_negative_sleep_yields_once() -> None:
    async def sleep() -> float:
        await VirtualClock().sleep(-5)
        return VirtualClock().monotonic()

    assert virtually(sleep()) == 0.0


async def test_the_systems_clock_is_aware_and_goes_on() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    before = clock.monotonic()
    await clock.sleep(-1)
    await clock.sleep(0.001)
    assert clock.monotonic() - before >= 0.001
