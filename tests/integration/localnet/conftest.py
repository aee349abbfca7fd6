"""A served chain, the solana library's client on it, and the same calls over both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from solana.rpc.async_api import AsyncClient

from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.server import LocalnetServer
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Connection, JsonRpc
from tests.ledger import ADA, chain_with


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    made = await chain_with(ADA)
    yield made
    await made.aclose()


@pytest.fixture
async def server(chain: Chain) -> AsyncIterator[LocalnetServer]:
    made = LocalnetServer(chain, port=0)
    await made.start()
    yield made
    await made.stop(5.0)


@pytest.fixture
async def client(server: LocalnetServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as made:
        yield made


@pytest.fixture(params=["direct", "http"])
async def rpc(request: pytest.FixtureRequest, chain: Chain) -> AsyncIterator[JsonRpc]:
    if request.param == "direct":
        yield direct_rpc(chain)
        return
    server: Any = LocalnetServer(chain, port=0)
    await server.start()
    connection = Connection(server.url)
    yield JsonRpc(connection.call, mint=chain.genesis.mint, programs=[local_id(program) for program in Program])
    await connection.aclose()
    await server.stop(5.0)
