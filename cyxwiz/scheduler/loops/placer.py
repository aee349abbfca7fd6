"""Gives pending jobs to nodes as soon as either is there; the poll is only the safety net."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import OUTRANKED, Job
from cyxwiz.domain.link import VALID, Links
from cyxwiz.domain.states import JobState, LeaseState
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.scheduler.feasible import Candidate
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.policy import DEFAULT_PATIENCE, Placement, Plan, Snapshot, plan
from cyxwiz.scheduler.preemption import ENDING, Eviction, Rules, Tenant, tenants, urgent
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services import leases
from cyxwiz.services.barred import barred
from cyxwiz.services.jobs import Jobs

log = logging.getLogger(__name__)
BATCH = 200
MOST_BATCHES = 25  # in one pass


class Placer(Service):
    def __init__(
        self,
        store: Store,
        bus: Bus,
        jobs: Jobs,
        weights: Weights,
        *,
        poll_seconds: float,
        patience: Patience = DEFAULT_PATIENCE,
        rules: Rules | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._bus = bus
        self._jobs = jobs
        self._weights = weights
        self._poll = poll_seconds
        self._patience = patience
        self._rules = rules
        self._reached: Job | None = None  # how far the last pass came, if it did not come to the end of the queue

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
        """One pass through the queue; returns how many seconds to sleep if nothing happens.

        Jobs that fit nowhere now are passed by: they hold up nobody behind them. A pass ends when no node has a free
        slot, or after `MOST_BATCHES`; the next one looks at the head of the queue again and then goes on from there.
        Running jobs give way only to what is in the first batch.
        """
        after = candidates = None
        for number in range(MOST_BATCHES):
            if number == 1 and self._reached is not None:
                after, self._reached = self._reached, None
            snapshot, wait = await self._store.read(lambda tx: self._look(tx, after, candidates))  # noqa: B023
            jobs = snapshot.jobs
            decided = plan(snapshot)
            if decided.placements or decided.evictions or _news(jobs, decided):
                await self._store.write(lambda tx: self._apply(tx, snapshot, decided))  # noqa: B023
            candidates = decided.left
            if len(jobs) < BATCH or not any(candidate.open for candidate in candidates):
                self._reached = None
                return wait
            after = jobs[-1]
        self._reached = after
        return 0.0

    def _look(self, tx: Tx, after: Job | None, candidates: Sequence[Candidate] | None) -> tuple[Snapshot, float]:
        """What there is to decide, and the seconds until one more job is due."""
        jobs = tx.due_jobs(BATCH, after)
        if candidates is None:
            candidates = self._jobs.candidates(tx) if jobs else ()
        avoid = {job.id: _shunned(tx, job) for job in jobs if job.attempts}
        limited = [job for job in jobs if job.attempts or job.spec.check is not None]
        never = {job.id: nodes for job in limited if (nodes := barred(tx, job))}
        waited = {job.id: _waited(tx, job) for job in jobs if job.spec.resources.nodes > 1}
        due_at = tx.next_due_at()
        waits = [self._poll] if due_at is None else [self._poll, (due_at - tx.now).total_seconds()]
        links: Links = tx.node_links(tx.now - VALID) if waited else {}
        held: Sequence[Tenant] = ()
        if self._rules is not None and after is None:
            waiting = urgent(jobs, candidates)
            waited |= {job.id: _waited(tx, job) for job in waiting}
            still = {job.id: self._rules.after_seconds - waited[job.id] for job in waiting}
            waits += (seconds for seconds in still.values() if seconds > 0)
            held = _tenants(tx, [job for job in waiting if still[job.id] <= 0], candidates)
        seen = Snapshot(jobs, candidates, self._weights, avoid, never, waited, self._patience, links, held, self._rules)
        return seen, max(0.01, min(waits))

    def _apply(self, tx: Tx, snapshot: Snapshot, decided: Plan) -> None:
        """Carries the plan out as far as the world still is as the snapshot saw it."""
        seen = {job.id: job for job in snapshot.jobs}
        for placement in decided.placements:
            self._issue(tx, seen[placement.job_id], placement)
        for eviction in decided.evictions:
            _evict(tx, eviction)
        _explain_waiting(tx, snapshot.jobs, decided)

    def _issue(self, tx: Tx, seen: Job, placement: Placement) -> None:
        job = tx.job(placement.job_id)
        nodes = [tx.node(node_id) for node_id in placement.node_ids]
        if job is None or job.version != seen.version or job.state is not JobState.PENDING:
            return
        for node in nodes:
            if node is None or node.status not in ("online", "busy") or node.load >= node.max_concurrent_jobs:
                tx.hint(leases.QUEUE)
                return
            if node.reservation_id != job.spec.reservation_id:  # somebody was faster, or its time is over
                tx.hint(leases.QUEUE)
                return
        if job.spec.check is not None and barred(tx, job).intersection(placement.node_ids):
            tx.hint(leases.QUEUE)  # another check of the same result was placed there just now
            return
        job = replace(job, estimated_cost_units=placement.cost_units)
        lease = leases.issue(tx, job, *placement.node_ids)
        node = nodes[0]
        if node is not None and node.legacy:
            payload = {"job_id": job.id, "epoch": lease.token.epoch, "counter": lease.token.counter, "node_id": node.id}
            tx.add_outbox("assign_legacy", f"assign:{lease.token}", payload, tx.now)
            tx.hint("outbox:assign_legacy")


def _tenants(tx: Tx, waiting: Sequence[Job], candidates: Sequence[Candidate]) -> Sequence[Tenant]:
    """Who may have to give way to one of these; nobody is looked up if there are none."""
    if not waiting:
        return ()
    below = max((job.spec.priority for job in waiting), key=lambda priority: priority.rank)
    return tenants(candidates, tx.tenures(below), tx.now)


def _evict(tx: Tx, eviction: Eviction) -> None:
    """Takes a job from its nodes for one that waits, as far as both still are as they were."""
    waiting, job = tx.job(eviction.for_id), tx.job(eviction.job_id)
    if waiting is None or waiting.state is not JobState.PENDING or job is None or job.token != eviction.token:
        return
    lease = tx.lease(job.id, eviction.token)
    if lease is not None and lease.live and job.phase not in ENDING:
        leases.preempt(tx, job, lease, eviction.reason, by="scheduler")


def _shunned(tx: Tx, job: Job) -> frozenset[NodeId]:
    """Nodes that had the job and did not bring it to an end, through no other's fault."""
    innocent = (leases.DISBANDED, OUTRANKED)
    return frozenset(
        lease.node_id
        for lease in tx.leases_of(job.id)
        if lease.state is not LeaseState.ACTIVE and not lease.end_reason.startswith(innocent)
    )


def _waited(tx: Tx, job: Job) -> float:
    """Seconds since it was submitted, or since its last group ended."""
    since = max([job.created_at, *(lease.ended_at for lease in tx.leases_of(job.id) if lease.ended_at is not None)])
    return (tx.now - since).total_seconds()


def _news(jobs: Sequence[Job], decided: Plan) -> list[tuple[Job, str]]:
    """The jobs that wait for another reason than the one written down."""
    return [(job, reason) for job in jobs if (reason := decided.waiting.get(job.id, job.reason)) != job.reason]


def _explain_waiting(tx: Tx, jobs: Sequence[Job], decided: Plan) -> None:
    for seen, reason in _news(jobs, decided):
        job = tx.job(seen.id)
        if job is not None and job.version == seen.version:
            tx.save_job(replace(job, reason=reason))
            tx.hint(f"job:{job.id}", "progress")
