"""The token by which a client reaches a job on its node: HS256, with a key that central shares with that node alone.

Central issues it (`Accounts.p2p_token`); the node checks it, and so does central before it passes a call on. Clients
treat it as opaque.
"""

from __future__ import annotations

from dataclasses import dataclass

import jwt

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.node import P2P_ISSUER
from cyxwiz.ports.clock import Clock

_TEXTS = ("sub", "job_id", "node_id")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: `owner_id` may reach `job_id` on `node_id` until `expires_at` (Unix seconds).

    With a reservation it is for all of the jobs of that one, which the node knows.
    """

    owner_id: str
    job_id: str
    node_id: str
    expires_at: int
    reservation_id: str = ""


def refused() -> CyxError:
    """The one answer to every token that won't do: which of its parts is wrong is told to nobody."""
    return CyxError(Code.UNAUTHENTICATED, "Invalid or expired auth token: ask central for a new one (GetJobStatus)")


def peek(token: str) -> str:
    """The node that a token names, unchecked: whose key it must be checked with. Raises UNAUTHENTICATED."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):
        raise refused() from None
    return str(claims.get("node_id", ""))


def check(token: str, secret: bytes, node_id: str, clock: Clock, job_id: str = "") -> Claims:
    """The claims of a token of that node, and of that job if one is named. Raises UNAUTHENTICATED."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            issuer=P2P_ISSUER,
            # Times are compared here, by the injected clock, without leeway.
            options={"require": ["exp", "iss"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.PyJWTError, ValueError):
        raise refused() from None
    expires = claims["exp"]
    reserved = claims.get("reservation_id", "")
    if not all(isinstance(each, str) for each in (*map(claims.get, _TEXTS), reserved)) or not isinstance(expires, int):
        raise refused()
    found = Claims(claims["sub"], claims["job_id"], claims["node_id"], expires, reserved)
    if found.node_id != node_id or (job_id and found.job_id != job_id) or expires <= clock.now().timestamp():
        raise refused()
    return found


def bearer(authorization: str) -> str:
    """The token of an `authorization` value. Raises UNAUTHENTICATED for none and for another scheme."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise CyxError(Code.UNAUTHENTICATED, "Missing credentials: send metadata 'authorization: Bearer <auth_token>'")
    return token.strip()
