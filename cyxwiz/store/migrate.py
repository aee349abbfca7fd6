"""Brings the tables of a database up to date, and back down.

A database that is up to date costs one SELECT, and an empty one gets today's tables at once (the tests hold them equal
to what the migrations make): alembic is imported only where there is something to migrate. All steps of one start are
one transaction, under a lock: a file lock beside a SQLite database, an advisory lock on PostgreSQL. Refused: a file
that is damaged or belongs to another program, and a database that a newer CyxWiz wrote.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.store.sql import translated
from cyxwiz.store.sqlite import connect, raw_of
from cyxwiz.store.tables import metadata

BASE = "base"
MIGRATION_LOCK = 0x43_59_58_4D
_CHECKOUT = Path(__file__).parents[2] / "alembic"
_SHIPPED = Path(__file__).parent / "_migrations"
_version = Table(
    "alembic_version",  # as alembic itself would make it
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def directory() -> Path:
    """Where the migrations lie: in the wheel beside this file, in a checkout at its top."""
    return _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT


def head() -> str:
    """The newest revision: the files are numbered, `0001_what.py` has revision `0001`."""
    return max(revisions())


def revisions() -> list[str]:
    return sorted(path.name.partition("_")[0] for path in (directory() / "versions").glob("[0-9]*.py"))


def current(connection: Connection) -> str | None:
    """The revision that the database has; None for an empty one.

    Raises:
        CyxError: UNAVAILABLE for a database that holds something else or was written by a newer CyxWiz.
    """
    names = inspect(connection).get_table_names()
    if _version.name not in names:
        if names:
            raise _unusable("the database belongs to another program: it has tables, but none of CyxWiz")
        return None
    found: str | None = connection.execute(select(_version.c.version_num)).scalar_one_or_none()
    if found is not None and found not in revisions():
        raise _unusable(f"the database has revision {found}, which this CyxWiz does not know: a newer one wrote it")
    return found


def upgrade(connection: Connection, *, step_by_step: bool = False) -> None:
    """Up to the head, within the caller's transaction and under its lock."""
    found = current(connection)
    if found is None and not step_by_step:
        metadata.create_all(connection)
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=head()))
    elif found != head():
        _alembic("upgrade", connection, "head")


def downgrade(connection: Connection, revision: str = BASE) -> None:
    """Down to `revision`, dropping what later ones added, data and all."""
    _alembic("downgrade", connection, revision)


def claim_file(path: Path) -> IO[bytes]:
    """Locks a SQLite database for this process, until the file that is returned is closed.

    Raises:
        CyxError: CONFLICT when another process has it; INVALID when the folder is not there or not writable.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        held = os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    except OSError as error:
        raise invalid(f"{path}: the database can't be opened there: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise conflict(
            f"{path} is in use by another process. SQLite serves one central; stop the other, or take PostgreSQL"
            " (database.url = postgresql://…) for several."
        ) from None
    return held


def upgrade_file(path: Path) -> None:
    """Makes the SQLite database if it is not there, readable by its owner alone, and upgrades it. Claim it first."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise invalid(f"{path}: the database can't be opened: {error.strerror}") from error
    try:
        connection = connect(path, writing=True)
        try:
            _upgrade_alone(connection)
        finally:
            connection.close()
    except CyxError as error:
        raise CyxError(error.code, f"{path}: {error.message}", retryable=False) from error
    except (sqlite3.Error, DBAPIError) as error:
        seen = translated(error)
        if isinstance(seen, CyxError) and seen.code is Code.EXHAUSTED:
            raise seen from error
        raise _unusable(f"{path} can't be used as a database: {getattr(error, 'orig', error)}") from error


def _upgrade_alone(connection: Connection) -> None:
    raw = raw_of(connection)
    # Migrations rebuild tables, which must not set off their foreign keys.
    raw.execute("PRAGMA foreign_keys=OFF")
    raw.execute("BEGIN IMMEDIATE")
    try:
        upgrade(connection)
        raw.execute("COMMIT")
    finally:
        if raw.in_transaction:
            raw.rollback()


def _alembic(step: str, connection: Connection, revision: str) -> None:
    from alembic import command

    getattr(command, step)(alembic_config(connection), revision)


def alembic_config(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _unusable(message: str) -> CyxError:
    return CyxError(Code.UNAVAILABLE, message[0].upper() + message[1:], retryable=False)
