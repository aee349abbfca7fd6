"""HTTP and WebSocket of a local chain, on a port and the one after it, as a Solana node has them.

Both ports answer both. POST / is JSON-RPC, GET /health says ok. Any web page may ask (CORS), as wallets in browsers
need it: the money here is worth nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from cyxwiz.domain.errors import CyxError
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.jsonrpc import Dispatcher
from cyxwiz.ledger.localnet.methods import Methods
from cyxwiz.ledger.localnet.subscriptions import Peer, TooSlow
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.listening import BACKLOG, listen, shown
from cyxwiz.runtime.tasks import Tasks, spawn

MAX_BODY_BYTES = 1 << 20
MAX_CONNECTIONS = 4000
ADVICE = "Choose another --port; 0 takes free ones"
CLOSE_SECONDS = 1.0
TRIES = 20  # of finding two free ports in a row
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"86400"),
)
_POLICY_VIOLATION, _GOING_AWAY = 1008, 1001

Receive = Callable[[], Any]
Send = Callable[[Any], Any]


class _App:
    """The ASGI application."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._dispatcher = Dispatcher(Methods(chain).table())
        self._peers: set[Peer] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS":
            await _respond(send, 204)
        elif path == "/health" and method == "GET":
            await _respond(send, 200, b"ok", b"text/plain")
        elif path != "/":
            await _respond(send, 404, b"there is POST / and GET /health\n", b"text/plain")
        elif method != "POST":
            await _respond(send, 405, b"POST a JSON-RPC request\n", b"text/plain", ((b"allow", b"POST, OPTIONS"),))
        elif not _is_json(scope):
            await _respond(send, 415, b"Content-Type: expected application/json\n", b"text/plain")
        else:
            body = await _body(receive)
            if body is None:
                await _respond(send, 413, f"at most {MAX_BODY_BYTES} bytes\n".encode(), b"text/plain")
                return
            answer = await self._dispatcher.answer(body)
            await _respond(send, 200, (answer or "").encode(), b"application/json")

    async def _websocket(self, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        peer = Peer(self._chain)
        self._peers.add(peer)
        tasks = Tasks()
        try:
            sending = spawn(_send_all(peer, send), name="localnet's sender", group=tasks)
            reading = spawn(_read_all(peer, receive), name="localnet's reader", group=tasks)
            cut = spawn(peer.cut.wait(), name="localnet's slow reader", group=tasks)
            await asyncio.wait({sending, reading, cut}, return_when=asyncio.FIRST_COMPLETED)
            if peer.slow or not reading.done():
                code = _POLICY_VIOLATION if peer.slow else _GOING_AWAY
                with contextlib.suppress(RuntimeError, TimeoutError):  # it is closed already, or takes nothing
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await send({"type": "websocket.close", "code": code})
        finally:
            peer.close()
            self._peers.discard(peer)
            await tasks.aclose()

    def close(self) -> None:
        """Ends the WebSocket connections; HTTP ends by itself."""
        for peer in self._peers:
            while peer.outgoing.full():
                peer.outgoing.get_nowait()
            peer.outgoing.put_nowait(None)


async def _send_all(peer: Peer, send: Send) -> None:
    while (text := await peer.outgoing.get()) is not None:
        await send({"type": "websocket.send", "text": text})


async def _read_all(peer: Peer, receive: Receive) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        try:
            await peer.take(text if text is not None else message.get("bytes") or b"")
        except TooSlow:
            return


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the client went away
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _is_json(scope: dict[str, Any]) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(kinds) and kinds[0].split(b";")[0].strip().lower() == b"application/json"


async def _respond(
    send: Send, status: int, body: bytes = b"", kind: bytes = b"", more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    headers = [*_CORS, *more, (b"content-length", str(len(body)).encode())]
    if kind:
        headers.append((b"content-type", kind))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """Without signal handlers, which are the process's own, and with word of when it serves."""

    def __init__(self, config: uvicorn.Config, serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._serving = serving

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._serving()


class LocalnetServer(Service):
    """Serves a chain. `port` and `websocket_port` are the real ones once it is started.

    Args:
        port: for HTTP, the next one for WebSocket; 0 takes two free ones.
    """

    def __init__(self, chain: Chain, host: str = "127.0.0.1", port: int = 8899) -> None:
        super().__init__()
        self._host = host.strip("[]")
        self.port = port
        self._app = _App(chain)
        self._config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=MAX_BODY_BYTES,
            backlog=BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )

    @property
    def websocket_port(self) -> int:
        return self.port + 1

    @property
    def url(self) -> str:
        return f"http://{shown(self._host)}:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://{shown(self._host)}:{self.websocket_port}"

    def _bind_both(self) -> list[socket.socket]:
        for tries_left in reversed(range(TRIES)):
            first = listen(self._host, self.port, ADVICE)
            found = int(first.getsockname()[1])
            try:
                second = listen(self._host, found + 1, ADVICE)
            except CyxError:
                first.close()
                if self.port or not tries_left:
                    raise
            else:
                self.port = found
                return [first, second]
        raise AssertionError("the last try raises")

    async def run(self) -> None:
        listeners = self._bind_both()
        server = _Server(self._config, self.ready)
        tasks = Tasks()
        try:
            serving = spawn(server.serve(listeners), name="localnet's server", group=tasks)
            asked = spawn(self.stopping.wait(), name="localnet's stop", group=tasks)
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            self._app.close()
            server.should_exit = True
            await serving
        finally:
            await tasks.aclose()
            for each in listeners:
                each.close()
