"""A store that is gone with the process: for simulation and for tests.

The statements are those of the other stores, over SQLite in memory. Each unit runs at once, on the caller's thread and
without an await, so that the same program takes the same steps every time. Nothing is durable.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.store.sql import SqlTx, call_soon, translated
from cyxwiz.store.tables import metadata

T = TypeVar("T")


@cache
def _empty() -> sqlite3.Connection:
    """A database with all tables and nothing in them, to be copied: that takes less than to define them again."""
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    metadata.create_all(create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool))
    return raw


class MemoryStore:
    """`ports.store.Store` in memory."""

    def __init__(self, clock: Clock, bus: Bus) -> None:
        self._clock, self._bus = clock, bus
        self._raw = sqlite3.connect(":memory:", isolation_level=None)
        self._engine = create_engine("sqlite://", creator=lambda: self._raw, poolclass=StaticPool)
        _empty().backup(self._raw)
        self._raw.execute("PRAGMA foreign_keys=ON")
        self._connection = self._engine.connect()
        self._closed = False

    async def write(self, unit: Callable[[SqlTx], T]) -> T:
        value, tx = self._run(unit, writing=True)
        self._bus.publish(sorted(tx.hinted))
        call_soon(tx.calls)
        return value

    async def read(self, unit: Callable[[SqlTx], T]) -> T:
        return self._run(unit, writing=False)[0]

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.close()
            self._engine.dispose()
            self._raw.close()

    def _run(self, unit: Callable[[SqlTx], T], *, writing: bool) -> tuple[T, SqlTx]:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "The store is closed.", retryable=False)
        self._raw.execute("BEGIN")
        before = self._raw.total_changes
        try:
            tx = SqlTx(self._connection, self._clock.now(), writing=writing)
            value = unit(tx)
            tx.flush()
            # Not by PRAGMA query_only, which has every statement compiled anew.
            if not writing and self._raw.total_changes != before:
                raise sqlite3.OperationalError("attempt to write a readonly database")
        except BaseException as error:
            self._raw.rollback()
            seen = translated(error)
            if seen is error:
                raise
            raise seen from error
        self._raw.commit()
        return value, tx
