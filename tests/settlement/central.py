"""A central that is killed at any of its calls and starts again over the same store and chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cyxwiz.bus.local import LocalBus
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.scheduler.loops.settler import Settler
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.store.memory import MemoryStore

T = TypeVar("T")
POLL_SECONDS = 300.0  # hints and times that are due wake it before


class Killed(asyncio.CancelledError):
    """The process has ended: what runs of it can do nothing more."""


class Life:
    """From a start of central to its end. Each call of the store and of the cluster has a place before and one after.

    Args:
        ends_at: the place, counted from 1, at which it is killed; None lets it live.
    """

    def __init__(self, ends_at: int | None, note: Callable[[str], None]) -> None:
        self.places = 0
        self.over = asyncio.Event()
        self._ends_at = ends_at
        self._note = note

    def pass_by(self, place: str) -> None:
        """Raises `Killed` from the end on."""
        if self.over.is_set():
            raise Killed
        self.places += 1
        if self.places == self._ends_at:
            self._note(f"central is killed {place}")
            self.over.set()
            raise Killed

    async def call(self, name: str, made: Callable[[], Awaitable[T]]) -> T:
        self.pass_by(f"before {name}")
        value = await made()
        self.pass_by(f"after {name}")
        return value


class MortalStore:
    """`ports.store.Store` for one life."""

    def __init__(self, store: MemoryStore, life: Life) -> None:
        self._store, self._life = store, life

    async def write(self, unit: Callable[[Any], T]) -> T:
        return await self._life.call("a write", lambda: self._store.write(unit))

    async def read(self, unit: Callable[[Any], T]) -> T:
        return await self._life.call("a read", lambda: self._store.read(unit))

    async def aclose(self) -> None:
        return None


class MortalRpc:
    """`ledger.rpc.Rpc` for one life."""

    def __init__(self, rpc: Any, life: Life) -> None:
        self._rpc, self._life = rpc, life

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._rpc, name)

        async def call(*given: Any, **named: Any) -> Any:
            return await self._life.call(name, lambda: method(*given, **named))

        return call


OpenLedger = Callable[[Any, Life], Ledger]


class Central:
    """The settlement of one central, life after life.

    Args:
        open_ledger: makes the ledger anew over a life's store.
        deaths: at which place each life ends; after the last it lives on.
        pause: seconds from a death to the next start.
    """

    def __init__(
        self,
        store: MemoryStore,
        bus: LocalBus,
        clock: Clock,
        terms: Terms,
        open_ledger: OpenLedger,
        deaths: list[int],
        pause: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self._terms, self._open_ledger = terms, open_ledger
        self._deaths, self._pause, self._note = deaths, pause, note
        self._stopped = asyncio.Event()
        self.places = 0  # that the present life has passed
        self.died = 0

    def spare(self) -> None:
        """No life is ended from now on, once the present one is over."""
        self._deaths.clear()

    async def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        while not self._stopped.is_set():
            life = Life(self._deaths.pop(0) if self._deaths else None, self._note)
            store = MortalStore(self._store, life)
            payments = Payments(store, self._clock, self._open_ledger(store, life), self._terms)
            settler = Settler(payments, self._bus, poll_seconds=POLL_SECONDS)
            task = asyncio.create_task(settler.run(), name="settler")
            waits = [asyncio.create_task(each.wait()) for each in (life.over, self._stopped)]
            await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                raise AssertionError("the settlement ended by itself") from task.exception()
            for each in (task, *waits):
                each.cancel()
            await asyncio.gather(task, *waits, return_exceptions=True)
            self.places += life.places
            if life.over.is_set():
                self.died += 1
                await self._clock.sleep(self._pause())
