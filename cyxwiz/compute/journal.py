"""The node's journal in a SQLite file: what was taken and what central has not acknowledged yet."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import Token
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.node_journal import JournalLease

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
  job_id TEXT, epoch INTEGER, counter INTEGER, assign BLOB NOT NULL, boot_id TEXT NOT NULL,
  last_seq INTEGER NOT NULL DEFAULT 0, acked_seq INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, epoch, counter)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
  job_id TEXT, epoch INTEGER, counter INTEGER, seq INTEGER, report BLOB NOT NULL,
  PRIMARY KEY (job_id, epoch, counter, seq)) WITHOUT ROWID;
"""
KEY = "job_id = ? AND epoch = ? AND counter = ?"


class SqliteJournal:
    """`ports.node_journal.NodeJournal`. One thread writes; each call is one transaction.

    What ends a run is fsynced, and with it all before. The rest outlives the process but not the machine's power, and
    need not: a run that had not ended when the machine went down is not claimed any more (`Agent._recall`).

    With `path` None it lives in memory and runs on the caller's thread, for simulation.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "journal") if path else None
        self._db: sqlite3.Connection | None = None

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, synced: bool = False) -> T:
        if self._thread is None:
            return self._guarded(work, synced)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work, synced)

    def _guarded(self, work: Callable[[sqlite3.Connection], T], synced: bool) -> T:
        try:
            if self._db is None:
                self._db = sqlite3.connect(self._path or ":memory:", isolation_level=None)
                self._db.executescript("PRAGMA journal_mode=WAL;" + SCHEMA)
            self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return result
        except sqlite3.Error as error:
            full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
            code = Code.EXHAUSTED if full else Code.UNAVAILABLE
            raise CyxError(code, f"The node's journal can't be written: {error}") from None

    async def take(self, assign: pb.Assign, boot_id: str) -> None:
        key = (assign.job_id, assign.token.epoch, assign.token.counter)

        def work(db: sqlite3.Connection) -> None:
            row = (*key, assign.SerializeToString(), boot_id)
            db.execute("INSERT OR IGNORE INTO leases (job_id, epoch, counter, assign, boot_id) VALUES (?,?,?,?,?)", row)

        await self._run(work)

    async def append(self, reports: Sequence[pb.Report], *, ends: bool = False) -> Sequence[pb.Report]:
        """Numbers the reports, all of one lease, and keeps them."""
        first = reports[0]
        key = (first.job_id, first.token.epoch, first.token.counter)

        def work(db: sqlite3.Connection) -> Sequence[pb.Report]:
            row = db.execute(f"SELECT last_seq FROM leases WHERE {KEY}", key).fetchone()
            if row is None:
                raise CyxError(Code.STALE, f"The journal has no lease of job {first.job_id}")
            for seq, report in enumerate(reports, row[0] + 1):
                report.seq = seq
            rows = [(*key, report.seq, report.SerializeToString()) for report in reports]
            db.executemany("INSERT INTO reports (job_id, epoch, counter, seq, report) VALUES (?,?,?,?,?)", rows)
            change = (reports[-1].seq, int(ends), *key)
            db.execute(f"UPDATE leases SET last_seq = ?, ended = max(ended, ?) WHERE {KEY}", change)
            return reports

        return await self._run(work, synced=ends)

    async def acknowledge(self, job_id: str, token: Token, seq: int) -> None:
        key = (job_id, token.epoch, token.counter)

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"UPDATE leases SET acked_seq = max(acked_seq, ?) WHERE {KEY}", (seq, *key))
            db.execute(f"DELETE FROM reports WHERE {KEY} AND seq <= ?", (*key, seq))

        await self._run(work)

    async def unacknowledged(self, job_id: str, token: Token, after: int) -> Sequence[pb.Report]:
        key = (job_id, token.epoch, token.counter, after)

        def work(db: sqlite3.Connection) -> Sequence[pb.Report]:
            query = f"SELECT report FROM reports WHERE {KEY} AND seq > ? ORDER BY seq LIMIT 200"
            return [pb.Report.FromString(row[0]) for row in db.execute(query, key)]

        return await self._run(work)

    async def leases(self) -> Sequence[JournalLease]:
        def work(db: sqlite3.Connection) -> Sequence[JournalLease]:
            rows = db.execute("SELECT assign, boot_id, last_seq, acked_seq, ended FROM leases ORDER BY epoch, counter")
            return [JournalLease(pb.Assign.FromString(r[0]), r[1], r[2], r[3], bool(r[4])) for r in rows]

        return await self._run(work)

    async def forget(self, job_id: str, token: Token) -> None:
        key = (job_id, token.epoch, token.counter)

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"DELETE FROM leases WHERE {KEY}", key)
            db.execute(f"DELETE FROM reports WHERE {KEY}", key)

        await self._run(work)

    async def aclose(self) -> None:
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()
        else:
            self._close()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
