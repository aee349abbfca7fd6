"""The gate before every request: request id, Host and Origin, the bound on bodies, the headers of every answer.

Loopback is not private, any web page can reach it. So on a loopback address a request must name this host (DNS
rebinding), and whatever changes state or opens a WebSocket must not come from a page of another origin. Refused too:
bodies above the bound, before they are read where their length is told, else as soon as they pass it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyxwiz import wire
from cyxwiz.domain.addresses import is_loopback
from cyxwiz.domain.errors import CyxError, forbidden, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.transports.rest import errors

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HELD = "cyxwiz.held"  # in the scope: an exit stack, for what a request holds until its client took the answer
LARGE_BYTES = 64 << 10
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

Observe = Callable[[str, str, int, float], None]  # method, route, status, seconds


@dataclass(frozen=True, slots=True)
class Hosts:
    """Who this server is, for the checks of Host and Origin. `bound` is the host of the listening address."""

    bound: str
    public_url: str | None = None

    def check(self, headers: Headers, *, changes_state: bool) -> None:
        """Raises FORBIDDEN or INVALID."""
        given = headers.getlist("host")
        if len(given) > 1:
            raise invalid("Host: given more than once", field="Host")
        host = given[0] if given else ""
        if is_loopback(self.bound) and not self._is_ours(host):
            raise forbidden(
                f"Host {host[:100]!r} is not this server; set server.public_url to its name", host=host[:100]
            )
        origin = headers.get("origin")
        if changes_state and origin is not None and not self._same_origin(origin, host):
            raise forbidden(f"Pages of the origin {origin[:100]!r} may not do this", origin=origin[:100])

    def _is_ours(self, host: str) -> bool:
        name = _name_and_port(host, "http")[0]
        return bool(name) and (is_loopback(name) or name in (self.bound.strip("[]").lower(), self._public()[0]))

    def _same_origin(self, origin: str, host: str) -> bool:
        scheme, _, rest = origin.partition("://")
        if scheme not in ("http", "https") or not rest:
            return False
        theirs = _name_and_port(rest, scheme)
        return theirs[0] != "" and theirs in (_name_and_port(host, scheme), self._public())

    def _public(self) -> tuple[str, int]:
        if not self.public_url:
            return "", 0
        parts = urlsplit(self.public_url)
        return _name_and_port(parts.netloc, parts.scheme)


def _name_and_port(netloc: str, scheme: str) -> tuple[str, int]:
    """('', 0) for what is no host."""
    try:
        parts = urlsplit(f"//{netloc}")
        port = parts.port
    except ValueError:
        return "", 0
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return "", 0
    return parts.hostname.lower().rstrip("."), _DEFAULT_PORTS.get(scheme, 0) if port is None else port


def on_this_machine(scope: Scope) -> bool:
    """Whether a request was made on this machine and not handed on by a proxy for somebody elsewhere."""
    headers, client = Headers(scope=scope), scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    if any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    return is_loopback(_name_and_port(headers.get("host", ""), "http")[0])


class Gate:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        clock: Clock,
        observe: Observe,
        max_body_bytes: int,
        unbounded: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._clock = clock
        self._observe = observe
        self._max_body = max_body_bytes
        self._unbounded = frozenset(unbounded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope[errors.REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        if scope["type"] == "websocket":
            await self._websocket(scope, headers, receive, send)
        else:
            await self._http(scope, headers, receive, send)

    async def _websocket(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        try:
            self._hosts.check(headers, changes_state=True)
        except CyxError as error:
            await receive()
            await send({"type": "websocket.accept"})
            body = errors.encode({"type": "error", **errors.document(error, scope[errors.REQUEST_ID])}).decode()
            await send({"type": "websocket.send", "text": body})
            await send({"type": "websocket.close", "code": wire.CODES[error.code].websocket, "reason": str(error.code)})
            return
        await self._app(scope, receive, send)

    async def _http(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        began, status = self._clock.monotonic(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(MutableHeaders(raw=message.setdefault("headers", [])), scope)
            if len(message.get("body", b"")) > LARGE_BYTES and not message.get("more_body"):
                await send({**message, "more_body": True})
                message = {"type": "http.response.body", "body": b""}  # which is sent when the client took most of it
            await send(message)

        try:
            self._hosts.check(headers, changes_state=scope["method"] not in SAFE_METHODS)
            async with AsyncExitStack() as scope[HELD]:
                await self._app(scope, self._bounded(scope, headers, receive), dressed)
        except Exception as error:
            if status:  # too late for an answer: the server cuts the connection, which tells the client
                raise
            await errors.answer(error, scope)(scope, receive, dressed)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._observe(scope["method"], route, status, self._clock.monotonic() - began)

    def _bounded(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        if scope["path"] in self._unbounded:
            return receive
        too_large = invalid(f"The body is larger than {self._max_body} bytes", limit=self._max_body)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._max_body:
            raise too_large
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body:
                raise too_large
            return message

        return counted

    def _dress(self, headers: MutableHeaders, scope: Scope) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        headers["X-Request-ID"] = scope[errors.REQUEST_ID]
        if scope.get("scheme") == "https":
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
