"""Budgets and what jobs and reservations cost in a month, as statements."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, bindparam, case, delete, func, insert, select, update

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.money import UNITS_PER_CYXWIZ as WHOLE
from cyxwiz.domain.reservation import cost_units
from cyxwiz.domain.states import TERMINAL_JOB_STATES
from cyxwiz.store.sql_jobs import jobs
from cyxwiz.store.sql_reservations import reservations
from cyxwiz.store.sql_unit import Unit, insert_once, lookup, table
from cyxwiz.store.tables_pricing import BudgetRow, DeletedCostRow

budgets, deleted = table(BudgetRow), table(DeletedCostRow)

_BUDGET = lookup(select(budgets.c.amount_units).where(budgets.c.user_id == bindparam("user_id")))
_SAVE_BUDGET = update(budgets).where(budgets.c.user_id == bindparam("of_user"))
_DROP_BUDGET = delete(budgets).where(budgets.c.user_id == bindparam("of_user"))
_IS_OVER = jobs.c.state.in_(sorted(str(state) for state in TERMINAL_JOB_STATES))
_RESERVED = case((_IS_OVER, 0), else_=jobs.c.estimated_cost_units)
_SPENT = case((_IS_OVER, jobs.c.actual_cost_units), else_=0)
# Whole CYXWIZ and the rest are summed apart: the sum of many amounts may be past what an integer column holds.
_COSTS = select(
    *(func.coalesce(func.sum(part), 0) for each in (_RESERVED, _SPENT) for part in (each // WHOLE, each % WHOLE))
).where(
    jobs.c.owner_id == bindparam("user_id"),
    jobs.c.reservation_id == "",
    jobs.c.completed_at.is_(None) | (jobs.c.completed_at >= bindparam("since")),
)
_KEPT = select(reservations.c.rate_units_per_hour, reservations.c.minutes).where(
    reservations.c.owner_id == bindparam("user_id"), reservations.c.ended_at.is_(None)
)
_PAID = reservations.c.paid_units
_USED = select(*(func.coalesce(func.sum(part), 0) for part in (_PAID // WHOLE, _PAID % WHOLE))).where(
    reservations.c.owner_id == bindparam("user_id"), reservations.c.ended_at >= bindparam("since")
)
_DELETED = select(deleted.c.units).where(
    deleted.c.user_id == bindparam("user_id"), deleted.c.month == bindparam("since")
)
_ADD_MONTH = insert_once(deleted)
_ADD_DELETED = (
    update(deleted)
    .where(deleted.c.user_id == bindparam("of_user"), deleted.c.month == bindparam("of_month"))
    .values(
        units=case(
            (deleted.c.units > MAX_UNITS - bindparam("more", type_=BigInteger), MAX_UNITS),
            else_=deleted.c.units + bindparam("more", type_=BigInteger),
        )
    )
)


class Budgets(Unit):
    def budget(self, user_id: UserId) -> int | None:
        row = self._one(_BUDGET, user_id=user_id)
        return None if row is None else int(row.amount_units)

    def set_budget(self, user_id: UserId, units: int | None) -> None:
        if units is None:
            self._run(_DROP_BUDGET, {"of_user": user_id})
            return
        # Changed in place: a job that waits for the row's lock would find no budget if it was another row.
        columns = {"amount_units": units, "set_at": self.now}
        if self._run(_SAVE_BUDGET, {**columns, "of_user": user_id}).rowcount == 0:
            self._run(insert(budgets), {**columns, "user_id": user_id})

    def costs_since(self, user_id: UserId, month: datetime) -> tuple[int, int]:
        given = {"user_id": user_id, "since": month}
        sums = [int(each) for each in self._run(_COSTS, given).one()]
        forgotten = self._run(_DELETED, given).scalar_one_or_none() or 0
        kept = sum(cost_units(row.rate_units_per_hour, row.minutes) for row in self._run(_KEPT, {"user_id": user_id}))
        whole, rest = (int(each) for each in self._run(_USED, given).one())
        spent = sums[2] * WHOLE + sums[3] + int(forgotten) + whole * WHOLE + rest
        return sums[0] * WHOLE + sums[1] + kept, spent

    def add_deleted_cost(self, user_id: UserId, month: datetime, units: int) -> None:
        self._run(_ADD_MONTH, {"user_id": user_id, "month": month, "units": 0})
        self._run(_ADD_DELETED, {"of_user": user_id, "of_month": month, "more": units})
