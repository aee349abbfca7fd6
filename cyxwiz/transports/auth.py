"""What every door does before it lets a request in: who is it, and how often."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from cyxwiz.config import RateLimit
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.services.accounts import Accounts

log = logging.getLogger(__name__)

LOGIN_NAMES = 10  # log-ins of one address, in all: so many times those of one name, since each costs a hash


class Guard:
    """Authenticates callers and holds them to their rate."""

    def __init__(self, accounts: Accounts, limits: RateLimit, *, max_streams: int) -> None:
        self.accounts = accounts
        self._limits = limits
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_second = RateLimitItemPerSecond(limits.requests_per_second)
        self._logins = RateLimitItemPerMinute(limits.logins_per_minute)
        self._all_logins = RateLimitItemPerMinute(limits.logins_per_minute * LOGIN_NAMES)
        self._streams: Counter[str] = Counter()
        self._max_streams = max_streams

    async def admit(self, authorization: str | None, peer: str, *, public: bool = False) -> Principal | None:
        """The caller; None for a public request without credentials.

        Raises:
            CyxError: UNAUTHENTICATED or EXHAUSTED.
        """
        bearer = bearer_of(authorization)
        if public and not bearer and not self.accounts.open:
            await self._hit(self._per_second, f"peer:{peer}")
            return None
        try:
            principal = await self.accounts.authenticate(bearer)
        except CyxError:
            await self._hit(self._per_second, f"peer:{peer}")
            raise
        await self._hit(self._per_second, f"caller:{principal.node_id or principal.id}")
        return principal

    async def admit_login(self, peer: str, name: object) -> None:
        """Log-ins have a pace of their own, by name: passwords are not to be guessed, and behind one address, such as a
        proxy's, one stranger's guesses don't shut out everybody."""
        await self._hit(self._logins, f"login:{peer}:{str(name)[:64]}")
        await self._hit(self._all_logins, f"login:{peer}")

    async def admit_sign_up(self, peer: str) -> None:
        """For who makes a user without credentials."""
        await self._hit(self._logins, f"sign-up:{peer}")

    async def _hit(self, item: Any, key: str) -> None:
        if self._limits.enabled and not await self._limiter.hit(item, key):
            raise CyxError(Code.EXHAUSTED, f"Too many requests: at most {item}; wait a little", {"limit": str(item)})

    @contextmanager
    def stream(self, key: str) -> Generator[None]:
        """Counts an open stream of one caller."""
        if self._streams[key] >= self._max_streams:
            raise CyxError(Code.EXHAUSTED, f"You have {self._max_streams} streams open; close some first")
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]


def bearer_of(authorization: str | None) -> str | None:
    """The token of an Authorization value. Raises UNAUTHENTICATED for another scheme."""
    if not authorization:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise CyxError(Code.UNAUTHENTICATED, "Invalid authorization scheme, expected Bearer")
    return token.strip()


def internal(error: BaseException, door: str) -> CyxError:
    """What a caller is told of an error nobody foresaw: an id under which the log has it, never its text."""
    ident = uuid.uuid4().hex[:12]
    log.error("internal error %s at %s", ident, door, exc_info=error)
    return CyxError(Code.INTERNAL, f"Internal error {ident}: the log of central has it under this id", {"id": ident})
