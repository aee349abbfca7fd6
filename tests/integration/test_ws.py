"""`WS /ws` over a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.transports.rest.server import RestServer
from cyxwiz.transports.ws import events as door
from tests.integration.conftest import refused
from tests.integration.test_rest import UNKNOWN
from tests.integration.test_sse import submit
from tests.wiring import Central, progress


def dial(served: RestServer, key: str | None = None, path: str = "/ws", **options: Any) -> connect:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return connect(
        served.url.replace("http", "ws") + path, additional_headers=headers | options.pop("headers", {}), **options
    )


async def subscribe(socket: ClientConnection, *topics: str, **more: Any) -> None:
    await socket.send(json.dumps({"type": "subscribe", "topics": topics, **more}))


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while (message := await receive(socket))["type"] != kind:
        pass
    return message


async def ends(socket: ClientConnection, code: str, number: int) -> None:
    message = await receive(socket)
    assert message["type"] == "error", message
    error = message["error"]
    assert set(error) == {"code", "message", "details", "retryable", "request_id"}
    assert error["code"] == code, error
    with pytest.raises(ConnectionClosed):
        await receive(socket)
    assert socket.close_code == number


async def test_topics_live(house: Central, served: RestServer) -> None:
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "jobs", "stats")
        first = await receive(socket)
        assert set(first) == {"seq", "type", "at", "data"}
        assert first["type"] == "stats"
        job_id = await submit(house, house.alice)
        await submit(house, house.bob)
        submitted = await until(socket, "job.submitted")
        assert submitted["data"]["job_id"] == job_id
        assert submitted["at"].endswith("Z")
        lease = await house.lease(job_id, await house.node())
        await house.report(lease, progress(1, loss=0.5))
        moved = await until(socket, "job.progress")
        assert moved["data"]["metrics"] == {"loss": 0.5}
        await house.report(lease, await house.finished(b"w", loss=0.1), after=1)
        done = await until(socket, "job.completed")
        assert done["data"]["job_id"] == job_id
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "jobs", after=submitted["seq"])
        assert (await receive(socket))["type"] == "job.assigned"
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "jobs", after=10**9)
        assert (await receive(socket))["type"] == "reset"


async def test_later_messages_add_topics(house: Central, served: RestServer) -> None:
    job_id = await submit(house, house.alice)
    async with dial(served, house.alice) as socket:
        await subscribe(socket, f"job:{job_id}")
        await subscribe(socket, "nodes", "logs")
        await asyncio.sleep(0.1)
        lease = await house.lease(job_id, await house.node("rig"))
        assert (await until(socket, "node.joined"))["data"]["name"] == "rig"
        await until(socket, "job.assigned")
        await house.report(lease, pb.Logs(lines=[pb.LogLine(message="hello")]))
        assert (await until(socket, "job.log"))["data"]["message"] == "hello"


async def test_three_ways_to_show_credentials(house: Central, served: RestServer) -> None:
    async with dial(served, subprotocols=["bearer", house.alice]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "bearer"
        await subscribe(socket, "stats")
        assert (await receive(socket))["type"] == "stats"
    async with httpx.AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {house.alice}"}) as made:
        ticket = (await made.post("/api/tickets")).json()["ticket"]
    async with dial(served, path=f"/ws?ticket={ticket}", headers={"Origin": served.url}) as socket:
        await subscribe(socket, "stats")
        assert (await receive(socket))["type"] == "stats"
    async with dial(served, path=f"/ws?ticket={ticket}") as socket:
        await ends(socket, "UNAUTHENTICATED", 4401)


@pytest.mark.parametrize(
    ("options", "code", "number"),
    [
        ({}, "UNAUTHENTICATED", 4401),
        ({"key": "rubbish"}, "UNAUTHENTICATED", 4401),
        ({"path": "/ws?ticket=rubbish"}, "UNAUTHENTICATED", 4401),
        ({"path": "/ws?colour=red"}, "INVALID", 4400),
        ({"subprotocols": ["bearer"]}, "UNAUTHENTICATED", 4401),
        ({"subprotocols": ["bearer", "a", "b"]}, "UNAUTHENTICATED", 4401),
        ({"headers": {"Origin": "https://evil.example"}}, "FORBIDDEN", 4403),
        ({"headers": {"Origin": "null"}}, "FORBIDDEN", 4403),
    ],
)
async def test_who_may_not_come_in(served: RestServer, options: dict[str, Any], code: str, number: int) -> None:
    async with dial(served, **options) as socket:
        await ends(socket, code, number)


async def test_a_nodes_token_does_not_open_it(house: Central, served: RestServer) -> None:
    token = house.accounts.node_session(await house.node())
    async with dial(served, token) as socket:
        await ends(socket, "FORBIDDEN", 4403)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 60_000,
        '{"type": "subscribe"}',
        '{"type": "subscribe", "topics": []}',
        '{"type": "subscribe", "topics": "jobs"}',
        '{"type": "subscribe", "topics": ["weather"]}',
        '{"type": "subscribe", "topics": ["job:x"]}',
        '{"type": "subscribe", "topics": ["jobs"], "after": -1}',
        '{"type": "subscribe", "topics": ["jobs"], "after": "1"}',
        '{"type": "subscribe", "topics": ["jobs"], "after": 1e99}',
        '{"type": "subscribe", "topics": ["jobs"], "colour": "red"}',
        '{"type": "shout", "topics": ["jobs"]}',
        "x" * 70_000,
        b"\x00\x01",
    ],
    ids=range(17),
)
async def test_rubbish_ends_it_with_a_reason(house: Central, served: RestServer, message: str | bytes) -> None:
    async with dial(served, house.alice) as socket:
        await socket.send(message)
        await ends(socket, "INVALID", 4400)
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "nodes")
        await socket.send(message)
        await ends(socket, "INVALID", 4400)


async def test_jobs_that_are_not_the_callers(house: Central, served: RestServer) -> None:
    job_id = await submit(house, house.alice)
    async with dial(served, house.bob) as socket:
        await subscribe(socket, f"job:{job_id}")
        await ends(socket, "FORBIDDEN", 4403)
    async with dial(served, house.bob) as socket:
        await subscribe(socket, f"job:{UNKNOWN}")
        await ends(socket, "NOT_FOUND", 4404)


async def test_silence_at_the_start_ends_it(
    house: Central, served: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "SUBSCRIBE_SECONDS", 0.1)
    async with dial(served, house.alice) as socket:
        await ends(socket, "TIMEOUT", 4504)


async def test_streams_are_counted_and_given_back(house: Central, served: RestServer) -> None:
    house.guard._max_streams = 1
    async with dial(served, house.alice) as first:
        await subscribe(first, "stats")
        await receive(first)
        async with dial(served, house.alice) as second:
            await ends(second, "EXHAUSTED", 4429)
    async with asyncio.timeout(5):
        while house.guard._streams:
            await asyncio.sleep(0.02)


async def test_open_sockets_do_not_hold_a_stop(house: Central, served: RestServer) -> None:
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "nodes")
        began = asyncio.get_running_loop().time()
        await served.stop(20.0)
        assert asyncio.get_running_loop().time() - began < 2
        with pytest.raises(ConnectionClosed):
            await receive(socket)
        assert socket.close_code == 1012


@pytest.mark.parametrize("topic", [f"job:{UNKNOWN}", f"node:{UNKNOWN}"])
async def test_what_is_not_there_is_not_followed(
    house: Central, served: RestServer, alice: httpx.AsyncClient, topic: str
) -> None:
    async with dial(served, house.alice) as socket:
        await subscribe(socket, "nodes", topic)
        await ends(socket, "NOT_FOUND", 4404)
    refused(await alice.get(f"/api/events?topics={topic}"), "NOT_FOUND")


async def test_any_other_path_is_no_socket(house: Central, served: RestServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with dial(served, house.alice, path="/ws/nothing"):
            pass
    response = caught.value.response
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
    error = json.loads(response.body or b"")["error"]
    assert (error["code"], error["details"]) == ("NOT_FOUND", {"path": "/ws/nothing"})
