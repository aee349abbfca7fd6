"""How long a server may be away before a caller gives up, and the waits in between, which grow."""

from __future__ import annotations

import asyncio
import random
import time

FIRST_SECONDS = 0.1
MOST_SECONDS = 2.0


class Patience:
    """Counts from the first failure; `reset` after a success."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._next = FIRST_SECONDS

    def reset(self) -> None:
        self._until = None
        self._next = FIRST_SECONDS

    async def again(self) -> bool:
        """Waits a little; False at once when the patience has run out."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return False
        # Spread, so that all who lost the same server do not come back at one instant.
        wait = min(self._next * random.uniform(0.5, 1.0), self._until - now)  # noqa: S311
        self._next = min(self._next * 2, MOST_SECONDS)
        # The SDK has no injected clock: its waits are real ones.
        await asyncio.sleep(wait)  # noqa: TID251
        return True
