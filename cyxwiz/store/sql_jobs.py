"""Jobs, leases, curves, logs and results as statements. Those of the hot paths are built once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import sqlite

from cyxwiz.domain.errors import not_found
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId
from cyxwiz.domain.job import (
    OUTRANKED,
    Checkpoint,
    Job,
    JobResult,
    Lease,
    LogLine,
    MetricPoint,
    Phase,
    Priority,
    Tenure,
)
from cyxwiz.domain.states import JobState
from cyxwiz.ports.store import JobQuery, Page
from cyxwiz.store import mapping
from cyxwiz.store.sql_unit import Saves, Unit, lookup, table
from cyxwiz.store.tables import (
    LIVE_LEASES,
    JobCheckpointRow,
    JobLogRow,
    JobMetricRow,
    JobModelRow,
    JobResultRow,
    JobRow,
    LeaseRow,
    SettingRow,
    lease_counter,
)

jobs, leases, results = table(JobRow), table(LeaseRow), table(JobResultRow)
metrics, logs, settings = table(JobMetricRow), table(JobLogRow), table(SettingRow)
checkpoints, models = table(JobCheckpointRow), table(JobModelRow)

IS_LIVE = text(f"leases.{LIVE_LEASES}")
_IS_PENDING = jobs.c.state == str(JobState.PENDING)
_MAY_START = and_(_IS_PENDING, jobs.c.phase != str(Phase.AWAITING_PAYMENT))

_ADD_JOB, _ADD_MODEL = insert(jobs), insert(models)
_JOB = lookup(select(jobs).where(jobs.c.id == bindparam("id")))
_BY_IDS = select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_VERSIONS = lookup(_BY_IDS.with_only_columns(jobs.c.id, jobs.c.version).order_by(jobs.c.id))
_SAVE_JOB = update(jobs).where(jobs.c.id == bindparam("at_id"), jobs.c.version == bindparam("at_version"))
_SAVE_SPEC = update(jobs).where(jobs.c.id == bindparam("at_id"))
_DELETE_JOB = delete(jobs).where(jobs.c.id == bindparam("id"))
_MODEL = select(models.c.definition).where(models.c.job_id == bindparam("job_id"))
_PENDING_OF = (
    select(literal_column("1"))
    .select_from(jobs)
    .where(_IS_PENDING, jobs.c.owner_id == bindparam("owner_id"))
    .limit(bindparam("most"))
)
_COUNT_PENDING = select(func.count()).select_from(_PENDING_OF.subquery())
_QUEUE = (jobs.c.urgency, jobs.c.created_at, jobs.c.id)
_DUE = (
    select(jobs)
    .where(_MAY_START, or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("now")))
    .order_by(*_QUEUE)
    .limit(bindparam("most"))
)
_PLACE = (bindparam(column.name, type_=column.type) for column in _QUEUE)
_DUE_JOBS = lookup(_DUE, skip_locked=True)
_DUE_AFTER = lookup(_DUE.where(tuple_(*_QUEUE) > tuple_(*_PLACE)), skip_locked=True)
_NEXT_DUE = select(func.min(jobs.c.not_before)).where(_IS_PENDING, jobs.c.not_before > bindparam("now"))

_EPOCH = select(settings.c.value).where(settings.c.name == "epoch")
_DROP_EPOCH = delete(settings).where(settings.c.name == "epoch")
_COUNT_SQLITE = (
    sqlite.insert(settings)
    .values(name="lease_counter", value="1")
    .on_conflict_do_update(
        index_elements=[settings.c.name], set_={"value": cast(cast(settings.c.value, Integer) + 1, Text)}
    )
    .returning(settings.c.value)
)
_COUNT_POSTGRES = select(lease_counter.next_value())
_BY_TOKEN = and_(
    leases.c.job_id == bindparam("at_job_id"),
    leases.c.token_epoch == bindparam("at_epoch"),
    leases.c.token_counter == bindparam("at_counter"),
)
_ADD_LEASE = insert(leases)
_LEASE = lookup(select(leases).where(_BY_TOKEN), aside=True)
_SAVE_LEASE = update(leases).where(_BY_TOKEN)
_HELD_JOBS = select(jobs, leases.c.node_id.label("held_by")).where(jobs.c.id == leases.c.job_id, IS_LIVE)
_PAST = leases.alias("past")
_TENURES = (
    select(
        jobs.c.id,
        func.min(leases.c.issued_at).label("since"),
        select(func.max(checkpoints.c.at))
        .where(checkpoints.c.job_id == jobs.c.id, checkpoints.c.kept.is_(True))
        .scalar_subquery()
        .label("saved_at"),
        select(func.count())
        .where(_PAST.c.job_id == jobs.c.id, _PAST.c.end_reason.startswith(OUTRANKED, autoescape=True))
        .scalar_subquery()
        .label("gave_way"),
    )
    .where(jobs.c.id == leases.c.job_id, IS_LIVE, jobs.c.urgency > bindparam("urgency"))
    .group_by(jobs.c.id)
)
_IN_ORDER = (leases.c.token_epoch, leases.c.token_counter)
# Lists are not locked: a central that looks at all leases must not hold up the reports of every node.
_LIVE = select(leases).where(IS_LIVE).order_by(*_IN_ORDER)
_LIVE_OF_NODE = select(leases).where(IS_LIVE, leases.c.node_id == bindparam("node_id")).order_by(*_IN_ORDER)
_LEASES_OF = select(leases).where(leases.c.job_id == bindparam("job_id")).order_by(*_IN_ORDER)

_ADD_METRICS, _ADD_LOGS, _ADD_RESULT = insert(metrics), insert(logs), insert(results)
_ADD_CHECKPOINT = insert(checkpoints)
_CHECKPOINTS = (
    select(checkpoints)
    .where(checkpoints.c.job_id == bindparam("job_id"))
    .order_by(checkpoints.c.number.desc())
    .limit(bindparam("most"))
)
_KEPT = (
    select(checkpoints)
    .where(checkpoints.c.job_id == bindparam("job_id"), checkpoints.c.kept.is_(True))
    .order_by(checkpoints.c.number.desc())
)
_RELEASE = (
    update(checkpoints)
    .where(checkpoints.c.job_id == bindparam("at_job_id"), checkpoints.c.number == bindparam("at_number"))
    .values(kept=False)
)


def _following(rows: Table) -> Select[Any]:
    return (
        select(rows)
        .where(rows.c.job_id == bindparam("job_id"), rows.c.offset > bindparam("after"))
        .order_by(rows.c.offset)
        .limit(bindparam("most"))
    )


def _last_offset(rows: Table) -> Select[Any]:
    return select(func.max(rows.c.offset)).where(rows.c.job_id == bindparam("job_id"))


_METRICS, _LAST_METRIC = _following(metrics), _last_offset(metrics)
_LOGS, _LAST_LOG = _following(logs), _last_offset(logs)
_RESULT = lookup(select(results).where(results.c.job_id == bindparam("job_id")))


class Jobs(Unit):
    def __init__(self, connection: Connection, now: datetime, *, writing: bool) -> None:
        super().__init__(connection, now, writing=writing)
        self._job_saves = Saves(self._run, self._late, "Job", _SAVE_JOB, mapping.from_job_progress)

    def add_job(self, job: Job) -> None:
        self._run(_ADD_JOB, mapping.from_job(job))
        self._run(_ADD_MODEL, {"job_id": job.id, "definition": job.spec.model})

    def model(self, job_id: JobId) -> str:
        found: str | None = self._run(_MODEL, {"job_id": job_id}).scalar_one_or_none()
        if found is None:
            raise not_found("job", job_id)
        return found

    def gather_jobs(self, job_ids: Iterable[JobId], seen: Iterable[Job]) -> None:
        """Reads jobs at once (`Saves.gather`)."""
        versions = {row.id: row.version for row in self._all(_VERSIONS, ids=sorted(set(job_ids)))}

        def read(changed: list[str]) -> Iterable[Job]:
            return map(mapping.to_job, self._run(_BY_IDS, {"ids": changed}))

        self._job_saves.gather(versions, seen, read)

    def job(self, job_id: JobId) -> Job | None:
        if (gathered := self._job_saves.gathered.get(job_id)) is not None:
            return gathered
        row = self._one(_JOB, id=job_id)
        return None if row is None else mapping.to_job(row)

    def save_job(self, job: Job) -> Job:
        return self._job_saves.save(job)

    def save_spec(self, job: Job) -> Job:
        self._run(_SAVE_SPEC, {"at_id": job.id, "spec": mapping.from_spec(job.spec)})
        return self.save_job(job)

    def delete_job(self, job_id: JobId) -> None:
        # Its leases, metrics, logs and result go with it by their foreign keys.
        self._run(_DELETE_JOB, {"id": job_id})
        self._job_saves.gathered.pop(job_id, None)

    def jobs(self, query: JobQuery) -> Page[Job]:
        matching = select(jobs)
        if query.owner_id is not None:
            matching = matching.where(jobs.c.owner_id == query.owner_id)
        if query.states:
            matching = matching.where(jobs.c.state.in_(sorted(state.value for state in query.states)))
        if query.types:
            matching = matching.where(jobs.c.type.in_(sorted(kind.value for kind in query.types)))
        if query.node_id is not None:
            matching = matching.where(jobs.c.node_id == query.node_id)
        if query.reservation_id is not None:
            matching = matching.where(jobs.c.reservation_id == query.reservation_id, jobs.c.reservation_id != "")
        if query.name_contains:
            matching = matching.where(jobs.c.name.icontains(query.name_contains, autoescape=True))
        total, capped = self._total(matching)
        shown = matching.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(query.limit)
        if query.after is not None:
            at, last_id = query.after
            # The first condition says nothing new; it is the one an index can start from.
            shown = shown.where(
                jobs.c.created_at <= at, or_(jobs.c.created_at < at, and_(jobs.c.created_at == at, jobs.c.id < last_id))
            )
        elif query.offset:
            shown = shown.offset(query.offset)
        return Page([mapping.to_job(row) for row in self._run(shown)], total, capped)

    def count_pending(self, owner_id: UserId, most: int) -> int:
        count: int = self._run(_COUNT_PENDING, {"owner_id": owner_id, "most": most}).scalar_one()
        return count

    def due_jobs(self, limit: int, after: Job | None = None) -> Sequence[Job]:
        if after is None:
            rows = self._all(_DUE_JOBS, now=self.now, most=limit)
        else:
            place = {"urgency": mapping.urgency(after), "created_at": after.created_at, "id": after.id}
            rows = self._all(_DUE_AFTER, now=self.now, most=limit, **place)
        return [mapping.to_job(row) for row in rows]

    def next_due_at(self) -> datetime | None:
        found: datetime | None = self._run(_NEXT_DUE, {"now": self.now}).scalar_one()
        return found

    def next_token(self) -> Token:
        epoch = self._run(_EPOCH).scalar_one_or_none()
        counter = self._run(_COUNT_POSTGRES if self._postgres else _COUNT_SQLITE).scalar_one()
        return Token(int(epoch or 1), int(counter))

    def raise_epoch(self) -> int:
        epoch = int(self._run(_EPOCH).scalar_one_or_none() or 1) + 1
        self._run(_DROP_EPOCH)
        self._run(insert(settings), {"name": "epoch", "value": str(epoch)})
        return epoch

    def add_lease(self, lease: Lease) -> None:
        self._run(_ADD_LEASE, mapping.from_lease(lease))

    def lease(self, job_id: JobId, token: Token) -> Lease | None:
        row = self._one(_LEASE, at_job_id=job_id, at_epoch=token.epoch, at_counter=token.counter)
        return None if row is None else mapping.to_lease(row)

    def save_lease(self, lease: Lease) -> None:
        columns = {
            "node_id": lease.node_id,
            "issued_at": lease.issued_at,
            "boot_id": lease.boot_id,
            "state": lease.state.value,
            "last_seq": lease.last_seq,
            "ended_at": lease.ended_at,
            "end_reason": lease.end_reason,
        }
        key = {"at_job_id": lease.job_id, "at_epoch": lease.token.epoch, "at_counter": lease.token.counter}
        if self._run(_SAVE_LEASE, {**columns, **key}).rowcount == 0:
            raise not_found("lease", f"{lease.job_id}/{lease.token}")

    def live_leases(self, node_id: NodeId | None = None) -> Sequence[Lease]:
        rows = self._run(_LIVE) if node_id is None else self._run(_LIVE_OF_NODE, {"node_id": node_id})
        return [mapping.to_lease(row) for row in rows]

    def held_jobs(self) -> Sequence[tuple[NodeId, Job]]:
        return [(NodeId(row.held_by), mapping.to_job(row)) for row in self._run(_HELD_JOBS)]

    def tenures(self, below: Priority) -> Mapping[JobId, Tenure]:
        rows = self._run(_TENURES, {"urgency": mapping.urgency_of(below)})
        return {JobId(row.id): Tenure(row.since, row.saved_at, row.gave_way) for row in rows}

    def leases_of(self, job_id: JobId) -> Sequence[Lease]:
        return [mapping.to_lease(row) for row in self._run(_LEASES_OF, {"job_id": job_id})]

    def add_metrics(self, job_id: JobId, points: Sequence[MetricPoint]) -> None:
        if points:
            self._run(_ADD_METRICS, [mapping.from_metric(job_id, point) for point in points])

    def metrics(self, job_id: JobId, after: int, limit: int) -> Sequence[MetricPoint]:
        rows = self._run(_METRICS, {"job_id": job_id, "after": after, "most": limit})
        return [mapping.to_metric(row) for row in rows]

    def last_metric_offset(self, job_id: JobId) -> int:
        return self._run(_LAST_METRIC, {"job_id": job_id}).scalar_one() or 0

    def add_logs(self, job_id: JobId, lines: Sequence[LogLine]) -> None:
        if lines:
            self._run(_ADD_LOGS, [mapping.from_log(job_id, line) for line in lines])

    def logs(self, job_id: JobId, after: int, limit: int) -> Sequence[LogLine]:
        rows = self._run(_LOGS, {"job_id": job_id, "after": after, "most": limit})
        return [mapping.to_log(row) for row in rows]

    def last_log_offset(self, job_id: JobId) -> int:
        return self._run(_LAST_LOG, {"job_id": job_id}).scalar_one() or 0

    def add_checkpoint(self, job_id: JobId, checkpoint: Checkpoint) -> None:
        self._run(_ADD_CHECKPOINT, mapping.from_checkpoint(job_id, checkpoint))

    def checkpoints(self, job_id: JobId, limit: int) -> Sequence[Checkpoint]:
        return [mapping.to_checkpoint(row) for row in self._run(_CHECKPOINTS, {"job_id": job_id, "most": limit})]

    def checkpoint_page(self, job_id: JobId, offset: int, limit: int) -> Page[Checkpoint]:
        matching = select(checkpoints).where(checkpoints.c.job_id == job_id)
        total, capped = self._total(matching)
        shown = matching.order_by(checkpoints.c.number.desc()).limit(limit).offset(offset)
        return Page([mapping.to_checkpoint(row) for row in self._run(shown)], total, capped)

    def kept_checkpoints(self, job_id: JobId) -> Sequence[Checkpoint]:
        return [mapping.to_checkpoint(row) for row in self._run(_KEPT, {"job_id": job_id})]

    def release_checkpoint(self, job_id: JobId, number: int) -> None:
        self._run(_RELEASE, {"at_job_id": job_id, "at_number": number})

    def add_result(self, result: JobResult) -> None:
        self._run(_ADD_RESULT, mapping.from_result(result))

    def result(self, job_id: JobId) -> JobResult | None:
        row = self._one(_RESULT, job_id=job_id)
        return None if row is None else mapping.to_result(row)
