"""What a connection may cost before anybody has shown credentials: bytes of headers, and time to send them."""

from __future__ import annotations

import asyncio
import json

import pytest

from cyxwiz.transports.rest import protocol
from cyxwiz.transports.rest.server import RestServer
from tests.integration.test_ws import dial, receive, subscribe
from tests.wiring import Central

GET = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LOGIN = b"POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
PIECE = 16 << 10
ENOUGH = 4 << 20


async def flood(port: int, beginning: bytes, piece: bytes) -> tuple[bytes, int]:
    """(what was answered, how many bytes the server let come): sends `piece` for ever after the beginning."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    try:
        writer.write(beginning)
        while sent < ENOUGH and not reader.at_eof():
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
        return await asyncio.wait_for(reader.read(), 5), sent
    except ConnectionError:
        return bytes(getattr(reader, "_buffer", b"")), sent
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        pytest.param(GET, b"X-Filler: " + b"y" * PIECE + b"\r\n", id="headers"),
        pytest.param(GET + b"X-Filler: ", b"y" * PIECE, id="one header"),
        pytest.param(b"GET /", b"y" * PIECE, id="path"),
        pytest.param(
            LOGIN + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Filler: " + b"y" * PIECE + b"\r\n", id="trailers"
        ),
        pytest.param(LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1;", b"y" * PIECE, id="chunk extension"),
    ],
)
async def test_a_head_without_end_is_cut(served: RestServer, beginning: bytes, piece: bytes) -> None:
    answer, sent = await flood(served.port, beginning, piece)
    assert sent < ENOUGH / 2, "the server took all that came"
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["code"] == "INVALID"


async def test_a_large_head_and_a_larger_body_are_served(served: RestServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    body = b'{"name": "nobody", "password": "' + b"x" * 1000 + b'"}' + b" " * 3 * protocol.MAX_HEAD_BYTES
    filler = b"X-Filler: " + b"y" * (protocol.MAX_HEAD_BYTES // 2) + b"\r\n"
    writer.write(LOGIN + filler + f"Content-Length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), PIECE):
        writer.write(body[start : start + PIECE])
        await writer.drain()
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_a_head_that_does_not_come_ends_the_connection(
    served: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    for beginning, again in ((b"", b""), (GET, b""), (GET + b"\r\n", GET), (GET + b"\r\n", b"\r\n")):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(beginning)
        if again:
            await asyncio.wait_for(reader.readuntil(b"}"), 5)
            writer.write(again)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_what_follows_a_head_may_take_longer(
    house: Central, served: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    async with dial(served, house.alice) as socket:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(LOGIN + b"Content-Length: 2\r\n\r\n{")
        await asyncio.sleep(0.7)
        writer.write(b"}")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 400")
        await subscribe(socket, "stats")
        assert (await receive(socket))["type"] == "stats"
        writer.close()
