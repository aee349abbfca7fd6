"""Ends the leases of nodes that went silent or hold a job for too long, and keeps the books of who was heard."""

from __future__ import annotations

import logging
from datetime import timedelta

from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.reputation import widespread
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services import leases
from cyxwiz.services.nodes import Nodes

log = logging.getLogger(__name__)
LOOK_SECONDS = 60.0  # between two looks at how long leases are held


class LeaseReaper(Periodic):
    """A node is silent when this process has not heard it for the time-out and no replica wrote that it did.

    After a start nothing is reaped before the time-out has passed once: the nodes need that long to come back.

    A node ends its runs at their `max_duration` itself. One that is heard and does not is relied upon no longer than
    `leases.longest`, counted while this process sees the lease live: what a node did while it was away, or central, is
    still taken.
    """

    def __init__(self, store: Store, clock: Clock, nodes: Nodes) -> None:
        super().__init__(nodes.liveness.timeout_seconds / 6)
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._not_before = 0.0
        self._look_at = 0.0
        self._ends: dict[tuple[JobId, Token], float] = {}  # of live leases: when they are overdue

    async def run(self) -> None:
        self._not_before = self._clock.monotonic() + self._nodes.liveness.timeout_seconds
        await super().run()

    async def once(self) -> None:
        await self._nodes.liveness.flush(self._store)
        if self._clock.monotonic() >= self._not_before:
            await self.reap()

    async def reap(self) -> None:
        """One look at every node that counts as online."""
        timeout = timedelta(seconds=self._nodes.liveness.timeout_seconds)

        def silent(tx: Tx) -> tuple[list[NodeId], int]:
            unseen = [node_id for node_id in tx.unseen_nodes(tx.now - timeout) if self._nodes.liveness.silent(node_id)]
            return unseen, tx.stats().online_nodes if unseen else 0

        gone, online = await self._store.read(silent)
        outage = widespread(len(gone), online)
        for node_id in gone:
            expired = await self._store.write(lambda tx: self._nodes.expire(tx, node_id, outage=outage))  # noqa: B023
            self._nodes.liveness.gone(node_id)
            log.warning("node %s went silent; %d leases expired", node_id, expired)
        if self._clock.monotonic() >= self._look_at:
            self._look_at = self._clock.monotonic() + LOOK_SECONDS
            await self._drop_overdue()

    async def _drop_overdue(self) -> None:
        now = self._clock.monotonic()

        def look(tx: Tx) -> dict[tuple[JobId, Token], float]:
            ends: dict[tuple[JobId, Token], float] = {}
            for lease in tx.live_leases():
                key = lease.job_id, lease.token
                if key in self._ends:
                    ends[key] = self._ends[key]
                elif (job := tx.job(lease.job_id)) is not None:
                    ends[key] = now + leases.longest(job).total_seconds()
            return ends

        self._ends = await self._store.read(look)
        for job_id, token in [key for key, end in self._ends.items() if end <= now]:
            if await self._store.write(lambda tx: self._nodes.drop_overdue(tx, job_id, token)):  # noqa: B023
                log.warning("job %s was taken from its node, which held it for too long", job_id)
