"""A central per test: in process for plain requests, on a socket for streams."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz import wire
from cyxwiz.transports.rest.server import RestServer
from tests.webserver import WebServer, webserver
from tests.wiring import JOB, Central, central


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Central]:
    made = await central(tmp_path, rate_limit={"logins_per_minute": 1000})
    yield made
    await made.aclose()


@pytest.fixture
async def anybody(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, None) as made:
        yield made


@pytest.fixture
async def alice(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, house.alice) as made:
        yield made


@pytest.fixture
async def bob(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, house.bob) as made:
        yield made


@pytest.fixture
async def admin(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, house.admin) as made:
        yield made


@pytest.fixture
async def served(house: Central) -> AsyncIterator[RestServer]:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = RestServer(house.app, "127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop(5.0)


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with webserver() as running:
        yield running


def client(house: Central, key: str | None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers)


def refused(response: httpx.Response, code: str, status: int | None = None) -> dict[str, Any]:
    """The error of a refusal, whose shape is exact."""
    assert response.status_code == (status or wire.CODES[code].http), response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "details", "retryable", "request_id"}
    assert error["code"] == code, error
    assert error["request_id"] == response.headers.get("x-request-id", error["request_id"])
    assert isinstance(error["details"], dict)
    assert "Traceback" not in response.text
    return error


async def submit(who: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    response = await who.post("/api/jobs", json={**JOB, **changes})
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job
