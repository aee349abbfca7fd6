"""Messages at central's gRPC door: whose are received, and how many of those who are not known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.ext.v1 import client_pb2 as pb
from cyxwiz.transports.grpc import door
from tests.central import Central, central

SERVICE = "/cyxwiz.ext.v1.ClientService"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


def call_of(channel: grpc.aio.Channel, method: str, key: str = "") -> Any:
    """A call that has sent its head, and not yet its message."""
    make = channel.stream_unary(method, pb.Query.SerializeToString, pb.Document.FromString)
    return make(metadata=(("authorization", f"Bearer {key}"),) if key else ())


async def code_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(10):
        code: grpc.StatusCode = await call.code()
        return code


@pytest.mark.parametrize(
    "method", [f"{SERVICE}/WhoAmI", f"{SERVICE}/WatchJob", "/cyxwiz.protocol.JobService/SubmitJob"]
)
async def test_who_is_not_known_is_refused_before_their_message_is_taken(server: Central, method: str) -> None:
    async with server.channel() as channel:
        for key in ("", "cyx_wrong"):
            assert await code_of(call_of(channel, method, key)) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_a_message_is_invalid(server: Central) -> None:
    async with server.channel() as channel:
        call = call_of(channel, f"{SERVICE}/WhoAmI", server.key)
        await call.done_writing()
        assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["ComputeService/StreamExecute", "DeploymentService/CreateDeployment"])
async def test_what_is_not_served_is_named(server: Central, method: str) -> None:
    async with server.channel() as channel:
        for call in (
            call_of(channel, f"/cyxwiz.protocol.{method}"),
            channel.stream_stream(f"/cyxwiz.protocol.{method}")(),
            channel.unary_stream(f"/cyxwiz.protocol.{method}")(b""),
        ):
            assert await code_of(call) is grpc.StatusCode.UNIMPLEMENTED
            assert f"/cyxwiz.protocol.{method} is not served at this address" in await call.details()


async def test_of_a_burst_of_calls_none_is_dropped(server: Central) -> None:
    """gRPC ended some of more than 1000 that waited, as CANCELLED. Those that there is no room for are told so."""
    with grpc.insecure_channel(server.address) as channel:
        ask = channel.unary_unary("/cyxwiz.protocol.JobService/GetJobStatus")
        # Nothing is taken while this loop has the thread.
        calls: list[Any] = [ask.future(b"", metadata=(("authorization", f"Bearer {server.key}"),)) for _ in range(2500)]
        codes = await asyncio.to_thread(lambda: {call.exception(timeout=60).code() for call in calls})
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_messages_of_strangers_come_in_a_few_at_a_time(server: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MESSAGE_SECONDS", 1.0)
    async with server.channel() as channel:
        silent = [call_of(channel, f"{SERVICE}/GetPlatform") for _ in range(door.RECEIVING)]
        for call in silent:
            await call.wait_for_connection()
        late = call_of(channel, f"{SERVICE}/GetPlatform")
        await late.write(pb.Query())
        await late.done_writing()
        known = call_of(channel, f"{SERVICE}/GetPlatform", server.key)
        await known.write(pb.Query())
        await known.done_writing()
        assert await code_of(known) is grpc.StatusCode.OK, "who is known does not wait"
        assert not late.done(), "others have their turn first"
        assert {await code_of(call) for call in silent} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert await code_of(late) in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
        again = call_of(channel, f"{SERVICE}/GetPlatform")
        await again.write(pb.Query())
        assert await code_of(again) is grpc.StatusCode.OK
