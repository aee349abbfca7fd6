"""Does what is due with nodes' stakes: slashes that were decided, their ends, and what was cut off."""

from __future__ import annotations

from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services.stakes import Staking

PERIOD_SECONDS = 1.0


class StakeKeeper(Periodic):
    def __init__(self, staking: Staking) -> None:
        super().__init__(PERIOD_SECONDS)
        self._staking = staking
        self._fresh = False

    async def once(self) -> None:
        if not self._fresh:
            await self._staking.refresh()
            self._fresh = True
        await self._staking.tend()
