"""Export and import, on each backend and from one to another."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.account import Role, User
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.events import JobSubmitted
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import Lease
from cyxwiz.store.dump import BATCH, export_lines, import_lines
from cyxwiz.store.engine import open_store
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock, empty_database
from tests.contract.make import job, node


async def test_there_and_back(store: Any) -> None:
    one = job()

    def fill(tx: Any) -> None:
        tx.add_user(User(UserId("u"), "ann", Role.USER, tx.now))
        tx.add_node(replace(node(), public_key=b"\x00\xff" * 16))
        tx.add_job(one)
        tx.add_lease(Lease(one.id, tx.next_token(), node().id, tx.now))
        tx.emit(JobSubmitted(one.id, one.owner_id, "digits"))

    await store.write(fill)
    lines = await store.read(lambda tx: list(export_lines(tx)))
    other = MemoryStore(HandClock(), LocalBus())
    try:
        await other.write(lambda tx: import_lines(tx, lines))
        again = await other.read(lambda tx: list(export_lines(tx)))
        assert [x for x in again[1:] if '"epoch"' not in x] == [x for x in lines[1:] if '"epoch"' not in x]
        before = await store.write(lambda tx: tx.next_token())
        after = await other.write(lambda tx: tx.next_token())
        assert after > before, "a restore outranks what was issued before it"
        with pytest.raises(CyxError, match="not empty"):
            await other.write(lambda tx: import_lines(tx, lines))
    finally:
        await other.aclose()


async def test_into_each_backend(store: Any) -> None:
    source = MemoryStore(HandClock(), LocalBus())
    try:
        await source.write(lambda tx: [tx.emit(JobSubmitted(f"{i}", "o", "n")) for i in range(5)])
        await source.write(lambda tx: tx.add_job(job()))
        lines = await source.read(lambda tx: list(export_lines(tx)))
    finally:
        await source.aclose()
    await store.write(lambda tx: import_lines(tx, lines))
    await store.write(lambda tx: tx.emit(JobSubmitted("6", "o", "n")))
    events = await store.read(lambda tx: tx.events(0, frozenset(), 100))
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("lines", [[], ["{}"], ["nonsense"], ['{"format": "cyxwiz-store-1", "revision": "0000"}']])
async def test_what_is_no_export(store: Any, lines: list[str]) -> None:
    with pytest.raises(CyxError):
        await store.write(lambda tx: import_lines(tx, lines))


async def test_a_table_that_takes_long_to_write_keeps_its_transaction(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that asks nothing for a while: a part of the table is asked for at a time."""
    monkeypatch.setattr("cyxwiz.store.postgres.IDLE_IN_TRANSACTION_MS", 500)
    made = range(5 * BATCH)

    def slowly(tx: Any) -> int:
        count = 0
        for count, _ in enumerate(export_lines(tx)):
            if count % BATCH == 0:
                time.sleep(0.15)
        return count

    async with empty_database(postgres_server) as url:
        store = await open_store(Database(url=url), tmp_path, clock=HandClock(), bus=LocalBus())
        await store.write(lambda tx: [tx.emit(JobSubmitted(f"{each}", "o", "n")) for each in made])
        assert await store.read(slowly) >= len(made)
        await store.aclose()
