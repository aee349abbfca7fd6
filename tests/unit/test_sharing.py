"""Calls that are shared: who asks in one turn is answered by one call, and nobody fails for another."""

from __future__ import annotations

import asyncio

import pytest

from cyxwiz.runtime.clock import SystemClock
from cyxwiz.runtime.sharing import Shared, apart


async def test_who_asks_in_one_turn_shares_a_call() -> None:
    calls: list[list[int]] = []

    async def double(asked: list[int]) -> list[int]:
        calls.append(asked)
        return [2 * each for each in asked]

    shared = Shared(double, SystemClock())
    assert await asyncio.gather(*map(shared, range(5))) == [0, 2, 4, 6, 8]
    assert await shared(7) == 14
    assert calls == [[0, 1, 2, 3, 4], [7]]


async def test_who_fails_alone_fails_nobody_else() -> None:
    calls: list[list[int]] = []

    async def over(asked: list[int]) -> list[float]:
        calls.append(asked)
        return [12 / each for each in asked]

    shared = Shared(apart(over), SystemClock())
    found = await asyncio.gather(*map(shared, (3, 0, 4)), return_exceptions=True)
    assert (found[0], found[2]) == (4, 3)
    assert isinstance(found[1], ZeroDivisionError)
    assert calls == [[3, 0, 4], [3], [0], [4]]
    with pytest.raises(ZeroDivisionError):
        await shared(0)
    assert calls[4:] == [[0]], "one alone is not asked twice"


async def test_who_is_cancelled_takes_nobody_along() -> None:
    go = asyncio.Event()

    async def same(asked: list[int]) -> list[int]:
        await go.wait()
        return asked

    shared = Shared(same, SystemClock())
    asking = [asyncio.ensure_future(shared(each)) for each in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*asking[1:]) == [1, 2]
    assert asking[0].cancelled()


async def test_nobody_waits_for_a_call_that_was_ended() -> None:
    async def never(asked: list[int]) -> list[int]:
        await asyncio.Event().wait()
        return asked

    shared = Shared(never, SystemClock())
    asking = asyncio.ensure_future(shared(1))
    await asyncio.sleep(0.01)
    await shared.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
