"""How well two nodes reach each other, as they measured it when they met to train one job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cyxwiz.domain.ids import NodeId

FASTEST = 1e13  # bytes a second: more than any network carries
SLOWEST_TRIP = 3600.0  # seconds
VALID = timedelta(days=7)  # a figure that is older says nothing any more

Pair = tuple[NodeId, NodeId]  # the lower id first


@dataclass(frozen=True, slots=True)
class Link:
    """The last measurement between two nodes."""

    round_trip_seconds: float  # the shortest of several
    bytes_per_second: float  # of the slower direction
    measured_at: datetime


Links = Mapping[Pair, Link]


def pair(one: NodeId, other: NodeId) -> Pair:
    return (one, other) if one < other else (other, one)


def is_rate(bytes_per_second: float) -> bool:
    """Whether a network can be that fast; not for NaN and infinity."""
    return 0 < bytes_per_second < FASTEST


def is_trip(seconds: float) -> bool:
    """Whether a round trip can take so long; not for NaN and infinity."""
    return 0 < seconds < SLOWEST_TRIP
