"""Reputation of nodes, kept: every part that sees what a node did tells `Reputation.record`, within its own unit.

What moved a score is a row, written in the transaction that moves it; so are strikes and the bans that they earn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cyxwiz.config import ReputationSection
from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, not_found
from cyxwiz.domain.events import NodeBanned, NodeUnbanned
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.node import Node
from cyxwiz.domain.reputation import (
    EFFECTS,
    MAX_NOTE,
    START,
    Kind,
    ReputationEntry,
    ReputationEvent,
    Rules,
    Tier,
    tier,
)
from cyxwiz.domain.states import NodeState, NodeTrigger
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases
from cyxwiz.services.audit import record as write_down
from cyxwiz.services.leases import QUEUE, RetryPolicy

COMPLAINT_WINDOW = timedelta(days=30)  # after the job's end; what moved a score is kept for longer


def rules_of(section: ReputationSection) -> Rules:
    return Rules(timedelta(hours=section.half_life_hours), section.strikes)


@dataclass(frozen=True, slots=True)
class Line:
    """One event of an explanation: `weight` is the share of its delta that still counts."""

    entry: ReputationEntry
    weight: float

    @property
    def counts(self) -> float:
        return self.entry.delta * self.weight


@dataclass(frozen=True, slots=True)
class Account:
    """Why a node's score is what it is: score = START + earlier + the sum of what the lines count."""

    score: float
    tier: Tier
    strikes: int
    bans: int
    rules: Rules
    earlier: float
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Reputation:
    rules: Rules
    policy: RetryPolicy

    def record(
        self,
        tx: Tx,
        node_id: NodeId,
        *events: ReputationEvent,
        completed: int = 0,
        failed: int = 0,
        seconds: float = 0.0,
    ) -> Node | None:
        """Counts what a node did, with the jobs and the seconds of its record; bans it when that is its last strike.

        Returns the node as saved, or None for one that is not known. Copies of it read before are STALE afterwards, and
        so may be its leases.
        """
        node = tx.node(node_id)
        if node is None:
            return None
        standing = node.standing
        entries: list[ReputationEntry] = []
        for event in events:
            standing, delta = self.rules.apply(standing, event.kind, tx.now)
            cause = EFFECTS[event.kind].cause
            note = event.note[:MAX_NOTE]
            entries.append(ReputationEntry(node_id, tx.now, event.kind, cause, delta, event.job_id, note, event.by))
        tx.add_reputation(entries)
        if not (completed or failed or seconds or any(entry.delta for entry in entries)):
            return node
        node = tx.save_node(
            replace(
                node.with_standing(standing),
                jobs_completed=node.jobs_completed + completed,
                jobs_failed=node.jobs_failed + failed,
                compute_seconds=node.compute_seconds + seconds,
            )
        )
        span = self.rules.due(standing)
        if span is not None and node.state is not NodeState.BANNED:
            node = self.ban(tx, node, tx.now + span, f"{standing.strikes} strikes")
        return node

    def ban(self, tx: Tx, node: Node, until: datetime | None, why: str) -> Node:
        """No jobs and no connection until then, or for good; what the node runs goes elsewhere."""
        for job, lease in leases.live(tx, node.id):
            leases.drop(tx, job, lease, self.policy, "its node was banned")
        if node.state is not NodeState.BANNED:
            node = node.move(NodeTrigger.BAN, bans=node.bans + 1)
        node = tx.save_node(replace(node, banned_until=until))
        end = until.isoformat() if until else ""
        tx.emit(NodeBanned(node.id, node.name, end))
        tx.add_reputation([_entry(tx, node, Kind.BAN, 0.0, f"{why}, {f'until {end}' if end else 'for good'}")])
        tx.hint(leases.lease_topic(node.id))
        return node

    def unban(self, tx: Tx, node: Node, why: str) -> Node:
        """The node may connect again, on probation and without strikes. Raises CONFLICT for one that is not banned."""
        standing, delta = self.rules.pardoned(node.standing, tx.now)
        node = tx.save_node(node.with_standing(standing).move(NodeTrigger.UNBAN, banned_until=None))
        tx.emit(NodeUnbanned(node.id, node.name, why))
        tx.add_reputation([_entry(tx, node, Kind.UNBAN, delta, why)])
        tx.hint(QUEUE)
        return node

    def complain(self, tx: Tx, actor: Principal, node_id: NodeId, job_id: JobId, reason: str) -> None:
        """Counts a complaint of a job's owner about a node that had the job.

        Raises:
            CyxError: NOT_FOUND; FORBIDDEN for another's job; CONFLICT for a job that the node never took or that ended
                too long ago; EXISTS for a second complaint.
        """
        actor.require(Role.USER, Role.OPERATOR)
        job = tx.job(job_id)
        if tx.node(node_id) is None:
            raise not_found("node", node_id)
        if job is None:
            raise not_found("job", job_id)
        if job.owner_id != actor.id:
            raise forbidden(f"Job {job_id} is not yours: only its owner can complain about a node that had it")
        if not any(lease.node_id == node_id and lease.boot_id for lease in tx.leases_of(job_id)):
            raise conflict(f"Node {node_id} never ran job {job_id}: name the node that did")
        if job.completed_at is not None and tx.now - job.completed_at > COMPLAINT_WINDOW:
            raise conflict(f"Job {job_id} ended more than {COMPLAINT_WINDOW.days} days ago: it is too late to complain")
        if tx.complained(node_id, job_id):
            raise CyxError(Code.EXISTS, f"You have complained about node {node_id} and job {job_id} already")
        self.record(tx, node_id, ReputationEvent(Kind.COMPLAINT, job_id, reason, actor.id))
        write_down(tx, actor.name, "node.complain", f"node:{node_id}", job=job_id, reason=reason[:MAX_NOTE])

    def present(self, node: Node, now: datetime) -> Node:
        """The node with its score as it is now."""
        return node.with_standing(self.rules.present(node.standing, now))

    def account(self, tx: Tx, node: Node, limit: int) -> Account:
        """The newest `limit` events of a node, and how they make its score."""
        standing = self.rules.present(node.standing, tx.now)
        lines = [Line(entry, self.rules.weight(entry.at, tx.now)) for entry in tx.reputation_entries(node.id, limit)]
        earlier = standing.score - START - sum(line.counts for line in lines)
        return Account(
            standing.score, tier(standing.score), standing.strikes, standing.bans, self.rules, earlier, lines
        )


def _entry(tx: Tx, node: Node, kind: Kind, delta: float, note: str) -> ReputationEntry:
    return ReputationEntry(node.id, tx.now, kind, EFFECTS[kind].cause, delta, note=note[:MAX_NOTE])
