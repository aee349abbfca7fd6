"""How near a central is: the round trip and the upload rate, measured against its health service.

That service needs no credentials and answers any name; a long name that it does not know is as good a load as any.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

METHOD = "/grpc.health.v1.Health/Check"
CONNECT_SECONDS = 3.0
CALL_SECONDS = 10.0
ROUNDS = 9
PAYLOAD = 256 << 10
ABREAST = 4  # calls at a time, so that the path is full while an answer is on its way


@dataclass(frozen=True, slots=True)
class NetworkResult:
    latency_ms: float  # median round trip of an empty call
    upload_mb_per_second: float  # 1e6 bytes a second
    bytes: int


class UnreachableError(Exception):
    """Nobody answers there; the message says why."""


async def probe(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    seed: int,
    seconds: float,
    clock: Callable[[], float] = perf_counter,
    most_bytes: int | None = None,
) -> NetworkResult:
    """Sends for so long, or `most_bytes` if that is less. Raises UnreachableError."""
    if credentials is None:
        channel = grpc.aio.insecure_channel(address)
    else:
        channel = grpc.aio.secure_channel(address, credentials)
    async with channel:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await channel.channel_ready()
        except TimeoutError:
            raise UnreachableError(f"central at {address} does not answer") from None
        try:
            return await _measure(channel, seed, seconds, clock, most_bytes)
        except grpc.aio.AioRpcError as error:
            raise UnreachableError(f"central at {address}: {error.code().name}: {error.details()}") from None


async def _measure(
    channel: grpc.aio.Channel, seed: int, seconds: float, clock: Callable[[], float], most_bytes: int | None
) -> NetworkResult:
    check = channel.unary_unary(
        METHOD,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    trips: list[float] = []
    for _ in range(ROUNDS):
        start = clock()
        await check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
        trips.append(clock() - start)
    name = random.Random(seed).randbytes(PAYLOAD // 2).hex()  # noqa: S311  no secret
    sent, start = 0, clock()
    while sent == 0 or (clock() - start < seconds and (most_bytes is None or sent < most_bytes)):
        await asyncio.gather(*(_send(check, name) for _ in range(ABREAST)))
        sent += ABREAST * PAYLOAD
    return NetworkResult(statistics.median(trips) * 1000, sent / (clock() - start) / 1e6, sent)


async def _send(check: Any, name: str) -> None:
    try:
        await check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:  # which says that it arrived
            raise
