"""`cyxwiz.ext.v1.BlobService`: bulk bytes for nodes and clients."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.ext.v1 import blobs_pb2 as pb
from cyxwiz.ext.v1 import blobs_pb2_grpc
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.room import Room
from cyxwiz.transports.grpc.door import caller

IDLE_SECONDS = 60.0


class BlobServicer(blobs_pb2_grpc.BlobServiceServicer):
    def __init__(self, blobs: BlobStore, jobs: Jobs, room: Room, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._jobs = jobs
        self._room = room
        self._max_bytes = max_bytes

    async def Stat(self, request: pb.BlobStatRequest, context: Any) -> pb.BlobState:
        """What is stored, to its owners and to nodes that sent it; others show that they have it by uploading it."""
        actor = caller().required
        size = await self._blobs.size(request.sha256)
        if size is None:
            return pb.BlobState(
                sha256=request.sha256, offset=await self._blobs.partial(request.sha256, _uploader(actor))
            )
        if await self._known(actor, request.sha256):
            return _whole(request.sha256, size)
        return pb.BlobState(sha256=request.sha256)

    async def _known(self, actor: Principal, sha256: str) -> bool:
        if actor.node_id is not None:
            return await self._jobs.sent_blob(actor.node_id, sha256)
        try:
            await self._jobs.may_read_blob(actor, sha256)
        except CyxError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return False
        return True

    async def Put(self, request_iterator: AsyncIterator[pb.BlobPutRequest], context: Any) -> pb.BlobState:
        actor = caller().required
        header, requests = None, _in_time(request_iterator)
        async for first in requests:
            if first.WhichOneof("body") != "header":
                raise invalid("The first message of an upload must be its header")
            header = first.header
            break
        if header is None:
            raise invalid("An upload needs a header and data")
        if header.size > self._max_bytes:
            raise invalid(f"size: at most {self._max_bytes} bytes, not {header.size}", field="size")
        async with self._room.hold(actor, max(0, header.size - header.offset), header.sha256) as coming:
            if await self._blobs.size(header.sha256) is None:
                upload = await self._blobs.begin(header.sha256, header.size, header.offset, _uploader(actor))
                try:
                    async for data in _data(requests):
                        await upload.write(data)
                        coming.written(len(data))
                    await upload.commit()
                finally:
                    await upload.aclose()
            elif header.offset:
                message = f"Blob {header.sha256} was stored by somebody else meanwhile: send it from its beginning"
                raise conflict(message)
            else:
                await _check_possession(header, _data(requests))
            owner = None if actor.node_id else actor.id
            await self._jobs.record_blob(header.sha256, header.size, owner=owner, sender=actor.node_id)
        return _whole(header.sha256, header.size)

    async def Get(self, request: pb.BlobGetRequest, context: Any) -> AsyncIterator[pb.BlobChunk]:
        await self._jobs.may_read_blob(caller().required, request.sha256)
        size = await self._blobs.size(request.sha256)
        if size is None:
            raise CyxError(Code.INTERNAL, f"Blob {request.sha256} is recorded and not stored")
        offset = request.offset
        async for data in self._blobs.read(request.sha256, offset, request.length or None):
            yield pb.BlobChunk(offset=offset, data=data, size=size)
            offset += len(data)


def _whole(sha256: str, size: int) -> pb.BlobState:
    return pb.BlobState(sha256=sha256, size=size, offset=size, complete=True)


def _uploader(actor: Principal) -> str:
    return actor.node_id or actor.id


async def _in_time(requests: AsyncIterator[pb.BlobPutRequest]) -> AsyncIterator[pb.BlobPutRequest]:
    """An upload's messages. Raises TimeoutError when one is long in coming: a silent caller holds the upload's lock."""
    coming = aiter(requests)
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await anext(coming)
        except StopAsyncIteration:
            return
        yield message


async def _data(requests: AsyncIterator[pb.BlobPutRequest]) -> AsyncIterator[bytes]:
    async for message in requests:
        if message.WhichOneof("body") != "data":
            raise invalid("Only data may follow an upload's header")
        yield message.data


async def _check_possession(header: pb.BlobPutHeader, data: AsyncIterator[bytes]) -> None:
    """The content is stored already: whoever wants to own it too must send it whole, and no more than that."""
    hashed, size = hashlib.sha256(), 0
    async for part in data:
        hashed.update(part)
        size += len(part)
        if size > header.size:
            break
    if size != header.size:
        raise invalid(f"The upload was announced with {header.size} bytes, and {size} came", size=header.size)
    if hashed.hexdigest() != header.sha256:
        raise invalid(f"The bytes sent are not the content {header.sha256}", field="sha256")
