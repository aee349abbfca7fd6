"""Whatever is followed, by whichever door, ends when the caller's credential is void."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.ext.v1 import client_pb2, client_pb2_grpc, events_pb2, events_pb2_grpc
from cyxwiz.protocol import job_pb2
from cyxwiz.transports.rest.server import RestServer
from tests.central import MODEL, Stubs
from tests.central import central as grpc_central
from tests.integration.test_grpc_jobs import submit as submit_by_grpc
from tests.integration.test_sse import events, listen, submit
from tests.integration.test_ws import dial, ends, receive, subscribe
from tests.wiring import Central

WAKE = ["jobs"]  # who follows jobs looks again, as at the next poll


async def disable_bob(house: Central) -> None:
    await house.accounts.disable_user(await house.accounts.authenticate(house.admin), "bob")


async def revoke_bobs_key(house: Central) -> None:
    bob = await house.accounts.authenticate(house.bob)
    await house.accounts.revoke_key(bob, bob.credential_id)


@pytest.mark.parametrize("void", [disable_bob, revoke_bobs_key])
async def test_websocket(house: Central, served: RestServer, void: Callable[[Central], Awaitable[None]]) -> None:
    async with dial(served, house.bob) as socket:
        await subscribe(socket, "jobs", "stats")
        await receive(socket)
        await void(house)
        house.bus.publish(WAKE)
        await ends(socket, "UNAUTHENTICATED", 4401)


@pytest.mark.parametrize("whole", [True, False], ids=["topics", "one job"])
async def test_server_sent_events(house: Central, served: RestServer, whole: bool) -> None:
    job_id = await submit(house, house.bob)
    path = "/api/events?topics=jobs,stats" if whole else f"/api/jobs/{job_id}/events"
    async with asyncio.timeout(10), listen(served.url + path, house.bob) as response:
        following = events(response)
        await anext(following)
        await disable_bob(house)
        house.bus.publish([*WAKE, f"job:{job_id}"])
        last = [event async for event in following][-1]
    assert last.kind == "error"
    assert last.data["error"]["code"] == "UNAUTHENTICATED"


@asynccontextmanager
async def followed(stubs: Stubs, kind: str, job_id: str) -> AsyncIterator[Any]:
    if kind == "EventService.Watch":
        watch = events_pb2_grpc.EventServiceStub(stubs.channel).Watch
        call = watch(events_pb2.WatchRequest(topics=["jobs", "stats"]), metadata=stubs.metadata)
    elif kind == "ClientService.WatchJob":
        call = client_pb2_grpc.ClientServiceStub(stubs.channel).WatchJob(
            client_pb2.Query(id=job_id), metadata=stubs.metadata
        )
    else:
        call = stubs.jobs.StreamJobUpdates(job_pb2.GetJobStatusRequest(job_id=job_id), metadata=stubs.metadata)
    yield call
    call.cancel()


@pytest.mark.parametrize("kind", ["EventService.Watch", "ClientService.WatchJob", "JobService.StreamJobUpdates"])
async def test_grpc(tmp_path: Path, kind: str) -> None:
    async with grpc_central(tmp_path) as server, server.channel() as channel:
        _, key = await server.user("bob")
        stubs = Stubs(channel, key)
        job_id = await submit_by_grpc(stubs, model_definition=MODEL)
        async with asyncio.timeout(10), followed(stubs, kind, job_id) as call:
            await anext(aiter(call))
            await server.core.accounts.disable_user(await server.core.accounts.authenticate(server.key), "bob")
            server.core.bus.publish([*WAKE, f"job:{job_id}"])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in call:
                    pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
