"""Opens the store that the configuration names, with its tables brought up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cyxwiz.config import Database
from cyxwiz.domain.errors import invalid
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store

FILE_NAME = "cyxwiz.db"


async def open_store(config: Database, data_dir: Path, *, clock: Clock, bus: Bus) -> Store:
    """The store at `config.url`, or a SQLite file in `data_dir` when it is empty.

    Raises:
        CyxError: INVALID for a URL that names no store; CONFLICT when another process has the SQLite file;
            UNAVAILABLE when the database can't be reached, is damaged or is not one of CyxWiz.
    """
    found = database_url(config, data_dir)
    if found.get_backend_name() == "sqlite":
        from cyxwiz.store import migrate
        from cyxwiz.store.sqlite import SqliteStore

        path = Path(found.database or "")
        lock = await asyncio.to_thread(migrate.claim_file, path)
        try:
            await asyncio.to_thread(migrate.upgrade_file, path)
            return SqliteStore(path, clock=clock, bus=bus, lock=lock)
        except BaseException:
            lock.close()
            raise
    from cyxwiz.store.postgres import open_postgres

    return await open_postgres(found, config, clock=clock, bus=bus)


def database_url(config: Database, data_dir: Path) -> URL:
    """The URL with the driver that the stores use. Its password stays out of every message."""
    if not config.url:
        return URL.create("sqlite", database=str(data_dir / FILE_NAME))
    try:
        given = make_url(config.url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise invalid("database.url is no URL: it must be sqlite:///path or postgresql://user@host/name") from None
    backend = given.drivername.partition("+")[0]
    if backend in ("postgres", "postgresql"):
        return given.set(drivername="postgresql+asyncpg")
    return URL.create("sqlite", database=given.database)
