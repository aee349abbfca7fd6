"""Server-Sent Events: one response class for every stream.

Promised: what a stream refuses at its start is an HTTP error, what breaks it later is an `error` event; a comment every
`HEARTBEAT_SECONDS`; the source is closed and the caller's stream count given back however it ends. `Streams.close` ends
all of them within a moment, so that none holds up a stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.transports.auth import Guard, internal
from cyxwiz.transports.rest import errors

HEARTBEAT_SECONDS = 15.0
SETTLE_SECONDS = 0.25
RETRY_MS = 2000

Source = AsyncGenerator[dict[str, Any], None]


class Streams:
    """The open streams of one server."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._closed = False

    def close(self) -> None:
        """Ends every stream now, and refuses new ones."""
        self._closed = True
        for limit in list(self._limits):
            _end(limit)

    def check(self) -> None:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "This server is stopping; come back in a moment")

    def add(self, limit: asyncio.Timeout) -> None:
        self._limits.add(limit)
        if self._closed:
            _end(limit)

    def remove(self, limit: asyncio.Timeout) -> None:
        self._limits.discard(limit)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


class _Feed:
    """Reads the source in a task of its own, a little ahead of the client; a slow client slows the source."""

    def __init__(self, source: Source) -> None:
        self._items: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue(4)
        self._tasks = Tasks()
        self._first = asyncio.Event()
        self._ahead: dict[str, Any] | Exception | None = None
        spawn(self._pump(source), name="event stream", group=self._tasks)

    async def _pump(self, source: Source) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await self._items.put(item)
            await self._items.put(None)
        except Exception as error:
            await self._items.put(error)

    async def check(self) -> None:
        """Raises what the source refuses at once; a source with nothing to say yet is fine."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                self._ahead = await self._items.get()
                self._first.set()
        except TimeoutError:
            return
        if isinstance(self._ahead, Exception):
            raise self._ahead

    async def next(self) -> dict[str, Any] | Exception | None:
        if self._first.is_set():
            self._first.clear()
            return self._ahead
        return await self._items.get()

    async def aclose(self) -> None:
        await self._tasks.aclose()


class EventStream(Response):
    media_type = "text/event-stream"

    def __init__(
        self, feed: _Feed, ident: Callable[[dict[str, Any]], str], streams: Streams, held: AsyncExitStack
    ) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._ident = ident
        self._streams = streams
        self._held = held
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = Tasks()
        try:
            async with asyncio.timeout(None) as limit:
                self._streams.add(limit)
                spawn(_until_gone(receive, limit), name="event stream's client", group=tasks)
                try:
                    await self._serve(scope, send)
                finally:
                    self._streams.remove(limit)
        except TimeoutError:
            if self._sending:  # the client does not take what it gets: nothing more can be said to it
                return
        finally:
            await tasks.aclose()
            await self._held.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, f"retry: {RETRY_MS}\n\n")
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    item = await self._feed.next()
            except TimeoutError:
                await self._send(send, ": still here\n\n")
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                error = item if isinstance(item, CyxError) else internal(item, str(scope.get("path")))
                text = errors.encode(errors.document(error, scope.get(errors.REQUEST_ID, ""))).decode()
                await self._send(send, f"event: error\ndata: {text}\n\n")
                return
            await self._send(send, f"id: {self._ident(item)}\ndata: {errors.encode(item).decode()}\n\n")

    async def _send(self, send: Send, text: str) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        self._sending = False


async def _until_gone(receive: Receive, limit: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    _end(limit)


async def open_stream(
    source: Source, ident: Callable[[dict[str, Any]], str], *, streams: Streams, guard: Guard, key: str
) -> EventStream:
    """Starts a stream for the caller `key`. Raises what the source refuses at its start, or EXHAUSTED."""
    streams.check()
    async with AsyncExitStack() as stack:
        stack.enter_context(guard.stream(key))
        feed = _Feed(source)
        stack.push_async_callback(feed.aclose)
        await feed.check()
        return EventStream(feed, ident, streams, stack.pop_all())
    raise AssertionError("unreachable")
