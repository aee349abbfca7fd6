"""What a connection may cost: bytes of headers and time to send them before anybody has shown credentials, and then
what its client does not take."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import aclosing

import pytest

from cyxwiz.domain.job import MAX_LOG_MESSAGE, LogLine
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.watch import MAX_LINES, Cursor
from cyxwiz.transports.rest import protocol, request
from cyxwiz.transports.rest.server import RestServer
from tests.integration.conftest import client, refused
from tests.integration.test_ws import dial, receive, subscribe
from tests.wiring import JOB, Central

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


async def long_log(house: Central, lines: int) -> str:
    """A job of alice's with so many of the longest lines."""
    actor = await house.accounts.authenticate(house.alice)
    job, _ = await house.jobs.submit(actor, parse_jobfile(JOB))
    message = "x" * MAX_LOG_MESSAGE
    log = [LogLine(number, house.clock.now(), "info", "job", message) for number in range(1, lines + 1)]
    await house.store.write(lambda tx: tx.add_logs(job.id, log))
    return job.id


async def ask(served: RestServer, key: str, path: str, kept: list[asyncio.StreamWriter]) -> asyncio.StreamReader:
    """A request whose client takes only what it reads, and that in small pieces."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", served.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    kept.append(writer)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    return reader


async def status(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)).split()[1]


async def test_who_takes_nothing_is_cut_off_and_waits_for_none_but_themself(
    house: Central, served: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "TAKE_SECONDS", 1.0)
    monkeypatch.setattr(request, "LARGE_ANSWERS", 1)
    job_id, kept = await long_log(house, 800), list[asyncio.StreamWriter]()
    logs = f"/api/jobs/{job_id}/logs"
    slow = await ask(served, house.alice, logs, kept)
    assert await status(slow) == b"200"
    late = await ask(served, house.alice, f"{logs}?limit=1", kept)
    assert await status(await ask(served, house.bob, logs, kept)) == b"403", "others have turns of their own"
    assert await status(await ask(served, house.alice, f"/api/jobs/{job_id}", kept)) == b"200", "nor does this wait"
    assert not late._buffer  # type: ignore[attr-defined]
    assert await status(late) == b"200", "the first one took nothing, and was cut off"
    with pytest.raises(ConnectionError):
        while await slow.read(1 << 20):
            pass
        raise ConnectionResetError  # as where the reset came before what was left
    for each in kept:
        each.transport.abort()


async def test_an_answer_is_no_larger_than_a_thousand_of_the_longest_lines(house: Central) -> None:
    job_id = await long_log(house, 1100)
    async with client(house, house.alice) as alice:
        first = (await alice.get(f"/api/jobs/{job_id}/logs?limit=10000")).json()
        rest = (await alice.get(f"/api/jobs/{job_id}/logs?limit=10000&after={first['next_after']}")).json()
    assert [len(first["logs"]), first["next_after"], len(rest["logs"])] == [1024, 1024, 76]


async def test_a_watch_tells_long_lines_some_at_a_time(house: Central) -> None:
    job_id, told = await long_log(house, 200), list[int]()
    actor = await house.accounts.authenticate(house.alice)
    async with aclosing(house.api.watch.job(actor, job_id, Cursor())) as updates:  # type: ignore[type-var]
        async for update in updates:
            told.append(len(update.lines))
            if sum(told) == 200:
                break
    assert max(told) == MAX_LINES // MAX_LOG_MESSAGE


async def test_downloads_count_as_streams(house: Central, served: RestServer) -> None:
    kept: list[asyncio.StreamWriter] = []
    async with client(house, house.alice) as alice:
        data = b"x" * (12 << 20)
        blob = await alice.post("/api/blobs", content=data, headers={"Content-Type": "application/octet-stream"})
        path = f"/api/blobs/{blob.json()['sha256']}"
        assert await status(await ask(served, house.alice, path, kept)) == b"200"
        house.guard._max_streams = 1  # pyright: ignore[reportPrivateUsage]
        refused(await alice.get(path), "EXHAUSTED", 429)
        kept[0].close()
        async with asyncio.timeout(10):
            while (await alice.get(path)).status_code == 429:
                await asyncio.sleep(0.01)
