"""A web server on a loopback socket that serves bytes from memory, and fails when told to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate

CHUNK = 64 << 10


@dataclass
class Served:
    """What one path answers. `cuts` are bytes after which a connection is reset, one a request, until used up."""

    body: bytes = b""
    etag: str = ""
    modified: float | None = None
    ranges: bool = True
    length: bool = True
    status: int = 200
    location: str = ""
    encoding: str = ""
    type: str = ""
    cuts: list[int] = field(default_factory=list)
    failures: int = 0  # answers 503 that many times first
    gate: asyncio.Event | None = None  # nothing of the body is sent before it is set


@dataclass
class Request:
    path: str
    headers: dict[str, str]


class WebServer:
    def __init__(self) -> None:
        self.pages: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.port = 0
        self._serving: set[asyncio.Task[None]] = set()

    def url(self, path: str, *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split(" ")[1]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            self.requests.append(Request(path, headers))
            await self._answer(path, headers, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._serving.discard(task)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.close()
                await writer.wait_closed()

    async def aclose(self) -> None:
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _answer(self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        page = self.pages.get(path, Served(status=404))
        status, body, more = page.status, page.body, {}
        if page.failures:
            page.failures -= 1
            status, body = 503, b""
        modified = formatdate(page.modified, usegmt=True) if page.modified is not None else ""
        fresh = {"If-None-Match": page.etag, "If-Modified-Since": modified}
        if status == 200 and any(value and headers.get(name.lower()) == value for name, value in fresh.items()):
            status, body = 304, b""
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if status == 200 and found and page.ranges and headers.get("if-range") in (page.etag or "-", modified or "-"):
            start, status = int(found[1]), 206
            more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        more |= {"ETag": page.etag} if page.etag else {}
        more |= {"Last-Modified": modified} if modified else {}
        more |= {"Location": page.location} if page.location else {}
        more |= {"Content-Encoding": page.encoding} if page.encoding else {}
        more |= {"Content-Type": page.type} if page.type else {}
        more |= {"Content-Length": str(len(body))} if page.length else {}
        lines = [f"HTTP/1.1 {status} Status", "Connection: close", *(f"{key}: {value}" for key, value in more.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        await writer.drain()
        if page.gate is not None:
            await page.gate.wait()
        cut = page.cuts.pop(0) if page.cuts and status in (200, 206) else None
        end = len(body) if cut is None else min(cut, len(body))
        for at in range(0, end, CHUNK):
            part = body[at : min(at + CHUNK, end)]
            writer.write(part)
            self.sent_bytes += len(part)
            await writer.drain()
        if cut is not None:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def webserver(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """A server for as long as the block lasts."""
    web = WebServer()
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0, ssl=tls)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()
        await web.aclose()
        await server.wait_closed()
