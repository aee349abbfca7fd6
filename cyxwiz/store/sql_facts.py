"""Events, audit, idempotency keys, the outbox and settings as statements.

Events are written when their unit is otherwise done. On PostgreSQL numbers from a sequence become visible out of order:
a unit that numbers its events takes one advisory lock first and holds it until its commit, so that seq is the order of
the commits and a reader who has seen one has seen all before it. Its price: commits that carry events queue up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, text, union

from cyxwiz.domain.events import Event, StoredEvent
from cyxwiz.ports.store import AuditEntry, OutboxEntry
from cyxwiz.store import mapping
from cyxwiz.store.sql_unit import Unit, insert_once, lookup, table
from cyxwiz.store.tables import AuditRow, EventRow, IdempotencyRow, OutboxRow, SettingRow

events, audits, remembered = table(EventRow), table(AuditRow), table(IdempotencyRow)
outbox, settings = table(OutboxRow), table(SettingRow)

EVENT_LOCK = 0x43_59_58_45  # the advisory lock's number; any that nobody else uses
EVERY_TOPIC = "*"

_ADD_EVENTS = insert(events)
_LOCK_EVENTS = text(f"SELECT pg_advisory_xact_lock({EVENT_LOCK})")
_AFTER = select(events).where(events.c.seq > bindparam("after")).order_by(events.c.seq).limit(bindparam("most"))
_LAST_SEQ, _FIRST_SEQ = select(func.max(events.c.seq)), select(func.min(events.c.seq))
_FIRST_KEPT = select(func.min(events.c.seq)).where(events.c.at >= bindparam("before"))
_PRUNE_EVENTS = delete(events).where(events.c.seq < bindparam("kept"))
_AUDIT_LOG = select(audits).order_by(audits.c.id.desc()).limit(bindparam("most"))
_AUDIT_OF = _AUDIT_LOG.where(audits.c.action == bindparam("action"), audits.c.target == bindparam("target"))
_REMEMBERED = select(remembered.c.digest, remembered.c.answer).where(
    remembered.c.scope == bindparam("scope"), remembered.c.key == bindparam("key")
)
_PRUNE_REMEMBERED = delete(remembered).where(remembered.c.created_at < bindparam("before"))
_DUE_OUTBOX = lookup(
    select(outbox)
    .where(outbox.c.kind == bindparam("kind"), outbox.c.due_at <= bindparam("now"))
    .order_by(outbox.c.due_at, outbox.c.id)
    .limit(bindparam("most")),
    skip_locked=True,
)
_FINISH = delete(outbox).where(outbox.c.id == bindparam("at_id"))
_ADD_OUTBOX, _PUT_SETTING = insert_once(outbox), insert_once(settings)
_SETTING = select(settings.c.value).where(settings.c.name == bindparam("name"))
_DROP_SETTING = delete(settings).where(settings.c.name == bindparam("name"))


def _column(topic: str) -> str:
    return "subject" if ":" in topic else "category"


@lru_cache(maxsize=64)
def _about(columns: tuple[str, ...]) -> Select[Any]:
    """The events whose columns are one of `topic_0`, `topic_1` and so on, in their order. One statement, each branch
    served by an index; a single one is not wrapped. It is built once, which takes longer than it runs."""
    branches = [_AFTER.where(events.c[name] == bindparam(f"topic_{at}")) for at, name in enumerate(columns)]
    if len(branches) == 1:
        return branches[0]
    seqs = union(*(select(branch.with_only_columns(events.c.seq).subquery()) for branch in branches))
    return select(events).where(events.c.seq.in_(seqs)).order_by(events.c.seq).limit(bindparam("most"))


class Facts(Unit):
    def __init__(self, connection: Connection, now: datetime, *, writing: bool) -> None:
        super().__init__(connection, now, writing=writing)
        self._emitted: list[dict[str, Any]] = []

    def emit(self, event: Event, *, private_to: str = "") -> None:
        category = [topic for topic in event.topics if ":" not in topic]
        subject = [topic for topic in event.topics if ":" in topic]
        if len(category) > 1 or len(subject) > 1:
            raise ValueError(f"{event.kind}: one broad and one narrow topic at most, not {event.topics}")
        self._emitted.append(
            {
                "kind": event.kind,
                "at": self.now,
                "category": "".join(category),
                "subject": "".join(subject),
                "owner_id": private_to,
                "data": event.data(),
            }
        )
        self.hinted.update(event.hints)

    def hint(self, *topics: str) -> None:
        self.hinted.update(topics)

    def then(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def flush(self) -> None:
        """Writes what was put off, and the events emitted so far: the last step of a unit, so that their lock is held
        briefly."""
        self._write_late()
        if self._emitted:
            if self._postgres:
                self._run(_LOCK_EVENTS)
            emitted, self._emitted = self._emitted, []
            self._run(_ADD_EVENTS, emitted)

    def events(self, after: int, topics: frozenset[str], limit: int) -> Sequence[StoredEvent]:
        self.flush()
        given = {"after": after, "most": limit}
        if not topics or EVERY_TOPIC in topics:
            return [mapping.to_event(row) for row in self._run(_AFTER, given)]
        ordered = sorted(topics, key=lambda topic: (_column(topic), topic))
        given |= {f"topic_{at}": topic for at, topic in enumerate(ordered)}
        found = self._run(_about(tuple(map(_column, ordered))), given)
        return [mapping.to_event(row) for row in found]

    def last_seq(self) -> int:
        self.flush()
        return self._run(_LAST_SEQ).scalar_one() or 0

    def first_seq(self) -> int:
        self.flush()
        return self._run(_FIRST_SEQ).scalar_one() or 1

    def prune_events(self, before: datetime) -> int:
        # The newest event always stays: it holds the place that last_seq and first_seq are read from.
        self.flush()
        kept = self._run(_FIRST_KEPT, {"before": before}).scalar_one() or self.last_seq()
        pruned: int = self._run(_PRUNE_EVENTS, {"kept": kept}).rowcount
        return pruned

    def audit(self, entry: AuditEntry) -> None:
        self._run(insert(audits), mapping.from_audit(entry))

    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        return [mapping.to_audit(row) for row in self._run(_AUDIT_LOG, {"most": limit})]

    def audit_of(self, action: str, target: str, limit: int) -> Sequence[AuditEntry]:
        given = {"action": action, "target": target, "most": limit}
        return [mapping.to_audit(row) for row in self._run(_AUDIT_OF, given)]

    def remember(self, scope: str, key: str, digest: str, answer: str) -> None:
        row = {"scope": scope, "key": key, "digest": digest, "answer": answer, "created_at": self.now}
        self._run(insert(remembered), row)

    def remembered(self, scope: str, key: str) -> tuple[str, str] | None:
        row = self._run(_REMEMBERED, {"scope": scope, "key": key}).one_or_none()
        return None if row is None else (row.digest, row.answer)

    def prune_idempotency(self, before: datetime) -> int:
        pruned: int = self._run(_PRUNE_REMEMBERED, {"before": before}).rowcount
        return pruned

    def add_outbox(self, kind: str, key: str, payload: Mapping[str, Any], due_at: datetime) -> None:
        row = {"kind": kind, "key": key, "payload": dict(payload), "due_at": due_at, "attempts": 0}
        self._run(_ADD_OUTBOX, row)

    def due_outbox(self, kind: str, limit: int) -> Sequence[OutboxEntry]:
        return [mapping.to_outbox(row) for row in self._all(_DUE_OUTBOX, kind=kind, now=self.now, most=limit)]

    def finish_outbox(self, entry_id: int) -> None:
        self._run(_FINISH, {"at_id": entry_id})

    def setting(self, name: str) -> str | None:
        found: str | None = self._run(_SETTING, {"name": name}).scalar_one_or_none()
        return found

    def put_setting(self, name: str, value: str) -> str:
        self._run(_PUT_SETTING, {"name": name, "value": value})
        kept: str = self._run(_SETTING, {"name": name}).scalar_one()
        return kept

    def drop_setting(self, name: str) -> None:
        self._run(_DROP_SETTING, {"name": name})
