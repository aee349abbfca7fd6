"""The way between a node and central: `ports.central_link.CentralLink` over queues that delay, lose and repeat.

A stream carries messages in order, and once it lost one it carries nothing more that way; each side learns of its end
at a time of its own, so that it may be half open for long. Noise goes beyond what a stream may do: it repeats messages
and swaps neighbours, never those of the handshake.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.ports.clock import Clock
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.services.jobs import Jobs

HANDSHAKE = frozenset({"hello", "challenge", "proof", "welcome"})
FARTHEST_SWAP = 3
DIAL_SECONDS = 2.0  # until a dial that nobody answers is given up

_USUAL = {"slowest_seconds": 0.02, "duplicates": 0.0, "swaps": 0.0, "lost_uploads": 0.0}

M = TypeVar("M", pb.NodeMessage, pb.CentralMessage)
T = TypeVar("T")


class Door(Protocol):
    """The life of central that is there now, as links reach it."""

    @property
    def gateway(self) -> NodeGateway: ...

    @property
    def jobs(self) -> Jobs: ...

    def spawn(self, coro: Coroutine[Any, Any, None], name: str) -> asyncio.Task[Any]: ...

    async def ask(self, asked: Coroutine[Any, Any, T]) -> T:
        """What central answers, or UNAVAILABLE if it dies before it has."""
        ...


@dataclass(slots=True)
class Way:
    """One node's way to central, as faults have left it."""

    rng: random.Random
    clock: Clock
    note: Callable[[str], None]
    blocked: int = 0  # faults that keep the node from dialling
    slowest_seconds: float = _USUAL["slowest_seconds"]
    stalled_until: float = 0.0
    duplicates: float = 0.0
    swaps: float = 0.0
    lost_uploads: float = 0.0
    sessions: dict[SimSession, None] = field(default_factory=dict)

    def change(self, **values: float) -> dict[str, float]:
        """Sets fields; returns what a fault that ends later must set them back to."""
        for name, value in values.items():
            setattr(self, name, value)
        return {name: _USUAL[name] for name in values}

    def delay(self) -> float:
        wait = self.rng.random() * self.slowest_seconds
        return max(wait, self.stalled_until - self.clock.monotonic())

    def cut(self, *, up: bool, down: bool, node_learns: float, central_learns: float) -> None:
        """Breaks every open stream: loses what is under way and what is still sent in the given directions."""
        for session in list(self.sessions):
            session.cut(up=up, down=down, node_learns=node_learns, central_learns=central_learns)


class _Pipe(Generic[M]):
    """One direction. `items` ends with None, or with the error that ended it."""

    def __init__(self, way: Way, arrow: str) -> None:
        self.items: asyncio.Queue[M | CyxError | None] = asyncio.Queue()
        self.broken = False
        self._way = way
        self._arrow = arrow
        self._flying: list[M | CyxError | None] = []

    def put(self, message: M | CyxError | None) -> None:
        if self.broken:
            return
        self._launch(message)
        if self._way.duplicates and self._may_stray(message) and self._way.rng.random() < self._way.duplicates:
            self._launch(message)

    def _launch(self, message: M | CyxError | None) -> None:
        place = len(self._flying)
        if self._way.swaps and self._may_stray(message) and self._way.rng.random() < self._way.swaps:
            for _ in range(self._way.rng.randint(1, FARTHEST_SWAP)):
                if place and self._may_stray(self._flying[place - 1]):
                    place -= 1
        self._flying.insert(place, message)
        asyncio.get_running_loop().call_later(self._way.delay(), self._land)

    def _may_stray(self, message: M | CyxError | None) -> bool:
        return isinstance(message, (pb.NodeMessage, pb.CentralMessage)) and kind_of(message) not in HANDSHAKE

    def _land(self) -> None:
        if not self._flying:
            return  # lost on the way
        message = self._flying.pop(0)
        if isinstance(message, (pb.NodeMessage, pb.CentralMessage)) and kind_of(message) not in ("beat", "pulse"):
            self._way.note(f"{self._arrow} {described(message)}")
        self.items.put_nowait(message)

    def lose(self) -> None:
        """Nothing arrives any more but the news of the end."""
        self.broken = True
        self._flying.clear()

    def end(self, error: CyxError | None) -> None:
        self.items.put_nowait(error)


class SimSession:
    """`ports.central_link.LinkSession`, and central's side of the same stream."""

    def __init__(self, way: Way, name: str) -> None:
        self.serving: asyncio.Task[Any] | None = None
        self._way = way
        self._up: _Pipe[pb.NodeMessage] = _Pipe(way, f"{name} ->")
        self._down: _Pipe[pb.CentralMessage] = _Pipe(way, f"{name} <-")
        self._node_knows = False
        self._central_knows = False
        way.sessions[self] = None

    # the node's side

    async def send(self, message: pb.NodeMessage) -> None:
        if self._node_knows:
            raise CyxError(Code.UNAVAILABLE, "The stream to central has ended")
        self._up.put(message)

    async def receive(self) -> AsyncIterator[pb.CentralMessage]:
        while (message := await self._down.items.get()) is not None:
            if isinstance(message, CyxError):
                raise message
            yield message

    async def aclose(self) -> None:
        """Central learns of it after what was sent before, or at once, as it is with a stream that is cancelled."""
        if self._node_knows:
            return
        self._node_end(None)
        if self._way.rng.random() < 0.5:
            self._up.put(None)
            self._later(DIAL_SECONDS + self._way.delay(), self._central_end)
        else:
            self._later(self._way.delay(), self._central_end)

    # central's side

    async def run(self, serve: Awaitable[None]) -> None:
        ending: CyxError | None = None
        try:
            await serve
        except CyxError as error:
            ending = error
        except TimeoutError:
            ending = CyxError(Code.TIMEOUT, "The node took too long")
        self._way.note(f"stream served, {ending.message if ending else 'ended'}")
        self._central_knows = True
        self._down.put(ending)
        self._later(self._way.delay() + 0.1, lambda: self._node_end(ending))

    async def outgoing(self) -> AsyncIterator[pb.NodeMessage]:
        while isinstance(message := await self._up.items.get(), pb.NodeMessage):
            yield message

    async def deliver(self, message: pb.CentralMessage) -> None:
        if not self._central_knows:
            self._down.put(message)

    # how it ends

    def cut(self, *, up: bool, down: bool, node_learns: float, central_learns: float) -> None:
        if up:
            self._up.lose()
        if down:
            self._down.lose()
        self._later(node_learns, lambda: self._node_end(CyxError(Code.UNAVAILABLE, "The stream was cut")))
        self._later(central_learns, self._central_end)

    def node_died(self, central_learns: float) -> None:
        self._node_knows = True
        self._up.lose()
        self._down.lose()
        self._later(central_learns, self._central_end)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def _node_end(self, error: CyxError | None) -> None:
        if not self._node_knows:
            self._node_knows = True
            self._down.lose()
            self._down.end(error)
            self._forget_if_over()

    def _central_end(self) -> None:
        """The end of the stream as central sees it: the node's messages end, or the call is cancelled."""
        self._up.lose()
        if not self._central_knows:
            self._central_knows = True
            if self.serving is not None and self._way.rng.random() < 0.5:
                self.serving.cancel()
            else:
                self._up.end(None)
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self._node_knows and self._central_knows:
            self._way.sessions.pop(self, None)


class SimLink:
    """`ports.central_link.CentralLink` for one life of a node."""

    def __init__(
        self, way: Way, door: Callable[[], Door | None], blobs: dict[str, bytes], name: str, node_id: NodeId
    ) -> None:
        self.session_token = ""
        self._way = way
        self._door = door
        self._blobs = blobs
        self._name = name
        self._node_id = node_id

    async def open(self) -> LinkSession:
        central = await self._reach()
        session = SimSession(self._way, self._name)
        serve = central.gateway.serve(session.outgoing(), session.deliver, peer_host="127.0.0.1", local=False)
        session.serving = central.spawn(session.run(serve), f"serve {self._name}")
        return session

    async def push_blob(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        await self._reach()
        if self._way.rng.random() < self._way.lost_uploads:
            raise CyxError(Code.UNAVAILABLE, "The upload was cut")
        central = await self._reach()
        self._blobs[sha256] = data
        await central.ask(central.jobs.record_blob(sha256, len(data), owner=None, sender=self._node_id))
        await self._way.clock.sleep(self._way.delay())
        if self._way.blocked:
            raise CyxError(Code.UNAVAILABLE, "The answer to the upload was lost")
        return sha256, len(data)

    async def fetch_blob(self, sha256: str, path: Path) -> None:
        await self._reach()
        if sha256 not in self._blobs:
            raise CyxError(Code.NOT_FOUND, f"Blob not found: {sha256}")
        path.write_bytes(self._blobs[sha256])

    async def aclose(self) -> None:
        return

    async def _reach(self) -> Door:
        """Central, after the time that the way takes. Raises UNAVAILABLE."""
        await self._way.clock.sleep(self._way.delay())
        central = self._door()
        if self._way.blocked:
            await self._way.clock.sleep(self._way.rng.random() * DIAL_SECONDS)
        if central is None or self._way.blocked or self._door() is not central:
            raise CyxError(Code.UNAVAILABLE, "Central can't be reached")
        return central


def kind_of(message: pb.NodeMessage | pb.CentralMessage) -> str:
    return message.WhichOneof("body") or ""


def described(message: pb.NodeMessage | pb.CentralMessage) -> str:
    """One line about a message; ids stand in it as they are, the trace shortens them."""
    kind = kind_of(message)
    body: Any = getattr(message, kind)
    if kind == "report":
        return f"report {body.job_id} {body.token.counter} #{body.seq} {body.WhichOneof('body')}"
    if kind == "ack":
        return f"ack {body.job_id} {body.token.counter} #{body.seq}"
    if kind == "cancel":
        return f"cancel {body.job_id} {body.token.counter} {pb.Cancel.Reason.Name(body.reason)}: {body.message}"
    if kind in ("assign", "refusal"):
        return f"{kind} {body.job_id} {body.token.counter}"
    if kind == "hello":
        held = ", ".join(f"{h.job_id} {h.token.counter} #{h.last_seq}{'!' * h.ended}" for h in body.held)
        return f"hello, holding {held or 'nothing'}"
    return kind
