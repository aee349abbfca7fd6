"""EventService over a real channel: what happens, as messages, with replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cyxwiz.domain.ids import NodeId
from cyxwiz.ext.v1 import events_pb2 as pb
from cyxwiz.ext.v1 import events_pb2_grpc
from tests.central import MODEL, Central, Stubs, central
from tests.contract import make
from tests.integration.test_grpc_jobs import submit
from tests.nodes import grpc_link, node


def node_topics(count: int) -> list[str]:
    return [f"node:00000000-0000-4000-8000-{number:012}" for number in range(count)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


@pytest.fixture
async def admin(server: Central) -> AsyncIterator[Stubs]:
    async with server.channel() as channel:
        yield Stubs(channel, server.key)


def watch(stubs: Stubs, topics: list[str], after: int | None = None) -> grpc.aio.UnaryStreamCall:
    request = pb.WatchRequest(topics=topics, after=after)
    return events_pb2_grpc.EventServiceStub(stubs.channel).Watch(request, metadata=stubs.metadata)  # type: ignore[no-any-return]


async def until(stream: grpc.aio.UnaryStreamCall, body: str) -> list[pb.Event]:
    seen = []
    async with asyncio.timeout(20):
        async for event in stream:
            seen.append(event)
            if event.WhichOneof("body") == body:
                return seen
    raise AssertionError(f"the stream ended without {body}")


async def test_a_jobs_life_is_told_and_told_again(server: Central, admin: Stubs, tmp_path: Path) -> None:
    live = watch(admin, ["jobs", "nodes", "stats"])
    await until(live, "stats")
    async with node(tmp_path / "node", grpc_link(server)):
        job_id = await submit(admin, model_definition=MODEL)
        seen = await until(live, "job_completed")
    facts = [event for event in seen if event.kind not in ("stats", "job.progress")]
    kinds = [event.WhichOneof("body") for event in facts]
    for body in ("node_joined", "job_submitted", "job_assigned", "job_started", "job_completed"):
        assert kinds.count(body) == 1, kinds
    assert [event.seq for event in facts] == sorted({event.seq for event in facts})
    done = facts[-1]
    assert done.job_completed.job_id == job_id
    assert done.job_completed.weights_hash.startswith("sha256:")
    assert done.at_ms > 1_700_000_000_000

    replayed = await until(watch(admin, [f"job:{job_id}"], after=0), "job_completed")
    ours = [event for event in facts if event.WhichOneof("body").startswith("job_")]
    assert [event for event in replayed if event.kind != "job.progress"] == ours


@pytest.mark.parametrize(
    ("topics", "after", "code"),
    [
        ([], None, grpc.StatusCode.INVALID_ARGUMENT),
        (["weather"], None, grpc.StatusCode.INVALID_ARGUMENT),
        (["job:x"], None, grpc.StatusCode.INVALID_ARGUMENT),
        (["jobs"], 2**63, grpc.StatusCode.INVALID_ARGUMENT),
        ([f"job:{'0' * 8}-0000-4000-8000-{'0' * 12}"], None, grpc.StatusCode.NOT_FOUND),
        (node_topics(1), None, grpc.StatusCode.NOT_FOUND),
        (node_topics(401), None, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=range(7),
)
async def test_what_it_refuses(admin: Stubs, topics: list[str], after: int | None, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await until(watch(admin, topics, after), "stats")
    assert caught.value.code() is code


async def test_as_many_topics_as_it_takes(server: Central, admin: Stubs) -> None:
    machines = [make.node(id=NodeId(topic.removeprefix("node:"))) for topic in node_topics(399)]
    await server.core.store.write(lambda tx: [tx.add_node(each) for each in machines])
    await until(watch(admin, [*node_topics(399), "stats"], after=0), "stats")
    await until(watch(admin, [*node_topics(396), "jobs", "nodes", "logs", "stats"], after=0), "stats")


async def test_it_wants_credentials(server: Central) -> None:
    async with server.channel() as channel:
        stream = events_pb2_grpc.EventServiceStub(channel).Watch(pb.WatchRequest(topics=["jobs"]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await until(stream, "stats")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
