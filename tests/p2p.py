"""A client of `JobExecutionService` that is built from the wire's stubs alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc

from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.protocol import execution_pb2_grpc, job_pb2, job_pb2_grpc
from tests.central import Central


async def assignment(server: Central, job_id: str) -> job_pb2.NodeAssignment:
    """What GetJobStatus hands out, once it does."""
    async with server.channel() as channel, asyncio.timeout(10):
        stub = job_pb2_grpc.JobServiceStub(channel)
        while True:
            request = job_pb2.GetJobStatusRequest(job_id=job_id)
            answer = await stub.GetJobStatus(request, metadata=(("authorization", f"Bearer {server.key}"),))
            if answer.HasField("node_assignment"):
                return answer.node_assignment
            await asyncio.sleep(0.02)


class Engine:
    """One client's stub, with its token and job in the metadata."""

    def __init__(self, channel: grpc.aio.Channel, token: str, job_id: str) -> None:
        self.stub: Any = execution_pb2_grpc.JobExecutionServiceStub(channel)
        self.token, self.job_id = token, job_id

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"), ("x-job-id", self.job_id))

    async def connect(self) -> pb.ConnectResponse:
        request = pb.ConnectRequest(auth_token=self.token, job_id=self.job_id, engine_version="test")
        return await self.stub.ConnectToNode(request, metadata=self.metadata)

    async def send_job(self, **fields: Any) -> pb.SendJobResponse:
        return await self.stub.SendJob(pb.SendJobRequest(job_id=self.job_id, **fields), metadata=self.metadata)

    def stream(self) -> Stream:
        return Stream(self.stub.StreamTrainingMetrics(metadata=self.metadata))

    async def download(self, offset: int = 0, size: int = 0) -> list[pb.WeightsChunk]:
        request = pb.DownloadRequest(job_id=self.job_id, offset=offset, chunk_size=size)
        return [chunk async for chunk in self.stub.DownloadWeights(request, metadata=self.metadata)]


class Stream:
    def __init__(self, call: Any) -> None:
        self.call = call
        self.seen: list[pb.TrainingUpdate] = []

    async def say(self, **command: Any) -> None:
        await self.call.write(pb.TrainingCommand(**command))

    async def until(
        self, kind: str, accept: Callable[[Any], bool] = lambda _: True, seconds: float = 15.0
    ) -> pb.TrainingUpdate:
        """The next update of that kind that is accepted."""
        async with asyncio.timeout(seconds):
            while True:
                update = await self.call.read()
                assert isinstance(update, pb.TrainingUpdate), f"the stream ended; seen {self.kinds}"
                self.seen.append(update)
                if update.WhichOneof("update") == kind and accept(getattr(update, kind)):
                    return update

    async def end(self, seconds: float = 10.0) -> grpc.StatusCode:
        """Half-closes and reads on to the end."""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self.call.done_writing()
                while isinstance(update := await self.call.read(), pb.TrainingUpdate):
                    self.seen.append(update)
            return await self.call.code()

    @property
    def kinds(self) -> list[str | None]:
        return [update.WhichOneof("update") for update in self.seen]


@contextlib.asynccontextmanager
async def engine(address: str, token: str, job_id: str) -> AsyncIterator[Engine]:
    options = (("grpc.max_receive_message_length", 100 << 20),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Engine(channel, token, job_id)


def info_of(x: Any, y: Any) -> pb.DatasetInfoResponse:
    return pb.DatasetInfoResponse(
        status=common.STATUS_SUCCESS,
        train=pb.SplitInfo(num_samples=len(x), available=True, shuffle_enabled=True),
        sample_shape=list(x.shape[1:]),
        label_shape=[1],
        dtype="float32",
        num_classes=int(y.max()) + 1,
    )


def batch_of(number: int, x: Any, y: Any) -> pb.BatchResponse:
    return pb.BatchResponse(
        status=common.STATUS_SUCCESS,
        request_id=number,
        images=x.astype("<f4").tobytes(),
        labels=y.astype("<i4").tobytes(),
        batch_shape=x.shape,
        label_shape=[len(x)],
    )


async def serve_data(stream: Stream, x: Any, y: Any, broken: Mapping[int, Any] | None = None) -> list[list[int]]:
    """Answers what the node asks until the job ends; the batches that it asked for.

    `broken`: request ids and what is done instead: None answers nothing, a mapping changes the answer.
    """
    asked: list[list[int]] = []
    while True:
        update = await stream.call.read()
        if not isinstance(update, pb.TrainingUpdate):
            return asked
        stream.seen.append(update)
        kind = update.WhichOneof("update")
        if kind == "dataset_info_request":
            assert update.dataset_info_request.auth_token
            await stream.say(dataset_info_response=info_of(x, y))
        elif kind == "batch_request":
            request = update.batch_request
            asked.append(list(request.sample_indices))
            index = list(request.sample_indices)
            answer = batch_of(request.request_id, x[index], y[index])
            change = (broken or {}).get(request.request_id, {})
            if change is None:
                continue
            answer.MergeFrom(pb.BatchResponse(**change))
            await stream.say(batch_response=answer)
        elif kind in ("complete", "error"):
            return asked
