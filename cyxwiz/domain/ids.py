"""Identifiers. All are UUIDs as text; a malformed one is INVALID before anything is looked up."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import NewType

from cyxwiz.domain.errors import invalid

JobId = NewType("JobId", str)
NodeId = NewType("NodeId", str)
UserId = NewType("UserId", str)


def parse_uuid(kind: str, text: str) -> str:
    """The canonical text of a UUID.

    Raises:
        CyxError: INVALID, naming the kind of thing and the text.
    """
    try:
        if len(text) > 64:
            raise ValueError
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        raise invalid(f"Invalid {kind} ID: {str(text)[:64]!r} is not a UUID", kind=kind) from None


def parse_job_id(text: str) -> JobId:
    return JobId(parse_uuid("job", text))


def parse_node_id(text: str) -> NodeId:
    return NodeId(parse_uuid("node", text))


def parse_user_id(text: str) -> UserId:
    return UserId(parse_uuid("user", text))


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """A fencing token. The epoch rises when a store is restored from a backup, the counter with each lease."""

    epoch: int
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.counter}"
