"""`cyxwiz.ext.v1.ClientService`: every method of the `Api`, as documents."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc

from cyxwiz.domain.errors import invalid
from cyxwiz.ext.v1 import client_pb2 as pb
from cyxwiz.services.api import Api, Call
from cyxwiz.services.validation import read_object
from cyxwiz.transports.grpc.door import caller

SERVICE = pb.DESCRIPTOR.services_by_name["ClientService"]


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def handlers(api: Api) -> grpc.GenericRpcHandler:
    """A handler a method of the service, each bound to the method of `Api` of its name."""
    table = {}
    for method in SERVICE.methods:
        act = getattr(api, snake(method.name))
        if method.server_streaming:
            table[method.name] = grpc.unary_stream_rpc_method_handler(
                _stream(act), pb.Query.FromString, pb.Document.SerializeToString
            )
        else:
            table[method.name] = grpc.unary_unary_rpc_method_handler(
                _unary(act), pb.Query.FromString, pb.Document.SerializeToString
            )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, table)


def _call(query: pb.Query) -> Call:
    if "\0" in query.id:
        raise invalid("id: holds a NUL character", field="id")
    args = read_object(query.json, "query's json") if query.json else {}
    entered = caller()
    return Call(entered.principal, query.id, args, entered.bearer, entered.idempotency_key)


def _document(value: Any) -> pb.Document:
    return pb.Document(json=json.dumps(value, separators=(",", ":")).encode())


def _unary(act: Any) -> Any:
    async def answer(query: pb.Query, context: Any) -> pb.Document:
        return _document(await act(_call(query)))

    return answer


def _stream(act: Any) -> Any:
    async def serve(query: pb.Query, context: Any) -> AsyncIterator[pb.Document]:
        async for value in act(_call(query)):
            yield _document(value)

    return serve
