"""Who may ask for what: a session is a token and a job, never an address.

A client proves itself with the token on every call. One that sends another credential as `authorization` (as clients of
the earlier system do, with their log-in) is known by it after a ConnectToNode that carried both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import parse_job_id
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.execution import Headers
from cyxwiz.services.p2p_tokens import Claims, bearer, check, refused

MAX_SESSIONS = 10_000
OWNER_SESSIONS = 256  # of one owner: the oldest go first, so that none shuts others out


@dataclass(slots=True)
class Session:
    """`jobs` are those that the client may reach: the token's, and the owner's next ones that it went on with. A token
    of a reservation reaches all jobs of that one."""

    claims: Claims
    token: str
    jobs: set[str] = field(default_factory=set[str])


class Sessions:
    def __init__(
        self, node_id: str, clock: Clock, reserved: Callable[[Claims, str], bool] = lambda claims, job_id: False
    ) -> None:
        """`reserved`: whether a job belongs to the reservation of a token."""
        self._node_id = node_id
        self._clock = clock
        self._reserved = reserved
        self._secret = b""
        self._sessions: dict[str, Session] = {}  # by the digest of the credential

    def share(self, secret: bytes) -> None:
        """The key that central shares with this node."""
        self._secret = secret

    def connect(self, token: str, job_id: str, authorization: str) -> Session:
        """Opens the session of a token for its job. Raises UNAUTHENTICATED, and UNAVAILABLE before central is met."""
        claims = self._check(token, job_id)
        if not job_id:
            raise refused()
        self._drop_expired()
        if len(self._sessions) >= MAX_SESSIONS:
            raise CyxError(Code.EXHAUSTED, "Too many sessions are open on this node; try again later")
        session = Session(claims, token, {claims.job_id, job_id})
        self._keep(_digest(token), session)
        other = authorization.partition(" ")[2].strip()
        if other and other != token:
            self._keep(_digest(f"{job_id} {other}"), session)
        return session

    def _keep(self, credential: str, session: Session) -> None:
        self._sessions.pop(credential, None)
        owner = session.claims.owner_id
        theirs = [key for key, each in self._sessions.items() if each.claims.owner_id == owner]
        for oldest in theirs[: max(0, len(theirs) + 1 - OWNER_SESSIONS)]:
            del self._sessions[oldest]
        self._sessions[credential] = session

    def admit(self, headers: Headers, job_id: str, *, connected: bool = False) -> Session:
        """The session of a call about a job. A valid token is enough, unless the call must come after ConnectToNode.

        Raises UNAUTHENTICATED, and INVALID for what is no job's id, which no other token would reach.
        """
        token = bearer(headers.authorization)
        known = self._sessions.get(_digest(token)) or self._sessions.get(_digest(f"{job_id} {token}"))
        if known is not None and (job_id in known.jobs or self._reserved(known.claims, job_id)):
            if known.claims.expires_at <= self._clock.now().timestamp():
                raise refused()
            return known
        if connected and known is None:
            raise CyxError(Code.UNAUTHENTICATED, "Not connected: call ConnectToNode with this token first")
        claims = self._check(token, "")
        if job_id != claims.job_id and not self._reserved(claims, job_id):
            parse_job_id(job_id)
            raise refused()
        return Session(claims, token, {claims.job_id, job_id})

    def job_of(self, headers: Headers) -> str:
        """The job that the call's token is for, where nothing else says it. Raises UNAUTHENTICATED."""
        token = bearer(headers.authorization)
        known = self._sessions.get(_digest(token))
        return known.claims.job_id if known is not None else self._check(token, "").job_id

    def caller(self, headers: Headers) -> str:
        """Who calls, by a token for any job on this node. Raises UNAUTHENTICATED."""
        return self._check(bearer(headers.authorization), "").owner_id

    def disconnect(self, headers: Headers) -> bool:
        """Closes the sessions of the call's credential; whether there was one."""
        token = bearer(headers.authorization)
        found = self._sessions.get(_digest(token)) or self._sessions.get(_digest(f"{headers.job_id} {token}"))
        for key in [key for key, session in self._sessions.items() if session is found]:
            del self._sessions[key]
        return found is not None

    def _check(self, token: str, job_id: str) -> Claims:
        if not self._secret:
            raise CyxError(Code.UNAVAILABLE, "This node has not met its central yet and can check no token")
        claims = check(token, self._secret, self._node_id, self._clock)
        if job_id and job_id != claims.job_id and not self._reserved(claims, job_id):
            raise refused()
        return claims

    def _drop_expired(self) -> None:
        now = self._clock.now().timestamp()
        for key in [key for key, session in self._sessions.items() if session.claims.expires_at <= now]:
            del self._sessions[key]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
