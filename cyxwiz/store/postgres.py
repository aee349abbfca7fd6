"""The store on PostgreSQL: for several centrals.

Promised: a write unit runs READ COMMITTED with row locks on what it reads by id; a read unit sees one snapshot. A unit
that loses a deadlock, a serialization race or its connection before the commit runs again, a few times; one that adds
what is there already runs again once, as it may have looked before somebody else added it; one whose connection breaks
during the commit is UNAVAILABLE, and may have happened, as is one that waits long for a row that somebody else holds.
Refused: a transaction that its central left open (the server ends it after a minute, so that a dead central holds no
lock).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cyxwiz.config import Database
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.store import migrate
from cyxwiz.store.sql import SqlTx, call_soon, sqlstate, translated

T = TypeVar("T")

ATTEMPTS = 5
BACKOFF_SECONDS = 0.01
CONNECT_SECONDS = 10
IDLE_IN_TRANSACTION_MS = 60_000
LOCK_MS = 10_000  # that a unit waits for a lock: those that wait for one row must not use up all connections for long
_LOST_RACES = {"40001", "40P01"}  # serialization failure, deadlock
_THERE_ALREADY = "23505"


async def open_postgres(url: URL, config: Database, *, clock: Clock, bus: Bus) -> PostgresStore:
    """The store at `url`, upgraded.

    Raises:
        CyxError: UNAVAILABLE when it can't be reached, is not a database of CyxWiz or was written by a newer one.
    """
    store = PostgresStore(_engine(url, config), clock=clock, bus=bus)
    try:
        await store.upgrade()
    except BaseException:
        await store.aclose()
        raise
    return store


def _engine(url: URL, config: Database) -> AsyncEngine:
    kept = max(1, min(config.min_connections, config.max_connections))  # a pool of 0 would have no bound
    ssl = url.query.get("sslmode")
    if ssl is not None:  # the name that every other PostgreSQL client gives it
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": ssl})
    return create_async_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_size=kept,
        max_overflow=config.max_connections - kept,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "server_settings": {
                "application_name": "cyxwiz",
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                "lock_timeout": str(LOCK_MS),
                "jit": "off",  # every statement here is small: compiling one costs more than it saves
            },
        },
    )


class PostgresStore:
    """`ports.store.Store` on a pool of connections."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock, bus: Bus) -> None:
        self._engine, self._clock, self._bus = engine, clock, bus
        self._closed = False

    async def upgrade(self) -> None:
        await self._attempt(_upgrade, writing=True)

    async def write(self, unit: Callable[[SqlTx], T]) -> T:
        value, tx = await self._attempt(_apply, unit, self._clock.now(), True, writing=True)
        self._bus.publish(sorted(tx.hinted))
        call_soon(tx.calls)
        return value

    async def read(self, unit: Callable[[SqlTx], T]) -> T:
        value, _ = await self._attempt(_apply, unit, self._clock.now(), False, writing=False)
        return value

    async def aclose(self) -> None:
        self._closed = True
        await self._engine.dispose()

    async def _attempt(self, work: Callable[..., T], *args: Any, writing: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                async with self._connected() as connection:
                    if not writing:
                        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                    value = await connection.run_sync(work, *args)
                    committing = True
                    await (connection.commit() if writing else connection.rollback())
                    return value
            except Exception as error:
                slower = attempt == 1 and sqlstate(error) == _THERE_ALREADY
                if not slower and (attempt == ATTEMPTS or not _worth_another(error, committing and writing)):
                    seen = translated(error)
                    if seen is error:
                        raise
                    raise seen from error
            await self._clock.sleep(BACKOFF_SECONDS * attempt)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "The store is closed.", retryable=False)
        try:
            connection = await self._engine.connect()
        except Exception as error:
            raise _unreachable(error) from error
        try:
            yield connection
        finally:
            await connection.close()


def _apply(connection: Connection, unit: Callable[[SqlTx], T], now: datetime, writing: bool) -> tuple[T, SqlTx]:
    tx = SqlTx(connection, now, writing=writing)
    value = unit(tx)
    tx.flush()
    return value, tx


def _upgrade(connection: Connection) -> None:
    if migrate.current(connection) != migrate.head():
        connection.execute(text("SET LOCAL lock_timeout = 0"))  # another central may migrate for long
        connection.execute(text(f"SELECT pg_advisory_xact_lock({migrate.MIGRATION_LOCK})"))
        migrate.upgrade(connection)


async def revision(url: URL) -> str | None:
    """The revision of the database at `url`; None for one without our tables. Raises UNAVAILABLE as opening does."""
    engine = _engine(url, Database())
    try:
        try:
            connection = await engine.connect()
        except Exception as error:
            raise _unreachable(error) from error
        try:
            return await connection.run_sync(migrate.current)
        finally:
            await connection.close()
    finally:
        await engine.dispose()


def _worth_another(error: Exception, committing: bool) -> bool:
    if sqlstate(error) in _LOST_RACES:
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated and not committing


def _unreachable(error: Exception) -> Exception:
    """What kept a connection from being opened; the address and the password stay out of it."""
    seen = translated(error)
    if seen is not error:
        return seen  # type: ignore[return-value]
    state = sqlstate(error)
    if state.startswith("28"):
        return CyxError(Code.UNAVAILABLE, "PostgreSQL refused the user or password of database.url.", retryable=False)
    if state.startswith("53"):
        said = "PostgreSQL has no connection left: raise its max_connections, or lower database.max_connections."
        return CyxError(Code.UNAVAILABLE, said)
    if isinstance(error, (TypeError, ValueError)):
        return invalid(f"database.url has a parameter that can't be used: {error}")
    if state == "3D000":
        return CyxError(Code.UNAVAILABLE, "The database of database.url does not exist: create it.", retryable=False)
    return CyxError(Code.UNAVAILABLE, f"PostgreSQL can't be reached: {type(error).__name__}. Is it up?")
