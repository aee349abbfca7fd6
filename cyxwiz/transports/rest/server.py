"""Serves the REST application. Binds first, so that a bad address fails the start and a free port is known."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from ssl import CERT_NONE, CERT_REQUIRED, SSLError

import uvicorn
from fastapi import FastAPI

from cyxwiz.domain.errors import invalid
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.listening import BACKLOG, listen, shown
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.transports.rest.protocol import protocol

MAX_WEBSOCKET_BYTES = 1 << 20


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


class RestServer(Service):
    """Stops softly: no new connections, streams end at once, requests in flight get `GRACE_SECONDS`."""

    GRACE_SECONDS = 5.0

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        ssl_certfile: Path | None = None,
        ssl_keyfile: Path | None = None,
        ca: Path | None = None,
        require_client_cert: bool = False,
        max_connections: int = 10_000,
    ) -> None:
        super().__init__()
        self._app = app
        self._host = host.strip("[]")
        self.port = port
        self.tls = ssl_certfile is not None
        if require_client_cert and ca is None:
            raise invalid("tls.ca_file: must be set with tls.require_client_cert")
        self._config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http=protocol(max_connections),
            ws="websockets-sansio",
            ws_max_size=MAX_WEBSOCKET_BYTES,
            backlog=BACKLOG,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(self.GRACE_SECONDS),
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            ssl_ca_certs=str(ca) if ca and require_client_cert else None,
            ssl_cert_reqs=CERT_REQUIRED if require_client_cert else CERT_NONE,
        )

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{shown(self._host)}:{self.port}"

    def bind(self) -> socket.socket:
        """The listening socket; `port` is the real one afterwards. Raises UNAVAILABLE when the address can't be had."""
        listener = listen(self._host, self.port, "Set server.rest_address; port 0 takes a free one")
        self.port = listener.getsockname()[1]
        return listener

    async def run(self) -> None:
        try:
            self._config.load()
        except (OSError, SSLError) as error:
            raise invalid(f"tls.cert_file, tls.key_file or tls.ca_file can't be used: {error}") from None
        listener = self.bind()
        server = _Server(self._config, self.ready)
        tasks = Tasks()
        try:
            serving = spawn(server.serve([listener]), name="REST server", group=tasks)
            asked = spawn(self.stopping.wait(), name="REST server's stop", group=tasks)
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            self._app.state.streams.close()
            server.should_exit = True
            await serving
        finally:
            await tasks.aclose()
            listener.close()
            _cut(server)


def _cut(server: uvicorn.Server) -> None:
    """Closes what a stop that was cut short has left open."""
    for each in getattr(server, "servers", ()):
        each.close()
    for connection in list(server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
    for task in list(server.server_state.tasks):
        task.cancel()
