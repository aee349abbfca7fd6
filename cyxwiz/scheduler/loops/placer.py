"""Gives pending jobs to nodes as soon as either is there; the poll is only the safety net."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.job import Job
from cyxwiz.domain.states import JobState, LeaseState
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.scheduler.policy import Placement, Plan, Snapshot, plan
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services import leases
from cyxwiz.services.jobs import Jobs

log = logging.getLogger(__name__)
BATCH = 200


class Placer(Service):
    def __init__(self, store: Store, bus: Bus, jobs: Jobs, weights: Weights, *, poll_seconds: float) -> None:
        super().__init__()
        self._store = store
        self._bus = bus
        self._jobs = jobs
        self._weights = weights
        self._poll = poll_seconds

    async def run(self) -> None:
        subscription = self._bus.subscribe(leases.QUEUE)
        try:
            self.ready()
            while not self.stopping.is_set():
                try:
                    wait = await self.place()
                except CyxError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.EXHAUSTED):
                        raise
                    log.warning("placing is held up: %s", error.message)
                    wait = self._poll
                await subscription.changed(wait)
        finally:
            subscription.close()

    async def stop(self, grace: float = 5.0) -> None:
        self.stopping.set()
        self._bus.publish([leases.QUEUE])
        await super().stop(grace)

    async def place(self) -> float:
        """One pass over everything that waits; returns how many seconds to sleep if nothing happens."""
        while True:
            snapshot, due_in = await self._store.read(self._snapshot)
            if not snapshot.jobs:
                return due_in
            decided = plan(snapshot)
            placed = await self._store.write(lambda tx: self._apply(tx, snapshot, decided))  # noqa: B023
            if placed == 0 or len(snapshot.jobs) < BATCH:
                return due_in

    def _snapshot(self, tx: Tx) -> tuple[Snapshot, float]:
        jobs = tx.due_jobs(BATCH)
        due_at = tx.next_due_at()
        wait = self._poll if due_at is None else min(self._poll, max(0.01, (due_at - tx.now).total_seconds()))
        if not jobs:
            return Snapshot((), ()), wait
        avoid = {job.id: _shunned(tx, job) for job in jobs if job.attempts}
        return Snapshot(jobs, self._jobs.candidates(tx), self._weights, avoid), wait

    def _apply(self, tx: Tx, snapshot: Snapshot, decided: Plan) -> int:
        """Carries the plan out as far as the world still is as the snapshot saw it."""
        placed = 0
        seen = {job.id: job for job in snapshot.jobs}
        for placement in decided.placements:
            placed += self._issue(tx, seen[placement.job_id], placement)
        _explain_waiting(tx, snapshot.jobs, decided)
        return placed

    def _issue(self, tx: Tx, seen: Job, placement: Placement) -> bool:
        job = tx.job(placement.job_id)
        node = tx.node(placement.node_id)
        if job is None or job.version != seen.version or job.state is not JobState.PENDING:
            return False
        if node is None or node.status not in ("online", "busy") or node.load >= node.max_concurrent_jobs:
            tx.hint(leases.QUEUE)
            return False
        lease = leases.issue(tx, job, node.id)
        if node.legacy:
            payload = {"job_id": job.id, "epoch": lease.token.epoch, "counter": lease.token.counter, "node_id": node.id}
            tx.add_outbox("assign_legacy", f"assign:{lease.token}", payload, tx.now)
            tx.hint("outbox:assign_legacy")
        return True


def _shunned(tx: Tx, job: Job) -> frozenset[NodeId]:
    """Nodes that had the job and did not bring it to an end."""
    return frozenset(lease.node_id for lease in tx.leases_of(job.id) if lease.state is not LeaseState.ACTIVE)


def _explain_waiting(tx: Tx, jobs: Sequence[Job], decided: Plan) -> None:
    """Writes down why a job waits, when the reason is a new one."""
    for seen in jobs:
        reason = decided.waiting.get(JobId(seen.id))
        if reason is None or reason == seen.reason:
            continue
        job = tx.job(seen.id)
        if job is not None and job.version == seen.version:
            tx.save_job(replace(job, reason=reason))
            tx.hint(f"job:{job.id}", "progress")
