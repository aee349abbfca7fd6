"""From a request to a `Call` and from a document to a response: what every REST route shares.

An `Operation` says all about a route: what it takes, what it answers, whom it lets in. The route and its part of the
OpenAPI document are both made from it. Refused as INVALID: unknown or repeated query parameters, a body where none
belongs, a body that is not `application/json`, not UTF-8, not strict JSON (NaN, Infinity) or not an object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from weakref import WeakValueDictionary

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, invalid
from cyxwiz.services.call import Call, Nothing
from cyxwiz.services.validation import read_object
from cyxwiz.transports.auth import Guard, bearer_of
from cyxwiz.transports.rest import errors
from cyxwiz.transports.rest.security import HELD, on_this_machine

BODY_SECONDS = 60.0
STRANGERS_BYTES = 256 << 10  # of the body of who has shown no credentials: it is kept until all of it is there
MAX_QUERY_PARAMETERS = 100
LARGE_ANSWERS = 8  # of one caller at a time, each from when it is made until it was taken


class Access(Enum):
    CALLER = auto()  # credentials are needed
    STREAM = auto()  # credentials, or a ticket in the query
    LOCAL = auto()  # credentials, unless the caller is on this machine
    SIGN_UP = auto()  # anybody, as the service decides, at a pace of its own
    LOGIN = auto()  # anybody, at a pace of its own; a name or a wallet is in the body
    REFRESH = auto()  # anybody; a token, which can't be guessed, is in the body
    ANYBODY = auto()


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `act` gets the call; `serve`, where a plain document won't do, the request too and answers itself."""

    method: str
    path: str
    summary: str
    answer: str  # a schema of `schemas.DOCUMENTS`, or a media type
    act: Callable[[Call], Awaitable[Any]] | None = None
    serve: Callable[[Request, Call], Awaitable[Response]] | None = None
    query: type[BaseModel] = Nothing
    body: type[BaseModel] | None = None  # None: no body belongs here
    body_optional: bool = False
    raw_body: bool = False  # bytes, read by `serve`
    large: bool = False  # its answer may be: it waits for its turn among the caller's
    lasting: bool = False  # it may take long: it counts as one of the caller's streams
    headers: Mapping[str, str] | None = None  # request headers it understands, with what they mean
    status: int = 200
    also: Mapping[int, str] | None = None  # further statuses that are no errors
    refuses: tuple[Code, ...] = ()
    access: Access = Access.CALLER
    tag: str = ""


class Door:
    """Lets requests in, for every router of this package."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by caller

    def router(self, operations: list[Operation]) -> APIRouter:
        router = APIRouter(redirect_slashes=False)
        for operation in operations:
            router.add_api_route(
                operation.path, self._endpoint(operation), methods=[operation.method], include_in_schema=False
            )
        return router

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            call = await self._enter(request, operation)
            await self._hold(request, call, operation)
            if operation.serve is not None:
                return await operation.serve(request, call)
            assert operation.act is not None, f"{operation.path} does nothing"
            return reply(await operation.act(call), operation.status)

        return endpoint

    async def _hold(self, request: Request, call: Call, operation: Operation) -> None:
        """What the request holds until its client took the answer. Raises EXHAUSTED for one stream too many."""
        held: AsyncExitStack = request.scope[HELD]
        if call.actor is None:
            return
        caller = call.actor.node_id or call.actor.id
        if operation.lasting:
            held.enter_context(self.guard.stream(f"rest:{caller}"))
        if operation.large:
            await held.enter_async_context(self._turns.setdefault(caller, asyncio.Semaphore(LARGE_ANSWERS)))

    async def _enter(self, request: Request, operation: Operation) -> Call:
        query = query_of(request)
        ticket = query.pop("ticket", None) if operation.access is Access.STREAM else None
        actor = await self._admit(request, operation.access, ticket)
        ident = str(next(iter(request.path_params.values()), ""))
        if "\0" in ident:
            raise invalid("The path holds a NUL character")
        if operation.raw_body or operation.method in ("GET", "HEAD"):
            args: dict[str, Any] = query
        else:
            _refuse_all(query, "query parameter")
            optional = operation.body is None or operation.body_optional
            args = await json_body(request, optional=optional, most=STRANGERS_BYTES if actor is None else None)
        if (operation.body if operation.method not in ("GET", "HEAD") else operation.query) in (None, Nothing):
            _refuse_all(args, "query parameter" if args is query else "field")
        if operation.access is Access.LOGIN:
            await self.guard.admit_login(_peer(request), args.get("name") or args.get("wallet_address"))
        return Call(
            actor,
            ident,
            args,
            (bearer_of(request.headers.get("authorization")) or "") if operation.access is Access.CALLER else "",
            request.headers.get("idempotency-key", ""),
            strict=args is not query,
        )

    async def _admit(self, request: Request, access: Access, ticket: str | None) -> Principal | None:
        authorization, peer = request.headers.get("authorization"), _peer(request)
        if access is Access.ANYBODY:
            return None
        if access in (Access.LOGIN, Access.REFRESH):
            # Whoever logs in may send along a token that has expired: it is not what lets them in.
            await self.guard.admit(None, peer, public=True)
            return None
        if access is Access.SIGN_UP and not authorization:
            await self.guard.admit_sign_up(peer)
            return await self.guard.admit(None, peer, public=True)
        if ticket is not None:
            return await self.guard.accounts.redeem(ticket)
        return await self.guard.admit(
            authorization, peer, public=access is Access.LOCAL and on_this_machine(request.scope)
        )


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(errors.encode(value), status, headers, "application/json")


def query_of(request: Request) -> dict[str, str]:
    """The query's parameters, each given once."""
    found: dict[str, str] = {}
    items = request.query_params.multi_items()
    if len(items) > MAX_QUERY_PARAMETERS:
        raise invalid(f"The query has more than {MAX_QUERY_PARAMETERS} parameters")
    for name, value in items:
        if name in found:
            raise invalid(f"{name[:100]}: given more than once", field=name[:100])
        if "\0" in value:
            raise invalid(f"{name[:100]}: holds a NUL character", field=name[:100])
        found[name] = value
    return found


async def json_body(request: Request, *, optional: bool, most: int | None = None) -> dict[str, Any]:
    """The body's object. Raises INVALID for all else; an empty body is {} where it is optional.

    Args:
        most: bytes that are taken; what every body is held to where nothing is said.
    """
    data = bytearray()
    async with asyncio.timeout(BODY_SECONDS):
        async for part in request.stream():
            data += part
            if most is not None and len(data) > most:
                raise invalid(f"The body is larger than {most} bytes", limit=most)
    if not data and optional:
        return {}
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise invalid(f"Content-Type: must be application/json, not {media[:100]!r}", field="Content-Type")
    return read_object(bytes(data), "body")


def _refuse_all(args: Mapping[str, Any], what: str) -> None:
    for name in args:
        raise invalid(f"{str(name)[:100]}: unknown {what}", field=str(name)[:100])
