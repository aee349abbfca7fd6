"""Polls that are shared: with many payments in hand, a cluster is asked once for all of them.

A public cluster refuses who asks more than a few times a second, and a transaction takes seconds until it is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Generic, TypeVar

from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.ledger.rpc import MAX_STATUSES, Caller, Height, JsonRpc, Statuses, check_count
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.tasks import Tasks, spawn

SPACING_SECONDS = 0.4  # a slot of the cluster's: nothing new is known sooner

Q = TypeVar("Q")
A = TypeVar("A")


class Shared(Generic[Q, A]):
    """Asks for all who wait, no more often than once in a while. What one gets was asked after its own call.

    Args:
        ask: given all questions, answers each, in their order. What it raises is raised in everybody who asked.
    """

    def __init__(self, ask: Callable[[list[Q]], Awaitable[Sequence[A]]], clock: Clock, spacing: float) -> None:
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
            spawn(self._round(), name="shared poll", group=self._tasks)
        return await answer

    async def _round(self) -> None:
        await self._clock.sleep(max(0.0, self._next_at - self._clock.monotonic()))
        asked, self._waiting = self._waiting, []
        self._next_at = self._clock.monotonic() + self._spacing
        wanted = [(question, answer) for question, answer in asked if not answer.done()]
        if not wanted:
            return
        try:
            answers = await self._ask([question for question, _ in wanted])
            for (_, answer), found in zip(wanted, answers, strict=True):
                if not answer.done():
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


class SharingRpc(JsonRpc):
    """`JsonRpc` that shares the two calls by which it is seen whether transactions landed."""

    def __init__(self, call: Caller, clock: Clock, *, mint: Pubkey, programs: Collection[Pubkey]) -> None:
        super().__init__(call, mint=mint, programs=programs)
        self._statuses = Shared(self._statuses_of, clock, SPACING_SECONDS)
        self._height = Shared(self._height_of, clock, SPACING_SECONDS)

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        check_count(signatures)  # here, so that it fails nobody else
        return await self._statuses(signatures)

    async def height(self) -> Height:
        return await self._height(None)

    async def aclose(self) -> None:
        await self._statuses.aclose()
        await self._height.aclose()

    async def _statuses_of(self, asked: list[Sequence[Signature]]) -> Sequence[Statuses]:
        """As many calls as there are times 256 signatures; what is said holds for the earliest slot among them."""
        wanted = list(dict.fromkeys(signature for each in asked for signature in each))
        parts = [
            await super(SharingRpc, self).statuses(wanted[at : at + MAX_STATUSES])
            for at in range(0, len(wanted), MAX_STATUSES)
        ]
        slot = min(part.slot for part in parts)
        found = dict(zip(wanted, (status for part in parts for status in part.found), strict=True))
        return [Statuses(slot, tuple(found[signature] for signature in each)) for each in asked]

    async def _height_of(self, asked: list[None]) -> Sequence[Height]:
        return [await super().height()] * len(asked)
