"""Time, injected. Nothing outside `runtime/clock.py` asks the system for it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for intervals.

    `now()` is aware UTC. `monotonic()` is in seconds and never goes back. `sleep(seconds)` returns no earlier than that
    much monotonic time later; zero or less yields once.
    """

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...
