"""The store on one SQLite file: for one central process.

Promised: a unit is durable (WAL, synchronous=FULL) before `write` returns; all units that wait share one commit, each
in a savepoint of its own. Reads run beside the writer on snapshots of their own. Refused: a second process on the file.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.store.sql import SqlTx, call_soon, translated

log = logging.getLogger(__name__)
T = TypeVar("T")

READERS = 4
MOST_UNITS_A_COMMIT = 256
BUSY_SECONDS = 10


def connect(path: Path, *, writing: bool) -> Connection:
    """A connection whose transactions are begun and ended by hand, on the raw connection."""

    def create() -> sqlite3.Connection:
        raw = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        if not writing:
            raw.execute("PRAGMA query_only=ON")
        return raw

    return create_engine("sqlite://", creator=create, poolclass=NullPool).connect()


def raw_of(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


@dataclass(slots=True)
class _Waiting:
    """A unit on its way: what came of it is filled in by the writer."""

    unit: Callable[[SqlTx], Any]
    now: datetime
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None
    hinted: frozenset[str] = frozenset()
    calls: Sequence[Callable[[], object]] = ()


class _TransactionLost(Exception):
    """SQLite gave up the whole transaction (a full disk does that), and with it the units before this one."""


class SqliteStore:
    """`ports.store.Store` on a file. `lock` is an open, locked file that is closed with the store."""

    def __init__(self, path: Path, *, clock: Clock, bus: Bus, lock: IO[bytes] | None = None) -> None:
        self._path, self._clock, self._bus, self._lock = path, clock, bus, lock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._connection = connect(path, writing=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._reading = threading.local()
        self._opened: list[Connection] = []
        self._writer = threading.Thread(target=self._write_on, name="store-writer", daemon=True)
        self._writer.start()

    async def write(self, unit: Callable[[SqlTx], T]) -> T:
        self._refuse_when_closed()
        waiting = _Waiting(unit, self._clock.now(), self._loop.create_future())
        with self._wake:
            self._queue.append(waiting)
            self._wake.notify()
        value: T = await waiting.future
        return value

    async def read(self, unit: Callable[[SqlTx], T]) -> T:
        self._refuse_when_closed()
        return await self._loop.run_in_executor(self._readers, self._read, unit, self._clock.now())

    async def aclose(self) -> None:
        """Runs what is queued, then closes."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify()
        await asyncio.to_thread(self._close)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "The store is closed.", retryable=False)

    def _close(self) -> None:
        self._writer.join()
        self._readers.shutdown()
        for connection in (*self._opened, self._connection):
            _discard(connection)
        if self._lock is not None:
            self._lock.close()

    # on the threads of the readers

    def _read(self, unit: Callable[[SqlTx], T], now: datetime) -> T:
        try:
            connection: Connection | None = getattr(self._reading, "connection", None)
            if connection is None:
                connection = self._reading.connection = connect(self._path, writing=False)
                self._opened.append(connection)
            raw = raw_of(connection)
            raw.execute("BEGIN")
            try:
                return unit(SqlTx(connection, now, writing=False))
            finally:
                raw.rollback()
        except BaseException as error:
            seen = _seen(error)
            if seen is error:
                raise
            raise seen from error

    # on the writer's thread

    def _write_on(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closed:
                    self._wake.wait()
                if not self._queue:
                    return
                units = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_UNITS_A_COMMIT))]
            try:
                self._commit(units)
            except BaseException as error:
                log.exception("the writer of the store failed")
                for waiting in units:
                    waiting.error = _seen(error)
            try:
                self._loop.call_soon_threadsafe(self._deliver, units)
            except RuntimeError:
                log.warning("the event loop has ended before %d units of the store were answered", len(units))

    def _commit(self, units: list[_Waiting]) -> None:
        raw = raw_of(self._connection)
        try:
            raw.execute("BEGIN IMMEDIATE")
            for waiting in units:
                self._apply(raw, waiting)
            raw.execute("COMMIT")
        except _TransactionLost:
            if len(units) > 1:
                # Each by itself, so that only those fail that can't be stored.
                for waiting in units:
                    waiting.error = None
                    self._commit([waiting])
        except sqlite3.Error as error:
            if raw.in_transaction:
                raw.rollback()
            for waiting in units:
                waiting.error = _seen(error)

    def _apply(self, raw: sqlite3.Connection, waiting: _Waiting) -> None:
        raw.execute("SAVEPOINT unit")
        try:
            tx = SqlTx(self._connection, waiting.now, writing=True)
            waiting.value = waiting.unit(tx)
            tx.flush()
            waiting.hinted, waiting.calls = frozenset(tx.hinted), tx.calls
        except BaseException as error:
            waiting.error = _seen(error)
            if not raw.in_transaction:
                raise _TransactionLost from error
            raw.execute("ROLLBACK TO unit")
        raw.execute("RELEASE unit")

    # on the loop's thread

    def _deliver(self, units: list[_Waiting]) -> None:
        hinted: set[str] = set()
        for waiting in units:
            if waiting.error is None:
                hinted |= waiting.hinted
                call_soon(waiting.calls)
            if waiting.future.done():
                continue
            if waiting.error is None:
                waiting.future.set_result(waiting.value)
            else:
                waiting.future.set_exception(waiting.error)
        self._bus.publish(sorted(hinted))


_ENDS = (SystemExit, KeyboardInterrupt, StopIteration)


def _seen(error: BaseException) -> BaseException:
    """What the caller gets: a future can't carry StopIteration, and a thread's exit must not end the loop."""
    if isinstance(error, sqlite3.Error):
        error = DBAPIError("", {}, error)
    seen = translated(error)
    if isinstance(seen, _ENDS):
        return RuntimeError(f"a unit raised {seen!r}")
    if seen is not error:
        seen.__cause__ = error
    return seen


def _discard(connection: Connection) -> None:
    connection.close()
    connection.engine.dispose()
