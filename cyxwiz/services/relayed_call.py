"""`Call`: one end of a call whose frames share a node's stream with everything else.

Promises: messages arrive whole, in order, once; at most WINDOW bytes of parts wait unread at either end, so a reader
that is slow slows its own call alone. Refuses a message above MAX_MESSAGE and a peer that sends past its grant.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ext.v1 import link_pb2 as pb

WINDOW = 1 << 20
PART = 64 << 10
OVERHEAD = 16  # what a part counts besides its bytes, so that empty ones are bounded, too
MAX_MESSAGE = 100 << 20

Send = Callable[[pb.Relay], Awaitable[None]]


class Call:
    def __init__(self, number: int, send: Send) -> None:
        self.number = number
        self._send = send
        self._credit = WINDOW
        self._parts: deque[pb.RelayPart] = deque()
        self._held = 0  # bytes of parts that wait here
        self._closed = False  # the other side sends nothing more
        self._error: CyxError | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.over = False

    # what arrives

    def receive(self, frame: pb.Relay) -> None:
        """Takes a part, a grant, a half-close or the end. Raises INVALID for a part that was not granted."""
        kind = frame.WhichOneof("body")
        if kind == "part":
            self._held += len(frame.part.data) + OVERHEAD
            if self._held > WINDOW + PART + OVERHEAD:
                raise invalid("A relayed call sends more than it was granted")
            self._parts.append(frame.part)
        elif kind == "grant":
            self._credit += frame.grant
            self._room.set()
        elif kind == "half_close":
            self._closed = True
        elif kind == "end":
            end = frame.end
            self.end(CyxError(_code(end.code), end.message, retryable=end.retryable) if end.code else None)
        self._news.set()

    def end(self, error: CyxError | None = None) -> None:
        """Nothing more comes: what is here is still read, then `messages` ends, or raises `error`."""
        if not self.over:
            self.over = self._closed = True
            self._error = error
            self._news.set()
            self._room.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """The other side's messages. Raises the error that it ended the call with."""
        whole = bytearray()
        while True:
            while self._parts:
                part = self._parts.popleft()
                taken = len(part.data) + OVERHEAD
                self._held -= taken
                whole += part.data
                if len(whole) > MAX_MESSAGE:
                    raise invalid(f"A relayed message is larger than {MAX_MESSAGE} bytes")
                if not self.over:
                    await self._send(pb.Relay(call=self.number, grant=taken))
                if not part.more:
                    yield bytes(whole)
                    whole.clear()
            if self._closed:
                break
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error

    # what is sent

    async def write(self, message: bytes) -> None:
        """Sends a message as far as the other side grants it; waits for the rest. Raises UNAVAILABLE after the end."""
        if len(message) > MAX_MESSAGE:
            raise invalid(f"A message of {len(message)} bytes; at most {MAX_MESSAGE} are relayed")
        view = memoryview(message)
        for start in range(0, max(1, len(message)), PART):
            data = view[start : start + PART]
            while self._credit < len(data) + OVERHEAD:
                if self.over:
                    raise CyxError(Code.UNAVAILABLE, "The relayed call is over")
                self._room.clear()
                await self._room.wait()
            if self.over:
                raise CyxError(Code.UNAVAILABLE, "The relayed call is over")
            self._credit -= len(data) + OVERHEAD
            part = pb.RelayPart(data=bytes(data), more=start + PART < len(message))
            await self._send(pb.Relay(call=self.number, part=part))

    async def half_close(self) -> None:
        if not self.over:
            await self._send(pb.Relay(call=self.number, half_close=True))

    async def tell_end(self, error: CyxError | None = None) -> None:
        """Says that the call is over, with `error` or well."""
        if self.over:
            return
        self.end(error)
        end = pb.RelayEnd()
        if error is not None:
            end = pb.RelayEnd(code=str(error.code), message=error.message[:2000], retryable=error.retryable)
        await self._send(pb.Relay(call=self.number, end=end))


def _code(word: str) -> Code:
    return Code(word) if word in Code.__members__ else Code.INTERNAL
