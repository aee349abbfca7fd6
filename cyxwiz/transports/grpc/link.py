"""`cyxwiz.ext.v1.NodeLink`, both ends: central's servicer, and the node's `CentralLink` over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import grpc
from grpc.aio import EOF  # pyright: ignore[reportAttributeAccessIssue]  its stubs leave it out

from cyxwiz import wire
from cyxwiz.domain.addresses import is_loopback
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import blobs_pb2, blobs_pb2_grpc, link_pb2_grpc
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.runtime.files import file_sha256
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.transports.grpc.door import caller

CHUNK = 1 << 20
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Channels to one target share a connection unless told otherwise: bulk would stand before the heartbeats.
    ("grpc.use_local_subchannel_pool", 1),
)
ANSWERED = (
    (": Socket closed", "if central speaks TLS, set node.tls = true"),
    ("WRONG_VERSION_NUMBER", "central speaks no TLS there: leave node.tls out"),
    ("CERTIFICATE_VERIFY_FAILED", "tls.ca_file names the authority of central's certificate"),
    ("Hostname Verification Check failed", "node.central must name a host of central's certificate"),
    ("http1.x server", "node.central is the address behind `grpc` where central was started"),
    ("missing selected ALPN property", "node.central is the address behind `grpc` where central was started"),
)
"""What gRPC says of a door that answers, and which setting is wrong then."""


class NodeLinkServicer(link_pb2_grpc.NodeLinkServicer):
    """`local_token`: the secret in central's data directory, which a node on the same one can read."""

    def __init__(self, gateway: NodeGateway, *, local_token: str) -> None:
        self._gateway = gateway
        self._local_token = local_token

    async def Connect(
        self, request_iterator: AsyncIterator[pb.NodeMessage], context: Any
    ) -> AsyncIterator[pb.CentralMessage]:
        entered = caller()
        local = is_loopback(entered.peer) and entered.bearer == "" and _local(context) == self._local_token

        stream = _NodeStream(context)
        try:
            await self._gateway.serve(request_iterator, stream.send, peer_host=entered.peer, local=local)
        finally:
            await stream.aclose()
        return
        yield  # makes this an async generator, as the server expects of a stream


class _NodeStream:
    """What central says to a node. gRPC takes one message at a time, and refuses the next one until it has taken that:
    a write goes on to its end though its sender is cancelled, as who relays for a client is when the client leaves."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._free = asyncio.Lock()
        self._writes = Tasks()

    async def send(self, message: pb.CentralMessage) -> None:
        """Raises UNAVAILABLE once the stream is over."""
        await self._free.acquire()
        write = spawn(self._write(message), name="write to a node", group=self._writes)
        write.add_done_callback(lambda _: self._free.release())
        await asyncio.wait({write})
        if write.cancelled() or not write.result():
            raise CyxError(Code.UNAVAILABLE, "The stream to the node has ended")

    async def _write(self, message: pb.CentralMessage) -> bool:
        try:
            await self._context.write(message)
        except (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError):
            return False
        return True

    async def aclose(self) -> None:
        await self._writes.aclose()


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

    async def push_blob(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        stub, metadata = self._blobs()
        size = path.stat().st_size
        if sha256 is None:
            sha256 = await asyncio.to_thread(file_sha256, path)
        try:
            state = await stub.Stat(blobs_pb2.BlobStatRequest(sha256=sha256), metadata=metadata)
            if not state.complete:
                await stub.Put(_upload(path, sha256, size, min(state.offset, size)), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        return sha256, size

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
            # The way has checksums of its own: another try would bring the same.
            raise CyxError(Code.INTERNAL, f"Blob {sha256} is damaged where it is stored")

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
        self._writing = asyncio.Lock()  # gRPC takes one write at a time, and ends the call at a second one

    async def send(self, message: pb.NodeMessage) -> None:
        async with self._writing:
            with _translated():
                await self._call.write(message)

    async def receive(self) -> AsyncIterator[pb.CentralMessage]:
        while True:
            with _translated():
                message = await self._call.read()
            if message is EOF:
                break
            yield message
        with _translated():
            if await self._call.code() is not grpc.StatusCode.OK:
                raise await _ending(self._call)

    async def aclose(self) -> None:
        self._call.cancel()


@contextlib.contextmanager
def _translated() -> Generator[None]:
    """Turns the ways in which a call says that it is over into one."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from None
    except (grpc.aio.UsageError, asyncio.InvalidStateError):
        raise CyxError(Code.UNAVAILABLE, "The stream to central has ended") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The call was cancelled by `aclose`, not this task.
        raise CyxError(Code.UNAVAILABLE, "The stream to central was closed") from None


async def _ending(call: Any) -> CyxError:
    code, details, trailing = await call.code(), await call.details(), await call.trailing_metadata()
    return rebuild(code, details, trailing)


def error_of(error: grpc.aio.AioRpcError) -> CyxError:
    """The error that central raised, rebuilt."""
    return rebuild(error.code(), error.details(), error.trailing_metadata())


def rebuild(code: grpc.StatusCode, details: str | None, trailing: Any) -> CyxError:
    """A bare status, such as a proxy's, becomes the code that stands for it."""
    for key, value in trailing or ():
        if key == wire.ERROR_METADATA:
            body = json.loads(value)
            return CyxError(Code(body["code"]), body["message"], body.get("details"), retryable=body.get("retryable"))
    word = wire.FROM_GRPC.get(code.value[0], "UNAVAILABLE")
    said = details or f"Central answered {code.name}"
    hint = next((f"; {hint}" for sign, hint in ANSWERED if sign in said), "")
    return CyxError(Code(word), said + hint)
