"""Compares what the database says of money with what the ledger holds."""

from __future__ import annotations

from cyxwiz.ports.bus import Bus
from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services import payments as money
from cyxwiz.services.reconcile import Reconciliation


class Reconciler(Periodic):
    def __init__(self, reconciliation: Reconciliation, bus: Bus, *, period: float) -> None:
        super().__init__(period)
        self._reconciliation = reconciliation
        self._bus = bus

    async def once(self) -> None:
        found = await self._reconciliation.look()
        if found.healed:
            self._bus.publish([money.TOPIC])
