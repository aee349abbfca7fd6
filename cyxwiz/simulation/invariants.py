"""What must hold after every committed write, whatever went wrong, and what must hold once all is quiet again.

Only plain rows are read, past the code under test. A broken promise raises `Violation`, which says what was found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cyxwiz.domain.job import Priority
from cyxwiz.domain.states import HELD_JOB_STATES, LIVE_LEASE_STATES, TERMINAL_JOB_STATES
from cyxwiz.store.mapping import urgency_of

Rows = Callable[..., list[Any]]
Token = tuple[int, int]


class Violation(Exception):
    """A promise of the platform does not hold."""


# event: {state before: state after}. What is missing here is not a path of the state table.
PATHS: Mapping[str, Mapping[str, str]] = {
    "job.submitted": {"": "pending"},
    "job.assigned": {"pending": "assigned"},
    "job.started": {"assigned": "running"},
    "job.requeued": {"assigned": "pending", "running": "pending"},
    "job.revived": {"pending": "running"},
    "job.completed": {"assigned": "completed", "running": "completed"},
    "job.failed": {"pending": "failed", "assigned": "failed", "running": "failed"},
    "job.cancelled": {"pending": "cancelled", "assigned": "cancelled", "running": "cancelled"},
}
HELD = frozenset(str(state) for state in HELD_JOB_STATES)
TERMINAL = frozenset(str(state) for state in TERMINAL_JOB_STATES)
LIVE = frozenset(str(state) for state in LIVE_LEASE_STATES)

_JOBS = (
    "SELECT id, state, node_id, token_epoch, token_counter, attempts, retry_count, node_losses, error_code FROM jobs"
)
_LEASES = "SELECT job_id, token_epoch, token_counter, node_id, state, last_seq, end_reason FROM leases ORDER BY 2, 3"
_EVENTS = "SELECT seq, kind, subject, data FROM events WHERE seq > ? ORDER BY seq"
_OFFSETS = "SELECT job_id, count(*), min(offset), max(offset) FROM {} GROUP BY job_id"
GAVE_WAY = "preempted: gave way to "
_SHORT = frozenset({"job_id", "owner_id", "name"})  # the subject says it


@dataclass(frozen=True, slots=True)
class JobSeen:
    id: str
    state: str
    node_id: str | None
    token: Token | None
    attempts: int
    retry_count: int
    node_losses: int
    error_code: str


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    job_id: str
    token: Token
    node_id: str
    state: str
    last_seq: int
    end_reason: str

    @property
    def live(self) -> bool:
        return self.state in LIVE


@dataclass(slots=True)
class Books:
    """What was seen so far, and the checks of each new commit against it."""

    rows: Rows
    max_retries: int
    max_node_losses: int
    note: Callable[[str], None]
    names: dict[str, str]  # what the trace calls each id
    preempt_most: int
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    leases: list[LeaseSeen] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    commits: int = 0
    _same: tuple[list[Any], list[Any]] = field(default_factory=lambda: ([], []))
    _last_event: int = 0
    _newest: dict[str, Token] = field(default_factory=dict)
    _highest: Token = (0, 0)
    _last_seq: dict[tuple[str, Token], int] = field(default_factory=dict)
    _over: dict[tuple[str, Token], str] = field(default_factory=dict)

    def check(self) -> None:
        """Reads what was committed. Raises Violation."""
        self.commits += 1
        self._events()
        jobs, leases = self.rows(_JOBS), self.rows(_LEASES)
        if (jobs, leases) == self._same:
            return  # a heartbeat, mostly
        self._same = (jobs, leases)
        self.jobs = {r[0]: JobSeen(r[0], r[1], r[2], _token(r[3], r[4]), *r[5:]) for r in jobs}
        self.leases = [LeaseSeen(r[0], (r[1], r[2]), *r[3:]) for r in leases]
        self._tokens()
        self._each_job()
        self._nodes()
        for table in ("job_metrics", "job_logs"):
            for job_id, count, first, last in self.rows(_OFFSETS.format(table)):
                if first != 1 or last != count:
                    raise Violation(f"{table} of {job_id} are not dense: {count}, {first} to {last}")

    def _events(self) -> None:
        for seq, kind, subject, data in self.rows(_EVENTS, self._last_event):
            if seq <= self._last_event:
                raise Violation(f"event {seq} comes after {self._last_event}")
            self._last_event = seq
            said = json.loads(data)
            if kind == "job.submitted":
                self.names[said["job_id"]] = said["name"]
            rest = " ".join(f"{key}={value}" for key, value in said.items() if key not in _SHORT)
            self.note(f"event {seq} {kind} {subject} {rest}")
            if kind == "job.preempted" and said["by"] == "scheduler":
                self._preempted(said["job_id"], said["reason"])
            if kind in PATHS:
                job_id = subject.removeprefix("job:")
                before = self.paths.get(job_id, "")
                after = PATHS[kind].get(before)
                if after is None:
                    raise Violation(f"{kind} of {job_id}, which was {before or 'unknown'}")
                self.paths[job_id] = after

    def _preempted(self, job_id: str, reason: str) -> None:
        """It was asked to leave: somebody more urgent has to wait, and it may not be asked too often."""
        found = {row[0]: row[1:] for row in self.rows("SELECT id, urgency, state FROM jobs")}
        claimant = urgency_of(Priority(reason.rpartition(" of ")[2].removesuffix(" priority")))
        if claimant >= found[job_id][0] or (claimant, "pending") not in found.values():
            raise Violation(f"{job_id} gave way to nobody of higher priority: {reason}")
        # As it was before: a run that had not begun is over with the same commit.
        earlier = [each for each in self.leases if each.job_id == job_id and each.end_reason.startswith(GAVE_WAY)]
        if len(earlier) >= self.preempt_most:
            raise Violation(f"{job_id} gives way more often than {self.preempt_most} times")

    def _tokens(self) -> None:
        counted = Counter(lease.job_id for lease in self.leases)
        for lease in self.leases:
            key = (lease.job_id, lease.token)
            if key not in self._last_seq:
                if lease.token <= self._highest:
                    raise Violation(f"token {lease.token} was issued after {self._highest}")
                self._highest = lease.token
                self._newest[lease.job_id] = lease.token
            before = self._last_seq.get(key, 0)
            if lease.last_seq < before:
                raise Violation(f"last_seq of {lease} fell from {before}")
            self._last_seq[key] = lease.last_seq
            if key in self._over:
                if lease.state != "ended":
                    raise Violation(f"{lease} is over ({self._over[key]}) and came back")
            elif lease.state == "ended":
                self._over[key] = lease.end_reason
        for job in self.jobs.values():
            if job.attempts != counted[job.id]:
                raise Violation(f"{job} has {counted[job.id]} leases")
            if job.token != self._newest.get(job.id):
                raise Violation(f"{job}: its newest lease is {self._newest.get(job.id)}")

    def _each_job(self) -> None:
        live: dict[str, list[LeaseSeen]] = {}
        for lease in self.leases:
            if lease.live:
                live.setdefault(lease.job_id, []).append(lease)
        results = {row[0]: row for row in self.rows("SELECT job_id, token_epoch, token_counter FROM job_results")}
        for job in self.jobs.values():
            held = live.get(job.id, [])
            if self.paths.get(job.id) != job.state:
                raise Violation(f"{job}, but its events say {self.paths.get(job.id)}")
            if job.state in HELD:
                if len(held) != 1:
                    raise Violation(f"{job} has {len(held)} live leases: {held}")
                if (held[0].token, held[0].node_id) != (job.token, job.node_id):
                    raise Violation(f"{job} is held by {held[0]}")
                if held[0].state != ("active" if job.state == "running" else "offered"):
                    raise Violation(f"{job} has {held[0]}")
            else:
                if held:
                    raise Violation(f"{job} has live leases: {held}")
            if (job.id in results) != (job.state == "completed"):
                raise Violation(f"{job}, result: {results.get(job.id)}")
            if job.id in results and _token(*results[job.id][1:]) != job.token:
                raise Violation(f"{job} has the result of another lease")
            if job.retry_count > self.max_retries:
                raise Violation(f"{job}: more than {self.max_retries} retries")
            if job.node_losses > self.max_node_losses + 1:
                raise Violation(f"{job}: more than {self.max_node_losses} losses")

    def _nodes(self) -> None:
        held = Counter(lease.node_id for lease in self.leases if lease.live)
        for node_id, most in self.rows("SELECT id, max_concurrent_jobs FROM nodes"):
            if held[node_id] > most:
                raise Violation(f"node {node_id} holds {held[node_id]} leases, at most {most} fit")


@dataclass(frozen=True, slots=True)
class Expected:
    """How one job may end, by what was done to it, and what is there of its result."""

    cancelled: bool  # somebody asked for it
    may_fail: bool  # a run of it failed for good
    weights: str = ""  # what the accepted weights say of who made them
    kept: bool = True  # whether the node that made them still has them


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """What a node's own machine shows, past central."""

    id: str
    gone: bool  # for good
    runs: int  # alive
    kept: int  # leases in its journal


def unsettled(books: Books, nodes: Sequence[NodeSeen], submitted: int) -> str | None:
    """Why the world is not quiet yet, or None."""
    if len(books.jobs) < submitted:
        return f"only {len(books.jobs)} of {submitted} jobs are stored"
    for job in books.jobs.values():
        if job.state not in TERMINAL:
            return f"{job} has not ended"
    for lease in books.leases:
        if lease.live:
            return f"{lease} is live"
    states = dict(books.rows("SELECT id, state FROM nodes"))
    for node in nodes:
        if node.runs:
            return f"{node.runs} runs are alive on {node.id}"
        if node.kept and not node.gone:
            return f"the journal of {node.id} keeps {node.kept} leases"
        state = states.get(node.id, "offline")
        if (state == "online") == node.gone:
            return f"{node.id} is {state} for central, {'and gone' if node.gone else 'but there'}"
    return None


def check_ends(books: Books, expected: Mapping[str, Expected], *, gentle: bool) -> None:
    """How all ended. Raises Violation."""
    extra = set(books.jobs) - set(expected)
    if extra:
        raise Violation(f"jobs that nobody submitted, or that were stored twice: {sorted(extra)}")
    for job in books.jobs.values():
        wanted = expected[job.id]
        if job.state == "cancelled":
            if not wanted.cancelled:
                raise Violation(f"{job} was cancelled by nobody")
        elif job.state == "failed":
            lost = job.node_losses > books.max_node_losses and job.error_code == "UNAVAILABLE"
            if not (wanted.may_fail or lost):
                raise Violation(f"{job} failed, though no run of it failed for good")
        elif job.token is not None:
            made = f"{job.id} {job.token[0]}-{job.token[1]}"
            if wanted.weights != made:
                raise Violation(f"{job} has the weights {wanted.weights!r}, not {made!r}")
            if not wanted.kept:
                raise Violation(f"{job}: its node removed the weights as soon as they were accepted")
    for job_id, attempt, metrics in books.rows("SELECT job_id, attempt, metrics FROM job_metrics"):
        lease = [lease for lease in books.leases if lease.job_id == job_id][attempt - 1]
        if json.loads(metrics)["token"] != lease.token[1]:
            raise Violation(f"a point of the curve of {lease} says that it comes of another: {metrics}")
    lost = [lease for lease in books.leases if not _own_end(lease.end_reason)]
    if gentle and lost:
        raise Violation(f"every node came back in time, and lost its leases all the same: {lost}")


def _own_end(reason: str) -> bool:
    return reason in ("completed", "cancelled") or reason.startswith(("failed:", "declined:", "preempted:"))


def _token(epoch: int | None, counter: int | None) -> Token | None:
    return None if epoch is None or counter is None else (epoch, counter)
