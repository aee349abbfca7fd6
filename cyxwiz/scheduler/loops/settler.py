"""Has the ledger do what jobs call for."""

from __future__ import annotations

import asyncio
import logging

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.bus import Bus
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.services import payments as money
from cyxwiz.services.payments import Payments

log = logging.getLogger(__name__)
BATCH = 100
AT_ONCE = 16  # payments in hand; a chain takes seconds for each


class Settler(Service):
    """Drives every payment that is due. One that fails is put off, longer each time, and holds up no other."""

    def __init__(self, payments: Payments, bus: Bus, *, poll_seconds: float) -> None:
        super().__init__()
        self._payments = payments
        self._bus = bus
        self._poll = poll_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        subscription = self._bus.subscribe(money.TOPIC, "jobs")
        self.ready()
        try:
            while not self.stopping.is_set():
                wait = self._poll
                try:
                    wait = await self.settle()
                except CyxError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.EXHAUSTED):
                        raise
                    log.warning("settlement is held up: %s", error.message)
                await subscription.changed(wait)
        finally:
            subscription.close()

    async def stop(self, grace: float = 5.0) -> None:
        self.stopping.set()
        self._bus.publish([money.TOPIC])
        await super().stop(grace)

    async def settle(self) -> float:
        """One pass over what is due; returns how many seconds to sleep if nothing happens."""
        while True:
            due, wait = await self._payments.due(BATCH)
            moved = await asyncio.gather(*(self._drive(payment_id) for payment_id in due))
            if not any(moved) or self.stopping.is_set():
                return min(self._poll, max(wait, 0.01))

    async def _drive(self, payment_id: str) -> bool:
        async with self._slots:
            try:
                return await self._payments.drive(payment_id)
            except CyxError as error:
                log.warning("payment %s is put off: %s", payment_id, error.message)
                return False
