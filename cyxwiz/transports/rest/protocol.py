"""HTTP on a connection: uvicorn's, save that its own refusals have our error body too.

What is no HTTP is INVALID; a request on a connection beyond `max_connections` is UNAVAILABLE, a WebSocket too. Before
anybody has shown credentials a connection costs little: `MAX_HEAD_BYTES` of headers, and `HEAD_SECONDS` to send them.
Who takes nothing of an answer for `TAKE_SECONDS` is cut off, as what is not taken is kept.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.transports.rest import errors

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 30.0
TAKE_SECONDS = 60.0


def protocol(max_connections: int) -> type[HttpToolsProtocol]:
    """A protocol class that serves so many connections at a time."""

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._beyond = len(self.connections) > max_connections
            if self._beyond:
                self.app = _full
            self._kept = 0  # bytes that the parser took and has passed nothing on of yet
            self._awaits_head = True
            self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_SECONDS, transport.close)
            self._take_timer: asyncio.TimerHandle | None = None

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            self._stop_take_timer()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._expect_taken()

        def resume_writing(self) -> None:
            self._stop_take_timer()
            super().resume_writing()

        def _expect_taken(self) -> None:
            left = self.transport.get_write_buffer_size()
            self._take_timer = self.loop.call_later(TAKE_SECONDS, self._look_what_was_taken, left)

        def _look_what_was_taken(self, before: int) -> None:
            if self.transport.get_write_buffer_size() < before:
                self._expect_taken()
            else:
                self.transport.abort()  # a close would wait for what is left to be taken

        def _stop_take_timer(self) -> None:
            if self._take_timer is not None:
                self._take_timer.cancel()
                self._take_timer = None

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def data_received(self, data: bytes) -> None:
            self._kept += len(data)
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self._kept > MAX_HEAD_BYTES:
                self.send_400_response(f"The request's headers are larger than {MAX_HEAD_BYTES} bytes")
            elif self._awaits_head and self._head_timer is None and (not self.cycle or self.cycle.response_complete):
                # Not while a response is on its way: reading may be paused, so that the next request has to wait.
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def handle_websocket_upgrade(self) -> None:
            super().handle_websocket_upgrade()
            self._awaits_head = False

        def on_headers_complete(self) -> None:
            self._kept, self._awaits_head = 0, False
            self._stop_timer()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._kept = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._kept, self._awaits_head = 0, True
            super().on_message_complete()

        def _should_upgrade_to_ws(self) -> bool:
            return not self._beyond and super()._should_upgrade_to_ws()

        def send_400_response(self, msg: str) -> None:
            request_id = uuid.uuid4().hex
            body = errors.encode(errors.document(invalid(msg), request_id))
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    return Protocol


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    scope[errors.REQUEST_ID] = uuid.uuid4().hex
    error = CyxError(Code.UNAVAILABLE, "Every connection of this server is taken; try again in a moment")
    response: Any = errors.answer(error, scope)
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
