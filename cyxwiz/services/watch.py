"""Snapshot, then tail: the one way in which anything is followed. Doors only iterate what comes from here.

Hints wake a watcher, the store is what it reads, its cursor is where it was: a slow reader slows nobody and loses
nothing that is still kept. Below what is kept it is told `reset`, far behind it is told `lagged`; both start again
from a snapshot. A watch ends with UNAUTHENTICATED when what its caller came with is void.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import forbidden, invalid, not_found
from cyxwiz.domain.events import StoredEvent
from cyxwiz.domain.ids import JobId, NodeId, parse_job_id, parse_node_id
from cyxwiz.domain.job import Job, LogLine, MetricPoint
from cyxwiz.domain.states import JobState
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.store import JobQuery, Store, Tx
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.jobs import owned
from cyxwiz.services.leases import QUEUE
from cyxwiz.services.loglines import read_lines

BATCH = 500
MAX_BACKLOG = 5000
MOST_ROUNDS = 8  # of log lines, between two looks at the events
MAX_LINES = 1 << 20  # characters of log lines in one update, of which some are kept for each slow reader
MAX_TOPICS = 400  # one statement asks for all of them, and SQLite takes 500 parts of one
TOPICS = ("jobs", "nodes", "stats", "logs")
LIVE = ("job.progress", "job.log", "stats", "reset", "lagged")  # the kinds of notes that are no stored event


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader of one job is: the last event, point and log line that it has seen."""

    seq: int = 0
    metrics: int = 0
    logs: int = 0

    @staticmethod
    def parse(text: str) -> Cursor:
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
            raise invalid(f"Last-Event-ID: {text[:60]!r} is no cursor of this stream", field="Last-Event-ID")
        return Cursor(*(int(part) for part in parts))

    def __str__(self) -> str:
        return f"{self.seq}.{self.metrics}.{self.logs}"


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What is new about a job since the last update; the first has the job as it is and what came after the cursor."""

    job: Job
    events: Sequence[StoredEvent]
    points: Sequence[MetricPoint]
    lines: Sequence[LogLine]
    cursor: Cursor
    cut: bool = False  # there may be more lines

    @property
    def last(self) -> bool:
        return self.job.ended and not self.more

    @property
    def more(self) -> bool:
        return len(self.points) >= BATCH or self.cut or len(self.events) >= BATCH


@dataclass(frozen=True, slots=True)
class Note:
    """A message of the general stream: an event, a live figure, or `lagged`/`reset`."""

    seq: int
    kind: str
    at: Any
    data: Mapping[str, Any]


class Watch:
    def __init__(self, store: Store, bus: Bus, accounts: Accounts, *, poll_seconds: float) -> None:
        self._store = store
        self._bus = bus
        self._accounts = accounts
        self._poll = poll_seconds

    async def job(self, actor: Principal, job_id: str, cursor: Cursor | None = None) -> AsyncIterator[JobUpdate]:
        """Follows one job to its end. Without a cursor it starts with the job as it is, and from there on.

        Raises:
            CyxError: NOT_FOUND, FORBIDDEN or INVALID before the first update.
        """
        parsed = parse_job_id(job_id)
        subscription = self._bus.subscribe(f"job:{parsed}")
        topics = frozenset({f"job:{parsed}"})
        try:
            at = cursor

            def unit(tx: Tx) -> JobUpdate:
                job = owned(tx, actor, parsed)
                if at is None:
                    now = Cursor(tx.last_seq(), tx.last_metric_offset(parsed), tx.last_log_offset(parsed))
                    return JobUpdate(job, (), (), (), now)
                events = tx.events(at.seq, topics, BATCH)
                points = tx.metrics(parsed, at.metrics, BATCH)
                lines, cut = read_lines(tx, parsed, at.logs, BATCH, MAX_LINES)
                ahead = Cursor(
                    events[-1].seq if events else at.seq,
                    points[-1].offset if points else at.metrics,
                    lines[-1].offset if lines else at.logs,
                )
                return JobUpdate(job, events, points, lines, ahead, cut)

            first = True
            version = -1
            while True:
                await self._accounts.check(actor)
                update = await self._store.read(unit)
                moved = update.cursor != at or update.job.version != version
                at, version = update.cursor, update.job.version
                if first or moved:
                    first = False
                    yield update
                if update.last:
                    return
                if not update.more:
                    await subscription.changed(self._poll)
        finally:
            subscription.close()

    async def topics(self, actor: Principal, topics: frozenset[str], after: int | None = None) -> AsyncIterator[Note]:
        """Follows whole topics for ever: jobs, job:<id>, nodes, node:<id>, stats, logs. `after` replays from a seq.

        Raises:
            CyxError: INVALID for an unknown topic, NOT_FOUND for an unknown job or node, FORBIDDEN for a job that is
                not the caller's.
        """
        if after is not None and not 0 <= after < 2**63:
            raise invalid(f"after: must be from 0 to 2^63 - 1, not {after}", field="after")
        await self._accounts.check(actor)
        jobs = await self._check(actor, topics)
        stored = frozenset(topic for topic in topics if topic != "stats")
        reader = _TopicReader(
            self._store, actor, stored, jobs, live=bool(topics & {"jobs"} or jobs), stats="stats" in topics
        )
        hints = [*stored, "progress", QUEUE] if reader.live or reader.stats else list(stored)
        hints += [f"logs:{job_id}" for job_id in jobs]
        subscription = self._bus.subscribe(*hints)
        try:
            async for note in reader.start(after):
                yield note
            while True:
                await subscription.changed(self._poll)
                await self._accounts.check(actor)
                async for note in reader.read():
                    yield note
        finally:
            subscription.close()

    async def _check(self, actor: Principal, topics: frozenset[str]) -> frozenset[JobId]:
        if not topics:
            raise invalid("topics: name at least one", field="topics")
        if len(topics) > MAX_TOPICS:
            raise invalid(f"topics: at most {MAX_TOPICS}, not {len(topics)}", field="topics")
        jobs: set[JobId] = set()
        nodes: set[NodeId] = set()
        for topic in topics:
            kind, colon, ident = topic.partition(":")
            if kind == "job" and colon:
                jobs.add(parse_job_id(ident))
            elif kind == "node" and colon:
                nodes.add(parse_node_id(ident))
            elif topic not in TOPICS:
                raise invalid(
                    f"Unknown topic {topic[:60]!r}: take {', '.join(TOPICS)}, job:<id> or node:<id>", field="topics"
                )

        def unit(tx: Tx) -> None:
            for job_id in jobs:
                owned(tx, actor, job_id)
            for node_id in nodes:
                if tx.node_state(node_id) is None:
                    raise not_found("node", node_id)

        if jobs or nodes:
            await self._store.read(unit)
        if actor.node_id is not None:
            raise forbidden("A node has its own stream")
        return frozenset(jobs)


class _TopicReader:
    """The state of one general watch: the last event sent, and the last live figures."""

    def __init__(
        self, store: Store, actor: Principal, topics: frozenset[str], jobs: frozenset[JobId], *, live: bool, stats: bool
    ) -> None:
        self._store = store
        self._actor = actor
        self._topics = topics
        self._jobs = jobs
        self.live = live
        self.stats = stats
        self._seq = 0
        self._versions: dict[str, int] = {}
        self._logs: dict[JobId, int] = {}
        self._stats: Mapping[str, Any] = {}

    async def start(self, after: int | None) -> AsyncIterator[Note]:
        def unit(tx: Tx) -> tuple[int, int, dict[JobId, int]]:
            return tx.last_seq(), tx.first_seq(), {job_id: tx.last_log_offset(job_id) for job_id in self._jobs}

        last, first, self._logs = await self._store.read(unit)
        self._seq = last if after is None else after
        if after is not None and (after > last or after + 1 < first):
            self._seq = last
            yield Note(last, "reset", None, {"reason": "what came after that seq is not kept any more"})
        async for note in self.read():
            yield note

    async def read(self) -> AsyncIterator[Note]:
        while True:
            events = await self._store.read(lambda tx: tx.events(self._seq, self._topics, BATCH))
            for event in events:
                self._seq = event.seq
                if not event.owner_id or self._actor.owns(event.owner_id):  # type: ignore[arg-type]
                    yield Note(event.seq, event.kind, event.at, event.data)
            if len(events) < BATCH:
                break
            last = await self._store.read(lambda tx: tx.last_seq())
            if last - self._seq > MAX_BACKLOG:
                self._seq = last
                yield Note(last, "lagged", None, {})
        if self.live:
            for note in await self._progress():
                yield note
        for _ in range(MOST_ROUNDS):
            notes, more = await self._log_lines()
            for note in notes:
                yield note
            if not more:
                break
        if self.stats:
            stats = await self._store.read(stats_document)
            if stats != self._stats:
                self._stats = stats
                yield Note(self._seq, "stats", None, stats)

    async def _progress(self) -> list[Note]:
        """Running jobs that moved since the last look."""

        def unit(tx: Tx) -> list[Job]:
            if "jobs" not in self._topics:
                return [job for job_id in self._jobs if (job := tx.job(job_id)) is not None]
            owner = None if self._actor.is_admin else self._actor.id
            query = JobQuery(owner_id=owner, states=frozenset({JobState.RUNNING, JobState.ASSIGNED}), limit=100)
            return list(tx.jobs(query).items)

        jobs = await self._store.read(unit)
        moved = [job for job in jobs if job.state is JobState.RUNNING and self._versions.get(job.id) != job.version]
        self._versions = {job.id: job.version for job in jobs}
        return [
            Note(
                self._seq,
                "job.progress",
                None,
                {
                    "job_id": job.id,
                    "progress": job.progress,
                    "current_epoch": job.epoch,
                    "epochs": job.spec.epochs,
                    "phase": str(job.phase),
                    "metrics": dict(job.metrics),
                },
            )
            for job in moved
        ]

    async def _log_lines(self) -> tuple[list[Note], bool]:
        """(new lines, whether there are more)"""
        if "logs" not in self._topics or not self._jobs:
            return [], False

        def unit(tx: Tx) -> tuple[list[tuple[JobId, LogLine]], bool]:
            found: list[tuple[JobId, LogLine]] = []
            left, more = MAX_LINES, False
            for job_id, after in self._logs.items():
                lines, cut = read_lines(tx, job_id, after, BATCH, left)
                found += [(job_id, line) for line in lines]
                left, more = left - sum(len(line.message) for line in lines), more or cut
            return found, more

        lines, more = await self._store.read(unit)
        for job_id, line in lines:
            self._logs[job_id] = line.offset
        notes = [
            Note(
                self._seq,
                "job.log",
                line.at,
                {
                    "job_id": job_id,
                    "offset": line.offset,
                    "level": line.level,
                    "source": line.source,
                    "message": line.message,
                },
            )
            for job_id, line in lines
        ]
        return notes, more


def stats_document(tx: Tx) -> dict[str, Any]:
    """The figures of GET /api/stats, counted."""
    stats = tx.stats()
    by_state = stats.jobs_by_state
    return {
        "total_nodes": stats.total_nodes,
        "online_nodes": stats.online_nodes,
        "total_jobs": sum(by_state.values()),
        "pending_jobs": by_state.get("pending", 0),
        "assigned_jobs": by_state.get("assigned", 0),
        "running_jobs": by_state.get("running", 0),
        "paused_jobs": by_state.get("paused", 0),
        "completed_jobs": by_state.get("completed", 0),
        "failed_jobs": by_state.get("failed", 0),
        "total_compute_hours": round(stats.compute_seconds / 3600, 6),
    }
