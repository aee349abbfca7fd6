"""The one error that crosses every boundary of the program.

An error says what is wrong and what to do next. Codes carry no transport numbers: `cyxwiz.wire` maps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """What kind of failure it is; the same word on every door."""

    INVALID = "INVALID"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"
    STALE = "STALE"
    FUNDS = "FUNDS"
    EXHAUSTED = "EXHAUSTED"
    UNSUPPORTED = "UNSUPPORTED"
    UNAVAILABLE = "UNAVAILABLE"
    TIMEOUT = "TIMEOUT"
    INTERNAL = "INTERNAL"


class CyxError(Exception):
    """A failure with a code, a sentence for a person and details for a program.

    Args:
        code: the kind of failure.
        message: what is wrong and what to do, without secrets.
        details: JSON-ready facts (ids, bounds, field names).
        retryable: whether the same call may succeed later without a change.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retryable = code in _RETRYABLE if retryable is None else retryable

    def __repr__(self) -> str:
        return f"CyxError({self.code}, {self.message!r})"


_RETRYABLE = frozenset({Code.EXHAUSTED, Code.UNAVAILABLE, Code.TIMEOUT})


def invalid(message: str, **details: Any) -> CyxError:
    return CyxError(Code.INVALID, message, details)


def meant(word: str, known: Iterable[str]) -> str:
    """What to append to a refusal of a name: which known one looks most like it, if any does."""
    from difflib import get_close_matches

    found = get_close_matches(word[:100], known, 1, 0.7)
    return f"; did you mean {found[0]}?" if found else ""


def not_found(kind: str, ident: str) -> CyxError:
    return CyxError(Code.NOT_FOUND, f"{kind.capitalize()} not found: {ident}", {"kind": kind, "id": ident})


def conflict(message: str, **details: Any) -> CyxError:
    return CyxError(Code.CONFLICT, message, details)


def forbidden(message: str, **details: Any) -> CyxError:
    return CyxError(Code.FORBIDDEN, message, details)


def stale(message: str, **details: Any) -> CyxError:
    return CyxError(Code.STALE, message, details)


def unsupported(message: str, **details: Any) -> CyxError:
    return CyxError(Code.UNSUPPORTED, message, details)
