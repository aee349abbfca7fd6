"""Members measure their links over real sockets; central keeps it and places by it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyxwiz.compute.gang.links import measure, rounds
from cyxwiz.ports.executor import Finished, Gang, Reached
from tests.gangs import train_together
from tests.integration.test_executor import job, running
from tests.integration.test_gangs import JOB


class Board:
    """Keys and values between threads."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._news = threading.Condition()

    def set(self, key: str, value: str | bytes) -> None:
        with self._news:
            self._values[key] = value.encode() if isinstance(value, str) else value
            self._news.notify_all()

    def get(self, key: str) -> bytes:
        with self._news:
            assert self._news.wait_for(lambda: key in self._values, 10)
            return self._values[key]


@pytest.mark.parametrize("world", range(2, 10))
def test_all_meet_all_in_rounds(world: int) -> None:
    played = list(rounds(world))
    for pairs in played:
        ranks = [rank for pair in pairs for rank in pair]
        assert len(ranks) == len(set(ranks)), "one link at a time"
    met = [pair for pairs in played for pair in pairs]
    assert sorted(met) == list(itertools.combinations(range(world), 2))


def together(world: int, addresses: dict[int, str] | None = None) -> list[list[Reached]]:
    board, places = Board(), addresses or {}
    with ThreadPoolExecutor(world) as pool:
        gangs = [Gang(rank, world, "ddp", places.get(rank, "127.0.0.1")) for rank in range(world)]
        return list(pool.map(lambda gang: measure(gang, board), gangs))


def test_each_pair_is_measured_by_its_lower_rank() -> None:
    found = together(4)
    assert [sorted(each.rank for each in mine) for mine in found] == [[1, 2, 3], [2, 3], [3], []]
    for each in itertools.chain(*found):
        assert 0 < each.round_trip_seconds < 1.0
        assert 1e6 < each.bytes_per_second < 1e12


def test_a_member_without_a_door_is_not_measured_and_holds_nobody_up() -> None:
    """192.0.2.1 is no machine's (RFC 5737): it can't listen there."""
    found = together(3, {1: "192.0.2.1"})
    assert [[each.rank for each in mine] for mine in found] == [[2], [], []]


async def test_a_gang_tells_its_slowest_link(tmp_path: Path) -> None:
    async with running(tmp_path) as executor:
        told = await asyncio.wait_for(train_together(executor, job(tmp_path, **JOB), 2), 100)
    (reached,) = [each for each in told.reports if isinstance(each, Reached)]
    assert reached.rank == 1
    end = told.ends[0]
    assert isinstance(end, Finished), end
    assert end.final_metrics["link_round_trip_ms"] == pytest.approx(reached.round_trip_seconds * 1000)
    assert end.final_metrics["link_bytes_per_second"] == pytest.approx(reached.bytes_per_second)
