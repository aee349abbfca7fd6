"""HTTP on a connection: uvicorn's, save that its own refusals have our error body too.

What is no HTTP is INVALID; a request on a connection beyond `max_connections` is UNAVAILABLE, a WebSocket too.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.transports.rest import errors


def protocol(max_connections: int) -> type[HttpToolsProtocol]:
    """A protocol class that serves so many connections at a time."""

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._beyond = len(self.connections) > max_connections
            if self._beyond:
                self.app = _full

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
