"""Requests that are sent again: the same key and content get the first answer, other content is a CONFLICT."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cyxwiz.domain.errors import Code, CyxError, conflict
from cyxwiz.ports.store import Tx

MAX_KEY = 200


@dataclass(frozen=True, slots=True)
class Repeats:
    """One request. `scope` says what it is and whose, `content` what it asks; without a `key` nothing is kept. `what`
    the key is, for who used it twice."""

    scope: str
    key: str
    content: str
    what: str = "idempotency key"

    def __post_init__(self) -> None:
        if len(self.key) > MAX_KEY:
            field = {"field": "idempotency-key"}
            raise CyxError(Code.INVALID, f"idempotency-key: at most {MAX_KEY} characters", field)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    def answered(self, tx: Tx) -> str | None:
        """What it was answered before; None for a new one. Raises CONFLICT for a key of another request."""
        seen = tx.remembered(self.scope, self.key) if self.key else None
        if seen is None:
            return None
        if seen[0] != self._digest:
            raise conflict(f"This {self.what} was used for something else; take a new one", key=self.key)
        return seen[1]

    def keep(self, tx: Tx, answer: str) -> None:
        """Keeps the answer. Raises EXISTS, for the whole unit, when the same request was faster."""
        if self.key:
            tx.remember(self.scope, self.key, self._digest, answer)
