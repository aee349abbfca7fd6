"""Calls that are shared: those who ask at one time are answered by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.tasks import Tasks, spawn

Q = TypeVar("Q")
A = TypeVar("A")


class Shared(Generic[Q, A]):
    """Asks for all who wait, no more often than once in a while. What one gets was asked after its own call.

    Args:
        ask: given all questions, answers each, in their order; an answer that is an exception is raised in who asked.
            What it raises itself is raised in everybody.
        spacing: seconds between two calls; without, all who ask in one turn of the loop share one.
    """

    def __init__(
        self, ask: Callable[[list[Q]], Awaitable[Sequence[A | Exception]]], clock: Clock, spacing: float = 0.0
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._spacing = spacing
        self._next_at = 0.0
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._tasks = Tasks()

    async def __call__(self, question: Q) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if len(self._waiting) == 1:
            spawn(self._round(), name="shared call", group=self._tasks)
        return await answer

    async def _round(self) -> None:
        if (wait := self._next_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        asked, self._waiting = self._waiting, []
        self._next_at = self._clock.monotonic() + self._spacing
        wanted = [(question, answer) for question, answer in asked if not answer.done()]
        if not wanted:
            return
        try:
            answers = await self._ask([question for question, _ in wanted])
            for (_, answer), found in zip(wanted, answers, strict=True):
                if answer.done():
                    continue
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)
        except Exception as error:
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
        finally:  # of one that is cancelled, nobody waits for an answer that never comes
            for _, answer in wanted:
                answer.cancel()

    async def aclose(self) -> None:
        await self._tasks.aclose()
        for _, answer in self._waiting:
            answer.cancel()


def apart(
    ask: Callable[[list[Q]], Awaitable[Sequence[A]]],
) -> Callable[[list[Q]], Awaitable[Sequence[A | Exception]]]:
    """`ask`, where nobody fails for another: what fails for several is asked again for each by itself."""

    async def each(asked: list[Q]) -> Sequence[A | Exception]:
        try:
            return await ask(asked)
        except Exception as error:
            if len(asked) == 1:
                return [error]
        return [answer for question in asked for answer in await each([question])]

    return each
