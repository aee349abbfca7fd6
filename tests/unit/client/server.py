"""A gRPC server in this process that answers as central does: documents, streams, blobs, and errors in the trailer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import grpc

from cyxwiz import wire
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.wallet_proof import Purpose, proof_message
from cyxwiz.ext.v1 import blobs_pb2 as blobs
from cyxwiz.ext.v1 import blobs_pb2_grpc, client_pb2

STATUS = {status.value[0]: status for status in grpc.StatusCode}
SERVICE = client_pb2.DESCRIPTOR.services_by_name["ClientService"]
Answer = Callable[[str, dict[str, Any], dict[str, Any]], Any]


async def abort(context: Any, error: CyxError) -> None:
    body = {"code": error.code, "message": error.message, "details": error.details, "retryable": error.retryable}
    trailer = ((wire.ERROR_METADATA, json.dumps(body).encode()),)
    await context.abort(STATUS[wire.CODES[error.code].grpc], error.message, trailer)


class FakeCentral(blobs_pb2_grpc.BlobServiceServicer):
    """`answers[method]` is a document, an error, or a function of (id, args, metadata); `calls` is what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
        self.blobs: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.cut_after: int | None = None  # bytes after which a transfer breaks off, once

    def handlers(self) -> grpc.GenericRpcHandler:
        table = {}
        for method in SERVICE.methods:
            make = (
                grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            )
            act = self._stream(method.name) if method.server_streaming else self._unary(method.name)
            table[method.name] = make(act, client_pb2.Query.FromString, client_pb2.Document.SerializeToString)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, table)

    async def _value(self, method: str, query: Any, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        args = json.loads(query.json) if query.json else {}
        self.calls.append((method, query.id, args, metadata))
        value = self.answers.get(method, {"method": method, "id": query.id, "args": args})
        if callable(value):
            try:
                value = value(query.id, args, metadata)
            except CyxError as error:
                value = error
        if isinstance(value, CyxError):
            await abort(context, value)
        return value

    def _unary(self, method: str) -> Any:
        async def answer(query: Any, context: Any) -> client_pb2.Document:
            return client_pb2.Document(json=json.dumps(await self._value(method, query, context)).encode())

        return answer

    def _stream(self, method: str) -> Any:
        async def serve(query: Any, context: Any) -> AsyncIterator[client_pb2.Document]:
            for item in await self._value(method, query, context):
                if isinstance(item, CyxError):
                    await abort(context, item)
                yield client_pb2.Document(json=json.dumps(item).encode())

        return serve

    async def Stat(self, request: Any, context: Any) -> Any:
        whole = self.blobs.get(request.sha256)
        if whole is not None:
            return blobs.BlobState(sha256=request.sha256, size=len(whole), offset=len(whole), complete=True)
        return blobs.BlobState(sha256=request.sha256, offset=len(self.partial.get(request.sha256, b"")))

    async def Put(self, requests: AsyncIterator[Any], context: Any) -> Any:
        header, data = None, b""
        async for request in requests:
            if request.WhichOneof("body") == "header":
                header = request.header
                data = self.partial.get(header.sha256, b"")[: header.offset]
                continue
            data += request.data
            self.partial[header.sha256] = data
            if self.cut_after is not None and len(data) >= self.cut_after:
                self.cut_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        assert header is not None
        if hashlib.sha256(data).hexdigest() != header.sha256:
            self.partial.pop(header.sha256, None)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not what was announced")
        self.blobs[header.sha256] = data
        return blobs.BlobState(sha256=header.sha256, size=len(data), offset=len(data), complete=True)

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        data, offset = self.blobs[request.sha256], request.offset
        while offset < len(data):
            if self.cut_after is not None and offset >= self.cut_after:
                self.cut_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            part = data[offset : offset + 1000]
            yield blobs.BlobChunk(offset=offset, data=part, size=len(data))
            offset += len(part)


@contextlib.asynccontextmanager
async def serving(fake: FakeCentral, port: int = 0) -> AsyncGenerator[int]:
    """Serves `fake`; its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((fake.handlers(),))
    blobs_pb2_grpc.add_BlobServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def asks_to_sign(fake: FakeCentral) -> None:
    """Has it give out a nonce for a wallet, as central does."""

    def nonce(ident: str, args: Any, metadata: Any) -> dict[str, str]:
        message = proof_message(Purpose(args["purpose"]), args["wallet_address"], "ab" * 32, "1.2.c")
        return {"nonce": "1.2.c", "message": message}

    fake.answers["GetPlatform"] = {"public_key": "ab" * 32}
    fake.answers["WalletNonce"] = nonce


@contextlib.contextmanager
def serving_beside(fake: FakeCentral) -> Any:
    """The same for a test that has no loop of its own: served by a thread."""
    import threading

    started, box = threading.Event(), {}

    async def main() -> None:
        stop = asyncio.Event()
        async with serving(fake) as port:
            box.update(port=port, stop=stop, loop=asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait(10)
    try:
        yield box["port"]
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(10)


def job(**changed: Any) -> dict[str, Any]:
    """A job object as central gives it."""
    document: dict[str, Any] = {
        "id": "11111111-1111-4111-8111-111111111111",
        "name": "digits",
        "status": "pending",
        "phase": None,
        "reason": "waiting for the scheduler",
        "error": None,
        "progress": 0.0,
        "current_epoch": 0,
        "epochs": 2,
        "metrics": {},
        "attempts": 0,
        "dataset_uri": "builtin:digits",
        "assigned_node_id": None,
        "reservation_id": None,
        "estimated_cost": "0.03636",
        "actual_cost": "0",
        "compute_seconds": 0.0,
        "created_at": "2026-01-02T03:04:05.000Z",
        "started_at": None,
        "completed_at": None,
    }
    return {**document, **changed}


def update(cursor: str, *epochs: int, **changed: Any) -> dict[str, Any]:
    points = [
        {"attempt": 1, "epoch": epoch, "epoch_ended": True, "metrics": {"loss": 1 / epoch, "val_accuracy": 0.9}}
        for epoch in epochs
    ]
    return {"job": job(**changed), "events": [], "metrics": points, "logs": [], "cursor": cursor}
