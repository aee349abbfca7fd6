"""Export and import, on each backend and from one to another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.account import Role, User
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.events import JobSubmitted
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import Lease
from cyxwiz.store.dump import export_lines, import_lines
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock
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
