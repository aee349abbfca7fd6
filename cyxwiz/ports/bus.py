"""Hints between the parts of central: something about a topic changed, go and read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Subscription(Protocol):
    """A bounded wake-up: any number of hints since the last `changed` collapse into one answer.

    `changed(timeout)` returns the topics hinted at since it last returned, waiting for the first; empty after `timeout`
    seconds. `close` is idempotent; `changed` then returns at once. Hints at very many topics may collapse into `*`:
    anything may have changed.
    """

    async def changed(self, timeout: float | None = None) -> frozenset[str]: ...

    def close(self) -> None: ...


class Bus(Protocol):
    """Fan-out of hints. Publishing never blocks and never fails; a hint may be lost, so readers also poll.

    A subscription made before a publish gets its hint. Topics match exactly; `*` gets every topic.
    """

    def publish(self, topics: Iterable[str]) -> None: ...

    def subscribe(self, *topics: str) -> Subscription: ...

    async def aclose(self) -> None: ...
