"""The server under the REST door: addresses, rubbish, bounds, its end."""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
from typing import Any

import httpx
import pytest

from cyxwiz.domain.errors import CyxError
from cyxwiz.services.jobs import Jobs
from cyxwiz.transports.rest.server import RestServer
from tests.integration.conftest import refused
from tests.wiring import Central


async def test_an_address_in_use_fails_the_start_clearly(house: Central, served: RestServer) -> None:
    with pytest.raises(CyxError, match=r"server\.rest_address"):
        await RestServer(house.app, "127.0.0.1", served.port).start()


async def test_what_is_no_http_gets_our_error_too(served: RestServer) -> None:
    for request in (b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 40"), request
        assert json.loads(body)["error"]["code"] in ("INVALID", "FORBIDDEN")
        writer.close()
        await writer.wait_closed()


async def test_connections_beyond_the_bound_are_told_so(house: Central) -> None:
    server = RestServer(house.app, "127.0.0.1", 0, max_connections=1)
    await server.start()
    async with httpx.AsyncClient(base_url=server.url) as first, httpx.AsyncClient(base_url=server.url) as second:
        assert (await first.get("/api/health")).status_code == 200
        response = await second.get("/api/health")
        assert refused(response, "UNAVAILABLE")["retryable"] is True
    await server.stop(5.0)


async def test_stop_waits_for_a_request_in_flight(house: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> None:
        entered.set()
        await go.wait()
        raise LookupError("late")

    monkeypatch.setattr(Jobs, "get", slow)
    server = RestServer(house.app, "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {house.alice}"}) as made:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(made.get(f"/api/jobs/{uuid.uuid4()}"))
            await entered.wait()
            stopping = group.create_task(server.stop(5.0))
            await asyncio.sleep(0.3)
            go.set()
        assert answer.result().status_code == 500
        assert stopping.done()
        with pytest.raises(httpx.ConnectError):
            await made.get("/api/health")
    gc.collect()
