"""Payments, movements and the platform's own books as statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, insert, or_, select, text, update

from cyxwiz.domain.errors import Code, CyxError, invalid, not_found
from cyxwiz.domain.ids import JobId, UserId
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.payment import BASIS_POINTS, CLOSING, Funding, Movement, Payment
from cyxwiz.domain.states import TERMINAL_JOB_STATES, PaymentState
from cyxwiz.ports.store import MoneyStats, MovementQuery, Page, PaymentQuery
from cyxwiz.store.sql_unit import Saves, Unit, insert_once, lookup, table
from cyxwiz.store.tables import OPEN_PAYMENTS, AccountRow, JobRow, MovementRow, NodeRow, PaymentRow, PostingRow, UserRow

payments, movements = table(PaymentRow), table(MovementRow)
accounts, postings = table(AccountRow), table(PostingRow)
_jobs, _nodes, _users = table(JobRow), table(NodeRow), table(UserRow)

_FIELDS = [field.name for field in fields(Payment)]
_CHANGING = _FIELDS[_FIELDS.index("state") :]  # what is before are its terms
_MOVED = [field.name for field in fields(Movement)]
_ENDING = ("state", "confirmed_at", "error", "raw")  # what changes of a movement
_changing_of, _moved_of = attrgetter(*_CHANGING), attrgetter(*_MOVED)
_PAYMENTS = select(*(payments.c[name] for name in _FIELDS))
_MOVEMENTS = select(*(movements.c[name] for name in _MOVED))

_IS_OPEN = text(f"payments.{OPEN_PAYMENTS}")
_ADD = insert(payments)
_BY_ID = lookup(_PAYMENTS.where(payments.c.id == bindparam("id")))
_AMONG = bindparam("ids", expanding=True)
_BY_IDS = _PAYMENTS.where(payments.c.id.in_(_AMONG))
_VERSIONS = lookup(  # of some payments and all others of their jobs
    select(payments.c.id, payments.c.job_id, payments.c.version)
    .where(payments.c.job_id.in_(select(payments.c.job_id).where(payments.c.id.in_(_AMONG))))
    .order_by(payments.c.id)
)
_SAVE = update(payments).where(payments.c.id == bindparam("at_id"), payments.c.version == bindparam("at_version"))
_OF_JOB = _PAYMENTS.where(payments.c.job_id == bindparam("job_id")).order_by("member", "number")
_HAS_ENDED = _jobs.c.state.in_(sorted(state.value for state in TERMINAL_JOB_STATES))
_CHANGED = and_(
    or_(_jobs.c.id.is_(None), _jobs.c.version != payments.c.job_version),
    or_(payments.c.due_at.is_(None), and_(_HAS_ENDED, payments.c.attempts == 0)),
)
# A job that does not change has its money given back all the same.
_CLOSES = and_(payments.c.due_at.is_(None), payments.c.deadline <= bindparam("closing"))
_DUE = (
    select(payments.c.id)
    .select_from(payments.outerjoin(_jobs, _jobs.c.id == payments.c.job_id))
    .where(_IS_OPEN, or_(payments.c.due_at <= bindparam("now"), _CHANGED, _CLOSES))
    .order_by(payments.c.created_at, payments.c.id)
    .limit(bindparam("most"))
)
_HURRY = update(payments).where(_IS_OPEN, payments.c.due_at > bindparam("now")).values(due_at=bindparam("now"))
_OWNER = lookup(select(_users.c.id).where(_users.c.id == bindparam("id")))
_PROMISED = select(func.coalesce(func.sum(payments.c.amount_units), 0)).where(
    _IS_OPEN,
    payments.c.owner_id == bindparam("owner_id"),
    payments.c.state == PaymentState.PENDING.value,
    payments.c.funding == Funding.PREPAID.value,
    payments.c.attempts == 0,
)
_NEXT = select(func.min(payments.c.due_at)).where(_IS_OPEN, payments.c.due_at.is_not(None))
# Each payment's own, rounded down (`domain.payment.fee_of`), without a product that leaves 64 bits.
_FEE = (
    payments.c.paid_units // BASIS_POINTS * payments.c.fee_bps
    + payments.c.paid_units % BASIS_POINTS * payments.c.fee_bps // BASIS_POINTS
)
_SUMS = select(
    payments.c.state,
    func.count(),
    func.sum(payments.c.amount_units),
    func.sum(payments.c.paid_units),
    func.sum(_FEE),
    func.sum(payments.c.refunded_units),
).group_by(payments.c.state)
_LOCKS = movements.c.kind == "lock"
_KEPT = select(  # the locks of reservations and what ended them: those are in no payment's row
    func.coalesce(func.sum(case((_LOCKS, movements.c.units), else_=0)), 0),
    func.coalesce(func.sum(case((_LOCKS, 0), else_=movements.c.units)), 0),
    func.coalesce(func.sum(movements.c.fee_units), 0),
    func.coalesce(func.sum(movements.c.back_units), 0),
).where(
    movements.c.kind.in_(("lock", "settle", "refund")),
    movements.c.state == "confirmed",
    movements.c.payment_id.not_in(select(payments.c.id)),
)
_ADD_MOVEMENT = insert_once(movements, "reference", "payment_id")
_ENTER, _OPEN = insert_once(postings, "key", "account"), insert_once(accounts, "account")
_OF_PAYMENTS = _MOVEMENTS.where(movements.c.payment_id.in_(_AMONG)).order_by(movements.c.at, movements.c.reference)
_MOVEMENT = _MOVEMENTS.where(movements.c.reference == bindparam("reference"))
_SAVE_MOVEMENT = update(movements).where(
    movements.c.reference == bindparam("at_reference"), movements.c.payment_id == bindparam("at_payment_id")
)
_ACCOUNT = lookup(select(accounts.c.units).where(accounts.c.account == bindparam("account")))
_ADD_TO = (
    update(accounts)
    .where(
        accounts.c.account == bindparam("at_account"), accounts.c.units.between(bindparam("least"), bindparam("most"))
    )
    .values(units=accounts.c.units + bindparam("delta"))
)


class Money(Unit):
    def __init__(self, connection: Connection, now: datetime, *, writing: bool) -> None:
        super().__init__(connection, now, writing=writing)
        self._payment_saves = Saves(self._run, self._late, "Payment", _SAVE, _changing)
        self._whole_jobs = defaultdict[JobId, set[str]](set)  # of which all payments are gathered: their ids

    def add_payment(self, payment: Payment) -> None:
        self._run(_ADD, _from_payment(payment))
        self._whole_jobs.pop(payment.job_id, None)

    def gather_payments(self, payment_ids: Iterable[str], seen: Iterable[Payment]) -> Collection[JobId]:
        """Reads payments at once, and all others of their jobs (`Saves.gather`); returns these jobs."""
        versions: dict[str, int] = {}
        for row in self._all(_VERSIONS, ids=sorted(set(payment_ids))):
            versions[row.id] = row.version
            self._whole_jobs[row.job_id].add(row.id)

        def read(changed: list[str]) -> Iterable[Payment]:
            return map(_to_payment, self._run(_BY_IDS, {"ids": changed}))

        self._payment_saves.gather(versions, seen, read)
        return self._whole_jobs.keys()

    def payment(self, payment_id: str) -> Payment | None:
        if (gathered := self._payment_saves.gathered.get(payment_id)) is not None:
            return gathered
        row = self._one(_BY_ID, id=payment_id)
        return None if row is None else _to_payment(row)

    def save_payment(self, payment: Payment) -> Payment:
        return self._payment_saves.save(payment)

    def payments_of(self, job_id: JobId) -> Sequence[Payment]:
        if job_id in self._whole_jobs:
            found = [self._payment_saves.gathered[ident] for ident in self._whole_jobs[job_id]]
            return sorted(found, key=lambda each: (each.member, each.number))
        return [_to_payment(row) for row in self._run(_OF_JOB, {"job_id": job_id})]

    def payments(self, query: PaymentQuery) -> Page[Payment]:
        matching = _PAYMENTS
        if query.owner_id is not None:
            matching = matching.where(payments.c.owner_id == query.owner_id)
        if query.node_owner_id is not None:
            matching = matching.where(
                payments.c.node_id.in_(select(_nodes.c.id).where(_nodes.c.owner_id == query.node_owner_id))
            )
        if query.job_id is not None:
            matching = matching.where(payments.c.job_id == query.job_id)
        if query.states:
            matching = matching.where(payments.c.state.in_(sorted(state.value for state in query.states)))
        total, capped = self._total(matching)
        shown = matching.order_by(payments.c.created_at.desc(), payments.c.id.desc())
        rows = self._run(shown.limit(query.limit).offset(query.offset))
        return Page([_to_payment(row) for row in rows], total, capped)

    def due_payment_ids(self, limit: int) -> Sequence[str]:
        given = {"now": self.now, "closing": self.now + CLOSING, "most": limit}
        return list(self._run(_DUE, given).scalars())

    def hurry_payments(self) -> None:
        self._run(_HURRY, {"now": self.now})
        self._payment_saves.gathered.clear()
        self._whole_jobs.clear()

    def promised_units(self, owner_id: UserId) -> int:
        if self._postgres:
            self._one(_OWNER, id=owner_id)
        return int(self._run(_PROMISED, {"owner_id": owner_id}).scalar_one())

    def next_payment_at(self) -> datetime | None:
        found: datetime | None = self._run(_NEXT).scalar_one()
        return found

    def money(self) -> MoneyStats:
        by_state = {str(state): 0 for state in PaymentState}
        locks, paid, fees, refunded = (int(units) for units in self._run(_KEPT).one())
        locked = locks - paid - refunded
        for state, count, amount, paid_out, fee, back in self._run(_SUMS):
            by_state[state] += count
            paid, fees, refunded = paid + int(paid_out), fees + int(fee), refunded + int(back)
            if state in (PaymentState.LOCKED, PaymentState.STREAMING):
                locked += int(amount) - int(paid_out)
        return MoneyStats(by_state, locked, paid, fees, refunded)

    def add_movement(self, movement: Movement) -> bool:
        return bool(self._run(_ADD_MOVEMENT, _from_movement(movement)).rowcount)

    def add_movements(self, made: Sequence[Movement]) -> None:
        if made:
            self._run(_ADD_MOVEMENT, [_from_movement(each) for each in made])

    def movements_of(self, payment_id: str) -> Sequence[Movement]:
        return self.movements_of_all([payment_id])[payment_id]

    def movements_of_all(self, payment_ids: Iterable[str]) -> Mapping[str, Sequence[Movement]]:
        found: dict[str, list[Movement]] = {ident: [] for ident in payment_ids}
        for row in self._run(_OF_PAYMENTS, {"ids": sorted(found)}) if found else ():
            movement = Movement(*row)
            found[movement.payment_id].append(movement)
        return found

    def movement(self, reference: str) -> Movement | None:
        row = self._run(_MOVEMENT, {"reference": reference}).first()
        return None if row is None else Movement(*row)

    def save_movements(self, ended: Sequence[Movement]) -> None:
        if ended:
            rows = [_ending(each) for each in ended]
            if 0 <= self._run(_SAVE_MOVEMENT, rows).rowcount < len(rows):
                raise not_found("movement", " or ".join(each.reference for each in ended))

    def movements(self, query: MovementQuery) -> Page[Movement]:
        matching = _MOVEMENTS
        if query.owner_id is not None and query.account:
            matching = matching.where(or_(movements.c.owner_id == query.owner_id, _touches(query.account)))
        elif query.owner_id is not None:
            matching = matching.where(movements.c.owner_id == query.owner_id)
        elif query.account:
            matching = matching.where(_touches(query.account))
        if query.payment_id:
            matching = matching.where(movements.c.payment_id == query.payment_id)
        if query.job_id:
            matching = matching.where(movements.c.job_id == query.job_id)
        if query.state:
            matching = matching.where(movements.c.state == query.state)
        if query.kinds:
            matching = matching.where(movements.c.kind.in_(sorted(query.kinds)))
        total, capped = self._total(matching)
        shown = matching.order_by(*(movements.c[name].desc() for name in ("at", "reference", "payment_id")))
        rows = self._run(shown.limit(query.limit).offset(query.offset))
        return Page([Movement(*row) for row in rows], total, capped)

    def moved(self, since: datetime | None = None) -> tuple[int, int]:
        paid = case((movements.c.kind.in_(("pay", "settle")), movements.c.units), else_=0)
        counted = select(func.count(movements.c.reference.distinct()), func.coalesce(func.sum(paid), 0)).where(
            movements.c.state == "confirmed"
        )
        if since is not None:
            counted = counted.where(movements.c.at >= since)
        count, units = self._run(counted).one()
        return int(count), int(units)

    def post(self, key: str, lines: Mapping[str, int], overdraw: frozenset[str] = frozenset()) -> bool:
        assert sum(lines.values()) == 0, f"entry {key} is off by {sum(lines.values())}"
        for account, units in sorted(lines.items()):  # one order for everybody: no two entries wait for each other
            values = {"key": key, "account": account, "units": units, "at": self.now}
            if not self._run(_ENTER, values).rowcount:
                return False
            self._run(_OPEN, {"account": account, "units": 0})
            bounds = {"least": -MAX_UNITS - min(0, units), "most": MAX_UNITS - max(0, units)}
            if not self._run(_ADD_TO, {"at_account": account, "delta": units, **bounds}).rowcount:
                raise invalid(f"Account {account} would pass {format_cyxwiz(MAX_UNITS)} CYXWIZ, the most there can be")
            if units < 0 and account not in overdraw and (left := self.account_units(account)) < 0:
                raise CyxError(
                    Code.FUNDS,
                    f"The balance is too low: {format_cyxwiz(left - units)} CYXWIZ are there, "
                    f"{format_cyxwiz(-units)} are needed",
                    {"available_units": left - units, "needed_units": -units},
                )
        return True

    def account_units(self, account: str) -> int:
        row = self._one(_ACCOUNT, account=account)
        return 0 if row is None else int(row.units)

    def accounts_total(self) -> int:
        return int(self._run(select(func.coalesce(func.sum(accounts.c.units), 0))).scalar_one())


def _touches(account: str) -> ColumnElement[bool]:
    return or_(movements.c.source == account, movements.c.destination == account)


def _to_payment(row: Iterable[Any]) -> Payment:
    values = dict(zip(_FIELDS, row, strict=True))
    values |= {"state": PaymentState(values["state"]), "funding": Funding(values["funding"])}
    return Payment(**values)


def _from_payment(payment: Payment) -> dict[str, Any]:
    values = {name: getattr(payment, name) for name in _FIELDS}
    return {**values, "state": payment.state.value, "funding": payment.funding.value}


def _changing(payment: Payment) -> dict[str, Any]:
    return dict(zip(_CHANGING, _changing_of(payment), strict=True)) | {"state": payment.state.value}


def _ending(movement: Movement) -> dict[str, Any]:
    key = {"at_reference": movement.reference, "at_payment_id": movement.payment_id}
    return key | {name: getattr(movement, name) for name in _ENDING}


def _from_movement(movement: Movement) -> dict[str, Any]:
    return dict(zip(_MOVED, _moved_of(movement), strict=True))
