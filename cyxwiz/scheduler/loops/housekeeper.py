"""Forgets what is kept only for a while."""

from __future__ import annotations

import logging
from datetime import timedelta

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.lifecycle import Service

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600.0
KEEP_LOAD = timedelta(days=7)
KEEP_IDEMPOTENCY = timedelta(days=7)


class Housekeeper(Service):
    def __init__(self, store: Store, *, keep_events: timedelta) -> None:
        super().__init__()
        self._store = store
        self._keep_events = keep_events

    async def run(self) -> None:
        self.ready()
        while not self.stopping.is_set():
            await self.idle(PERIOD_SECONDS)
            if self.stopping.is_set():
                return
            try:
                events, samples, keys = await self._store.write(self._sweep)
                log.info("swept %d events, %d load samples, %d idempotency keys", events, samples, keys)
            except CyxError as error:
                if error.code not in (Code.UNAVAILABLE, Code.EXHAUSTED):
                    raise
                log.warning("sweeping is held up: %s", error.message)

    def _sweep(self, tx: Tx) -> tuple[int, int, int]:
        return (
            tx.prune_events(tx.now - self._keep_events),
            tx.prune_load(tx.now - KEEP_LOAD),
            tx.prune_idempotency(tx.now - KEEP_IDEMPOTENCY),
        )
