"""The scenarios through gRPC, REST and WebSocket, each over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import websockets
from prometheus_client import CollectorRegistry

from cyxwiz import wire
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2 as pb
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.rest.app import build
from cyxwiz.transports.rest.server import RestServer
from cyxwiz.transports.ws.events import router
from tests.central import Central, Stubs, central
from tests.fakes import ScriptedExecutor
from tests.nodes import local_link, node
from tests.scenarios import SCENARIOS, TERMINAL, Refused, Seen

WIRE_STATUS = {
    common.STATUS_PENDING: "pending",
    common.STATUS_IN_PROGRESS: "running",
    common.STATUS_COMPLETED: "completed",
    common.STATUS_FAILED: "failed",
    common.STATUS_CANCELLED: "cancelled",
}


class GrpcDoor:
    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._stubs = Stubs(channel, key)

    async def _call(self, method: str, request: Any) -> Any:
        with _grpc_errors():
            return await getattr(self._stubs.jobs, method)(request, metadata=self._stubs.metadata)

    async def submit(self, job: dict[str, Any]) -> str:
        config = pb.JobConfig(
            job_type=pb.JOB_TYPE_TRAINING,
            model_definition=json.dumps(job["model"]),
            dataset_uri=job["dataset"],
            epochs=job["epochs"],
            batch_size=job["batch_size"],
            hyperparameters=job.get("hyperparameters", {}),
        )
        return str((await self._call("SubmitJob", pb.SubmitJobRequest(config=config))).job_id)

    async def get(self, job_id: str) -> Seen:
        return _of_wire((await self._call("GetJobStatus", pb.GetJobStatusRequest(job_id=job_id))).status)

    async def watch(self, job_id: str) -> AsyncIterator[Seen]:
        request = pb.GetJobStatusRequest(job_id=job_id)
        with _grpc_errors():
            async for update in self._stubs.jobs.StreamJobUpdates(request, metadata=self._stubs.metadata):
                yield _of_wire(update.status)

    async def cancel(self, job_id: str) -> None:
        await self._call("CancelJob", pb.CancelJobRequest(job_id=job_id))

    async def list(self) -> list[str]:
        return [job.job_id for job in (await self._call("ListJobs", pb.ListJobsRequest())).jobs]


def _of_wire(status: pb.JobStatus) -> Seen:
    return Seen(WIRE_STATUS[status.status], status.current_epoch, status.progress, dict(status.metrics))


@contextlib.contextmanager
def _grpc_errors() -> Any:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        caught = error
    else:
        return
    code = json.loads(dict(caught.trailing_metadata() or ())[wire.ERROR_METADATA])["code"]
    assert wire.CODES[code].grpc_name == caught.code().name
    raise Refused(code)


class RestDoor:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        response = await self._http.request(method, path, json=body)
        if response.is_error:
            error = response.json()["error"]
            assert wire.CODES[error["code"]].http == response.status_code
            raise Refused(error["code"])
        return response.json()

    async def submit(self, job: dict[str, Any]) -> str:
        return str((await self._call("POST", "/api/jobs", job))["id"])

    async def get(self, job_id: str) -> Seen:
        return _of_document(await self._call("GET", f"/api/jobs/{job_id}"))

    async def watch(self, job_id: str) -> AsyncIterator[Seen]:
        async with self._http.stream("GET", f"/api/jobs/{job_id}/events") as response:
            if response.is_error:
                raise Refused(json.loads(await response.aread())["error"]["code"])
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    for seen in _of_update(json.loads(line.removeprefix("data:"))):
                        yield seen

    async def cancel(self, job_id: str) -> None:
        await self._call("POST", f"/api/jobs/{job_id}/cancel", {})

    async def list(self) -> list[str]:
        return [job["id"] for job in (await self._call("GET", "/api/jobs"))["jobs"]]


def _of_document(job: dict[str, Any]) -> Seen:
    return Seen(job["status"], job["current_epoch"], job["progress"], job["metrics"])


def _of_update(update: dict[str, Any]) -> list[Seen]:
    """Each epoch that the update tells of, then the job as it is."""
    job = update["job"]
    points = [
        Seen("running", point["epoch"], point["progress"], point["metrics"])
        for point in update.get("metrics", ())
        if point["epoch_ended"]
    ]
    return [*points, _of_document(job)]


class WebSocketDoor(RestDoor):
    """Watches by WebSocket; what it asks and orders goes by REST, which the WebSocket does not replace."""

    def __init__(self, http: httpx.AsyncClient, url: str, key: str) -> None:
        super().__init__(http)
        self._url = url
        self._key = key

    async def watch(self, job_id: str) -> AsyncIterator[Seen]:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with websockets.connect(self._url, additional_headers=headers) as socket:
            await socket.send(json.dumps({"type": "subscribe", "topics": [f"job:{job_id}"]}))
            seen: Seen | None = None
            try:
                # The socket tells what changes from now on; where the job stands is asked once, after subscribing.
                async with asyncio.timeout(0.3):
                    first = json.loads(await socket.recv())
            except TimeoutError:
                first = None
            except websockets.ConnectionClosed as closed:
                raise Refused(_code_of(closed)) from None
            if first is not None and first["type"] == "error":
                raise Refused(first["error"]["code"])
            seen = await self.get(job_id)
            yield seen
            while seen.status not in TERMINAL:
                message = json.loads(await socket.recv())
                if message["type"].startswith("job."):
                    seen = await self.get(job_id)
                    yield seen


def _code_of(closed: websockets.ConnectionClosed) -> str:
    assert closed.rcvd is not None
    return next(code for code, row in wire.CODES.items() if row.websocket == closed.rcvd.code)


@contextlib.asynccontextmanager
async def rest(server: Central, spool: Path) -> AsyncIterator[str]:
    core = server.core
    guard = Guard(core.accounts, core.config.rate_limit, max_streams=100)
    app = build(
        core.api,
        guard,
        server.blobs,
        core.clock,
        core.store,
        config=core.config,
        spool=spool,
        ready=lambda: True,
        registry=CollectorRegistry(),
        routers=[router(core.api, guard)],
    )
    service = RestServer(app, "127.0.0.1", 0)
    await service.start()
    try:
        yield f"127.0.0.1:{service.port}"
    finally:
        await service.stop(5)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("door", ["grpc", "rest", "websocket"])
async def test_scenario(door: str, scenario: Any, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(central(tmp_path))
        await stack.enter_async_context(node(tmp_path / "node", local_link(server), executor))
        if door == "grpc":
            channel = await stack.enter_async_context(server.channel())
            await scenario(GrpcDoor(channel, server.key), executor)
            return
        address = await stack.enter_async_context(rest(server, tmp_path / "spool"))
        headers = {"Authorization": f"Bearer {server.key}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{address}", headers=headers))
        if door == "rest":
            await scenario(RestDoor(http), executor)
        else:
            await scenario(WebSocketDoor(http, f"ws://{address}/ws", server.key), executor)
