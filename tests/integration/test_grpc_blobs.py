"""BlobService over a real channel: uploads that stop, and uploads of several callers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.ext.v1 import blobs_pb2 as pb
from cyxwiz.ext.v1 import blobs_pb2_grpc
from cyxwiz.protocol import job_pb2, job_pb2_grpc
from cyxwiz.transports.grpc import blobs as door
from tests.central import MODEL, Central, central

DATA = bytes(range(256)) * 40
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


class Uploader:
    """One user's calls."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.stub = blobs_pb2_grpc.BlobServiceStub(channel)
        self.metadata = (("authorization", f"Bearer {key}"),)

    async def offset(self) -> int:
        state = await self.stub.Stat(pb.BlobStatRequest(sha256=NAME), metadata=self.metadata)
        return int(state.offset)

    async def begin(self, *parts: bytes, offset: int = 0) -> Any:
        call = self.stub.Put(metadata=self.metadata)
        header = pb.BlobPutHeader(sha256=NAME, size=len(DATA), offset=offset)
        await call.write(pb.BlobPutRequest(header=header))
        for part in parts:
            await call.write(pb.BlobPutRequest(data=part))
        return call

    async def put(self, data: bytes, offset: int = 0) -> pb.BlobState:
        call = await self.begin(data, offset=offset)
        await call.done_writing()
        return await call


async def test_nobody_blocks_or_spoils_the_upload_of_another(server: Central) -> None:
    async with server.channel() as channel:
        ann, bob = [Uploader(channel, (await server.user(name))[1]) for name in ("ann", "bob")]
        silent = await ann.begin(b"garbage")
        async with asyncio.timeout(10):
            while await ann.offset() != 7:
                await asyncio.sleep(0.01)
        assert await bob.offset() == 0
        state = await bob.put(DATA)
        assert (state.complete, state.size) == (True, len(DATA))
        silent.cancel()


async def test_a_silent_upload_ends_and_can_be_gone_on_with(server: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "IDLE_SECONDS", 0.2)
    async with server.channel() as channel:
        ann = Uploader(channel, (await server.user("ann"))[1])
        silent = await ann.begin(DATA[:100])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(silent, 10)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await ann.offset() == 100
        assert (await ann.put(DATA[100:], offset=100)).complete


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
async def test_what_is_stored_already_is_sent_as_announced(server: Central, size: int) -> None:
    """Any size was taken, and told again as the blob's; and bytes without end."""
    async with server.channel() as channel:
        ann, bob = [Uploader(channel, (await server.user(name))[1]) for name in ("ann", "bob")]
        assert (await ann.put(DATA)).size == len(DATA)
        call = bob.stub.Put(metadata=bob.metadata)
        await call.write(pb.BlobPutRequest(header=pb.BlobPutHeader(sha256=NAME, size=size)))
        await call.write(pb.BlobPutRequest(data=DATA))
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not (await bob.stub.Stat(pb.BlobStatRequest(sha256=NAME), metadata=bob.metadata)).complete
        assert (await bob.put(DATA)).size == len(DATA)


async def test_what_a_user_may_keep(tmp_path: Path) -> None:
    async with central(tmp_path, f"blobs.max_user_bytes={len(DATA)}") as server, server.channel() as channel:
        _, key = await server.user("ann")
        ann = Uploader(channel, key)
        await ann.put(DATA)
        await ann.put(DATA)
        more = b"1" * 5000
        header = pb.BlobPutHeader(sha256=hashlib.sha256(more).hexdigest(), size=len(more))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            call = ann.stub.Put(iter([pb.BlobPutRequest(header=header)]), metadata=ann.metadata)
            await call
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        request = job_pb2.SubmitJobRequest(config=job_pb2.JobConfig(model_definition=MODEL), initial_data=more)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await job_pb2_grpc.JobServiceStub(channel).SubmitJob(request, metadata=ann.metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "cyxwiz blobs delete" in str(caught.value.details())
