"""`LiveJob`: what clients may know of one job on this node; `Reader`: one client's place in it.

Promises: every reader gets the job's updates in order, from the first that is kept; a slow reader slows nobody: past
KEPT lines of the log, and as many other updates, the oldest of their kind are left out, so that no log costs the curve.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.protocol import execution_pb2 as pb

if TYPE_CHECKING:
    from cyxwiz.compute.p2p.remote import RemoteData
    from cyxwiz.compute.runs import Record
    from cyxwiz.ext.v1 import link_pb2 as link

KEPT = 5000
ENDED_KEPT = 500  # of a job that is over
OWN_KEPT = 100  # messages to one reader alone that wait for it
MAX_WISHES = 100  # that wait for a run's child


Numbered = tuple[int, pb.TrainingUpdate]


class Standing(StrEnum):
    """How a job stands on this node."""

    HERE = "here"  # it runs, or is about to
    PAUSED = "paused"  # set aside by its owner over this node; it may come back
    DONE = "done"  # completed, failed or stopped: nothing more comes
    AWAY = "away"  # it goes on elsewhere, if at all


@dataclass(frozen=True, slots=True)
class Weights:
    """The result's first file: its bytes lie at `path` for as long as the node keeps them."""

    path: Path
    sha256: str
    size: int


@dataclass(eq=False)
class LiveJob:
    job_id: str
    owner_id: str
    reservation_id: str = ""
    record: Record | None = None
    standing: Standing = Standing.HERE
    epoch: int = 0
    batch: int = 0
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    checkpoint: str = ""  # sha256 of the last one that central has
    checkpoints: int = 0
    weights: Weights | None = None
    closing: link.Report | None = None  # how its run ended: told once central has it
    pausing: bool = False  # its owner asked for it over this node
    idle_since: float = 0.0  # by the clock: when it was last seen to run or to be read
    remote: RemoteData | None = None
    wishes: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    _lines: deque[Numbered] = field(default_factory=lambda: deque[Numbered](maxlen=KEPT))
    _others: deque[Numbered] = field(default_factory=lambda: deque[Numbered](maxlen=KEPT))
    _told: int = 0  # updates so far; the number of the last one
    readers: list[Reader] = field(default_factory=list["Reader"])
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, update: pb.TrainingUpdate) -> None:
        self._told += 1
        (self._lines if update.HasField("log") else self._others).append((self._told, update))
        self.stir()

    def stand(self, standing: Standing) -> None:
        self.standing = standing
        self.stir()

    def stir(self) -> None:
        """Wakes whoever waits for a change."""
        self._moved.set()
        self._moved = asyncio.Event()
        for reader in self.readers:
            reader.news.set()

    def trim(self) -> None:
        """Leaves the newest of what was told."""
        for kept in (self._lines, self._others):
            while len(kept) > ENDED_KEPT:
                kept.popleft()

    async def changed(self) -> None:
        """Returns at the next change."""
        await self._moved.wait()

    def after(self, cursor: int) -> tuple[list[pb.TrainingUpdate], int]:
        """The kept updates after a cursor (0: all), and the cursor after them."""
        new = [list(takewhile(lambda each: each[0] > cursor, reversed(kept))) for kept in (self._lines, self._others)]
        ordered = heapq.merge(*(reversed(part) for part in new), key=itemgetter(0))
        return [update for _, update in ordered], self._told


class Reader:
    """One client's stream: the job's updates, and what is for this client alone."""

    def __init__(self, job: LiveJob, token: str) -> None:
        self.job = job
        self.token = token  # what this client proved itself with
        self.news = asyncio.Event()
        self.half_closed = False
        self.dismissed = False  # the client said that it wants no further job
        self.failed: Exception | None = None
        self._own: deque[pb.TrainingUpdate] = deque()
        self._cursor = 0
        job.readers.append(self)

    def say(self, update: pb.TrainingUpdate) -> None:
        """Something for this client alone. Raises EXHAUSTED when it reads nothing."""
        if len(self._own) >= OWN_KEPT:
            raise CyxError(Code.EXHAUSTED, f"{OWN_KEPT} answers wait for this client, which reads none of them")
        self._own.append(update)
        self.news.set()

    def follow(self, job: LiveJob) -> None:
        """From here on another job."""
        self.leave()
        self.job, self._cursor = job, 0
        job.readers.append(self)
        self.news.set()

    def leave(self) -> None:
        if self in self.job.readers:
            self.job.readers.remove(self)
            self.job.stir()

    @property
    def _over(self) -> bool:
        if self.job.standing is Standing.AWAY:
            return True
        return self.job.standing is Standing.DONE and (self.half_closed or self.dismissed)

    async def updates(self) -> AsyncIterator[pb.TrainingUpdate]:
        """Ends when the job is over and the client has nothing more to say, or the job is no longer here."""
        while True:
            self.news.clear()
            while self._own:
                yield self._own.popleft()
            over = self._over  # before the look: what is told after it wakes the next round
            new, self._cursor = self.job.after(self._cursor)
            for update in new:
                yield update
                while self._own:
                    yield self._own.popleft()
            if self.failed is not None:
                raise self.failed
            if over and not new:
                return
            if not over and not new:
                await self.news.wait()
