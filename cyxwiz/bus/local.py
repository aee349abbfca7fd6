"""Hints within one process and one event loop.

Publish and subscribe from the loop's thread only; a store publishes through the loop. Subscribers are woken in the
order in which they subscribed, so that a simulation takes the same steps every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

EVERY_TOPIC = "*"
MOST_PENDING = 1024


class LocalSubscription:
    """`ports.bus.Subscription`. Past MOST_PENDING topics the hints collapse into `*`: anything may have changed."""

    def __init__(self, bus: LocalBus, topics: tuple[str, ...]) -> None:
        self._bus, self._topics = bus, topics
        self._pending: set[str] = set()
        self._woken = asyncio.Event()
        self._closed = False

    async def changed(self, timeout: float | None = None) -> frozenset[str]:
        if not self._woken.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return frozenset()
        if not self._closed:
            self._woken.clear()
        found, self._pending = frozenset(self._pending), set()
        return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._woken.set()
            self._bus.forget(self, self._topics)

    def add(self, topic: str) -> None:
        if len(self._pending) >= MOST_PENDING and topic not in self._pending:
            self._pending = {EVERY_TOPIC}
        self._pending.add(topic)
        self._woken.set()


class LocalBus:
    """`ports.bus.Bus` in memory."""

    def __init__(self) -> None:
        # A dict for its order: a set would wake subscribers in another order each time.
        self._subscriptions: dict[str, dict[LocalSubscription, None]] = {}
        self._closed = False

    def publish(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.add(topic)
            for subscription in self._subscriptions.get(EVERY_TOPIC, ()):
                subscription.add(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        subscription = LocalSubscription(self, topics)
        for topic in topics:
            self._subscriptions.setdefault(topic, {})[subscription] = None
        if self._closed:
            subscription.close()
        return subscription

    def forget(self, subscription: LocalSubscription, topics: tuple[str, ...]) -> None:
        for topic in topics:
            known = self._subscriptions.get(topic)
            if known is not None:
                known.pop(subscription, None)
                if not known:
                    del self._subscriptions[topic]

    async def aclose(self) -> None:
        self._closed = True
        for subscription in [each for known in self._subscriptions.values() for each in known]:
            subscription.close()
