"""`WS /ws`: whole topics, live.

The first message subscribes, later ones add topics; then `{"seq", "type", "at", "data"}` a message. What goes wrong is
told in a message `{"type": "error", "error": {…}}` and by the close code of the one table.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Literal, TypeVar

from fastapi import APIRouter
from pydantic import Field
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from cyxwiz import wire
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services import views
from cyxwiz.services.api import Api, Args, Call
from cyxwiz.services.validation import read_object
from cyxwiz.transports.auth import Guard, internal

T = TypeVar("T")

MAX_MESSAGE_CHARACTERS = 64 * 1024
SUBSCRIBE_SECONDS = 30.0
SUBPROTOCOL = "bearer"


class Subscribe(Args):
    type: Literal["subscribe"]
    topics: list[str] = Field(min_length=1)
    after: int | None = None


def router(api: Api, guard: Guard) -> APIRouter:
    found = APIRouter()

    @found.websocket("/ws")
    async def events(websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            principal = await _admit(websocket, guard, offered)
            with guard.stream(f"ws:{principal.id}"):
                await _Conversation(api, principal, websocket).hold()
        except WebSocketDisconnect:
            return
        except Exception as error:
            await _refuse(websocket, error)

    return found


async def _admit(websocket: WebSocket, guard: Guard, offered: list[str]) -> Principal:
    """The caller: by ticket, header or subprotocols `bearer, <token>`, which is all that a browser can send."""
    query = dict(websocket.query_params)
    ticket = query.pop("ticket", None)
    for name in query:
        raise invalid(f"{name[:100]}: unknown query parameter", field=name[:100])
    if ticket is not None:
        return await guard.accounts.redeem(ticket)
    authorization = websocket.headers.get("authorization")
    if authorization is None and SUBPROTOCOL in offered:
        tokens = [each for each in offered if each != SUBPROTOCOL]
        if len(tokens) != 1:
            raise CyxError(Code.UNAUTHENTICATED, "Sec-WebSocket-Protocol: must be 'bearer, <token>'")
        authorization = f"Bearer {tokens[0]}"
    peer = websocket.client.host if websocket.client else ""
    # `caller` refuses a node's token: it has a stream of its own.
    return Call(await guard.admit(authorization, peer)).caller


class _Conversation:
    """One client: a task sends while the client's messages are read. `_seq` is where the sending is."""

    def __init__(self, api: Api, principal: Principal, websocket: WebSocket) -> None:
        self._api = api
        self._principal = principal
        self._websocket = websocket
        self._topics: frozenset[str] = frozenset()
        self._seq: int | None = None

    async def hold(self) -> None:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                first = await self._read()
        except TimeoutError:
            raise CyxError(Code.TIMEOUT, f"No subscribe message within {SUBSCRIBE_SECONDS:.0f} seconds") from None
        self._seq, self._topics = first.after, frozenset(first.topics)
        tasks = Tasks()
        try:
            reading = spawn(_outcome(self._read()), name="websocket reader", group=tasks)
            while True:
                sending = spawn(_outcome(self._send()), name="websocket sender", group=tasks)
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                more = reading.result() if reading.done() else sending.result()
                if not isinstance(more, Subscribe):
                    raise more if more is not None else WebSocketDisconnect()
                sending.cancel()
                await asyncio.wait({sending})
                self._topics |= frozenset(more.topics)
                self._seq = more.after if more.after is not None else self._seq
                reading = spawn(_outcome(self._read()), name="websocket reader", group=tasks)
        finally:
            await tasks.aclose()

    async def _send(self) -> None:
        async with aclosing(self._api.watch.topics(self._principal, self._topics, self._seq)) as notes:  # type: ignore[type-var]
            async for note in notes:
                await self._websocket.send_text(json.dumps(views.note(note), separators=(",", ":"), default=str))
                self._seq = note.seq

    async def _read(self) -> Subscribe:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000), message.get("reason"))
        text = message.get("text")
        if text is None:
            raise invalid("Messages must be text")
        if len(text) > MAX_MESSAGE_CHARACTERS:
            raise invalid(f"A message has at most {MAX_MESSAGE_CHARACTERS} characters", limit=MAX_MESSAGE_CHARACTERS)
        return Call(self._principal, args=read_object(text.encode(), "message"), strict=True).read(Subscribe)


async def _outcome(work: Awaitable[T]) -> T | Exception:
    """What a task of the conversation comes to: for its owner to raise, who alone knows whether it matters."""
    try:
        return await work
    except Exception as error:
        return error


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    if not isinstance(error, CyxError):
        error = internal(error, "WS /ws")
    body = {
        "code": str(error.code),
        "message": error.message,
        "details": error.details,
        "retryable": error.retryable,
        "request_id": websocket.scope.get("cyxwiz.request_id", uuid.uuid4().hex),
    }
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        await websocket.send_text(json.dumps({"type": "error", "error": body}, default=str))
        await websocket.close(wire.CODES[error.code].websocket, str(error.code))
    except (WebSocketDisconnect, RuntimeError):
        return  # it was gone first: nobody is left to be told
