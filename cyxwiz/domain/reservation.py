"""Reservations: a node kept free for one owner, for a while, at a price fixed at its start.

Instants are aware UTC, amounts integer units. The rule of payment: the time that was used, rounded up to the whole
minute, is paid and the rest goes back, so that `paid + refunded` is what was locked, to the unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cyxwiz.domain.errors import conflict, invalid
from cyxwiz.domain.ids import NodeId, ReservationId, UserId
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.node import Node
from cyxwiz.domain.states import (
    LIVE_RESERVATION_STATES,
    RESERVATION,
    ReservationState,
    ReservationTrigger,
    advance,
)

MIN_MINUTES = 10
MAX_MINUTES = 1440  # at a time, and of what may lie ahead after an extension
LONGEST = timedelta(days=29)  # from its start to its end, all extensions included
MONEY_STAYS = timedelta(days=30)  # from its start, after which its owner can take back what was not paid out of it
ENGINE_PATIENCE = timedelta(seconds=90)  # three of an engine's heartbeats
TOKEN_STAYS = timedelta(seconds=300)  # after the end, for which a token still lets its owner fetch weights
EXTEND_BELOW = timedelta(seconds=300)  # of time left, below which an engine that trains is told to extend
MINUTE = timedelta(minutes=1)
NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the locked amount is divided: `paid` = `fee` + `node`, and `paid` + `refunded` = what was locked."""

    paid: int
    fee: int
    node: int
    refunded: int


@dataclass(frozen=True, slots=True)
class Reservation:
    id: ReservationId
    owner_id: UserId
    node_id: NodeId
    user_wallet: str  # as its owner named it; empty: only the account counts
    node_wallet: str
    started_at: datetime
    minutes: int  # all that was reserved, extensions included
    rate_units_per_hour: int
    fee_percent: int
    state: ReservationState = ReservationState.PENDING
    held: bool = False  # the amount is locked, or needs no locking
    escrow_account: str = ""  # empty: no ledger holds anything
    escrow_tx_hash: str = ""
    extensions: int = 0
    heard_at: datetime | None = None  # the engine's last heartbeat
    current_job_id: str = ""  # as the engine said last
    job_progress: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    reported_jobs: tuple[str, ...] = ()  # that a node of the earlier kind brought to an end
    proven_at: datetime | None = None  # when the last of those was completed
    engine_ended_at: datetime | None = None  # its side said that it is over
    node_ended_at: datetime | None = None
    node_lost_at: datetime | None = None  # the node is away since then, and nobody was there to miss it
    away_seconds: float = 0.0  # for which the node was away before and came back: not used, not paid
    ended_at: datetime | None = None
    end_reason: str = ""
    used_seconds: float = 0.0  # filled at the end, as the next two
    paid_units: int = 0
    refunded_units: int = 0
    payment_tx_hash: str = ""
    refund_tx_hash: str = ""
    charged: bool = False  # a ledger moved the money
    settled_at: datetime | None = None  # what the end owes is done
    version: int = 0

    @property
    def ends_at(self) -> datetime:
        return self.started_at + self.minutes * MINUTE

    @property
    def deadline(self) -> datetime:
        """Of every lock of it, so that none can be taken back before its end is paid for: it has a day for that."""
        return self.started_at + MONEY_STAYS

    @property
    def live(self) -> bool:
        return self.state in LIVE_RESERVATION_STATES

    @property
    def ending(self) -> bool:
        """One side said that it is over, the other has not."""
        return self.live and (self.engine_ended_at is not None or self.node_ended_at is not None)

    @property
    def escrow_units(self) -> int:
        return cost_units(self.rate_units_per_hour, self.minutes)

    @property
    def settlement(self) -> Settlement:
        """The division that was written down at its end."""
        return divided(self.escrow_units, self.paid_units, self.fee_percent)

    def over(self, now: datetime) -> bool:
        return now >= self.ends_at

    def remaining(self, now: datetime) -> timedelta:
        return max(NOTHING, self.ends_at - now) if self.live else NOTHING

    def connected(self, now: datetime) -> bool:
        """Whether its engine was heard lately."""
        return self.live and self.heard_at is not None and now - self.heard_at <= ENGINE_PATIENCE

    def used(self, at: datetime) -> timedelta:
        """The time that counts as used at an instant: up to the end, to what either side called the end, and to the
        loss of the node."""
        stops = (self.ends_at, self.engine_ended_at, self.node_ended_at, self.node_lost_at)
        until = min(at, *(stop for stop in stops if stop is not None))
        return max(NOTHING, until - self.started_at - timedelta(seconds=self.away_seconds))

    def proven(self, at: datetime) -> timedelta:
        """Of the used time, what led to the last completed job: all that a node that went away has earned."""
        return NOTHING if self.proven_at is None else min(self.used(at), self.used(self.proven_at))

    def move(self, trigger: ReservationTrigger, **changes: object) -> Reservation:
        state = advance(RESERVATION, self.state, trigger, subject=f"Reservation {self.id}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]

    def end(self, trigger: ReservationTrigger, at: datetime, used: timedelta, reason: str) -> Reservation:
        """Its end, with the amounts that follow from the used time."""
        division = settle(self.rate_units_per_hour, self.minutes, minutes_of(used), self.fee_percent)
        return self.move(
            trigger,
            ended_at=at,
            end_reason=reason[:500],
            used_seconds=used.total_seconds(),
            paid_units=division.paid,
            refunded_units=division.refunded,
        )


def check_minutes(minutes: int) -> None:
    """Raises INVALID."""
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise invalid(
            f"duration_minutes: must be from {MIN_MINUTES} to {MAX_MINUTES}, not {minutes}",
            field="duration_minutes",
            minimum=MIN_MINUTES,
            maximum=MAX_MINUTES,
        )


def extended(reservation: Reservation, minutes: int, now: datetime) -> Reservation:
    """With so many minutes more. Raises INVALID out of bounds, and where too much time would lie ahead."""
    if not 1 <= minutes <= MAX_MINUTES:
        raise invalid(f"additional_minutes: must be from 1 to {MAX_MINUTES}, not {minutes}", field="additional_minutes")
    longer = replace(reservation, minutes=reservation.minutes + minutes, extensions=reservation.extensions + 1)
    if longer.ends_at - now > MAX_MINUTES * MINUTE:
        left = math.ceil(reservation.remaining(now) / MINUTE)
        raise invalid(
            f"additional_minutes: {left} minutes are left and {minutes} more would be past {MAX_MINUTES}, the most "
            "that may lie ahead",
            field="additional_minutes",
        )
    if longer.ends_at - longer.started_at > LONGEST:
        most = LONGEST // MINUTE - reservation.minutes
        raise invalid(
            f"additional_minutes: {most} minutes more would make this reservation {LONGEST.days} days long, the most "
            "that one can be, as its money can be taken back later: release it then and reserve anew",
            field="additional_minutes",
            most=most,
        )
    check_amount(longer.rate_units_per_hour, longer.minutes)
    return longer


def hourly_rate(node: Node) -> int:
    """Units an hour: the price that the node shows to everybody, exactly.

    Raises:
        CyxError: CONFLICT for a price that no amount can hold.
    """
    units = node.price().per_hour_units
    if units * 24 > MAX_UNITS:
        asked = f"{format_cyxwiz(units)} CYXWIZ an hour"
        raise conflict(f"Node {node.id} asks {asked}, which can't be paid: take another node")
    return units


def check_amount(rate_units_per_hour: int, minutes: int) -> None:
    """Raises INVALID where the price of so much time is more than an amount can hold."""
    if cost_units(rate_units_per_hour, minutes) > MAX_UNITS:
        raise invalid(f"{minutes} minutes at this price are more than {MAX_UNITS} units", field="minutes")


def cost_units(rate_units_per_hour: int, minutes: int) -> int:
    """floor(rate · minutes / 60), as the earlier system's int(price · minutes / 60 · 10^9)."""
    return rate_units_per_hour * minutes // 60


def minutes_of(used: timedelta) -> int:
    """Whole minutes, begun ones counted."""
    return -(-used // MINUTE)


def settle(rate_units_per_hour: int, minutes: int, used_minutes: int, fee_percent: int) -> Settlement:
    """The division of what is locked for `minutes` after `used_minutes` of them."""
    paid = cost_units(rate_units_per_hour, max(0, min(used_minutes, minutes)))
    return divided(cost_units(rate_units_per_hour, minutes), paid, fee_percent)


def divided(locked: int, paid: int, fee_percent: int) -> Settlement:
    """fee = floor(paid · percent / 100), the node has the rest of what is paid: 999 at 10 % are 99 and 900."""
    fee = paid * fee_percent // 100
    return Settlement(paid, fee, paid - fee, locked - paid)
