"""`Feed`: the data of one run of a `remote://` job, from the client that streams them to the child that trains on them.

Rows are written to the node's data cache in the order in which the child wants them (`Wanted`), and the child is told
how far they have come. Few are in memory: those of the requests that are under way. What came once is not asked for
again, in later epochs or, as far as the cache has room for it, by a later run of the job on this node. Once all of it
is there the client may go.

Other work than training on this node alone reads its data as a whole: its run begins with the last row.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.fetch import DataCache
from cyxwiz.compute.data.room import Room
from cyxwiz.compute.data.streamed import Info, RowStore
from cyxwiz.compute.p2p.remote import RemoteData, Say
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Cancelled, Failed, Finished, Preempted, Report, Run, Wanted
from cyxwiz.runtime.tasks import Tasks, spawn

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger(__name__)

GIVEN = "dataset"  # the client's file, where it gave one


class Feed:
    def __init__(
        self,
        job_id: str,
        remote: RemoteData,
        cache: DataCache,
        *,
        trains: bool,
        wanted: Callable[[], bool],
        say: Say,
    ) -> None:
        """`trains`: the run trains on this node alone and begins with the first rows."""
        self._job_id, self._remote, self._cache, self._trains, self._say = job_id, remote, cache, trains, say
        remote.wanted, remote.say, remote.there = wanted, say, self._there
        self._room: Room | None = None
        self._store: RowStore | None = None
        self._order: Array | None = None  # rows in the order in which they are wanted
        self._named = self._taken = self._count = 0  # of the order: named, asked for, there without a gap
        self._more = asyncio.Event()
        self._run: Run | None = None
        self._error: CyxError | None = None
        self._over = False  # the job has ended: nobody asks for its data again
        self._tasks = Tasks()

    @property
    def streams(self) -> bool:
        """Whether the run's child says which rows it wants."""
        return self._trains and self._store is not None

    # a run's life

    async def open(self) -> Path | None:
        """What the child reads: a folder of rows, all of them there unless it `streams`, or the client's own file.
        Waits for a client where one is needed; None once the run is not wanted.

        Raises:
            CyxError: as `RemoteData.info`; EXHAUSTED when the node's cache has no room for it.
        """
        self._room = await self._cache.room(f"remote://{self._job_id}")
        try:
            return await self._open(self._room)
        except OSError as error:
            raise _no_disk(error) from error
        except CyxError as error:
            self._over = not error.retryable
            raise

    async def _open(self, room: Room) -> Path | None:
        import numpy as np

        if (room.folder / GIVEN).exists():  # an earlier run's
            return room.folder / GIVEN
        store = self._store = await self._find(room)
        if store is None:
            return await self._given(room)
        self._remote.begun = True
        if self._trains:
            return store.folder
        self._name(np.arange(store.info.samples, dtype=np.uint32))
        await self._fill(store)
        return store.folder if store.whole else None

    async def _find(self, room: Room) -> RowStore | None:
        """Where the rows are written; None without what the client says of them."""
        folder = room.folder / "rows"
        store = await asyncio.to_thread(RowStore.find, folder)
        if store is not None and store.whole:
            await room.reserve(store.info.stored_bytes)
            return store
        info = await self._remote.info()
        if info is None:
            return None
        await room.reserve(info.stored_bytes)
        if store is not None and store.info == info:
            return store
        if store is not None:
            store.close(keep=False)
        return await asyncio.to_thread(RowStore.create, folder, info)

    async def _given(self, room: Room) -> Path | None:
        data = self._remote.given
        if data is None:
            return None
        await room.reserve(len(data))
        return await asyncio.to_thread(_keep, room.folder, data)

    def attach(self, run: Run) -> None:
        """The run is there. If its data can't be had, it is ended, and `seen` says why."""
        self._run = run
        if self.streams:
            spawn(self._serve(), name=f"feed {self._job_id}", group=self._tasks)

    def seen(self, batch: Sequence[Report]) -> list[Report]:
        """What the run reports, without what is for the feed alone. The end of a run whose data could not be had is
        that it failed."""
        passed: list[Report] = []
        for report in batch:
            if isinstance(report, Wanted):
                self._want(report)
                continue
            if self._error is not None and isinstance(report, Cancelled | Failed | Preempted):
                report = Failed(str(self._error.code), self._error.message, retryable=self._error.retryable)
            if isinstance(report, Finished | Cancelled) or (isinstance(report, Failed) and not report.retryable):
                self._over = True
            passed.append(report)
        return passed

    async def aclose(self, *, keep: bool) -> None:
        """The run is over. With `keep` what came stays for the job's next run, unless the job has ended."""
        await self._tasks.aclose()
        keep = keep and not self._over
        try:
            if self._store is not None:
                await asyncio.to_thread(self._store.close, keep=keep)
        except OSError as error:  # the next run asks for it again
            log.warning("the data of job %s are not kept: %s", self._job_id, error)
            keep = False
        finally:
            if self._room is not None:
                await self._room.leave(keep=keep)

    # the order

    def _want(self, report: Wanted) -> None:
        import numpy as np

        store = self._store
        rows = np.frombuffer(report.rows[: len(report.rows) // 4 * 4], dtype="<u4")
        if store is None or not self._trains or not self._name(rows):
            self._break(CyxError(Code.INTERNAL, "The job's process asked for rows that its data don't have."))

    def _name(self, rows: Array) -> bool:
        """Puts rows at the end of the order; False for what can't be part of it."""
        import numpy as np

        assert self._store is not None
        samples = self._store.info.samples
        if self._order is None:
            self._order = np.empty(samples, dtype=np.uint32)
        end = self._named + len(rows)
        if end > samples or (len(rows) and int(rows.max()) >= samples):
            return False
        self._order[self._named : end] = rows
        self._named = end
        self._more.set()
        return True

    async def _next(self, store: RowStore, size: int) -> Array | None:
        """The next rows that are not there, at most so many; None when the order is at its end."""
        while True:
            if self._taken < self._named:
                assert self._order is not None
                rows = self._order[self._taken : min(self._named, self._taken + size)]
                self._taken += len(rows)
                missing = rows[~store.have[rows]]
                if len(missing):
                    return missing
                self._advance(store)
            elif self._named == store.info.samples:
                return None
            else:
                self._more.clear()
                await self._more.wait()

    def _advance(self, store: RowStore) -> None:
        """Tells the child how many rows are there without a gap."""
        assert self._order is not None
        there = store.have[self._order[self._count : self._taken]]
        ahead = len(there) if there.all() else int(there.argmin())
        if ahead:
            self._count += ahead
            if self._run is not None:
                self._run.tell("fed", {"count": self._count})

    def _there(self) -> str:
        if self._store is None:
            return "none of them are here"
        return f"{int(self._store.have.sum())} of {self._store.info.samples} samples are here"

    # the stream

    async def _serve(self) -> None:
        store = self._store
        assert store is not None
        try:
            await self._fill(store)
            if store.whole:
                await self._say("info", f"all {store.info.samples} samples are here: no client is needed for them")
        except CyxError as error:
            self._break(error)
        except OSError as error:
            self._break(_no_disk(error))

    def _break(self, error: CyxError) -> None:
        self._error = self._error or error
        if self._run is not None:
            spawn(self._run.cancel(), name=f"end {self._job_id}", group=self._tasks)

    async def _fill(self, store: RowStore) -> None:
        """Brings what is wanted, until all is there or the run is not wanted."""
        size, workers = self._remote.sizes(store.info)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    spawn(self._work(store, store.info, size), name=f"remote data {number}", group=group)
        except BaseExceptionGroup as many:
            raise many.exceptions[0] from None

    async def _work(self, store: RowStore, info: Info, size: int) -> None:
        while (rows := await self._next(store, size)) is not None:
            found = await self._remote.batch(info, rows)
            if found is None:
                return
            await asyncio.to_thread(store.write, rows, *found)
            self._advance(store)


def _keep(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "partial"
    partial.write_bytes(data)
    os.replace(partial, folder / GIVEN)
    return folder / GIVEN


def _no_disk(error: OSError) -> CyxError:
    reason = error.strerror or type(error).__name__
    return CyxError(Code.EXHAUSTED, f"The streamed data can't be stored on the node: {reason}.", retryable=True)
