"""Has the ledger do what jobs call for."""

from __future__ import annotations

import asyncio
import logging

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.bus import Bus
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services import payments as money
from cyxwiz.services.payments import Payments
from cyxwiz.services.settlement import Due

log = logging.getLogger(__name__)
BATCH = 200
PASS_SECONDS = 0.02  # that a pass stays behind what calls for it: who waits for a job to start comes first
BUSY_SECONDS = 1.0  # to wait at least while all that is due is in hand
AT_ONCE = 64  # payments in hand: a chain takes seconds for each, and what comes together shares a commit


class Settler(Service):
    """Drives every payment that is due. One that fails is put off, longer each time, and holds up no other."""

    def __init__(self, payments: Payments, bus: Bus, *, poll_seconds: float) -> None:
        super().__init__()
        self._payments = payments
        self._bus = bus
        self._poll = poll_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._busy: set[str] = set()
        self._missed: set[str] = set()  # of those: due again meanwhile
        self._drives = Tasks()

    async def run(self) -> None:
        subscription = self._bus.subscribe(money.TOPIC, "jobs")
        self._payments.taker = self._begin
        self.ready()
        taken_up = False
        try:
            while not self.stopping.is_set():
                wait = self._poll
                try:
                    if not taken_up:
                        await self._payments.take_up()
                        taken_up = True
                    wait = await self.settle()
                except CyxError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.EXHAUSTED):
                        raise
                    log.warning("settlement is held up: %s", error.message)
                await subscription.changed(wait)
                await self.idle(PASS_SECONDS)
        finally:
            self._payments.taker = None
            subscription.close()
            await self._drives.aclose()

    async def stop(self, grace: float = 5.0) -> None:
        self.stopping.set()
        self._bus.publish([money.TOPIC])
        await super().stop(grace)

    async def settle(self) -> float:
        """One pass over what is due; returns how many seconds to sleep if nothing happens."""
        due, wait = await self._payments.due(BATCH)
        fresh = [payment_id for payment_id in due if self._begin(payment_id)]
        # One that is in hand for long may be due again meanwhile: nothing is to be done about it.
        return min(self._poll, max(wait, 0.01 if fresh or not due else BUSY_SECONDS))

    def _begin(self, payment_id: str, due: Due | None = None) -> bool:
        """Takes a payment in hand; False for one that is. `due`: what is known to be its next step."""
        if payment_id in self._busy:
            self._missed.add(payment_id)
            return False
        self._busy.add(payment_id)
        spawn(self._drive(payment_id, due), name=f"settle {payment_id}", group=self._drives)
        return True

    async def _drive(self, payment_id: str, due: Due | None) -> None:
        """All steps of one payment that are due: a chain takes seconds for each, and holds up no other payment."""
        try:
            async with self._slots:
                await self._payments.drive_on(payment_id, lambda: not self.stopping.is_set(), due)
        except CyxError as error:
            log.warning("payment %s is put off: %s", payment_id, error.message)
        finally:
            self._busy.discard(payment_id)
            if payment_id in self._missed:
                self._missed.discard(payment_id)
                self._bus.publish([money.TOPIC])
