"""`cyxwiz.protocol.JobExecutionService` over gRPC, for whatever `Execution` serves it: a node, or central's relay.

Messages stay bytes here: who serves the call decodes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.execution import Execution, Headers
from cyxwiz.protocol import execution_pb2

SERVICE = execution_pb2.DESCRIPTOR.services_by_name["JobExecutionService"]
MAX_MESSAGE = 100 << 20  # as in the earlier system


def handlers(execution: Execution) -> grpc.GenericRpcHandler:
    """A handler for each of the service's methods."""
    made: dict[str, grpc.RpcMethodHandler] = {}
    for method in SERVICE.methods:
        streaming = _streaming(execution, method.name, streams_in=method.client_streaming)
        if method.server_streaming and method.client_streaming:
            made[method.name] = grpc.stream_stream_rpc_method_handler(streaming)
        elif method.server_streaming:
            made[method.name] = grpc.unary_stream_rpc_method_handler(streaming)
        else:
            made[method.name] = grpc.unary_unary_rpc_method_handler(_unary(execution, method.name))
    return grpc.method_handlers_generic_handler(SERVICE.full_name, made)


def headers_of(context: Any) -> Headers:
    """What says who calls, and about which job."""
    metadata = dict(context.invocation_metadata() or ())
    return Headers(str(metadata.get("authorization", "")), str(metadata.get("x-job-id", "")))


async def _one(request: bytes) -> AsyncIterator[bytes]:
    yield request


def _unary(execution: Execution, method: str) -> Any:
    async def answer(request: bytes, context: Any) -> bytes:
        async for response in execution.serve(method, _one(request), headers_of(context)):
            return response
        raise CyxError(Code.UNAVAILABLE, f"The call {method} ended without an answer")

    return answer


def _streaming(execution: Execution, method: str, *, streams_in: bool) -> Any:
    async def serve(request: Any, context: Any) -> AsyncIterator[bytes]:
        requests = request if streams_in else _one(request)
        answers: Any = execution.serve(method, requests, headers_of(context))
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    return serve
