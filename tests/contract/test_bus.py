"""Every bus keeps the contract of `ports.bus`."""

from __future__ import annotations

import asyncio

from cyxwiz.bus.local import MOST_PENDING, LocalBus


async def test_hints_collapse_into_one_answer() -> None:
    bus = LocalBus()
    woken = bus.subscribe("jobs", "nodes")
    bus.publish(["jobs", "other"])
    bus.publish(["nodes", "jobs"])
    assert await woken.changed() == {"jobs", "nodes"}
    assert await woken.changed(0) == frozenset()
    assert await woken.changed(0.01) == frozenset()


async def test_a_waiter_is_woken() -> None:
    bus = LocalBus()
    woken = bus.subscribe("jobs")
    waiting = asyncio.ensure_future(woken.changed(10))
    await asyncio.sleep(0)
    bus.publish(["jobs"])
    assert await waiting == {"jobs"}


async def test_the_star_gets_every_topic_and_is_bounded() -> None:
    bus = LocalBus()
    every, one = bus.subscribe("*"), bus.subscribe("job:1")
    bus.publish(["job:1", "job:2"])
    assert await every.changed() == {"job:1", "job:2"}
    assert await one.changed() == {"job:1"}
    bus.publish(f"job:{i}" for i in range(10 * MOST_PENDING))
    found = await every.changed()
    assert "*" in found
    assert len(found) <= MOST_PENDING


async def test_a_closed_subscription_answers_at_once_and_for_good() -> None:
    bus = LocalBus()
    woken = bus.subscribe("jobs")
    waiting = asyncio.ensure_future(woken.changed())
    await asyncio.sleep(0)
    woken.close()
    woken.close()
    assert await waiting == frozenset()
    bus.publish(["jobs"])
    assert await woken.changed() == frozenset()


async def test_closing_the_bus_closes_what_hangs_on_it() -> None:
    bus = LocalBus()
    before = bus.subscribe("jobs", "nodes")
    await bus.aclose()
    await bus.aclose()
    assert await before.changed() == frozenset()
    assert await bus.subscribe("jobs").changed() == frozenset()
    bus.publish(["jobs"])


async def test_a_cancelled_wait_loses_no_hint() -> None:
    bus = LocalBus()
    woken = bus.subscribe("jobs")
    waiting = asyncio.ensure_future(woken.changed())
    await asyncio.sleep(0)
    bus.publish(["jobs"])
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await woken.changed(1) == {"jobs"}
