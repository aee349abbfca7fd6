"""One story, told through every door with the same assertions: submit, watch, cancel, and what is refused.

A door is anything with the methods of `Door`; it turns its own messages into `Seen` and its own errors into `Refused`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from tests.central import DIGITS
from tests.fakes import ScriptedExecutor

TERMINAL = ("completed", "failed", "cancelled")


class Refused(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Seen:
    """What a watcher saw at one moment. Doors of the wire contract know only `running` for assigned."""

    status: str
    epoch: int
    progress: float
    metrics: dict[str, float] = field(default_factory=dict)


class Door(Protocol):
    async def submit(self, job: dict[str, Any]) -> str: ...

    async def get(self, job_id: str) -> Seen: ...

    def watch(self, job_id: str) -> AsyncIterator[Seen]: ...

    async def cancel(self, job_id: str) -> None: ...

    async def list(self) -> list[str]: ...


async def submit_and_watch(door: Door, executor: ScriptedExecutor) -> None:
    """A watcher sees every epoch in order, then the end, then nothing more."""
    job_id = await door.submit({**DIGITS, "epochs": 4})
    seen: list[Seen] = []
    stepped: set[int] = set()  # one epoch at a time: those that end together may be told as one
    async for moment in door.watch(job_id):
        seen.append(moment)
        if moment.status == "running" and moment.epoch < 4 and moment.epoch not in stepped:
            stepped.add(moment.epoch)
            executor.step()
    epochs = [moment.epoch for moment in seen]
    assert epochs == sorted(epochs)
    assert set(epochs) == {0, 1, 2, 3, 4}
    assert seen[-1].status == "completed"
    assert seen[-1].progress == 1.0
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(seen[-1].metrics)
    assert all(0.0 <= moment.progress <= 1.0 for moment in seen)
    final = await door.get(job_id)
    assert (final.status, final.epoch) == ("completed", 4)
    assert job_id in await door.list()
    late = [moment async for moment in door.watch(job_id)]
    assert [moment.status for moment in late] == ["completed"], "a late watcher gets the final state and the end"


async def cancel_a_running_job(door: Door, executor: ScriptedExecutor) -> None:
    job_id = await door.submit({**DIGITS, "epochs": 50})
    last, stepped = None, False
    async for moment in door.watch(job_id):
        if moment.status == "running" and not stepped:
            stepped = True
            executor.step()
        if moment.epoch == 1 and last is None:
            await door.cancel(job_id)
        if moment.epoch >= 1:
            last = moment
    assert last is not None
    assert last.status == "cancelled"
    assert (await door.get(job_id)).status == "cancelled"
    with pytest.raises(Refused) as again:
        await door.cancel(job_id)
    assert again.value.code == "CONFLICT"


async def what_is_refused(door: Door, executor: ScriptedExecutor) -> None:
    for changes in (
        {"epochs": -1},
        {"batch_size": -1},
        {"dataset": "builtin:nothing"},
        {"dataset": ""},
        {"model": {"layers": []}},
        {"hyperparameters": {"learning_rate": "-1"}},
    ):
        with pytest.raises(Refused) as refused:
            await door.submit({**DIGITS, **changes})
        assert refused.value.code == "INVALID", changes
    assert await door.list() == [], "nothing was stored"
    for ident, code in (("rubbish", "INVALID"), (str(uuid.uuid4()), "NOT_FOUND")):
        with pytest.raises(Refused) as refused:
            await door.get(ident)
        assert refused.value.code == code
        with pytest.raises(Refused) as refused:
            await door.cancel(ident)
        assert refused.value.code == code
        with pytest.raises(Refused) as refused:
            async for _ in door.watch(ident):
                pass
        assert refused.value.code == code


SCENARIOS = (submit_and_watch, cancel_a_running_job, what_is_refused)
