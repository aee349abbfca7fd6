"""`Service`: started and stopped in any order, by anybody, it runs once, stops whole and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.runtime.clock import VirtualClock, VirtualLoop
from cyxwiz.runtime.lifecycle import Service, first_death
from cyxwiz.runtime.tasks import Tasks, spawn

T = TypeVar("T")


def virtually(coro: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coro)


class Loop(Service):
    """A service of a given temper; it counts how it is treated."""

    def __init__(
        self,
        *,
        ready_after: float = 0.0,
        stop_takes: float = 0.0,
        dies_after: float | None = None,
        error: Exception | None = None,
    ) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.ready_after, self.stop_takes = ready_after, stop_takes
        self.dies_after, self.error = dies_after, error
        self.entered = self.left = 0
        self.was_ready = False

    async def run(self) -> None:
        self.entered += 1
        try:
            await self.clock.sleep(self.ready_after)
            self.was_ready = True
            self.ready()
            if self.dies_after is None:
                await self.stopping.wait()
            else:
                await self.idle(self.dies_after)
                if self.error is not None and not self.stopping.is_set():
                    raise self.error
            await self.clock.sleep(self.stop_takes)
        finally:
            self.left += 1


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_starts_and_stops(seed: int) -> None:
    dice = random.Random(seed)

    async def play() -> None:
        boom = ValueError("boom")
        service = Loop(
            ready_after=dice.choice([0, 0, 0.5, 3]),
            stop_takes=dice.choice([0, 0, 1, 100]),
            dies_after=dice.choice([None, None, 0.0, 2.0]),
            error=dice.choice([None, boom]),
        )
        deaths: list[BaseException] = []

        async def act(verb: str, at: float) -> None:
            await service.clock.sleep(at)
            if verb == "start":
                try:
                    await service.start()
                except ValueError as error:
                    deaths.append(error)
            else:
                await service.stop(grace=dice.choice([0, 0.5, 5]))
                assert service.entered == service.left

        verbs = [dice.choice(["start", "start", "stop"]) for _ in range(dice.randint(1, 6))]
        async with asyncio.TaskGroup() as group:
            for verb in (*verbs, "stop", "stop"):
                group.create_task(act(verb, dice.choice([0.0, 0.0, 0.4, 1.0, 4.0])))
        await service.stop()
        await service.start()  # what was stopped stays stopped
        assert service.entered == service.left <= 1
        assert all(death is boom for death in deaths), "whoever starts it learns why it died"
        assert service.stopping.is_set()
        await asyncio.sleep(0)
        assert others() == set()

    virtually(play())


def test_start_returns_when_the_service_is_ready() -> None:
    async def play() -> float:
        service = Loop(ready_after=7)
        await service.start()
        assert service.was_ready
        at = service.clock.monotonic()
        await service.stop()
        return at

    assert virtually(play()) == 7.0


def test_start_raises_what_kept_it_from_being_ready() -> None:
    class Unlucky(Service):
        async def run(self) -> None:
            raise OSError("address in use")

    async def play() -> None:
        service = Unlucky()
        with pytest.raises(OSError, match="address in use"):
            await service.start()
        await service.stop()

    virtually(play())


@pytest.mark.parametrize(
    ("error", "traced"), [(CyxError(Code.UNAVAILABLE, "Can't listen"), False), (ValueError("no"), True)]
)
def test_what_ended_a_service_is_logged_once_and_traced_if_nobody_foresaw_it(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def unready() -> None:
        service = Loop(ready_after=0.0, dies_after=0.0, error=error)
        service.ready = lambda: None  # type: ignore[method-assign]
        with pytest.raises(type(error)):
            await service.start()
        await service.stop()

    async def died() -> None:
        service = Loop(dies_after=0.5, error=error)
        await service.start()
        await service.clock.sleep(1)
        await service.stop()

    virtually(unready())
    assert caplog.records == [], "who started it was told"
    virtually(died())
    (record,) = caplog.records
    assert str(error) in record.message
    assert bool(record.exc_info) is traced


def test_a_soft_stop_lets_it_finish_and_a_hard_one_does_not() -> None:
    async def play(takes: float, grace: float) -> float:
        service = Loop(stop_takes=takes)
        await service.start()
        await service.stop(grace)
        assert service.left == 1
        return service.clock.monotonic()

    assert virtually(play(takes=2, grace=5)) == 2.0
    assert virtually(play(takes=100, grace=5)) == 5.0


def test_a_death_is_told_with_its_reason() -> None:
    async def play() -> BaseException:
        service = Loop(dies_after=3, error=ValueError("boom"))
        await service.start()
        death = await service.died()
        await service.stop()
        return death

    assert repr(virtually(play())) == "ValueError('boom')"


def test_an_end_of_its_own_is_a_death_too() -> None:
    async def play() -> BaseException:
        service = Loop(dies_after=3)
        await service.start()
        return await service.died()

    death = virtually(play())
    assert isinstance(death, RuntimeError)
    assert str(death) == "Loop ended on its own"


def test_a_wanted_end_is_no_death() -> None:
    async def play() -> None:
        service = Loop()
        await service.start()
        watch = asyncio.ensure_future(service.died())
        await service.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await asyncio.shield(watch)
        watch.cancel()

    virtually(play())


def test_the_first_death_of_several_is_told_and_the_watches_end() -> None:
    async def play() -> BaseException:
        services = [Loop(), Loop(dies_after=9, error=OSError("late")), Loop(dies_after=2, error=ValueError("first"))]
        for service in services:
            await service.start()
        death = await first_death(*services)
        for service in reversed(services):
            await service.stop()
        await asyncio.sleep(0)
        assert others() == set()
        return death

    assert repr(virtually(play())) == "ValueError('first')"


def test_idle_ends_with_the_stop() -> None:
    async def play() -> tuple[float, float]:
        service = Loop()
        await service.idle(4)
        idled = service.clock.monotonic()
        asyncio.get_running_loop().call_later(1, service.stopping.set)
        await service.idle(1000)
        return idled, service.clock.monotonic()

    assert virtually(play()) == (4.0, 5.0)


def test_owned_tasks_end_with_their_owner_and_a_failure_does_not_end_the_others() -> None:
    async def play() -> None:
        tasks, done = Tasks(), asyncio.Event()

        async def fail() -> None:
            raise ValueError("one of many")

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                done.set()

        spawn(fail(), name="fails", group=tasks)
        waiting = spawn(wait(), name="waits", group=tasks)
        await asyncio.sleep(1)
        assert waiting.get_name() == "waits"
        assert len(tasks) == 1
        await tasks.aclose()
        assert done.is_set()
        assert len(tasks) == 0

    virtually(play())
