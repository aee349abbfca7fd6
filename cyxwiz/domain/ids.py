"""Identifiers. All are UUIDs as text; a malformed one is INVALID before anything is looked up."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NewType

from cyxwiz.domain.errors import CyxError, invalid

JobId = NewType("JobId", str)
NodeId = NewType("NodeId", str)
UserId = NewType("UserId", str)
ReservationId = NewType("ReservationId", str)


_source: ContextVar[Callable[[], uuid.UUID]] = ContextVar("id_source", default=uuid.uuid4)


def new_id() -> str:
    """A fresh UUID as text."""
    return str(_source.get()())


@contextmanager
def ids_from(source: Callable[[], uuid.UUID]) -> Generator[None]:
    """Takes new ids from `source` in this context and the tasks it starts, so that a simulation can be replayed."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def parse_uuid(kind: str, text: str, field: str = "") -> str:
    """The canonical text of a UUID.

    Args:
        field: the key of a job file that holds it, if one does.

    Raises:
        CyxError: INVALID, naming the field, the kind of thing and the text.
    """
    try:
        if len(text) > 64:
            raise ValueError
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        where, details = (f"{field}: ", {"field": field}) if field else ("", {})
        message = f"{where}Invalid {kind} ID: {str(text)[:64]!r} is not a UUID"
        raise invalid(message, kind=kind, **details) from None


def parse_job_id(text: str, field: str = "") -> JobId:
    return JobId(parse_uuid("job", text, field))


def parse_engine_job_id(text: str) -> str:
    """A job's id as the engine of a reservation tells it: also a reservation's with `_` and Unix seconds, as those of
    the earlier system make one for each further job. Raises INVALID."""
    ident, mark, seconds = text.partition("_")
    if mark and not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 20):
        raise invalid(f"Invalid job ID: {text[:64]!r} is not a UUID", kind="job")
    return parse_job_id(ident) + mark + seconds


def engine_job(text: str) -> str:
    """The id of the job that an engine names: of its own name for a further job a UUID, the same for the same name.
    What is no id is as it was."""
    try:
        ident, mark, seconds = parse_engine_job_id(text).partition("_")
    except CyxError:
        return text
    return str(uuid.uuid5(uuid.UUID(ident), seconds)) if mark else ident


def parse_node_id(text: str) -> NodeId:
    return NodeId(parse_uuid("node", text))


def parse_reservation_id(text: str, field: str = "") -> ReservationId:
    return ReservationId(parse_uuid("reservation", text, field))


def parse_user_id(text: str) -> UserId:
    return UserId(parse_uuid("user", text))


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """A fencing token. The epoch rises when a store is restored from a backup, the counter with each lease."""

    epoch: int
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.counter}"
