"""Reservations as statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Select, and_, bindparam, exists, func, insert, or_, select, text, update

from cyxwiz.domain.errors import stale
from cyxwiz.domain.ids import NodeId, ReservationId, UserId
from cyxwiz.domain.payment import Step
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import TERMINAL_JOB_STATES, JobState, ReservationState
from cyxwiz.ports.store import Page, ReservationQuery, ReservedJobs
from cyxwiz.store import mapping
from cyxwiz.store.sql_jobs import jobs
from cyxwiz.store.sql_money import movements
from cyxwiz.store.sql_unit import Unit, lookup, table
from cyxwiz.store.tables_reservations import LIVE_RESERVATIONS, ReservationRow

reservations = table(ReservationRow)

IS_LIVE = text(f"reservations.{LIVE_RESERVATIONS}")
KEPT = and_(IS_LIVE, reservations.c.ends_at > bindparam("now"))  # what keeps its node from others
_PLAIN = [each.name for each in fields(Reservation)]

_ADD = insert(reservations)
_ONE = lookup(select(reservations).where(reservations.c.id == bindparam("id")))
_SAVE = update(reservations).where(
    reservations.c.id == bindparam("at_id"), reservations.c.version == bindparam("at_version")
)
_OF_NODE = lookup(select(reservations).where(IS_LIVE, reservations.c.node_id == bindparam("node_id")))
_LIVE = select(reservations).where(IS_LIVE).order_by(reservations.c.started_at, reservations.c.id)
_OWED = (
    select(reservations)
    .where(reservations.c.settled_at.is_(None), reservations.c.ended_at.is_not(None))
    .order_by(reservations.c.ended_at)
    .limit(bindparam("most"))
)
_END = movements.alias()
_LATE = (
    select(reservations)
    .where(
        reservations.c.settled_at.is_not(None),
        exists().where(
            movements.c.job_id == reservations.c.id,
            movements.c.kind == str(Step.LOCK),
            movements.c.state != "failed",
            ~exists().where(
                _END.c.payment_id == movements.c.payment_id,
                _END.c.kind.in_((str(Step.SETTLE), str(Step.REFUND))),
                _END.c.state == "confirmed",
            ),
        ),
    )
    .order_by(reservations.c.started_at, reservations.c.id)
    .limit(bindparam("most"))
)
_IN_IT = (jobs.c.reservation_id == bindparam("reservation_id"), jobs.c.reservation_id != "")
_OPEN_JOBS = (
    select(jobs)
    .where(*_IN_IT, jobs.c.state.not_in(sorted(str(state) for state in TERMINAL_JOB_STATES)))
    .order_by(jobs.c.created_at, jobs.c.id)
)
_DONE_JOBS = select(func.count().label("count"), func.max(jobs.c.completed_at).label("last")).where(
    *_IN_IT, jobs.c.state == str(JobState.COMPLETED)
)


class Reservations(Unit):
    def add_reservation(self, reservation: Reservation) -> None:
        self._run(_ADD, _columns(reservation))

    def reservation(self, reservation_id: ReservationId) -> Reservation | None:
        row = self._one(_ONE, id=reservation_id)
        return None if row is None else _reservation(row)

    def save_reservation(self, reservation: Reservation) -> Reservation:
        columns = _columns(replace(reservation, version=reservation.version + 1))
        del columns["id"]
        done = self._run(_SAVE, {**columns, "at_id": reservation.id, "at_version": reservation.version})
        if done.rowcount == 0:
            raise stale(f"Reservation {reservation.id} was changed by somebody else: read it again", id=reservation.id)
        return replace(reservation, version=reservation.version + 1)

    def reservations(self, query: ReservationQuery) -> Page[Reservation]:
        matching = self._matching(query)
        total, capped = self._total(matching)
        shown = matching.order_by(reservations.c.started_at.desc(), reservations.c.id.desc()).limit(query.limit)
        if query.after is not None:
            at, last_id = query.after
            started, same = reservations.c.started_at, reservations.c.id < last_id
            shown = shown.where(started <= at, or_(started < at, and_(started == at, same)))
        elif query.offset:
            shown = shown.offset(query.offset)
        return Page([_reservation(row) for row in self._run(shown)], total, capped)

    def _matching(self, query: ReservationQuery) -> Select[Any]:
        matching = select(reservations)
        if query.owner_id is not None:
            matching = matching.where(reservations.c.owner_id == query.owner_id)
        if query.wallet:
            matching = matching.where(reservations.c.user_wallet == query.wallet)
        if query.locked:
            held = reservations.c.held & (reservations.c.escrow_account != "")
            matching = matching.where(held, reservations.c.settled_at.is_(None))
        if query.at is not None:
            matching = matching.where(IS_LIVE, reservations.c.ends_at > query.at)
        return matching

    def reservation_of(self, node_id: NodeId) -> Reservation | None:
        row = self._one(_OF_NODE, node_id=node_id)
        return None if row is None else _reservation(row)

    def live_reservations(self) -> Sequence[Reservation]:
        return [_reservation(row) for row in self._run(_LIVE)]

    def unsettled_reservations(self, limit: int) -> Sequence[Reservation]:
        return [_reservation(row) for row in self._run(_OWED, {"most": limit})]

    def settled_reservations_with_locks(self, limit: int) -> Sequence[Reservation]:
        return [_reservation(row) for row in self._run(_LATE, {"most": limit})]

    def reserved_jobs(self, reservation_id: ReservationId) -> ReservedJobs:
        given = {"reservation_id": reservation_id}
        done = self._run(_DONE_JOBS, given).one()
        return ReservedJobs([mapping.to_job(row) for row in self._run(_OPEN_JOBS, given)], done.count, done.last)


def _columns(reservation: Reservation) -> dict[str, Any]:
    columns = {name: getattr(reservation, name) for name in _PLAIN}
    columns["state"] = reservation.state.value
    columns["metrics"] = dict(reservation.metrics)
    columns["reported_jobs"] = list(reservation.reported_jobs)
    columns["ends_at"] = reservation.ends_at
    return columns


def _reservation(row: Any) -> Reservation:
    values = {name: getattr(row, name) for name in _PLAIN}
    return Reservation(
        **{
            **values,
            "id": ReservationId(row.id),
            "owner_id": UserId(row.owner_id),
            "node_id": NodeId(row.node_id),
            "state": ReservationState(row.state),
            "reported_jobs": tuple(row.reported_jobs),
        }
    )
