"""What stands before every gRPC method: decoding, credentials, rates, and one way to answer with an error.

gRPC receives the message of a call that has one before it calls the handler, whoever sends it. So every method is
served as one that streams in, which is the same on the wire: the message is received once the caller is known, and of
those who are not, `RECEIVING` from one address at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from cyxwiz import wire
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid, unsupported
from cyxwiz.domain.ids import UserId, parse_user_id
from cyxwiz.ext.v1 import client_pb2
from cyxwiz.transports.auth import Guard, bearer_of, internal

log = logging.getLogger(__name__)

STATUS = {status.value[0]: status for status in grpc.StatusCode}

# Methods that need no credentials, or bring their own.
OWN_TOKENS = "/cyxwiz.protocol.JobExecutionService/"  # who serves it checks its tokens
PUBLIC_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.", OWN_TOKENS)
PUBLIC = frozenset(
    {
        "/cyxwiz.ext.v1.NodeLink/Connect",
        "/cyxwiz.protocol.NodeService/RegisterNode",
        "/cyxwiz.ext.v1.ClientService/Login",
        "/cyxwiz.ext.v1.ClientService/Refresh",
        "/cyxwiz.ext.v1.ClientService/CreateUser",
        "/cyxwiz.ext.v1.ClientService/GetPlatform",
        "/cyxwiz.ext.v1.ClientService/WalletNonce",
        "/cyxwiz.ext.v1.ClientService/WalletLogin",
    }
)
LOGIN = "/cyxwiz.ext.v1.ClientService/Login"
CREATE_USER = "/cyxwiz.ext.v1.ClientService/CreateUser"
# At the pace of log-ins.
PACED = frozenset({LOGIN, "/cyxwiz.ext.v1.ClientService/WalletNonce", "/cyxwiz.ext.v1.ClientService/WalletLogin"})
FRESH = frozenset({*PACED, "/cyxwiz.ext.v1.ClientService/Refresh"})
# Not counted by their address, behind which many nodes may stand: the gateway keeps one stream a node.
UNCOUNTED = frozenset({"/cyxwiz.ext.v1.NodeLink/Connect"})
# What a caller of a method of the contract that is not served here is told.
WHERE = "central and nodes have different services, and server reflection lists those of an address"

RECEIVING = 4
MESSAGE_SECONDS = 120.0  # for the message of somebody unknown, with the wait for those before it


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made the call that is being served."""

    principal: Principal | None
    bearer: str
    peer: str
    idempotency_key: str

    @property
    def required(self) -> Principal:
        if self.principal is None:
            raise CyxError(Code.UNAUTHENTICATED, "Missing credentials: send metadata 'authorization: Bearer <token>'")
        return self.principal

    def whose(self, user_id: str, what: str) -> UserId | None:
        """Whose `what` a list is asked for; None: everybody's. A caller may name themself by id or name, an admin
        anybody by id. Raises INVALID, FORBIDDEN."""
        actor = self.required
        if not user_id:
            return None if actor.is_admin else actor.id
        if user_id in (actor.id, actor.name):
            return actor.id
        named = parse_user_id(user_id)
        if not actor.is_admin:
            raise forbidden(f"You can list only your own {what}: leave user_id empty")
        return named


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    return _caller.get()


class _Undecodable:
    """Stands in for a message whose bytes are no message of its type."""


_UNDECODABLE = _Undecodable()


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNDECODABLE

    return decode


def _decoded(request: Any) -> Any:
    if request is _UNDECODABLE:
        raise invalid("The request's bytes are no protobuf message of the expected type")
    return request


async def only(requests: AsyncIterator[Any]) -> Any:
    """The one message of a call. Raises INVALID where none comes."""
    async for request in requests:
        return _decoded(request)
    raise invalid("The call ended without its message")


async def _decoded_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decoded(request)


def _name_in(query: client_pb2.Query) -> object:
    """Whose log-in it is; None where it says so in no readable way, which is refused further on."""
    try:
        args = json.loads(query.json)
    except (ValueError, RecursionError):
        return None
    return args.get("name") or args.get("wallet_address") if isinstance(args, dict) else None


class Door(grpc.aio.ServerInterceptor):
    """Wraps every handler. `observe(method, code, seconds)` gets each call's outcome."""

    def __init__(self, guard: Guard, observe: Callable[[str, str, float], None]) -> None:
        self._guard = guard
        self._observe = observe
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by address

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:  # our own clients explain gRPC's answer themselves, by the address that they called
            contract = method.startswith("/cyxwiz.protocol.")
            return grpc.stream_stream_rpc_method_handler(_unserved(method)) if contract else None
        metadata = dict(handler_call_details.invocation_metadata or ())  # type: ignore[arg-type]
        decode, encode = _lenient(handler.request_deserializer), handler.response_serializer
        if handler.response_streaming:
            inner = handler.stream_stream or handler.unary_stream
            serve = self._streaming(method, metadata, inner, handler.request_streaming)
            return grpc.stream_stream_rpc_method_handler(serve, decode, encode)
        inner = handler.stream_unary or handler.unary_unary
        answer = self._unary(method, metadata, inner, handler.request_streaming)
        return grpc.stream_unary_rpc_method_handler(answer, decode, encode)

    async def _enter(self, method: str, metadata: dict[str, Any], peer: str) -> Caller:
        # Who logs in anew may still send what has expired.
        own_token = method in FRESH or method.startswith(OWN_TOKENS)
        authorization = None if own_token else metadata.get("authorization")
        public = method in PUBLIC or method.startswith(PUBLIC_PREFIXES)
        if method == CREATE_USER and not authorization:
            await self._guard.admit_sign_up(peer)
        principal = await self._guard.admit(authorization, peer, public=public)
        entered = Caller(principal, bearer_of(authorization) or "", peer, metadata.get("idempotency-key", ""))
        _caller.set(entered)
        return entered

    async def _message(self, requests: AsyncIterator[Any], entered: Caller) -> Any:
        """Raises INVALID, and TimeoutError for a stranger's that is long in coming."""
        if entered.principal is not None:
            return await only(requests)
        turn = self._turns.setdefault(entered.peer, asyncio.Semaphore(RECEIVING))
        async with asyncio.timeout(MESSAGE_SECONDS), turn:
            return await only(requests)

    def _unary(self, method: str, metadata: dict[str, Any], inner: Any, streams_in: bool) -> Any:
        async def serve(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
            entered = await self._enter(method, metadata, peer_host(context))
            request = _decoded_stream(requests) if streams_in else await self._message(requests, entered)
            if method in PACED:
                await self._guard.admit_login(entered.peer, _name_in(cast("client_pb2.Query", request)))
            return await inner(request, context)

        async def answer(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
            began, code = time.perf_counter(), "OK"
            try:
                return await serve(requests, context)
            except Exception as error:
                failure = known(error, method)
                code = wire.CODES[failure.code].grpc_name
            finally:
                self._observe(method, code, time.perf_counter() - began)
            return await abort(context, failure, method)

        return answer

    def _streaming(self, method: str, metadata: dict[str, Any], inner: Any, streams_in: bool) -> Any:
        async def serve(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            began, code = time.perf_counter(), "OK"
            try:
                entered = await self._enter(method, metadata, peer_host(context))
                who = entered.principal
                key = f"grpc:{who.node_id or who.id}" if who else f"grpc:{entered.peer}:{method}"
                with nullcontext() if method in UNCOUNTED else self._guard.stream(key):
                    request = _decoded_stream(requests) if streams_in else await self._message(requests, entered)
                    async for response in inner(request, context):
                        yield response
                return
            except Exception as error:
                request = None
                failure = known(error, method)
                code = wire.CODES[failure.code].grpc_name
            finally:
                self._observe(method, code, time.perf_counter() - began)
            await abort(context, failure, method)

        return serve


def pending_options(calls: int) -> list[tuple[str, Any]]:
    """Options of a server that serves `calls` at once: how many more may wait to be taken.

    Past the first number gRPC ends calls at random, as CANCELLED, which looks like the caller's own doing. Those that
    we take and have no room for are RESOURCE_EXHAUSTED.
    """
    most = max(calls, 10_000)
    return [("grpc.server.max_pending_requests", most), ("grpc.server.max_pending_requests_hard_limit", 2 * most)]


def _unserved(method: str) -> Any:
    """For a method that nothing here serves. It is not observed: callers could make up any number of names."""

    async def serve(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await abort(context, unsupported(f"{method[:200]} is not served at this address; {WHERE}"), "unserved")
        yield b""  # never reached: it makes this a stream

    return serve


def peer_host(context: grpc.aio.ServicerContext) -> str:
    """The caller's address without its port."""
    kind, _, rest = context.peer().partition(":")
    if kind == "unix":
        return "unix"
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def known(error: Exception, method: str) -> CyxError:
    """What the caller is told of `error`. Raises it again if the call has its end already."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, TimeoutError):
        return CyxError(Code.TIMEOUT, "The other side took too long")
    if not isinstance(error, CyxError):
        return internal(error, method)
    # gRPC holds the end of a call for a while. What led to it holds the call's message, which may be large.
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


async def abort(context: grpc.aio.ServicerContext, error: Exception, method: str) -> None:
    """Ends the call with the error's row of the one table; never returns normally to a live caller."""
    error = known(error, method)
    row = wire.CODES[error.code]
    trailer = json.dumps(
        {"code": error.code, "message": error.message, "details": error.details, "retryable": error.retryable},
        default=str,
    ).encode()
    if len(trailer) > 6000:  # metadata has its own bound, and the message travels anyhow
        trailer = json.dumps(
            {"code": error.code, "message": error.message[:2000], "retryable": error.retryable}
        ).encode()
    try:
        await context.abort(STATUS[row.grpc], error.message[:4000], ((wire.ERROR_METADATA, trailer),))
    except asyncio.InvalidStateError:
        log.debug("the caller of %s was gone before its error", method)
