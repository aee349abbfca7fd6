"""Forgets what is kept only for a while, and removes the bytes that nobody needs any more."""

from __future__ import annotations

import logging
from datetime import timedelta

from cyxwiz.domain.link import VALID
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.store import OutboxEntry, Store, Tx
from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services.reports import DROP_BLOB

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600.0
BATCH = 500
KEEP_LOAD = timedelta(days=7)
KEEP_IDEMPOTENCY = timedelta(days=7)


class Housekeeper(Periodic):
    def __init__(self, store: Store, *, keep_events: timedelta, keep_reputation: timedelta) -> None:
        super().__init__(PERIOD_SECONDS)
        self._store = store
        self._keep_events = keep_events
        self._keep_reputation = keep_reputation

    async def once(self) -> None:
        swept = await self._store.write(self._sweep)
        log.info("swept %d events, %d load samples, %d idempotency keys, %d entries of reputation, %d links", *swept)

    def _sweep(self, tx: Tx) -> tuple[int, ...]:
        return (
            tx.prune_events(tx.now - self._keep_events),
            tx.prune_load(tx.now - KEEP_LOAD),
            tx.prune_idempotency(tx.now - KEEP_IDEMPOTENCY),
            tx.prune_reputation(tx.now - self._keep_reputation),
            tx.prune_node_links(tx.now - VALID),
        )


class BlobCollector(Periodic):
    """Removes blobs that are owed a removal, unless somebody came to own or need one meanwhile, and what is left of
    uploads that nobody goes on with."""

    def __init__(self, store: Store, blobs: BlobStore) -> None:
        super().__init__(PERIOD_SECONDS)
        self._store = store
        self._blobs = blobs

    async def once(self) -> None:
        log.info("removed %d blobs", await self.collect())

    async def collect(self) -> int:
        """One pass; returns how many were removed."""
        await self._blobs.sweep()
        removed = 0
        while entries := await self._store.read(lambda tx: tx.due_outbox(DROP_BLOB, BATCH)):
            for entry in entries:
                removed += await self._remove(entry)
        return removed

    async def _remove(self, entry: OutboxEntry) -> bool:
        sha256 = str(entry.payload["sha256"])
        # The row goes first: who uploads the same content from now on writes it anew.
        if await self._store.write(lambda tx: tx.drop_blob(sha256)):
            await self._blobs.delete(sha256)
            dropped = True
        else:
            dropped = False
        await self._store.write(lambda tx: tx.finish_outbox(entry.id))
        return dropped
