"""`SqlTx`: `ports.store.Tx` as Core statements over one synchronous connection, the same on every database.

Statements raise the driver's own errors; the stores turn them into a CyxError with `translated`, at the edge of the
unit. A unit must therefore not go on after a failed statement: on PostgreSQL its transaction is over.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Job
from cyxwiz.domain.payment import Payment
from cyxwiz.domain.states import JobState, NodeState
from cyxwiz.ports.store import Stats
from cyxwiz.store.sql_accounts import Accounts
from cyxwiz.store.sql_facts import Facts
from cyxwiz.store.sql_jobs import Jobs, jobs
from cyxwiz.store.sql_links import LinksOfNodes
from cyxwiz.store.sql_money import Money
from cyxwiz.store.sql_nodes import Nodes, nodes
from cyxwiz.store.sql_pricing import Budgets
from cyxwiz.store.sql_proofs import Proofs
from cyxwiz.store.sql_reputation import Reputations
from cyxwiz.store.sql_reservations import Reservations
from cyxwiz.store.sql_stakes import StakesOfNodes
from cyxwiz.store.sql_wallets import Wallets

_JOBS_BY_STATE = select(jobs.c.state, func.count()).group_by(jobs.c.state)
_NODES_BY_STATE = select(nodes.c.state, func.count(), func.sum(nodes.c.compute_seconds)).group_by(nodes.c.state)


class SqlTx(
    Jobs,
    Nodes,
    Reputations,
    Reservations,
    Budgets,
    Accounts,
    Money,
    StakesOfNodes,
    Wallets,
    Facts,
    Proofs,
    LinksOfNodes,
):
    """One unit. `flush` must be called before the commit; `hinted` then names the topics to publish after it."""

    def gather(self, payment_ids: Iterable[str], payments: Iterable[Payment] = (), jobs: Iterable[Job] = ()) -> None:
        self.gather_jobs(self.gather_payments(payment_ids, payments), jobs)

    def stats(self) -> Stats:
        by_state = {str(state): 0 for state in JobState}
        by_state.update(dict(self._run(_JOBS_BY_STATE).all()))
        found = self._run(_NODES_BY_STATE).all()
        return Stats(
            total_nodes=sum(count for _, count, _ in found),
            online_nodes=sum(count for state, count, _ in found if state == NodeState.ONLINE),
            jobs_by_state=by_state,
            compute_seconds=sum(seconds for _, _, seconds in found),
        )


def call_soon(calls: Iterable[Callable[[], object]]) -> None:
    """What a unit wants called after its commit, on the running loop."""
    for call in calls:
        asyncio.get_running_loop().call_soon(call)


def translated(error: BaseException) -> BaseException:
    """What the caller of a unit gets for `error`: a CyxError for what a database refuses, else the error itself."""
    if isinstance(error, PoolTimeout):
        return CyxError(Code.UNAVAILABLE, "The database is busy: every connection is in use. Try again.")
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return CyxError(Code.INVALID, f"A value can't be stored: {error}")
    if not isinstance(error, DBAPIError):
        return error
    if isinstance(error.orig, sqlite3.Error):
        number = getattr(error.orig, "sqlite_errorcode", 0)
        kind, said = Code.EXISTS if number in _SQLITE_UNIQUE else _SQLITE.get(number & 0xFF), None
    else:
        state = sqlstate(error)
        kind, said = _POSTGRES.get(state) or _POSTGRES.get(state[:2]), _POSTGRES_SAID.get(state)
        if kind is None and error.connection_invalidated:
            kind = Code.UNAVAILABLE
    return error if kind is None else CyxError(kind, said or _SAID[kind])


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five characters for what went wrong, or nothing."""
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


_SQLITE_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_SQLITE = {
    sqlite3.SQLITE_FULL: Code.EXHAUSTED,
    sqlite3.SQLITE_CONSTRAINT: Code.CONFLICT,
    sqlite3.SQLITE_TOOBIG: Code.INVALID,
    sqlite3.SQLITE_BUSY: Code.UNAVAILABLE,
    sqlite3.SQLITE_IOERR: Code.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Code.UNAVAILABLE,
    sqlite3.SQLITE_CORRUPT: Code.UNAVAILABLE,
    sqlite3.SQLITE_NOTADB: Code.UNAVAILABLE,
}
# SQLSTATE, whole or its class of two characters.
_POSTGRES = {
    "23505": Code.EXISTS,
    "23": Code.CONFLICT,
    "22": Code.INVALID,
    "53": Code.EXHAUSTED,
    "53300": Code.UNAVAILABLE,
    "08": Code.UNAVAILABLE,
    "40": Code.UNAVAILABLE,
    "55P03": Code.UNAVAILABLE,
    "57": Code.UNAVAILABLE,
    "25P03": Code.UNAVAILABLE,
    "25006": Code.UNAVAILABLE,
    "42501": Code.UNAVAILABLE,
    "54": Code.INVALID,
    "58": Code.UNAVAILABLE,
    "XX": Code.UNAVAILABLE,
}
_POSTGRES_SAID = {
    "25006": "The database takes no writes now: it is a standby or read-only. Let database.url name the primary.",
    "42501": "PostgreSQL refuses it to the user of database.url: give that user all rights on the database's schema.",
}
_SAID = {
    Code.EXHAUSTED: "The database's disk or memory is full: nothing was stored. Make room and try again.",
    Code.EXISTS: "It exists already.",
    Code.CONFLICT: "It refers to something that is not there, or lacks a value.",
    Code.INVALID: "A value can't be stored: too long, out of range or not text.",
    Code.UNAVAILABLE: "The database can't be reached or failed. Try again.",
}
