"""`cyxwiz.ext.v1.EventService`: what `WS /ws` sends as JSON, as messages.

A message has its event's name and fields: what JSON calls `job.submitted` is the class `JobSubmitted` and the body
`job_submitted`. A new event therefore needs its message in events.proto and nothing here.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from google.protobuf import json_format

from cyxwiz.domain import events
from cyxwiz.ext.v1 import events_pb2 as pb
from cyxwiz.ext.v1 import events_pb2_grpc
from cyxwiz.services.watch import LIVE, Note, Watch
from cyxwiz.transports.grpc.client_api import snake
from cyxwiz.transports.grpc.door import caller

BODIES: Mapping[str, str] = {kind: kind.replace(".", "_") for kind in LIVE} | {
    value.kind: snake(name)
    for name, value in vars(events).items()
    if inspect.isclass(value) and issubclass(value, events.Event) and "kind" in vars(value)
}


def event_to(note: Note) -> pb.Event:
    """The note as a message. A field that an older version stored and this one does not know is left out."""
    message = pb.Event(seq=note.seq, kind=note.kind)
    if note.at is not None:
        message.at_ms = int(note.at.timestamp() * 1000)
    body = getattr(message, BODIES[note.kind])
    body.SetInParent()
    json_format.ParseDict(dict(note.data), body, ignore_unknown_fields=True)
    return message


class EventServicer(events_pb2_grpc.EventServiceServicer):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.Event]:
        actor = caller().required
        after = request.after if request.HasField("after") else None
        async with aclosing(self._watch.topics(actor, frozenset(request.topics), after)) as notes:  # type: ignore[type-var]
            async for note in notes:
                yield event_to(note)
