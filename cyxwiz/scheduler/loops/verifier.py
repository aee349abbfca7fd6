"""Looks at results that wait to be verified: begins failed checks anew, and gives up those that nobody can do."""

from __future__ import annotations

from cyxwiz.ports.store import Store
from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services.reports import Reporting

LONGEST_PERIOD = 1.0


class Verifier(Periodic):
    """What checks find is acted on when they report; here is what nobody reports."""

    def __init__(self, store: Store, reporting: Reporting) -> None:
        wait = reporting.verifying.rules.wait.total_seconds()
        super().__init__(min(LONGEST_PERIOD, max(0.05, wait / 4)))
        self._store = store
        self._reporting = reporting

    async def once(self) -> None:
        for item in await self._store.read(lambda tx: tx.open_verifications()):
            await self._store.write(
                lambda tx: self._reporting.verifying.attend(tx, self._reporting, item.job_id)  # noqa: B023
            )
