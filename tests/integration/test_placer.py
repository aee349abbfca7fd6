"""The placer's way through a queue whose head can't be placed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.job import Job
from cyxwiz.domain.states import JobState
from cyxwiz.scheduler.loops import placer as module
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services.jobfile import parse_jobfile
from tests.wiring import JOB, Central, central


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Central]:
    made = await central(tmp_path)
    yield made
    await made.aclose()


async def submit(house: Central, who: Principal, count: int, **changes: Any) -> list[Job]:
    return [(await house.jobs.submit(who, parse_jobfile({**JOB, **changes})))[0] for _ in range(count)]


def the_placer(house: Central) -> Placer:
    return Placer(house.store, house.bus, house.jobs, Weights(), poll_seconds=1.0)


async def states(house: Central, who: Principal, jobs: list[Job]) -> list[JobState]:
    return [(await house.jobs.get(who, job.id)).state for job in jobs]


async def test_jobs_that_fit_nowhere_hold_up_nobody(house: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    alice, bob = await house.accounts.authenticate(house.alice), await house.accounts.authenticate(house.bob)
    await house.node()
    hopeless = await submit(house, alice, 25, resources={"device": "cuda"}, priority="critical")
    fitting = await submit(house, bob, 3)
    assert await the_placer(house).place() > 0
    assert await states(house, bob, fitting) == [JobState.ASSIGNED, JobState.ASSIGNED, JobState.PENDING]
    assert "no cuda device" in (await house.jobs.get(alice, hopeless[-1].id)).reason
    assert "all slots busy" in (await house.jobs.get(bob, fitting[-1].id)).reason


async def test_a_pass_is_bounded_and_the_next_goes_on_behind_the_head(
    house: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "MOST_BATCHES", 3)
    alice = await house.accounts.authenticate(house.alice)
    await house.node()
    await submit(house, alice, 7, resources={"device": "cuda"}, priority="high")
    last = await submit(house, alice, 1)
    placer = the_placer(house)
    assert await placer.place() == 0, "it did not come to the end: it goes on at once"
    assert await states(house, alice, last) == [JobState.PENDING]
    urgent = await submit(house, alice, 1, priority="critical")
    assert await placer.place() > 0
    assert await states(house, alice, urgent + last) == [JobState.ASSIGNED, JobState.ASSIGNED]


async def test_waiting_jobs_are_looked_at_without_their_models(house: Central) -> None:
    alice = await house.accounts.authenticate(house.alice)
    (job,) = await submit(house, alice, 1)
    seen = await house.store.read(lambda tx: [*tx.due_jobs(9), tx.job(job.id)])
    assert [each.spec.model for each in seen if each] == ["", ""]
    assert await house.store.read(lambda tx: tx.model(job.id)) == job.spec.model != ""
