"""What moved the reputation of nodes, as statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from cyxwiz.domain.ids import JobId, NodeId, UserId
from cyxwiz.domain.reputation import Cause, Kind, ReputationEntry
from cyxwiz.store.sql_unit import Unit, table
from cyxwiz.store.tables_reputation import ReputationEventRow

entries = table(ReputationEventRow)

_ADD = insert(entries)
_NEWEST = (
    select(entries)
    .where(entries.c.node_id == bindparam("node_id"))
    .order_by(entries.c.id.desc())
    .limit(bindparam("most"))
)
_COMPLAINED = select(entries.c.id).where(
    entries.c.kind == "complaint",  # as it stands in the index
    entries.c.node_id == bindparam("node_id"),
    entries.c.job_id == bindparam("job_id"),
)
_PRUNE = delete(entries).where(entries.c.at < bindparam("before"))


class Reputations(Unit):
    def add_reputation(self, given: Sequence[ReputationEntry]) -> None:
        if given:
            self._run(_ADD, [_row(entry) for entry in given])

    def reputation_entries(self, node_id: NodeId, limit: int) -> Sequence[ReputationEntry]:
        return [_entry(row) for row in self._run(_NEWEST, {"node_id": node_id, "most": limit})]

    def complained(self, node_id: NodeId, job_id: JobId) -> bool:
        return self._run(_COMPLAINED, {"node_id": node_id, "job_id": job_id}).first() is not None

    def prune_reputation(self, before: datetime) -> int:
        pruned: int = self._run(_PRUNE, {"before": before}).rowcount
        return pruned


def _row(entry: ReputationEntry) -> dict[str, Any]:
    return {
        "node_id": entry.node_id,
        "at": entry.at,
        "kind": entry.kind.value,
        "cause": entry.cause.value,
        "delta": entry.delta,
        "job_id": entry.job_id,
        "note": entry.note,
        "by": entry.by,
    }


def _entry(row: Any) -> ReputationEntry:
    return ReputationEntry(
        node_id=NodeId(row.node_id),
        at=row.at,
        kind=Kind(row.kind),
        cause=Cause(row.cause),
        delta=row.delta,
        job_id=JobId(row.job_id) if row.job_id else None,
        note=row.note,
        by=UserId(row.by) if row.by else None,
    )
