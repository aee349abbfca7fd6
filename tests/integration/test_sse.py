"""Server-Sent Events over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.api import Call
from cyxwiz.transports.rest import streams
from cyxwiz.transports.rest.server import RestServer
from tests.integration.test_rest import UNKNOWN, refused
from tests.wiring import JOB, Central, progress


@dataclass
class Event:
    id: str
    data: Any
    kind: str = ""
    comment: str = ""


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    event = Event("", None)
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if line == "":
            if event.data is not None or event.comment:
                yield event
            event = Event("", None)
        elif name == "":
            event.comment = value.strip()
        elif name == "id":
            event.id = value.strip()
        elif name == "event":
            event.kind = value.strip()
        elif name == "data":
            event.data = json.loads(value)


@asynccontextmanager
async def listen(url: str, key: str | None, **headers: str) -> AsyncIterator[httpx.Response]:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    async with (
        httpx.AsyncClient(timeout=20) as made,
        made.stream("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()}) as response,
    ):
        if response.status_code != 200:
            await response.aread()
        yield response


async def submit(house: Central, key: str, **changes: Any) -> str:
    actor = await house.accounts.authenticate(key)
    job = await house.api.submit_job(Call(actor, args={**JOB, **changes}))
    return str(job["id"])


async def test_a_job_is_followed_to_its_end(house: Central, served: RestServer) -> None:
    job_id = await submit(house, house.alice)
    node_id = await house.node()
    async with listen(f"{served.url}/api/jobs/{job_id}/events", house.alice) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen: list[Event] = []
        async for event in events(response):
            if not seen:
                assert event.data["job"]["status"] == "pending"
                lease = await house.lease(job_id, node_id)
                points = [progress(epoch, loss=1 / epoch) for epoch in range(1, 5)]
                await house.report(lease, pb.Logs(lines=[pb.LogLine(message="hello")]), *points)
                await house.report(lease, await house.finished(b"w", loss=0.1), after=5)
            seen.append(event)
    last = seen[-1].data
    assert last["job"]["status"] == "completed"
    assert [p["epoch"] for e in seen for p in e.data["metrics"]] == [1, 2, 3, 4]
    assert [line["message"] for e in seen for line in e.data["logs"]] == ["hello"]
    kinds = [note["type"] for e in seen for note in e.data["events"]]
    assert kinds == ["job.assigned", "job.started", "job.completed"]
    assert [event.id for event in seen] == [event.data["cursor"] for event in seen]

    async with listen(f"{served.url}/api/jobs/{job_id}/events", house.alice, Last_Event_ID=seen[0].id) as response:
        again = [event async for event in events(response)]
    assert [p["epoch"] for e in again for p in e.data["metrics"]] == [1, 2, 3, 4]


async def test_whole_topics_and_where_to_go_on(house: Central, served: RestServer) -> None:
    url = f"{served.url}/api/events?topics=jobs,nodes,stats"
    async with listen(url, house.alice) as response:
        stream = events(response)
        first = await anext(stream)
        assert (first.data["type"], first.data["data"]["total_jobs"]) == ("stats", 0)
        await submit(house, house.alice, name="mine")
        await submit(house, house.bob, name="not mine")
        await house.node("rig")
        got: list[Event] = []
        while not any(event.data["type"] == "node.joined" for event in got):
            got.append(await anext(stream))
    names = [event.data["data"].get("name") for event in got if event.data["type"] == "job.submitted"]
    assert names == ["mine"]
    submitted = next(event for event in got if event.data["type"] == "job.submitted")
    assert submitted.id == str(submitted.data["seq"])
    async with listen(url, house.alice, Last_Event_ID=submitted.id) as response:
        assert (await anext(events(response))).data["type"] == "node.joined"
    async with listen(f"{url}&after=999999", house.alice) as response:
        assert (await anext(events(response))).data["type"] == "reset"


async def test_a_ticket_opens_one_stream(house: Central, served: RestServer) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {house.alice}"}) as made:
        ticket = (await made.post("/api/tickets")).json()["ticket"]
    url = f"{served.url}/api/events?topics=stats&ticket={ticket}"
    async with listen(url, None) as response:
        assert (await anext(events(response))).data["type"] == "stats"
    async with listen(url, None) as response:
        assert "used" in refused(response, "UNAUTHENTICATED")["message"]
    async with listen(f"{served.url}/api/events?topics=stats&ticket=rubbish", None) as response:
        refused(response, "UNAUTHENTICATED")
    async with listen(f"{served.url}/api/jobs?ticket={ticket}", None) as response:
        refused(response, "UNAUTHENTICATED")


async def test_bad_starts_are_plain_errors(house: Central, served: RestServer) -> None:
    job_id = await submit(house, house.alice)
    bad: list[tuple[str, str | None, dict[str, str], str]] = [
        (f"/api/jobs/{job_id}/events", None, {}, "UNAUTHENTICATED"),
        (f"/api/jobs/{job_id}/events", house.bob, {}, "FORBIDDEN"),
        (f"/api/jobs/{UNKNOWN}/events", house.alice, {}, "NOT_FOUND"),
        ("/api/jobs/x/events", house.alice, {}, "INVALID"),
        (f"/api/jobs/{job_id}/events", house.alice, {"Last_Event_ID": "rubbish"}, "INVALID"),
        (f"/api/jobs/{job_id}/events?cursor=1.2", house.alice, {}, "INVALID"),
        (f"/api/jobs/{job_id}/events?colour=red", house.alice, {}, "INVALID"),
        ("/api/events", house.alice, {}, "INVALID"),
        ("/api/events?topics=weather", house.alice, {}, "INVALID"),
        ("/api/events?topics=,", house.alice, {}, "INVALID"),
        ("/api/events?topics=jobs&after=-1", house.alice, {}, "INVALID"),
        ("/api/events?topics=jobs", house.alice, {"Last_Event_ID": "x"}, "INVALID"),
        (f"/api/events?topics=job:{job_id}", house.bob, {}, "FORBIDDEN"),
        ("/api/events?topics=jobs", house.alice, {"Host": "evil.example"}, "FORBIDDEN"),
    ]
    for path, key, headers, code in bad:
        async with listen(served.url + path, key, **headers) as response:
            refused(response, code)


async def test_silence_is_filled_with_comments(
    house: Central, served: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with listen(f"{served.url}/api/events?topics=nodes", house.alice) as response:
        assert (await anext(events(response))).comment == "still here"


async def test_a_caller_has_so_many_streams_and_gets_them_back(house: Central, served: RestServer) -> None:
    house.guard._max_streams = 1
    url = f"{served.url}/api/events?topics=stats"
    async with listen(url, house.alice):
        async with listen(url, house.alice) as second:
            refused(second, "EXHAUSTED")
        async with listen(url, house.bob) as other:
            assert other.status_code == 200
    async with asyncio.timeout(5):
        while house.guard._streams:
            await asyncio.sleep(0.02)


async def test_open_streams_do_not_hold_a_stop(house: Central, served: RestServer) -> None:
    async with listen(f"{served.url}/api/events?topics=nodes", house.alice) as response:
        began = asyncio.get_running_loop().time()
        await served.stop(20.0)
        assert asyncio.get_running_loop().time() - began < 2
        assert [event async for event in events(response)] == []
    assert not house.guard._streams
