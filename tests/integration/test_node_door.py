"""The node's own door: where it listens, what it gives way to, what it says of itself."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cyxwiz.compute.p2p.hub import Hub
from cyxwiz.compute.p2p.service import ExecutionService
from cyxwiz.config import load
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.node import P2P_SERVICE
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.transports.grpc.node_server import Address, NodeServer, addresses_of, advertised

NODE_ID = "6a1c3a05-0000-4000-8000-000000000000"


@contextlib.asynccontextmanager
async def door(*addresses: Address) -> AsyncIterator[NodeServer]:
    clock = SystemClock()
    service = ExecutionService(Hub(NODE_ID, clock, max_data_bytes=1 << 20), clock, NODE_ID)
    server = NodeServer(service, addresses, None)
    server.grace = 0.1
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


async def test_all_addresses_have_the_same_services() -> None:
    names = ("node.address", "node.terminal_address", "node.service_address", "node.deployment_address")
    async with door(*(Address(name, "127.0.0.1:0", stated=True) for name in names)) as server:
        assert len(set(server.ports.values())) == 4
        for port in server.ports.values():
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                for service in ("", P2P_SERVICE):
                    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
                stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
                call = stub.ServerReflectionInfo()
                await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
                listed = await call.read()
                call.cancel()
                assert P2P_SERVICE in {service.name for service in listed.list_services_response.service}


async def test_an_address_that_nobody_stated_gives_way(taken: str) -> None:
    first = Address("node.address", taken, stated=False, spare=True)
    async with door(first, Address("node.terminal_address", taken, stated=False)) as server:
        assert set(server.ports) == {"node.address"}
        assert str(server.ports["node.address"]) != taken.rpartition(":")[2]


async def test_an_address_that_was_stated_does_not(taken: str) -> None:
    with pytest.raises(CyxError) as refused:
        async with door(Address("node.address", taken, stated=True, spare=True)):
            raise AssertionError("it listens on a port of somebody else's")
    assert refused.value.code is Code.UNAVAILABLE
    assert "node.address" in refused.value.message


async def test_no_token_is_taken_before_central_was_met() -> None:
    async with (
        door(Address("node.address", "127.0.0.1:0", stated=True)) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['node.address']}") as channel,
    ):
        call = channel.unary_unary(f"/{P2P_SERVICE}/ConnectToNode")(b"\x0a\x01x\x12\x01y")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), ("127.0.0.1", 1234)),
        (("node.address=0.0.0.0:50052",), ("", 1234)),
        (("node.address=[::]:50052",), ("", 1234)),
        (("node.address=192.0.2.7:50052",), ("192.0.2.7", 1234)),
        (("node.advertise_address=node.example.org:7000",), ("node.example.org", 7000)),
        (("node.advertise_address=node.example.org:0",), ("node.example.org", 1234)),
    ],
)
def test_what_clients_are_told(flags: tuple[str, ...], told: tuple[str, int]) -> None:
    node = load(environ={}, flags=flags).config.node
    assert advertised(node, 1234) == told


def test_the_addresses_of_the_settings() -> None:
    loaded = load(environ={}, flags=["node.service_address=127.0.0.1:50052", "node.terminal_address=127.0.0.1:0"])
    found = addresses_of(loaded.config.node, loaded.origins)
    assert [(each.key, each.text, each.stated, each.spare) for each in found] == [
        ("node.address", "127.0.0.1:50052", False, True),
        ("node.terminal_address", "127.0.0.1:0", True, False),
        ("node.deployment_address", "127.0.0.1:50055", False, False),
    ]
