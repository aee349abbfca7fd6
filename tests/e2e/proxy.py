"""A TCP proxy on loopback in a thread of its own: a network that a test can cut, heal and narrow."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Generator

_READ = 64 * 1024
_BUFFER = 64 * 1024  # of a socket: what is on its way and belongs to nobody stays small


class Proxy:
    """Carries connections to a port of 127.0.0.1.

    `sent` counts the bytes carried towards that port, `accepted` the connections, `refused` those that came while the
    line was cut.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = False
        self._rate: float | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.sent = self.accepted = self.refused = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def cut(self) -> None:
        """Resets every connection, and every new one until `heal`."""
        self._call(self._reset)

    def heal(self) -> None:
        """The line is there again, at its full speed."""
        self._cut, self._rate = False, None

    def narrow(self, bytes_per_second: float) -> None:
        """Lets no more than this through towards the port, on each connection."""
        self._rate = bytes_per_second

    def close(self) -> None:
        self._call(self._reset)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Callable[[], None]) -> None:
        async def inside() -> None:
            work()

        asyncio.run_coroutine_threadsafe(inside(), self._loop).result(10)

    def _reset(self) -> None:
        self._cut = True
        for writer in self._open:
            writer.transport.abort()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, sock=self._socket, limit=_BUFFER)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_BUFFER)
        except OSError:  # nobody listens there now
            writer.transport.abort()
            return
        self.accepted += 1
        ends = {writer, far_writer}
        self._open |= ends
        try:
            await asyncio.gather(self._carry(reader, far_writer, counted=True), self._carry(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                writer.write(data)
                await writer.drain()
                if counted:
                    self.sent += len(data)
                    if self._rate is not None:
                        await asyncio.sleep(len(data) / self._rate)
        writer.close()


@contextlib.contextmanager
def proxy(port: int) -> Generator[Proxy]:
    line = Proxy(port)
    try:
        yield line
    finally:
        line.close()
