"""`cyxwiz.ext.v1.NodeLink`, both ends: central's servicer, and the node's `CentralLink` over gRPC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from cyxwiz import wire
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import blobs_pb2, blobs_pb2_grpc, link_pb2_grpc
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.transports.auth import is_loopback
from cyxwiz.transports.grpc.door import caller

CHUNK = 1 << 20
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


class NodeLinkServicer(link_pb2_grpc.NodeLinkServicer):
    """`local_token`: the secret in central's data directory, which a node on the same one can read."""

    def __init__(self, gateway: NodeGateway, *, local_token: str) -> None:
        self._gateway = gateway
        self._local_token = local_token

    async def Connect(self, requests: AsyncIterator[pb.NodeMessage], context: Any) -> AsyncIterator[pb.CentralMessage]:
        entered = caller()
        local = is_loopback(entered.peer) and entered.bearer == "" and _local(context) == self._local_token

        async def send(message: pb.CentralMessage) -> None:
            await context.write(message)

        await self._gateway.serve(requests, send, peer_host=entered.peer, local=local)
        return
        yield  # makes this an async generator, as the server expects of a stream


def _local(context: Any) -> str:
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get("cyxwiz-local", ""))


class GrpcLink:
    """`ports.central_link.CentralLink`: dials central, a second channel for the bulk."""

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None = None, *, local_token: str = ""
    ) -> None:
        self.session_token = ""
        self._target = target
        self._credentials = credentials
        self._local_token = local_token
        self._control: grpc.aio.Channel | None = None
        self._bulk: grpc.aio.Channel | None = None

    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._target, self._credentials, options=CHANNEL_OPTIONS)

    async def open(self) -> LinkSession:
        if self._control is None:
            self._control = self._channel()
        metadata = (("cyxwiz-local", self._local_token),) if self._local_token else ()
        stub = link_pb2_grpc.NodeLinkStub(self._control)
        return _GrpcSession(stub.Connect(metadata=metadata))

    def _blobs(self) -> tuple[blobs_pb2_grpc.BlobServiceStub, tuple[tuple[str, str], ...]]:
        if self._bulk is None:
            self._bulk = self._channel()
        return blobs_pb2_grpc.BlobServiceStub(self._bulk), (("authorization", f"Bearer {self.session_token}"),)

    async def push_blob(self, sha256: str, path: Path) -> None:
        stub, metadata = self._blobs()
        size = path.stat().st_size
        try:
            state = await stub.Stat(blobs_pb2.BlobStatRequest(sha256=sha256), metadata=metadata)
            if state.complete:
                return
            await stub.Put(_upload(path, sha256, size, min(state.offset, size)), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None

    async def fetch_blob(self, sha256: str, path: Path) -> None:
        stub, metadata = self._blobs()
        hashed = hashlib.sha256()
        try:
            with path.open("wb") as file:
                async for chunk in stub.Get(blobs_pb2.BlobGetRequest(sha256=sha256), metadata=metadata):
                    hashed.update(chunk.data)
                    file.write(chunk.data)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        if hashed.hexdigest() != sha256:
            path.unlink()
            raise CyxError(Code.UNAVAILABLE, f"Blob {sha256} arrived damaged", retryable=True)

    async def aclose(self) -> None:
        for channel in (self._control, self._bulk):
            if channel is not None:
                await channel.close()
        self._control = self._bulk = None


async def _upload(path: Path, sha256: str, size: int, offset: int) -> AsyncIterator[blobs_pb2.BlobPutRequest]:
    yield blobs_pb2.BlobPutRequest(header=blobs_pb2.BlobPutHeader(sha256=sha256, size=size, offset=offset))
    with path.open("rb") as file:
        file.seek(offset)
        while data := file.read(CHUNK):
            yield blobs_pb2.BlobPutRequest(data=data)


class _GrpcSession:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: pb.NodeMessage) -> None:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        except grpc.aio.UsageError:
            raise CyxError(Code.UNAVAILABLE, "The stream to central has ended") from None

    async def receive(self) -> AsyncIterator[pb.CentralMessage]:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                yield message
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            raise error_of(self._call, code)

    async def aclose(self) -> None:
        self._call.cancel()


def error_of(error: Any, code: grpc.StatusCode | None = None) -> CyxError:
    """The error that central raised, rebuilt; a bare status becomes the code that stands for it."""
    status: grpc.StatusCode = code or error.code()
    details = error.details() if code is None else ""
    for key, value in (error.trailing_metadata() if code is None else None) or ():
        if key == wire.ERROR_METADATA:
            body = json.loads(value)
            return CyxError(Code(body["code"]), body["message"], body.get("details"), retryable=body.get("retryable"))
    word = wire.FROM_GRPC.get(status.value[0], "UNAVAILABLE")
    return CyxError(Code(word), str(details) or f"Central answered {status.name}")
