"""What survives a crash, and the handles by which one life of a process reaches it.

A handle is slow, full or away as faults say, and dead once its process was killed: nothing that a killed process would
still do can change what is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from cyxwiz.bus.local import LocalBus
from cyxwiz.compute.journal import SqliteJournal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import Token
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.node_journal import JournalLease
from cyxwiz.ports.store import Store, Tx
from cyxwiz.store.memory import MemoryStore
from cyxwiz.store.tables import metadata

T = TypeVar("T")

WAITS_SHARE = 0.15  # of the calls that take time at all
LONGEST_WAIT_SECONDS = 0.02


class SimStore(MemoryStore):
    """The memory store, readable as plain rows by the invariants, and used again for the next history."""

    def begin(self, clock: Clock, bus: Bus) -> None:
        """Empties it: making a new one would cost more than a tenth of a history."""
        self._clock, self._bus = clock, bus
        self._raw.execute("PRAGMA query_only=OFF")
        for table in reversed(metadata.sorted_tables):
            self._raw.execute(f"DELETE FROM {table.name}")
        self._raw.execute("DELETE FROM sqlite_sequence")

    def rows(self, statement: str, *values: Any) -> list[Any]:
        return self._raw.execute(statement, values).fetchall()


class LossyBus(LocalBus):
    """`ports.bus.Bus` that loses a share of its hints, as its contract allows."""

    def __init__(self, rng: random.Random, lost: float) -> None:
        super().__init__()
        self._rng = rng
        self._lost = lost

    def publish(self, topics: Iterable[str]) -> None:
        super().publish(topic for topic in topics if self._rng.random() >= self._lost)


class _Handle:
    """One life's access to something that outlives it."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.dead = False
        self.trouble: Code | None = None
        self._clock = clock
        self._rng = rng

    def kill(self) -> None:
        self.dead = True

    async def _pass(self) -> None:
        """Other tasks may run here, as they would while a disk is busy."""
        if self.dead:
            raise asyncio.CancelledError
        if self._rng.random() < WAITS_SHARE:
            await self._clock.sleep(self._rng.random() * LONGEST_WAIT_SECONDS)
            if self.dead:
                raise asyncio.CancelledError

    def _refuse(self, *codes: Code) -> None:
        if self.trouble is not None and self.trouble in codes:
            raise CyxError(self.trouble, f"simulated trouble: {self.trouble}")


class StoreHandle(_Handle):
    """`ports.store.Store` for one life of central. EXHAUSTED refuses writes, UNAVAILABLE everything."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, committed: Callable[[], None]) -> None:
        super().__init__(clock, rng)
        self._store = store
        self._committed = committed

    async def write(self, unit: Callable[[Tx], T]) -> T:
        await self._pass()
        self._refuse(Code.EXHAUSTED, Code.UNAVAILABLE)
        value = await self._store.write(unit)
        self._committed()
        await self._pass()
        return value

    async def read(self, unit: Callable[[Tx], T]) -> T:
        await self._pass()
        self._refuse(Code.UNAVAILABLE)
        value = await self._store.read(unit)
        await self._pass()
        return value

    async def aclose(self) -> None:
        return


class JournalHandle(_Handle):
    """`ports.node_journal.NodeJournal` for one life of a node. EXHAUSTED refuses whatever writes."""

    def __init__(self, journal: SqliteJournal, clock: Clock, rng: random.Random) -> None:
        super().__init__(clock, rng)
        self._journal = journal

    async def _write(self) -> None:
        await self._pass()
        self._refuse(Code.EXHAUSTED)

    async def take(self, assign: pb.Assign, boot_id: str) -> None:
        await self._write()
        await self._journal.take(assign, boot_id)
        await self._pass()

    async def append(self, reports: Sequence[pb.Report], *, ends: bool = False) -> Sequence[pb.Report]:
        await self._write()
        appended = await self._journal.append(reports, ends=ends)
        await self._pass()
        return appended

    async def acknowledge(self, job_id: str, token: Token, seq: int) -> None:
        await self._write()
        await self._journal.acknowledge(job_id, token, seq)
        await self._pass()

    async def unacknowledged(self, job_id: str, token: Token, after: int) -> Sequence[pb.Report]:
        await self._pass()
        return await self._journal.unacknowledged(job_id, token, after)

    async def leases(self) -> Sequence[JournalLease]:
        await self._pass()
        return await self._journal.leases()

    async def forget(self, job_id: str, token: Token) -> None:
        await self._write()
        await self._journal.forget(job_id, token)
        await self._pass()

    async def aclose(self) -> None:
        return
