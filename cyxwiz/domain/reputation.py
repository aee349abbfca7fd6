"""Reputation of nodes: pure rules.

A score from 0 to 100 that starts at 75. Each event moves it by a number of points; what it moved fades with a
half-life, so that the score drifts back to the start and recent events weigh more. With the points as applied

    score(t) = 75 + sum of delta · 2^(-(t - at) / half_life)

holds exactly, which is how a score is explained. (A clamp at 0 or 100 shortens the delta of the event that meets it.)

Where the numbers come from: start, tiers, clamp, strikes, the three bans and the state after one, and the deltas of
success, good metrics, free work, disconnect, time-out and complaint are those of the earlier system; so is -0.5 for a
failed run (its reservations' figure). Our own: a refused report counts as a disconnect, as the job must run again; a
result that fails verification counts as a complaint that proved true. What the job's owner or the network did costs
the node nothing; a node that goes silent is charged the time-out, because nobody can tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cyxwiz.domain.ids import JobId, NodeId, UserId

START = 75.0
LOWEST, HIGHEST = 0.0, 100.0
PREMIUM, NORMAL, PROBATION = 80.0, 50.0, 25.0  # the least score of each tier; below the last: banned
BANS = (timedelta(hours=24), timedelta(hours=48), timedelta(hours=168))  # the first, the second, any later one
WIDESPREAD = 3  # nodes that go silent at once, and are most of all, before it is central's own network
MAX_NOTE = 500


class Tier(StrEnum):
    PREMIUM = "premium"
    NORMAL = "normal"
    PROBATION = "probation"
    BANNED = "banned"


class Cause(StrEnum):
    """Whose doing it was."""

    NODE = "node"
    USER = "user"
    NETWORK = "network"
    OPERATOR = "operator"


class Kind(StrEnum):
    SUCCESS = "success"  # a result was taken
    GOOD_METRICS = "good_metrics"  # and its loss fell
    FREE_WORK = "free_work"  # within its free tier, for somebody else than its owner
    FAILURE = "failure"  # the run failed in a way that another node may not
    DISCONNECT = "disconnect"  # it left or restarted, and a run with it
    TIMEOUT = "timeout"  # it went silent while it held a job
    REFUSED = "refused"  # what it reported can't be
    UNVERIFIED = "unverified"  # its result is not what the work gives
    SLASHED = "slashed"  # part of its stake was set aside for that, lost or given back
    COMPLAINT = "complaint"  # from a user whose job it had
    USER_FAULT = "user_fault"  # the script, the data or the settings of the job
    UNREACHABLE = "unreachable"  # the job's data, by an address that its owner chose, or the index of its packages
    LOST_PEER = "lost_peer"  # another member of its gang went away
    OUTAGE = "outage"  # most nodes went silent at once
    BAN = "ban"
    UNBAN = "unban"


@dataclass(frozen=True, slots=True)
class Effect:
    cause: Cause
    points: float


EFFECTS: Mapping[Kind, Effect] = {
    Kind.SUCCESS: Effect(Cause.NODE, 1.0),
    Kind.GOOD_METRICS: Effect(Cause.NODE, 0.5),
    Kind.FREE_WORK: Effect(Cause.NODE, 2.0),
    Kind.FAILURE: Effect(Cause.NODE, -0.5),
    Kind.DISCONNECT: Effect(Cause.NODE, -5.0),
    Kind.TIMEOUT: Effect(Cause.NETWORK, -2.0),
    Kind.REFUSED: Effect(Cause.NODE, -5.0),
    Kind.UNVERIFIED: Effect(Cause.NODE, -10.0),
    Kind.SLASHED: Effect(Cause.NODE, 0.0),  # the result that it is for has its points
    Kind.COMPLAINT: Effect(Cause.NODE, -10.0),
    Kind.USER_FAULT: Effect(Cause.USER, 0.0),
    Kind.UNREACHABLE: Effect(Cause.NETWORK, 0.0),
    Kind.LOST_PEER: Effect(Cause.NETWORK, 0.0),
    Kind.OUTAGE: Effect(Cause.NETWORK, 0.0),
    Kind.BAN: Effect(Cause.OPERATOR, 0.0),
    Kind.UNBAN: Effect(Cause.OPERATOR, 0.0),  # its delta is what leads to the score after a ban
}


@dataclass(frozen=True, slots=True)
class ReputationEvent:
    """What a node did or what befell it, as whoever saw it says it."""

    kind: Kind
    job_id: JobId | None = None
    note: str = ""
    by: UserId | None = None  # who complained


@dataclass(frozen=True, slots=True)
class ReputationEntry:
    """An event as it was counted. `delta` is in points, as applied."""

    node_id: NodeId
    at: datetime
    kind: Kind
    cause: Cause
    delta: float
    job_id: JobId | None = None
    note: str = ""
    by: UserId | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's score as it was at `at` (None: nothing has moved it yet), its strikes, and its bans so far."""

    score: float = START
    at: datetime | None = None
    strikes: int = 0
    bans: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings reputation.…. `strikes` of 0: nobody is banned by rule."""

    half_life: timedelta = timedelta(days=7)
    strikes: int = 3

    def weight(self, at: datetime, now: datetime) -> float:
        """The share of an event of `at` that still counts, 0 to 1."""
        return math.exp2(-max(0.0, (now - at) / self.half_life))

    def present(self, standing: Standing, now: datetime) -> Standing:
        """The same standing with its score as it is now. Doing so twice changes nothing."""
        if standing.at is None or standing.at >= now:
            return standing
        score = START + (standing.score - START) * self.weight(standing.at, now)
        return replace(standing, score=score, at=now)

    def apply(self, standing: Standing, kind: Kind, now: datetime) -> tuple[Standing, float]:
        """The standing after an event, and the points that it took or gave.

        A fall from NORMAL or above to below it is a strike.
        """
        before = self.present(standing, now)
        score = min(HIGHEST, max(LOWEST, before.score + EFFECTS[kind].points))
        struck = before.score >= NORMAL > score
        after = replace(before, score=score, at=now, strikes=before.strikes + struck)
        return after, score - before.score

    def due(self, standing: Standing) -> timedelta | None:
        """How long the ban is that its strikes have earned, if they have."""
        if not self.strikes or standing.strikes < self.strikes:
            return None
        return BANS[min(standing.bans, len(BANS) - 1)]

    def pardoned(self, standing: Standing, now: datetime) -> tuple[Standing, float]:
        """The standing after a ban: the least of PROBATION, without strikes; and the points that lead there."""
        before = self.present(standing, now)
        return replace(before, score=PROBATION, at=now, strikes=0), PROBATION - before.score


def tier(score: float) -> Tier:
    if score >= PREMIUM:
        return Tier.PREMIUM
    if score >= NORMAL:
        return Tier.NORMAL
    return Tier.PROBATION if score >= PROBATION else Tier.BANNED


def fault(retryable: bool, *, by_script: bool = False) -> Kind:
    """Who made a run fail: one that no other node could do better is its owner's, and so is what the process of a
    script did, tried again or not: else anybody could lower a node's score by code that ends itself."""
    return Kind.FAILURE if retryable and not by_script else Kind.USER_FAULT


def good_metrics(first: Mapping[str, float], last: Mapping[str, float]) -> bool:
    """Whether a run learned: its last loss is finite and below the first one that it reported."""
    before, after = first.get("loss"), last.get("loss")
    return before is not None and after is not None and math.isfinite(after) and after < before


def widespread(silent: int, online: int) -> bool:
    """Whether so many of the nodes that count as online went silent at once that central's own network failed."""
    return silent >= WIDESPREAD and silent * 2 > online
