"""Where the members of a gang find each other: keys and values, kept by central for each group in memory.

Only nodes that hold a live lease of the group may ask. What a group has set is forgotten once a newer group of its job
meets, or when very many others have met since; a central that starts again has forgotten everything, and groups that
were still meeting are formed anew. Members must be connected to the same central.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services.reports import held, token_of

log = logging.getLogger(__name__)

MAX_ROOMS = 1000
MAX_KEYS = 10_000
MAX_KEY = 1000
MAX_VALUE = 1 << 20
MAX_ROOM_BYTES = 16 << 20

Send = Callable[[pb.CentralMessage], Awaitable[None]]


@dataclass(slots=True)
class _Room:
    """What one group has set, and who waits for what."""

    group: Token
    values: dict[str, bytes] = field(default_factory=dict[str, bytes])
    size: int = 0
    sums: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])  # by rank and question
    waiting: dict[tuple[int, int], tuple[str, pb.RendezvousAsk, Send]] = field(
        default_factory=dict[tuple[int, int], tuple[str, pb.RendezvousAsk, Send]]
    )


class Rendezvous:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._rooms: OrderedDict[JobId, _Room] = OrderedDict()

    async def ask(self, node_id: NodeId, ask: pb.RendezvousAsk, send: Send) -> None:
        """Does what is asked and answers; a GET of what nobody has set later. A wrong one is passed over."""
        job_id = JobId(ask.job_id)
        try:
            token = token_of(ask.token)
            group, rank = await self._store.read(lambda tx: _member(tx, node_id, job_id, token))
            answers = self._apply(self._room(job_id, group), rank, ask, send)
        except CyxError as error:
            log.info("node %s asks in vain for the group of job %s: %s", node_id, ask.job_id[:64], error.message)
            return
        for question, value, to in answers:
            answer = pb.RendezvousAnswer(job_id=question.job_id, token=question.token, id=question.id, value=value)
            try:
                await to(pb.CentralMessage(rendezvous=answer))
            except CyxError as error:  # it asks again on its next stream
                log.info("a member of the group of job %s is not reached: %s", job_id, error.message)

    def _room(self, job_id: JobId, group: Token) -> _Room:
        room = self._rooms.get(job_id)
        if room is None or room.group != group:
            room = self._rooms[job_id] = _Room(group)
        self._rooms.move_to_end(job_id)
        while len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)
        return room

    def _apply(
        self, room: _Room, rank: int, ask: pb.RendezvousAsk, send: Send
    ) -> list[tuple[pb.RendezvousAsk, bytes, Send]]:
        """What is to be answered now, and to whom."""
        if len(ask.key) > MAX_KEY or len(ask.value) > MAX_VALUE:
            raise invalid(f"rendezvous: a key has at most {MAX_KEY} characters, a value {MAX_VALUE} bytes")
        place = (rank, ask.id)
        if ask.kind == pb.RendezvousAsk.GET:
            if ask.key in room.values:
                return [(ask, room.values[ask.key], send)]
            if len(room.waiting) < MAX_KEYS:
                room.waiting[place] = (ask.key, ask, send)
            return []
        if ask.kind == pb.RendezvousAsk.ADD:
            if place in room.sums:
                return [(ask, room.sums[place], send)]
            value = room.sums[place] = _sum(room.values.get(ask.key, b"0"), ask.value)
        else:
            value = ask.value
        room.size += len(ask.key) + len(value) - len(room.values.get(ask.key, b""))
        if len(room.values) >= MAX_KEYS or room.size > MAX_ROOM_BYTES or len(room.sums) > MAX_KEYS:
            raise invalid(f"rendezvous: a group keeps at most {MAX_KEYS} keys and {MAX_ROOM_BYTES} bytes")
        room.values[ask.key] = value
        ready = [place for place, (key, _, _) in room.waiting.items() if key == ask.key]
        waiters = [room.waiting.pop(place) for place in ready]
        return [(ask, value, send), *((question, value, to) for _, question, to in waiters)]


def _member(tx: Tx, node_id: NodeId, job_id: JobId, token: Token) -> tuple[Token, int]:
    """The group and the rank. Raises STALE for who is no member of the job's newest group."""
    _, lease = held(tx, node_id, job_id, token)
    if not lease.live or lease.world == 1:
        raise invalid(f"Lease {token} of job {job_id} is no live lease of a gang")
    return lease.group, lease.rank


def _sum(before: bytes, added: bytes) -> bytes:
    try:
        total = int(before) + int(added)
    except ValueError:
        raise invalid("rendezvous: ADD needs whole numbers") from None
    if abs(total) >= 2**63:
        raise invalid("rendezvous: the sum is out of bounds")
    return str(total).encode()
