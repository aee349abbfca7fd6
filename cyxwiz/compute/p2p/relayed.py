"""`Relayed`: calls that central passes on to this node, served as those that come to its own door."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.ports.execution import Execution, Headers
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.relayed_call import Call

log = logging.getLogger(__name__)

MAX_CALLS = 256


class Relayed:
    def __init__(self) -> None:
        self.execution: Execution | None = None
        self._calls: dict[int, Call] = {}
        self._tasks = Tasks()

    def receive(self, link: LinkSession, frame: pb.Relay) -> None:
        """A frame from central; a call that is over here is passed by."""

        def send(frame: pb.Relay) -> Awaitable[None]:
            return link.send(pb.NodeMessage(relay=frame))

        if frame.HasField("open"):
            self._open(send, frame)
            return
        call = self._calls.get(frame.call)
        if call is None:
            return
        try:
            call.receive(frame)
        except CyxError as error:
            log.warning("a relayed call is broken: %s", error.message)
            call.end(error)

    def _open(self, send: Callable[[pb.Relay], Awaitable[None]], frame: pb.Relay) -> None:
        call = Call(frame.call, send)
        if self.execution is None or len(self._calls) >= MAX_CALLS or frame.call in self._calls:
            error = CyxError(Code.EXHAUSTED, "This node serves no more relayed calls now")
            spawn(_refuse(call, error), name="refuse a relayed call", group=self._tasks)
            return
        self._calls[frame.call] = call
        spawn(self._serve(self.execution, call, frame.open), name=f"relayed {frame.open.method}", group=self._tasks)

    async def _serve(self, execution: Execution, call: Call, opening: pb.RelayOpen) -> None:
        headers = Headers(opening.authorization, opening.job_id)
        failure: CyxError | None = None
        try:
            answers: Any = execution.serve(opening.method, call.messages(), headers)
            async with aclosing(answers):
                async for answer in answers:
                    await call.write(answer)
        except CyxError as error:
            failure = error
        except Exception as error:
            ident = uuid.uuid4().hex[:12]
            log.exception("internal error %s in a relayed call", ident, exc_info=error)
            failure = CyxError(Code.INTERNAL, f"Internal error {ident}: the log of the node has it under this id")
        finally:
            self._calls.pop(call.number, None)
        await _refuse(call, failure)

    def close(self) -> None:
        """The stream to central is gone."""
        for call in self._calls.values():
            call.end(CyxError(Code.UNAVAILABLE, "The way to central was cut"))

    async def aclose(self) -> None:
        await self._tasks.aclose()


async def _refuse(call: Call, error: CyxError | None) -> None:
    try:
        await call.tell_end(error)
    except CyxError as cut:
        log.debug("the end of a relayed call was not told: %s", cut.message)
