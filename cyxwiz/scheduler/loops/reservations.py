"""Ends reservations whose time is over or whose node is lost, and sees to it that what they owe is settled."""

from __future__ import annotations

import logging

from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services.reservations import Reservations

log = logging.getLogger(__name__)
PERIOD_SECONDS = 5.0


class ReservationKeeper(Periodic):
    def __init__(self, reservations: Reservations) -> None:
        super().__init__(PERIOD_SECONDS)
        self._reservations = reservations

    async def once(self) -> None:
        changed = await self._reservations.attend()
        settled = await self._reservations.settle_owed()
        if changed or settled:
            log.info("reservations: %d changed, %d settled", changed, settled)
