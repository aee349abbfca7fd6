"""What is promised of the store on PostgreSQL: locks, races of several centrals, words for what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.account import Role, User
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.events import JobStarted, JobSubmitted
from cyxwiz.domain.ids import JobId, Token, UserId
from cyxwiz.domain.job import Job
from cyxwiz.domain.payment import Payment, Step, Work
from cyxwiz.domain.verification import Mode, Validity, Verification
from cyxwiz.ledger.credits import CreditsLedger
from cyxwiz.ports.store import BlobInfo, Tx
from cyxwiz.store.engine import open_store
from cyxwiz.store.sql import SqlTx
from tests.contract.conftest import HandClock, empty_database, refused
from tests.contract.make import OWNER, START, job, node


@pytest.fixture
async def postgres(postgres_server: str, tmp_path: Path) -> Any:
    async with empty_database(postgres_server) as url:
        store = await open_store(Database(url=url), tmp_path, clock=HandClock(), bus=LocalBus())
        try:
            yield store
        finally:
            await store.aclose()


async def test_no_event_overtakes_one_that_is_not_committed(postgres: Any) -> None:
    first, second = job(), job()

    def emit(connection: Connection) -> None:
        tx = SqlTx(connection, START, writing=True)
        tx.emit(JobSubmitted(first.id, OWNER))
        tx.flush()

    async with postgres._engine.connect() as open_one:
        await open_one.run_sync(emit)
        later = asyncio.ensure_future(postgres.write(lambda tx: tx.emit(JobSubmitted(second.id, OWNER))))
        quiet = asyncio.ensure_future(postgres.write(lambda tx: tx.add_job(first)))
        await quiet  # one without events waits for nobody
        done, _ = await asyncio.wait([later], timeout=0.2)
        assert not done
        assert await postgres.read(lambda tx: (tx.events(0, frozenset(), 9), tx.last_seq())) == ([], 0)
        await open_one.commit()
    await later
    found = await postgres.read(lambda tx: tx.events(0, frozenset({"jobs"}), 9))
    assert [event.data["job_id"] for event in found] == [first.id, second.id]


async def test_no_follower_misses_an_event(postgres: Any) -> None:
    """Readers that go on from the last seq they saw, while many write, see every event once and in order."""
    jobs = [job() for _ in range(8)]
    seen: list[int] = []
    wanted = len(jobs) * 10

    async def write(index: int) -> None:
        for _ in range(10):
            await postgres.write(lambda tx: tx.emit(JobStarted(jobs[index].id, OWNER)))

    async def follow() -> None:
        after = 0
        while len(seen) < wanted:
            for event in await postgres.read(lambda tx, after=after: tx.events(after, frozenset({"jobs"}), 7)):
                seen.append(event.seq)
                after = event.seq

    async with asyncio.timeout(30):
        await asyncio.gather(follow(), *(write(i) for i in range(len(jobs))))
    assert seen == sorted(set(seen))
    assert len(seen) == wanted


async def test_due_jobs_that_another_central_holds_are_skipped(postgres: Any) -> None:
    jobs = [job("a"), job("b")]
    await postgres.write(lambda tx: [tx.add_job(each) for each in jobs])

    def due(connection: Connection) -> list[str]:
        return [each.id for each in SqlTx(connection, START, writing=True).due_jobs(1)]

    async with postgres._engine.connect() as one, postgres._engine.connect() as other:
        held, taken = await one.run_sync(due), await other.run_sync(due)
    assert {*held, *taken} == {each.id for each in jobs}


async def test_a_deadlock_is_run_again(postgres: Any) -> None:
    a, b = job(), job()
    await postgres.write(lambda tx: [tx.add_job(a), tx.add_job(b)])
    runs: list[int] = []

    def both(first: JobId, second: JobId) -> Callable[[Tx], None]:
        def unit(tx: Tx) -> None:
            runs.append(1)
            for each in (first, second):
                found = tx.job(each)
                assert found is not None
                tx.save_job(found)

        return unit

    async with asyncio.timeout(30):
        rounds = 0
        while len(runs) <= 2 * rounds or not rounds:  # until one had to be run again
            rounds += 1
            await asyncio.gather(postgres.write(both(a.id, b.id)), postgres.write(both(b.id, a.id)))
    saved = await postgres.read(lambda tx: (tx.job(a.id).version, tx.job(b.id).version))
    assert saved == (2 * rounds, 2 * rounds)


async def test_who_was_slower_with_a_unique_name_looks_again(postgres: Any) -> None:
    """Two centrals that start at once on an empty database both find no `admin`."""
    ann = User(OWNER, "ann", Role.USER, START)

    def unit(tx: Tx) -> str:
        if tx.user_by_name("ann"):
            return "somebody was faster"
        tx.add_user(replace(ann, id=UserId("44444444-4444-4444-8444-444444444444")))
        return "added"

    async with postgres._engine.connect() as faster:
        await faster.run_sync(lambda connection: SqlTx(connection, START, writing=True).add_user(ann))
        slower = asyncio.ensure_future(postgres.write(unit))
        done, _ = await asyncio.wait([slower], timeout=0.2)
        assert not done
        await faster.commit()
    assert await slower == "somebody was faster"
    with pytest.raises(CyxError) as caught:
        await postgres.write(lambda tx: tx.add_user(ann))
    assert caught.value.code is Code.EXISTS


async def test_who_waits_for_what_is_saved_finds_it(postgres: Any) -> None:
    """What is put in the place of something is no other row: a check's verdict, a record, a budget would be lost."""
    parent, one = job(), node()
    item = Verification(parent.id, Mode.SPOT, START, one.id, Token(1, 7), 0, 3, 1, {})

    def save(tx: Tx, more: int) -> None:
        tx.set_budget(OWNER, 5 + more)
        tx.save_validity(Validity(one.id, 1 + more, 1, 0))
        tx.save_verification(replace(item, rejected=more))

    await postgres.write(lambda tx: [tx.add_job(parent), tx.add_node(one), save(tx, 0)])
    looks: list[Callable[[Tx], object]] = [
        lambda tx: tx.budget(OWNER),
        lambda tx: tx.validity(one.id).streak,
        lambda tx: getattr(tx.verification(parent.id), "rejected", None),
    ]
    async with postgres._engine.connect() as saving:
        await saving.run_sync(lambda connection: save(SqlTx(connection, START, writing=True), 1))
        waiting = [asyncio.ensure_future(postgres.write(look)) for look in looks]
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not done
        await saving.commit()
    assert await asyncio.gather(*waiting) == [6, 2, 1]


async def test_one_owner_promises_its_money_once(postgres: Any) -> None:
    """Submits at the same time, at one central or several, all look at what the others promised."""
    made = [job() for _ in range(8)]
    await postgres.write(lambda tx: [tx.add_user(User(OWNER, "ann", Role.USER, START)), *map(tx.add_job, made)])

    def promise(one: Job) -> Callable[[Tx], bool]:
        def unit(tx: Tx) -> bool:
            if tx.promised_units(OWNER):
                return False
            tx.add_payment(Payment(one.id, one.id, OWNER, 10, 1000, "client", 1.0, 0, START, START))
            return True

        return unit

    assert sum(await asyncio.gather(*(postgres.write(promise(one)) for one in made))) == 1


async def test_content_that_somebody_takes_is_not_dropped(postgres: Any) -> None:
    blob = BlobInfo("ab" * 32, 1, START)
    await postgres.write(lambda tx: tx.add_blob(blob, None))
    async with postgres._engine.connect() as taking:
        await taking.run_sync(lambda connection: SqlTx(connection, START, writing=True).add_blob(blob, OWNER))
        dropping = asyncio.ensure_future(postgres.write(lambda tx: tx.drop_blob(blob.sha256)))
        done, _ = await asyncio.wait([dropping], timeout=0.2)
        assert not done
        await taking.commit()
    assert not await dropping
    assert (await postgres.read(lambda tx: tx.blob(blob.sha256))).owners == {OWNER}


@pytest.mark.parametrize("slower", [Step.SETTLE, Step.PAY, Step.REFUND])
async def test_a_central_that_was_slower_to_settle_tells_what_the_faster_one_did(postgres: Any, slower: Step) -> None:
    ledger = CreditsLedger(postgres, welcome_units=1000)
    payment = Payment(
        "p", job().id, OWNER, 100, 0, ledger.client_account(OWNER), 1.0, 60, START, START + timedelta(days=1)
    )
    work = Work("user:n", None, ended=True, cost_units=60, progress=1, attempt=1, running=False)
    await ledger.perform(payment, Step.LOCK, work)
    payment = replace(payment, node="user:n", earned_units=60)
    async with postgres._engine.connect() as faster:
        first = await faster.run_sync(
            lambda connection: ledger._perform(SqlTx(connection, START, writing=True), payment, Step.SETTLE)
        )
        second = asyncio.ensure_future(ledger.perform(payment, slower, work))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        await faster.commit()
    assert (first.paid_units, first.refunded_units) == (60, 40)
    assert await second == first


async def test_a_lost_connection_is_replaced(postgres: Any) -> None:
    async def cut() -> None:
        async with postgres._engine.connect() as one:
            await one.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    async with postgres._engine.connect() as spare:
        await spare.exec_driver_sql("SELECT 1")
    await cut()
    await postgres.write(lambda tx: tx.put_setting("a", "b"))
    assert await postgres.read(lambda tx: tx.setting("a")) == "b"


async def test_a_row_that_somebody_holds_keeps_nobody_for_long(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyxwiz.store.postgres.LOCK_MS", 100)
    held = job()
    async with empty_database(postgres_server) as url:
        store = await open_store(Database(url=url), tmp_path, clock=HandClock(), bus=LocalBus())
        await store.write(lambda tx: tx.add_job(held))
        async with store._engine.connect() as holding:  # type: ignore[attr-defined]
            await holding.run_sync(lambda connection: SqlTx(connection, START, writing=True).job(held.id))
            with pytest.raises(CyxError) as caught:
                async with asyncio.timeout(5):
                    await store.write(lambda tx: tx.job(held.id))
        assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
        await store.aclose()


async def test_what_can_not_be_reached_is_unavailable(postgres_server: str, tmp_path: Path) -> None:
    for url, retryable in (
        ("postgresql://u:s3cret@127.0.0.1:9/d", True),
        (postgres_server.removesuffix("postgres") + "nosuch", False),
    ):
        error = await refused(Database(url=url), tmp_path)
        assert (error.code, error.retryable) == (Code.UNAVAILABLE, retryable)
        assert "s3cret" not in error.message


@pytest.mark.parametrize("given", ["foo=bar", "sslmode=bogus"])
async def test_a_parameter_that_is_none_is_named(postgres_server: str, tmp_path: Path, given: str) -> None:
    error = await refused(Database(url=f"{postgres_server}?{given}"), tmp_path)
    assert error.code is Code.INVALID
    assert given.split("=")[0] in error.message


async def test_who_has_no_rights_or_no_connection_left_is_told_so(postgres_server: str, tmp_path: Path) -> None:
    async with empty_database(postgres_server) as url:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            await connection.execute(text("CREATE ROLE poor LOGIN"))
            await connection.execute(text("REVOKE CREATE ON SCHEMA public FROM public"))
        try:
            config = Database(url=url.replace("cyxwiz@", "poor@"))
            error = await refused(config, tmp_path)
            assert (error.code, "rights on the database's schema" in error.message) == (Code.UNAVAILABLE, True)
            async with engine.begin() as connection:
                await connection.execute(text("ALTER ROLE poor CONNECTION LIMIT 0"))
            assert "no connection left" in (await refused(config, tmp_path)).message
        finally:
            async with engine.begin() as connection:
                await connection.execute(text("DROP ROLE poor"))
            await engine.dispose()


async def test_a_database_that_takes_no_writes_is_unavailable(postgres_server: str, tmp_path: Path) -> None:
    """As one that became a standby: what writes is put off, and goes on once it takes writes again."""
    async with empty_database(postgres_server) as url:
        await (await open_store(Database(url=url), tmp_path, clock=HandClock(), bus=LocalBus())).aclose()
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
            await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        await engine.dispose()
        store = await open_store(Database(url=url), tmp_path, clock=HandClock(), bus=LocalBus())
        with pytest.raises(CyxError) as caught:
            await store.write(lambda tx: tx.put_setting("a", "b"))
        assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
        assert "takes no writes" in caught.value.message
        await store.aclose()
