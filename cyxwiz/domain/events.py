"""Facts, in the past tense. Each is stored with a sequence number in the commit that made it true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base. `kind` is its name on every door; `topic` the thing it is about."""

    kind: ClassVar[str]

    @property
    def topics(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def hints(self) -> tuple[str, ...]:
        """Who is woken by it."""
        return self.topics

    def data(self) -> dict[str, Any]:
        """All fields, which are plain values."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    job_id: str
    owner_id: str

    @property
    def topics(self) -> tuple[str, ...]:
        return ("jobs", f"job:{self.job_id}")


@dataclass(frozen=True, slots=True)
class JobSubmitted(JobEvent):
    kind: ClassVar[str] = "job.submitted"
    name: str = ""


@dataclass(frozen=True, slots=True)
class JobAssigned(JobEvent):
    kind: ClassVar[str] = "job.assigned"
    node_id: str = ""
    token: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class JobStarted(JobEvent):
    kind: ClassVar[str] = "job.started"
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class JobRequeued(JobEvent):
    kind: ClassVar[str] = "job.requeued"
    node_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobRevived(JobEvent):
    kind: ClassVar[str] = "job.revived"
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class JobCheckpointed(JobEvent):
    kind: ClassVar[str] = "job.checkpointed"
    node_id: str = ""
    number: int = 0
    epoch: int = 0
    step: int = 0

    @property
    def hints(self) -> tuple[str, ...]:
        """Those who watch, and not who settles: it moves no money."""
        return ("progress", f"job:{self.job_id}")


@dataclass(frozen=True, slots=True)
class JobPreempted(JobEvent):
    """It was asked to save itself and leave its node: by `scheduler`, or by that user."""

    kind: ClassVar[str] = "job.preempted"
    node_id: str = ""
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobPaused(JobEvent):
    kind: ClassVar[str] = "job.paused"
    by: str = ""


@dataclass(frozen=True, slots=True)
class JobResumed(JobEvent):
    kind: ClassVar[str] = "job.resumed"
    by: str = ""


@dataclass(frozen=True, slots=True)
class JobPayment(JobEvent):
    """`step`: lock, assign, pay, settle, refund, fail. Amounts are CYXWIZ in all, fees included."""

    kind: ClassVar[str] = "job.payment"
    payment_id: str = ""
    step: str = ""
    reference: str = ""
    amount: str = ""
    paid: str = ""
    refunded: str = ""


@dataclass(frozen=True, slots=True)
class JobFundsLow(JobEvent):
    """Four fifths of what is locked for the job are earned."""

    kind: ClassVar[str] = "job.funds_low"
    amount: str = ""
    earned: str = ""


@dataclass(frozen=True, slots=True)
class JobCompleted(JobEvent):
    kind: ClassVar[str] = "job.completed"
    node_id: str = ""
    weights_hash: str = ""


@dataclass(frozen=True, slots=True)
class JobVerified(JobEvent):
    kind: ClassVar[str] = "job.verified"
    outcome: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobFailed(JobEvent):
    kind: ClassVar[str] = "job.failed"
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobCancelled(JobEvent):
    kind: ClassVar[str] = "job.cancelled"
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobDeleted(JobEvent):
    kind: ClassVar[str] = "job.deleted"


@dataclass(frozen=True, slots=True)
class NodeEvent(Event):
    node_id: str
    name: str

    @property
    def topics(self) -> tuple[str, ...]:
        return ("nodes", f"node:{self.node_id}")


@dataclass(frozen=True, slots=True)
class NodeJoined(NodeEvent):
    kind: ClassVar[str] = "node.joined"


@dataclass(frozen=True, slots=True)
class NodeCameOnline(NodeEvent):
    kind: ClassVar[str] = "node.online"


@dataclass(frozen=True, slots=True)
class NodeWentOffline(NodeEvent):
    kind: ClassVar[str] = "node.offline"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeCordoned(NodeEvent):
    kind: ClassVar[str] = "node.cordoned"


@dataclass(frozen=True, slots=True)
class NodeUncordoned(NodeEvent):
    kind: ClassVar[str] = "node.uncordoned"


@dataclass(frozen=True, slots=True)
class NodeBanned(NodeEvent):
    kind: ClassVar[str] = "node.banned"
    until: str = ""


@dataclass(frozen=True, slots=True)
class NodeUnbanned(NodeEvent):
    kind: ClassVar[str] = "node.unbanned"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeHardwareChanged(NodeEvent):
    kind: ClassVar[str] = "node.hardware"
    changes: str = ""


@dataclass(frozen=True, slots=True)
class NodeWorkRefused(NodeEvent):
    kind: ClassVar[str] = "node.work_refused"
    reason: str = ""
    evidence_hash: str = ""


@dataclass(frozen=True, slots=True)
class NodeSlashed(NodeEvent):
    """`step`: set_aside, appealed, lost, returned. `until`: end of the time to appeal, or to judge the appeal."""

    kind: ClassVar[str] = "node.slashed"
    step: str = ""
    amount: str = ""
    evidence_hash: str = ""
    until: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the store keeps it: what every door sends."""

    seq: int
    kind: str
    at: datetime
    topics: tuple[str, ...]
    owner_id: str  # empty: anybody signed in may see it
    data: Mapping[str, Any]
