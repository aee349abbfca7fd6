"""What is promised of one kind of store: SQLite's file, plans, and the migrations of both."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy import event as sql_event
from sqlalchemy.ext.asyncio import create_async_engine

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId
from cyxwiz.domain.payment import Movement
from cyxwiz.ports.store import JobQuery, Store, Tx
from cyxwiz.store import migrate
from cyxwiz.store.engine import database_url, open_store
from cyxwiz.store.memory import MemoryStore
from cyxwiz.store.postgres import revision
from cyxwiz.store.sql import SqlTx
from cyxwiz.store.sqlite import SqliteStore, connect, raw_of
from cyxwiz.store.tables import metadata
from tests.contract.conftest import Backend, HandClock, empty_database, refused
from tests.contract.make import OWNER, START, job, stored


@pytest.fixture
async def sqlite(tmp_path: Path) -> Any:
    store = await open_store(Database(), tmp_path, clock=HandClock(), bus=LocalBus())
    yield store
    await store.aclose()


# the file


async def test_the_file_is_its_owners_alone_and_a_second_process_is_refused(sqlite: Store, tmp_path: Path) -> None:
    await sqlite.write(lambda tx: tx.put_setting("a", "b"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    error = await refused(Database(), tmp_path)
    assert error.code is Code.CONFLICT
    assert "in use by another process" in error.message
    await sqlite.aclose()
    await (await open_store(Database(), tmp_path, clock=HandClock(), bus=LocalBus())).aclose()


async def test_what_is_no_database_of_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cyxwiz.db"
    path.write_bytes(b"not a database " * 100)
    error = await refused(Database(), tmp_path)
    assert (error.code, error.retryable) == (Code.UNAVAILABLE, False)
    assert "not a database" in error.message
    assert path.read_bytes().startswith(b"not a database")
    path.unlink()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE recipes (id)")
    foreign.close()
    assert "another program" in (await refused(Database(), tmp_path)).message
    path.unlink()
    await (await open_store(Database(), tmp_path, clock=HandClock(), bus=LocalBus())).aclose()
    newer = sqlite3.connect(path)
    newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.commit()
    newer.close()
    assert "newer" in (await refused(Database(), tmp_path)).message
    assert (await refused(Database(), tmp_path / "nowhere")).code is Code.INVALID


async def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    store = await open_store(Database(), tmp_path, clock=HandClock(), bus=LocalBus())
    await store.write(lambda tx: tx.add_job(job()))
    await store.aclose()
    path = tmp_path / "cyxwiz.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    error = await refused(Database(), tmp_path)
    assert (error.code, error.retryable) == (Code.UNAVAILABLE, False)
    assert str(path) in error.message


@pytest.mark.parametrize(
    ("given", "driver", "database"),
    [
        ("", "sqlite", "/data/cyxwiz.db"),
        ("sqlite:////x/y.db", "sqlite", "/x/y.db"),
        ("sqlite+aiosqlite:///y.db", "sqlite", "y.db"),
        ("postgres://u:p@h/d", "postgresql+asyncpg", "d"),
        ("postgresql://u@h:5/d", "postgresql+asyncpg", "d"),
        ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg", "d"),
    ],
)
def test_urls(given: str, driver: str, database: str) -> None:
    found = database_url(Database(url=given), Path("/data"))
    assert (found.drivername, found.database) == (driver, database)


def test_a_url_that_is_none_is_not_repeated() -> None:
    with pytest.raises(CyxError) as caught:
        database_url(Database(url="postgresql://u:s3cret@h:port/d"), Path("/data"))
    assert caught.value.code is Code.INVALID
    assert "s3cret" not in caught.value.message


async def test_a_full_disk_is_exhausted_and_stores_nothing(tmp_path: Path) -> None:
    store = await open_store(Database(), tmp_path, clock=HandClock(), bus=LocalBus())
    assert isinstance(store, SqliteStore)
    raw = raw_of(store._connection)
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count={pages + 8}")
    big = "x" * 100_000

    def small(name: str) -> Callable[[Tx], str]:
        return lambda tx: tx.put_setting(name, "small")

    units = [small("a"), lambda tx: tx.put_setting("big", big), small("b")]
    results = await asyncio.gather(*(store.write(unit) for unit in units), return_exceptions=True)
    assert (results[0], results[2]) == ("small", "small")
    assert isinstance(results[1], CyxError)
    assert (results[1].code, results[1].retryable) == (Code.EXHAUSTED, True)
    found = await store.read(lambda tx: [tx.setting(name) for name in ("a", "big", "b")])
    assert found == ["small", None, "small"]
    await store.aclose()
    check = sqlite3.connect(tmp_path / "cyxwiz.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


async def test_nobody_is_answered_when_the_commit_fails(sqlite: SqliteStore) -> None:
    class Failing:
        """The raw connection, whose COMMIT does not get through."""

        def __init__(self, raw: sqlite3.Connection) -> None:
            self.raw = raw

        def __getattr__(self, name: str) -> Any:
            return getattr(self.raw, name)

        def execute(self, statement: str) -> Any:
            if statement == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return self.raw.execute(statement)

    woken = sqlite._bus.subscribe("*")
    raw = raw_of(sqlite._connection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyxwiz.store.sqlite.raw_of", lambda _: Failing(raw))
        units = [sqlite.write(lambda tx: [tx.put_setting("a", "b"), tx.hint("a")]) for _ in range(3)]
        results = await asyncio.gather(*units, return_exceptions=True)
    assert [getattr(result, "code", None) for result in results] == [Code.UNAVAILABLE] * 3
    assert await sqlite.read(lambda tx: tx.setting("a")) is None
    assert await woken.changed(0) == frozenset()
    await sqlite.write(lambda tx: tx.put_setting("a", "b"))


async def test_a_unit_whose_caller_went_away_does_no_harm(sqlite: SqliteStore) -> None:
    task = asyncio.ensure_future(sqlite.write(lambda tx: tx.put_setting("a", "b")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sqlite.write(lambda tx: tx.put_setting("a", "c")) == "b"


async def test_a_reader_sees_one_snapshot(durable: Backend) -> None:
    store = await durable.open()
    loop = asyncio.get_running_loop()
    if durable.kind == "postgres":
        engine = store._engine  # type: ignore[attr-defined]
        async with engine.connect() as other:
            await other.execution_options(isolation_level="REPEATABLE READ")

            def look(connection: Connection) -> str | None:
                return SqlTx(connection, START, writing=False).setting("a")

            assert await other.run_sync(look) is None
            await store.write(lambda tx: tx.put_setting("a", "b"))
            assert await other.run_sync(look) is None
        assert await store.read(lambda tx: tx.setting("a")) == "b"
        return

    def unit(tx: Tx) -> tuple[str | None, str | None]:
        before = tx.setting("a")
        asyncio.run_coroutine_threadsafe(store.write(lambda tx: tx.put_setting("a", "b")), loop).result(10)
        return before, tx.setting("a")

    assert await store.read(unit) == (None, None)
    assert await store.read(lambda tx: tx.setting("a")) == "b"


# plans: what must stay fast is served by an index


@pytest.mark.parametrize(
    ("unit", "index"),
    [
        (lambda tx: tx.due_jobs(9), "ix_jobs_state_urgency_created_at_id"),
        (lambda tx: tx.due_jobs(9, job()), "ix_jobs_state_urgency_created_at_id"),
        (lambda tx: tx.next_due_at(), "ix_jobs_state_not_before"),
        (lambda tx: tx.live_leases("n"), "ix_leases_live"),
        (lambda tx: tx.events(0, frozenset({"jobs"}), 9), "ix_events_category_seq"),
        (lambda tx: tx.events(0, frozenset({"job:x"}), 9), "ix_events_subject_seq"),
        (lambda tx: tx.jobs(JobQuery(owner_id=OWNER, after=(START, JobId("x")))), "ix_jobs_owner_id_created_at_id"),
        (lambda tx: tx.jobs(JobQuery()), "ix_jobs_created_at_id"),
        (lambda tx: tx.metrics("j", 0, 9), "sqlite_autoindex_job_metrics_1"),
    ],
)
async def test_statements_use_their_index_and_do_not_sort(unit: Callable[[Tx], object], index: str) -> None:
    store = MemoryStore(HandClock(), LocalBus())
    said: list[str] = []
    store._raw.set_trace_callback(said.append)
    await store.read(unit)
    store._raw.set_trace_callback(None)
    last = [statement for statement in said if statement.lstrip().startswith("SELECT")][-1]
    plan = " ".join(str(row[3]) for row in store._raw.execute("EXPLAIN QUERY PLAN " + last))
    await store.aclose()
    assert index in plan, plan
    assert "TEMP B-TREE" not in plan, plan


# migrations


def _schema(connection: Connection) -> dict[str, object]:
    found = inspect(connection)

    def plain(rows: Any) -> list[str]:
        return sorted(str({key: _plain(value) for key, value in row.items()}) for row in rows)

    return {
        name: (
            plain(found.get_columns(name)),
            plain([found.get_pk_constraint(name)]),
            plain(found.get_foreign_keys(name)),
            plain(found.get_indexes(name)),
        )
        for name in sorted(found.get_table_names())
    }


def _plain(value: Any) -> Any:
    return {key: str(each) for key, each in value.items()} if isinstance(value, dict) else str(value)


def _up_and_down(connection: Connection) -> None:
    migrate.upgrade(connection)
    at_once = _schema(connection)
    _a_step_back_keeps_models(connection)
    _a_step_back_keeps_movements(connection)
    migrate.downgrade(connection)
    assert inspect(connection).get_table_names() == ["alembic_version"]
    migrate.upgrade(connection, step_by_step=True)
    assert migrate.current(connection) == migrate.head()
    assert _schema(connection) == at_once
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, metadata) == []


def _a_step_back_keeps_models(connection: Connection) -> None:
    """What 0003 moves is moved back and forth."""
    given = job()
    SqlTx(connection, START, writing=True).add_job(given)
    migrate.downgrade(connection, "0002")
    spec = connection.execute(text("SELECT spec FROM jobs")).scalar_one()
    assert (spec if isinstance(spec, dict) else json.loads(spec))["model"] == given.spec.model
    migrate.upgrade(connection)
    tx = SqlTx(connection, START, writing=False)
    assert (tx.job(given.id), tx.model(given.id)) == (stored(given), given.spec.model)


def _a_step_back_keeps_movements(connection: Connection) -> None:
    """What 0018 does makes the table anew, where that is SQLite's."""
    moved = Movement("signed", "settle", 7, "a", "b", START, payment_id="x", raw=b"\0\1")
    SqlTx(connection, START, writing=True).add_movement(moved)
    migrate.downgrade(connection, "0017")
    migrate.upgrade(connection)
    tx = SqlTx(connection, START, writing=True)
    assert tx.movements_of("x") == [moved]
    assert tx.add_movement(replace(moved, payment_id="y"))
    tx.save_movements([replace(moved, state="failed")])
    assert [each.state for each in (*tx.movements_of("x"), *tx.movements_of("y"))] == ["failed", "confirmed"]
    connection.execute(text("DELETE FROM ledger_movements"))


def test_migrations_on_sqlite_make_todays_tables_and_undo_them(tmp_path: Path) -> None:
    connection = connect(tmp_path / "x.db", writing=True)
    raw_of(connection).execute("BEGIN")
    _up_and_down(connection)
    raw_of(connection).execute("COMMIT")
    connection.close()


async def test_migrations_on_postgres_make_todays_tables_and_undo_them(postgres_server: str) -> None:
    async with empty_database(postgres_server) as url:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            await connection.run_sync(_up_and_down)
        await engine.dispose()


async def test_the_revision_of_a_database_is_told_without_touching_it(postgres_server: str, tmp_path: Path) -> None:
    async with empty_database(postgres_server) as url:
        config = Database(url=url)
        assert await revision(database_url(config, tmp_path)) is None
        await (await open_store(config, tmp_path, clock=HandClock(), bus=LocalBus())).aclose()
        assert await revision(database_url(config, tmp_path)) == migrate.head()


async def test_centrals_that_start_at_once_migrate_once(
    postgres_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    """An empty database gets its tables from one of them, an older one its new ones."""
    made: list[object] = []

    def making(*_: object, **__: object) -> None:
        made.append(None)

    sql_event.listen(metadata, "before_create", making)
    request.addfinalizer(lambda: sql_event.remove(metadata, "before_create", making))
    caplog.set_level(logging.INFO, "alembic.runtime.migration")

    async def start() -> None:
        config = Database(url=url)
        starts = (open_store(config, tmp_path, clock=HandClock(), bus=LocalBus()) for _ in range(3))
        for store in await asyncio.gather(*starts):
            await store.aclose()

    async with empty_database(postgres_server) as url:
        await start()
        assert len(made) == 1
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            await connection.run_sync(migrate.downgrade, migrate.revisions()[-2])
        await engine.dispose()
        await start()
        steps = [line for line in caplog.messages if line.startswith("Running upgrade")]
        assert (len(made), len(steps)) == (1, 1), steps


async def test_a_start_without_migrations_does_not_import_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from cyxwiz.bus.local import LocalBus;"
        "from cyxwiz.config import Database; from cyxwiz.runtime.clock import SystemClock;"
        "from cyxwiz.store.engine import open_store\n"
        "async def main():\n"
        "    store = await open_store(Database(), Path(sys.argv[1]), clock=SystemClock(), bus=LocalBus())\n"
        "    await store.aclose()\n"
        "asyncio.run(main()); assert not {'alembic', 'asyncpg', 'mako'} & set(sys.modules)"
    )
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path))
        assert await process.wait() == 0
