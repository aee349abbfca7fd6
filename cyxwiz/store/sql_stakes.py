"""Stakes and the steps to be done with them, as statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from cyxwiz.domain.errors import stale
from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.stake import Contest, Stake, StakeKind, StakeStep, StepState
from cyxwiz.store.sql_unit import Unit, lookup, table
from cyxwiz.store.tables_stakes import PENDING, StakeRow, StakeStepRow

steps, stakes = table(StakeStepRow), table(StakeRow)

_IS_PENDING = text(f"stake_steps.{PENDING}")
_STEP = lookup(select(steps).where(steps.c.id == bindparam("id")))
_SAVE = update(steps).where(steps.c.id == bindparam("at_id"), steps.c.version == bindparam("at_version"))
_PENDING_OF = (
    select(steps).where(_IS_PENDING, steps.c.node_id == bindparam("node_id")).order_by(steps.c.created_at, steps.c.id)
)
_NEWEST_OF = (
    select(steps)
    .where(steps.c.node_id == bindparam("node_id"))
    .order_by(steps.c.created_at.desc(), steps.c.id.desc())
    .limit(bindparam("most"))
)
_DUE = (
    select(steps)
    .where(_IS_PENDING, steps.c.due_at <= bindparam("now"))
    .order_by(steps.c.due_at, steps.c.id)
    .limit(bindparam("most"))
)
_STAKE = lookup(select(stakes).where(stakes.c.account == bindparam("account")))
_FIELDS = [field.name for field in fields(StakeStep)]
_STAKE_FIELDS = [field.name for field in fields(Stake)]


class StakesOfNodes(Unit):
    def add_stake_step(self, step: StakeStep) -> bool:
        dialect = postgresql if self._postgres else sqlite
        statement = dialect.insert(steps).on_conflict_do_nothing(index_elements=["id"])
        return bool(self._run(statement, _from_step(step)).rowcount)

    def stake_step(self, step_id: str) -> StakeStep | None:
        row = self._one(_STEP, id=step_id)
        return None if row is None else _to_step(row)

    def save_stake_step(self, step: StakeStep) -> StakeStep:
        columns = {**_from_step(step), "version": step.version + 1}
        done = self._run(_SAVE, {**columns, "at_id": step.id, "at_version": step.version})
        if done.rowcount == 0:
            raise stale(f"Step {step.id} of a stake was changed by somebody else: read it again", id=step.id)
        return replace(step, version=step.version + 1)

    def pending_stake_steps(self, node_id: NodeId) -> Sequence[StakeStep]:
        return [_to_step(row) for row in self._run(_PENDING_OF, {"node_id": node_id})]

    def stake_steps(self, node_id: NodeId, limit: int) -> Sequence[StakeStep]:
        return [_to_step(row) for row in self._run(_NEWEST_OF, {"node_id": node_id, "most": limit})]

    def due_stake_steps(self, limit: int) -> Sequence[StakeStep]:
        return [_to_step(row) for row in self._run(_DUE, {"now": self.now, "most": limit})]

    def stake_of(self, account: str) -> Stake:
        row = self._one(_STAKE, account=account)
        if row is None:
            return Stake(account)
        values = {name: getattr(row, name) for name in _STAKE_FIELDS}
        return Stake(**{**values, "contest": Contest(row.contest)})

    def save_stake(self, stake: Stake) -> None:
        dialect = postgresql if self._postgres else sqlite
        statement = dialect.insert(stakes)
        new = {name: statement.excluded[name] for name in _STAKE_FIELDS if name != "account"}
        values = {**asdict(stake), "contest": stake.contest.value}
        self._run(statement.on_conflict_do_update(index_elements=["account"], set_=new), values)


def _to_step(row: Any) -> StakeStep:
    values = {name: getattr(row, name) for name in _FIELDS}
    values |= {
        "node_id": NodeId(row.node_id),
        "owner_id": UserId(row.owner_id),
        "kind": StakeKind(row.kind),
        "state": StepState(row.state),
    }
    return StakeStep(**values)


def _from_step(step: StakeStep) -> dict[str, Any]:
    return {**asdict(step), "kind": step.kind.value, "state": step.state.value}
