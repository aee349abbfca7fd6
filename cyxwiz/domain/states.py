"""Every state machine of the platform, as tables. `advance` is the only way to move."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from cyxwiz.domain.errors import Code, CyxError


class JobState(StrEnum):
    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobTrigger(StrEnum):
    LEASE = "lease"  # the placer gave it to a node
    ACCEPT = "accept"  # the child is up
    DECLINE = "decline"  # the node would not take it
    LOSE = "lose"  # the node went silent, or lost the run
    REVIVE = "revive"  # the silent node spoke again before anybody else got the job
    RETRY = "retry"  # the run failed in a way that another may not
    YIELD = "yield"  # the node saved a checkpoint and gave it back: asked to, or for its owner
    PAUSE = "pause"  # its owner set it aside
    RESUME = "resume"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


class LeaseState(StrEnum):
    OFFERED = "offered"
    ACTIVE = "active"
    EXPIRED = "expired"
    ENDED = "ended"


class LeaseTrigger(StrEnum):
    ACCEPT = "accept"
    EXPIRE = "expire"
    REVIVE = "revive"
    END = "end"


class NodeState(StrEnum):
    OFFLINE = "offline"
    ONLINE = "online"
    BANNED = "banned"


class NodeTrigger(StrEnum):
    CONNECT = "connect"
    LOSE = "lose"
    BAN = "ban"
    UNBAN = "unban"


class PaymentState(StrEnum):
    PENDING = "pending"  # promised, not yet on the ledger
    LOCKED = "locked"
    STREAMING = "streaming"  # some of it was paid out
    COMPLETED = "completed"  # over; the node has its pay and the client the rest
    REFUNDED = "refunded"  # over; the client has all of it
    FAILED = "failed"  # never locked


class PaymentTrigger(StrEnum):
    LOCK = "lock"
    PAY = "pay"
    SETTLE = "settle"
    REFUND = "refund"
    FAIL = "fail"


class ReservationState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


class ReservationTrigger(StrEnum):
    CONNECT = "connect"  # its engine was heard for the first time
    COMPLETE = "complete"  # both sides say that it is over
    CANCEL = "cancel"  # its owner gave the node back
    EXPIRE = "expire"  # its time is over
    FAIL = "fail"  # the node went away, or the money was not there


_J, _T = JobState, JobTrigger
JOB: Mapping[tuple[JobState, JobTrigger], JobState] = {
    (_J.PENDING, _T.LEASE): _J.ASSIGNED,
    (_J.PENDING, _T.CANCEL): _J.CANCELLED,
    (_J.PENDING, _T.FAIL): _J.FAILED,  # its owner's limits ran out while it waited
    (_J.PENDING, _T.REVIVE): _J.RUNNING,
    (_J.PENDING, _T.PAUSE): _J.PAUSED,
    (_J.ASSIGNED, _T.ACCEPT): _J.RUNNING,
    (_J.ASSIGNED, _T.DECLINE): _J.PENDING,
    (_J.ASSIGNED, _T.LOSE): _J.PENDING,
    (_J.ASSIGNED, _T.RETRY): _J.PENDING,
    (_J.ASSIGNED, _T.YIELD): _J.PENDING,
    (_J.ASSIGNED, _T.PAUSE): _J.PAUSED,
    (_J.ASSIGNED, _T.COMPLETE): _J.COMPLETED,  # an earlier kind of node may report only the end
    (_J.ASSIGNED, _T.FAIL): _J.FAILED,
    (_J.ASSIGNED, _T.CANCEL): _J.CANCELLED,
    (_J.RUNNING, _T.LOSE): _J.PENDING,
    (_J.RUNNING, _T.RETRY): _J.PENDING,
    (_J.RUNNING, _T.YIELD): _J.PENDING,
    (_J.RUNNING, _T.PAUSE): _J.PAUSED,
    (_J.RUNNING, _T.COMPLETE): _J.COMPLETED,
    (_J.RUNNING, _T.FAIL): _J.FAILED,
    (_J.RUNNING, _T.CANCEL): _J.CANCELLED,
    (_J.PAUSED, _T.RESUME): _J.PENDING,
    (_J.PAUSED, _T.CANCEL): _J.CANCELLED,
}

_L, _M = LeaseState, LeaseTrigger
LEASE: Mapping[tuple[LeaseState, LeaseTrigger], LeaseState] = {
    (_L.OFFERED, _M.ACCEPT): _L.ACTIVE,
    (_L.OFFERED, _M.EXPIRE): _L.EXPIRED,
    (_L.OFFERED, _M.END): _L.ENDED,
    (_L.ACTIVE, _M.EXPIRE): _L.EXPIRED,
    (_L.ACTIVE, _M.END): _L.ENDED,
    (_L.EXPIRED, _M.REVIVE): _L.ACTIVE,
    (_L.EXPIRED, _M.END): _L.ENDED,
}

_N, _O = NodeState, NodeTrigger
NODE: Mapping[tuple[NodeState, NodeTrigger], NodeState] = {
    (_N.OFFLINE, _O.CONNECT): _N.ONLINE,
    (_N.ONLINE, _O.CONNECT): _N.ONLINE,  # it came back before it was missed
    (_N.ONLINE, _O.LOSE): _N.OFFLINE,
    (_N.OFFLINE, _O.BAN): _N.BANNED,
    (_N.ONLINE, _O.BAN): _N.BANNED,
    (_N.BANNED, _O.UNBAN): _N.OFFLINE,
}

_P, _Q = PaymentState, PaymentTrigger
PAYMENT: Mapping[tuple[PaymentState, PaymentTrigger], PaymentState] = {
    (_P.PENDING, _Q.LOCK): _P.LOCKED,
    (_P.PENDING, _Q.FAIL): _P.FAILED,
    (_P.LOCKED, _Q.PAY): _P.STREAMING,
    (_P.LOCKED, _Q.SETTLE): _P.COMPLETED,
    (_P.LOCKED, _Q.REFUND): _P.REFUNDED,
    (_P.STREAMING, _Q.PAY): _P.STREAMING,
    (_P.STREAMING, _Q.SETTLE): _P.COMPLETED,
}

_R, _V = ReservationState, ReservationTrigger
RESERVATION: Mapping[tuple[ReservationState, ReservationTrigger], ReservationState] = {
    (_R.PENDING, _V.CONNECT): _R.ACTIVE,
    (_R.PENDING, _V.COMPLETE): _R.COMPLETED,
    (_R.PENDING, _V.CANCEL): _R.CANCELLED,
    (_R.PENDING, _V.EXPIRE): _R.EXPIRED,
    (_R.PENDING, _V.FAIL): _R.FAILED,
    (_R.ACTIVE, _V.COMPLETE): _R.COMPLETED,
    (_R.ACTIVE, _V.CANCEL): _R.CANCELLED,
    (_R.ACTIVE, _V.EXPIRE): _R.EXPIRED,
    (_R.ACTIVE, _V.FAIL): _R.FAILED,
}

TABLES: Mapping[str, tuple[Mapping[Any, StrEnum], StrEnum]] = {
    "job": (JOB, JobState.PENDING),
    "lease": (LEASE, LeaseState.OFFERED),
    "node": (NODE, NodeState.OFFLINE),
    "payment": (PAYMENT, PaymentState.PENDING),
    "reservation": (RESERVATION, ReservationState.PENDING),
}

TERMINAL_JOB_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
HELD_JOB_STATES = frozenset({JobState.ASSIGNED, JobState.RUNNING})
OPEN_PAYMENT_STATES = frozenset({PaymentState.PENDING, PaymentState.LOCKED, PaymentState.STREAMING})
LIVE_LEASE_STATES = frozenset({LeaseState.OFFERED, LeaseState.ACTIVE})
LIVE_RESERVATION_STATES = frozenset({ReservationState.PENDING, ReservationState.ACTIVE})


_S = TypeVar("_S", bound=StrEnum)
_G = TypeVar("_G", bound=StrEnum)


def advance(table: Mapping[tuple[_S, _G], _S], state: _S, trigger: _G, *, subject: str) -> _S:
    """The state after `trigger`.

    Raises:
        CyxError: CONFLICT for a pair that the table does not have.
    """
    try:
        return table[state, trigger]
    except KeyError:
        raise CyxError(
            Code.CONFLICT,
            f"{subject} is {state}: it cannot {trigger}",
            {"state": str(state), "trigger": str(trigger)},
        ) from None
