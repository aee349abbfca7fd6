"""`Relay`: central passes calls of `JobExecutionService` on to nodes that clients can't reach, over the nodes' streams.

It is a `ports.execution.Execution`. The token decides which node a call goes to; it is checked here, and again at the
node. A client that shows another credential as `authorization` (as clients of the earlier system do, with their log-in)
is known by it after a ConnectToNode that carried both, here as at the node.
Bounds: MAX_CALLS a node, CALLS_OF_JOB a job, MAX_LOGINS, OWNER_LOGINS an owner, and those of `Call`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.execution import Headers
from cyxwiz.protocol import execution_pb2
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.in_band import disconnected, not_connected, not_sent
from cyxwiz.services.p2p_tokens import Claims, bearer, check, peek
from cyxwiz.services.relayed_call import Call, Send
from cyxwiz.services.secrets import Secrets

log = logging.getLogger(__name__)

MAX_CALLS = 256
CALLS_OF_JOB = 16
MAX_LOGINS, OWNER_LOGINS = 10_000, 256
CONNECT = "ConnectToNode"
_METHODS = execution_pb2.DESCRIPTOR.services_by_name["JobExecutionService"].methods_by_name


class Logins:
    """The jobs of credentials that are no tokens, by their digests. The oldest go first, of an owner's and of all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], Claims] = {}  # by credential and job

    def learn(self, credential: str, job_id: str, claims: Claims) -> None:
        now = self._clock.now().timestamp()
        self._known = {key: known for key, known in self._known.items() if known.expires_at > now}
        self._known.pop(place := (_digest(credential), job_id or claims.job_id), None)
        theirs = [key for key, known in self._known.items() if known.owner_id == claims.owner_id]
        for oldest in theirs[: max(0, len(theirs) + 1 - OWNER_LOGINS)]:
            del self._known[oldest]
        while len(self._known) >= MAX_LOGINS:
            del self._known[next(iter(self._known))]
        self._known[place] = claims

    def find(self, credential: str, job_id: str) -> Claims | None:
        known = self._known.get((_digest(credential), job_id))
        return known if known is not None and known.expires_at > self._clock.now().timestamp() else None


class RelayLink:
    """The calls that go over one node's stream."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.calls: dict[int, Call] = {}
        self.of_job: Counter[str] = Counter()
        self.last = 0

    def receive(self, frame: pb.Relay) -> None:
        """A frame from the node. A call that is over already is passed by; a broken one is ended."""
        call = self.calls.get(frame.call)
        if call is None:
            return
        try:
            call.receive(frame)
        except CyxError as error:
            call.end(error)

    def close(self) -> None:
        """The node's stream is gone, and its calls with it."""
        for call in self.calls.values():
            call.end(CyxError(Code.UNAVAILABLE, "The node's connection to central was cut: connect again"))


class Relay:
    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock
        self._links: dict[str, RelayLink] = {}
        self._logins = Logins(clock)

    def attach(self, node_id: str, send: Send) -> RelayLink:
        """The node's stream is there; `detach` when it goes."""
        link = self._links[node_id] = RelayLink(send)
        return link

    def detach(self, node_id: str, link: RelayLink) -> None:
        link.close()
        if self._links.get(node_id) is link:
            del self._links[node_id]

    async def serve(self, method: str, requests: AsyncIterator[bytes], headers: Headers) -> AsyncIterator[bytes]:
        """Passes a call on. Raises UNAUTHENTICATED, UNAVAILABLE where the node is not connected here, EXHAUSTED."""
        first = None if _METHODS[method].client_streaming else await anext(requests, None)
        try:
            claims = self._claims(method, first, headers)
        except CyxError as error:
            yield _in_band(method, headers, error)
            return
        link = self._links.get(claims.node_id)
        if link is None:
            raise CyxError(Code.UNAVAILABLE, f"Node {claims.node_id} is not connected to this central now")
        async with aclosing(self._pass_on(link, claims, method, first, requests, headers)) as answers:
            async for answer in answers:
                yield answer

    def _claims(self, method: str, first: bytes | None, headers: Headers) -> Claims:
        """What the caller may reach. Raises UNAUTHENTICATED."""
        if method == CONNECT:
            token = _read(method, first, "auth_token")
            claims, shown = self._check(token), headers.authorization.partition(" ")[2].strip()
            if shown not in ("", token):
                self._logins.learn(shown, _read(method, first, "job_id"), claims)
            return claims
        token = bearer(headers.authorization)
        try:
            return self._check(token)
        except CyxError:
            job_id = headers.job_id or _read(method, first, "job_id")
            if (known := self._logins.find(token, job_id)) is None:
                raise
            return known

    def _check(self, token: str) -> Claims:
        node_id = peek(token)
        return check(token, self._secrets.p2p_for(node_id, legacy=False), node_id, self._clock)

    async def _pass_on(
        self,
        link: RelayLink,
        claims: Claims,
        method: str,
        first: bytes | None,
        requests: AsyncIterator[bytes],
        headers: Headers,
    ) -> AsyncGenerator[bytes]:
        if len(link.calls) >= MAX_CALLS or link.of_job[claims.job_id] >= CALLS_OF_JOB:
            raise CyxError(Code.EXHAUSTED, "Too many calls are relayed to this node; end some first")
        link.last += 1
        call = link.calls[link.last] = Call(link.last, link.send)
        link.of_job[claims.job_id] += 1
        tasks = Tasks()
        try:
            opening = pb.RelayOpen(method=method, authorization=headers.authorization, job_id=headers.job_id)
            await link.send(pb.Relay(call=call.number, open=opening))
            spawn(_pump(call, first, requests), name=f"relay {method}", group=tasks)
            async for answer in call.messages():
                yield answer
        finally:
            link.calls.pop(call.number, None)
            link.of_job[claims.job_id] -= 1
            if not link.of_job[claims.job_id]:
                del link.of_job[claims.job_id]
            await tasks.aclose()
            await _leave(call)


async def _pump(call: Call, first: bytes | None, requests: AsyncIterator[bytes]) -> None:
    """The client's messages, to the node. What goes wrong there ends the call."""
    try:
        if first is not None:
            await call.write(first)
        async for request in requests:
            await call.write(request)
        await call.half_close()
    except CyxError as error:
        if not call.over:
            log.info("a relayed call ends: %s", error.message)
            call.end(error)


async def _leave(call: Call) -> None:
    try:
        await call.tell_end(CyxError(Code.UNAVAILABLE, "The client is gone"))
    except CyxError as error:
        log.debug("the node was not told of the end of a call: %s", error.message)


def _read(method: str, first: bytes | None, field: str) -> str:
    """A field of a request's first message; nothing where it has none of that name."""
    kind = _METHODS[method].input_type
    if first is None or field not in kind.fields_by_name:
        return ""
    try:
        return str(getattr(GetMessageClass(kind).FromString(first), field))
    except DecodeError:
        raise invalid("The request's bytes are no protobuf message of the expected type") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_band(method: str, headers: Headers, error: CyxError) -> bytes:
    """What the node itself answers to a token that won't do. Raises `error` where it answers by a status."""
    if error.code is Code.UNAUTHENTICATED:
        if method == CONNECT:
            return not_connected(error).SerializeToString()
        if method == "SendJob":
            return not_sent(error).SerializeToString()
        if method == "DisconnectFromNode":
            bearer(headers.authorization)
            return disconnected(found=False).SerializeToString()
    raise error
