"""Budgets: what a user's jobs may cost in a month, reserved and spent together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Job
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.services.jobfile import parse_jobfile
from tests.contract.conftest import HandClock
from tests.integration.test_rest import run_to_end
from tests.wiring import JOB, Central, central

MONTH = 31 * 86400
# A job of 1 GiB on the processor is expected to cost 10,100 units a second.
RATE = 10_100


class World:
    def __init__(self, house: Central, clock: HandClock, admin: Principal, bob: Principal, alice: Principal) -> None:
        self.house, self.clock, self.admin, self.bob = house, clock, admin, bob
        self.budgets = house.api.budgets
        self.alice = alice

    async def submit(self, seconds: float, max_price: str = "") -> Job:
        spec = parse_jobfile({**JOB, "payment": {"max_price": max_price} if max_price else {}})
        return (await self.house.jobs.submit(self.bob, replace(spec, expected_seconds=seconds)))[0]

    async def figures(self) -> tuple[int, int, int | None]:
        """(reserved, spent, left)"""
        found = await self.budgets.get(self.bob, "bob")
        return found.reserved_units, found.spent_units, found.left_units


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = HandClock()
    house = await central(tmp_path, clock=clock)
    admin, bob = await house.accounts.authenticate(house.admin), await house.accounts.authenticate(house.bob)
    yield World(house, clock, admin, bob, await house.accounts.authenticate(house.alice))
    await house.aclose()


async def refusal(act: Any, code: Code) -> CyxError:
    with pytest.raises(CyxError) as caught:
        await act
    assert caught.value.code is code, caught.value
    return caught.value


async def test_without_a_budget_nothing_is_refused(world: World) -> None:
    await world.submit(1e9)
    assert await world.figures() == (RATE * 10**9, 0, None)


async def test_a_submit_past_the_budget_is_refused_with_what_is_left(world: World) -> None:
    await world.budgets.set(world.admin, "bob", "0.00101")  # 100 seconds
    first = await world.submit(60)
    error = await refusal(world.submit(41), Code.FUNDS)
    assert error.details == {
        "needed": "0.0004141",
        "left": "0.000404",
        "budget": "0.00101",
        "reserved": "0.000606",
        "spent": "0",
    }
    assert "0.000404 of your budget of 0.00101" in error.message
    await world.submit(40)
    assert await world.figures() == (100 * RATE, 0, 0)
    await refusal(world.submit(1), Code.FUNDS)
    await world.house.jobs.cancel(world.bob, first.id)
    assert await world.figures() == (40 * RATE, 0, 60 * RATE)
    await world.submit(10**6, max_price="0.000606")
    assert await world.figures() == (100 * RATE, 0, 0), "no more than its limit is reserved"


async def test_what_jobs_cost_counts_until_the_month_is_over_and_deleting_them_gives_nothing_back(
    world: World,
) -> None:
    await world.budgets.set(world.admin, "bob", "0.00101")
    job = await world.submit(60)
    lease = await world.house.lease(job.id, await world.house.node())
    world.clock.advance(2.5)
    await world.house.report(lease, await world.house.finished(b"weights"))
    assert await world.figures() == (0, 25_250, 100 * RATE - 25_250)
    await world.house.jobs.delete(world.bob, job.id)
    assert await world.figures() == (0, 25_250, 100 * RATE - 25_250)
    await refusal(world.submit(98), Code.FUNDS)
    waiting = await world.submit(97)
    world.clock.advance(MONTH)
    assert await world.figures() == (97 * RATE, 0, 3 * RATE), "what was spent is over, what is reserved is not"
    await world.house.jobs.cancel(world.bob, waiting.id)
    await world.submit(100)


async def test_who_may_set_and_see_a_budget(world: World) -> None:
    alice = await world.house.accounts.authenticate(world.house.alice)
    await refusal(world.budgets.set(world.bob, "bob", "1"), Code.FORBIDDEN)
    await refusal(world.budgets.get(alice, "bob"), Code.FORBIDDEN)
    await refusal(world.budgets.set(world.admin, "nobody", "1"), Code.NOT_FOUND)
    for amount in ("-1", "much", "1e300"):
        await refusal(world.budgets.set(world.admin, "bob", amount), Code.INVALID)
    assert (await world.budgets.set(world.admin, world.bob.id, "5")).left_units == 5 * 10**9
    assert (await world.budgets.get(world.bob, world.bob.id)).amount_units == 5 * 10**9
    assert (await world.budgets.set(world.admin, "bob", "none")).amount_units is None


async def test_reservations_count_like_jobs(world: World) -> None:
    keep = world.house.reservations
    node_id = await world.house.node()
    hourly = (await keep.reserve(world.alice, node_id, "", 60)).look.reservation
    await keep.release(world.alice, hourly.id)
    price = hourly.escrow_units // 60  # a minute
    await world.budgets.set(world.admin, "bob", format_cyxwiz(40 * price))
    error = await refusal(keep.reserve(world.bob, node_id, "", 60), Code.FUNDS)
    assert error.message.startswith("60 minutes cost")
    made = (await keep.reserve(world.bob, node_id, "", 30)).look.reservation
    assert await world.figures() == (30 * price, 0, 10 * price)
    await refusal(keep.extend(world.bob, made.id, 15), Code.FUNDS)
    await keep.extend(world.bob, made.id, 10)
    assert await world.figures() == (40 * price, 0, 0)
    spec = replace(parse_jobfile(JOB), reservation_id=made.id)
    job, _ = await world.house.jobs.submit(world.bob, spec)
    assert await world.figures() == (40 * price, 0, 0), "a job costs nothing beside its reservation"
    world.clock.advance(90)
    await run_to_end(world.house, job.id)
    await keep.release(world.bob, made.id)
    assert await world.figures() == (0, 2 * price, 38 * price), "the begun minutes"
    await world.house.jobs.delete(world.bob, job.id)
    assert await world.figures() == (0, 2 * price, 38 * price)
    world.clock.advance(MONTH)
    assert await world.figures() == (0, 0, 40 * price)
