"""The files of runs that are over go without holding up the node, and a stop in between loses nothing."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.leftovers import Leftovers
from tests.contract.conftest import HandClock

JOBS = [f"{number:08}-0000-4000-8000-000000000000" for number in range(3)]


class Gate:
    """Holds each removal back until it is let go; counts how many there are at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self.now = self.most = 0
        self._remove = shutil.rmtree
        monkeypatch.setattr(shutil, "rmtree", self)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.reached.set()
        assert self.go.wait(30)
        self._remove(*args, **kwargs)
        self.now -= 1


def made(root: Path, job: str, token: str = "1-1") -> Path:
    folder = root / job / token / "out"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"weights")
    return folder.parent


async def gone(root: Path) -> None:
    async with asyncio.timeout(10):
        while any((root / "trash").iterdir()):
            await asyncio.sleep(0.01)


async def test_a_sweep_waits_for_no_removal_and_there_is_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, gate, swept = HandClock(), Gate(monkeypatch), list[Path]()
    leftovers = Leftovers(tmp_path, 10.0, clock, swept.append)
    folders = [made(tmp_path, job) for job in JOBS]
    for folder in folders[:2]:
        leftovers.keep(folder, stale=False)
    leftovers.sweep()
    assert folders[0] in leftovers
    clock.advance(11)
    leftovers.sweep()  # would not return if it removed anything itself
    assert swept == folders[:2]
    assert not (tmp_path / JOBS[0]).exists()
    assert await asyncio.to_thread(gate.reached.wait, 10)
    leftovers.sweep()
    leftovers.remove(folders[2])
    again = made(tmp_path, JOBS[2], "1-2")  # a run of the same job begins meanwhile
    gate.go.set()
    await gone(tmp_path)
    assert gate.most == 1
    assert leftovers.found() == [again]
    leftovers.close()


async def test_what_a_stop_leaves_goes_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    first = Leftovers(tmp_path, 10.0, HandClock(), lambda _: None)
    for job in JOBS:
        first.remove(made(tmp_path, job))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    first.close()
    gate.go.set()  # it ends the one that it is at
    second = Leftovers(tmp_path, 10.0, HandClock(), lambda _: None)
    assert second.found() == []
    assert any((tmp_path / "trash").iterdir())
    second.sweep()
    await gone(tmp_path)
    second.close()


def test_what_is_no_runs_folder_stays(tmp_path: Path) -> None:
    leftovers = Leftovers(tmp_path / "jobs", 10.0, HandClock(), lambda _: None)
    for folder in (made(tmp_path, JOBS[0]), made(tmp_path / "jobs", "mine")):
        leftovers.remove(folder)
        assert folder.exists()
    leftovers.remove(tmp_path / "jobs" / JOBS[1] / "1-1")  # it never began
    leftovers.close()
