"""`cyxwiz.ext.v1.BlobService`: bulk bytes for nodes and clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ext.v1 import blobs_pb2 as pb
from cyxwiz.ext.v1 import blobs_pb2_grpc
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.services.jobs import Jobs
from cyxwiz.transports.grpc.door import caller


class BlobServicer(blobs_pb2_grpc.BlobServiceServicer):
    def __init__(self, blobs: BlobStore, jobs: Jobs, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._jobs = jobs
        self._max_bytes = max_bytes

    async def Stat(self, request: pb.BlobStatRequest, context: Any) -> pb.BlobState:
        _ = caller().required
        return await self._state(request.sha256)

    async def _state(self, sha256: str) -> pb.BlobState:
        size = await self._blobs.size(sha256)
        if size is not None:
            return pb.BlobState(sha256=sha256, size=size, offset=size, complete=True)
        return pb.BlobState(sha256=sha256, offset=await self._blobs.partial(sha256))

    async def Put(self, request_iterator: AsyncIterator[pb.BlobPutRequest], context: Any) -> pb.BlobState:
        actor = caller().required
        header = None
        async for first in request_iterator:
            if first.WhichOneof("body") != "header":
                raise invalid("The first message of an upload must be its header")
            header = first.header
            break
        if header is None:
            raise invalid("An upload needs a header and data")
        if header.size > self._max_bytes:
            raise invalid(f"size: at most {self._max_bytes} bytes, not {header.size}", field="size")
        upload = await self._blobs.begin(header.sha256, header.size, header.offset)
        try:
            async for message in request_iterator:
                if message.WhichOneof("body") != "data":
                    raise invalid("Only data may follow an upload's header")
                await upload.write(message.data)
            await upload.commit()
        finally:
            await upload.aclose()
        # A node's upload belongs to nobody until a result names it.
        await self._jobs.record_blob(None if actor.node_id else actor.id, header.sha256, header.size)
        return await self._state(header.sha256)

    async def Get(self, request: pb.BlobGetRequest, context: Any) -> AsyncIterator[pb.BlobChunk]:
        await self._jobs.may_read_blob(caller().required, request.sha256)
        size = await self._blobs.size(request.sha256)
        if size is None:
            raise CyxError(Code.INTERNAL, f"Blob {request.sha256} is recorded and not stored")
        offset = request.offset
        async for data in self._blobs.read(request.sha256, offset, request.length or None):
            yield pb.BlobChunk(offset=offset, data=data, size=size)
            offset += len(data)
