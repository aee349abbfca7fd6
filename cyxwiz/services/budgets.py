"""Budgets: what a user's jobs and reservations may cost in a calendar month (UTC).

What counts is what those that ended this month cost, and what those that have not ended are expected to cost. A ledger
need not charge anything for it: the estimate counts all the same. Jobs in a reservation cost nothing beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cyxwiz.domain.account import Principal, Role, User
from cyxwiz.domain.errors import Code, CyxError, forbidden, not_found
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import Job
from cyxwiz.domain.money import format_cyxwiz, parse_cyxwiz
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services.audit import record

NONE = "none"  # instead of an amount: no budget


def month_of(at: datetime) -> datetime:
    """The first instant of its month."""
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Budget:
    user: User
    month: datetime
    amount_units: int | None  # None: no budget is set
    reserved_units: int
    spent_units: int

    @property
    def left_units(self) -> int | None:
        if self.amount_units is None:
            return None
        return max(0, self.amount_units - self.reserved_units - self.spent_units)


def left_of(tx: Tx, owner_id: UserId) -> int | None:
    """Units that are left of a user's budget for this month; None where there is none."""
    amount = tx.budget(owner_id)
    return None if amount is None else max(0, amount - sum(tx.costs_since(owner_id, month_of(tx.now))))


def reserve(tx: Tx, owner_id: UserId, units: int, *, minutes: int = 0, more: bool = False) -> None:
    """Raises FUNDS when a job that is expected to cost so much (or with `more`, that much more) passes its owner's
    budget, or a reservation of so many minutes. Call it before the one or the other is stored: the budget's row is
    locked until the unit ends."""
    amount = tx.budget(owner_id)
    if amount is None:
        return
    reserved, spent = tx.costs_since(owner_id, month_of(tx.now))
    left = max(0, amount - reserved - spent)
    if units > left:
        what, less = "This job is expected to cost", "set a lower payment.max_price or resources.max_duration"
        if minutes:
            what, less = f"{minutes} minutes cost", "take fewer"
        if more:
            what, less = "With it this job may cost another", "add less"
        said = {"needed": units, "left": left, "budget": amount, "reserved": reserved, "spent": spent}
        raise CyxError(
            Code.FUNDS,
            f"{what} {format_cyxwiz(units)} CYXWIZ, and {format_cyxwiz(left)} of your budget of "
            f"{format_cyxwiz(amount)} for this month are left: {less}, let other jobs end, or ask an admin for more",
            {name: format_cyxwiz(value) for name, value in said.items()},
        )


def keep_cost(tx: Tx, job: Job) -> None:
    """Remembers what a job cost that is about to be deleted."""
    if job.actual_cost_units and job.completed_at is not None and not job.spec.reservation_id:
        tx.add_deleted_cost(job.owner_id, month_of(job.completed_at), job.actual_cost_units)


class Budgets:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def set(self, actor: Principal, name_or_id: str, amount: str) -> Budget:
        """`amount` of CYXWIZ a month, or NONE. Raises INVALID for what is no amount, NOT_FOUND."""
        actor.require(Role.ADMIN)
        units = None if amount == NONE else parse_cyxwiz(amount, "amount")

        def unit(tx: Tx) -> Budget:
            user = _user(tx, name_or_id)
            tx.set_budget(user.id, units)
            record(tx, actor.name, "user.budget", f"user:{user.id}", amount=amount)
            return _budget(tx, user)

        return await self._store.write(unit)

    async def get(self, actor: Principal, name_or_id: str) -> Budget:
        """One's own, or for an admin anybody's. Raises FORBIDDEN, NOT_FOUND."""
        if not actor.is_admin and name_or_id not in (actor.id, actor.name):
            raise forbidden("You can look at your own budget only")
        return await self._store.read(lambda tx: _budget(tx, _user(tx, name_or_id)))


def _user(tx: Tx, name_or_id: str) -> User:
    user = tx.user_by_name(name_or_id) or tx.user(UserId(name_or_id))
    if user is None:
        raise not_found("user", name_or_id[:100])
    return user


def _budget(tx: Tx, user: User) -> Budget:
    month = month_of(tx.now)
    return Budget(user, month, tx.budget(user.id), *tx.costs_since(user.id, month))
