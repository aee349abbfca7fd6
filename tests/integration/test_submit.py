"""Submits that meet others: the same key at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.store.sql import SqlTx
from tests.wiring import JOB, central


async def test_a_key_that_comes_twice_at_a_time_makes_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await central(tmp_path)
    alice = await house.accounts.authenticate(house.alice)
    first, _ = await house.jobs.submit(alice, parse_jobfile(JOB), "key")
    looks: list[str] = []
    remembered = SqlTx.remembered

    def blind_at_first(self: SqlTx, scope: str, key: str) -> tuple[str, str] | None:
        looks.append(key)  # PostgreSQL does not show what another unit has not committed yet
        return None if len(looks) == 1 else remembered(self, scope, key)

    monkeypatch.setattr(SqlTx, "remembered", blind_at_first)
    second, new = await house.jobs.submit(alice, parse_jobfile(JOB), "key")
    assert (second.id, new) == (first.id, False)
    await house.aclose()
