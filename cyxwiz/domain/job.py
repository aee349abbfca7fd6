"""Jobs and the leases that nodes hold on them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import (
    JOB,
    LEASE,
    LIVE_LEASE_STATES,
    TERMINAL_JOB_STATES,
    JobState,
    JobTrigger,
    LeaseState,
    LeaseTrigger,
    advance,
)
from cyxwiz.domain.verification import CheckSpec, Mode
from cyxwiz.domain.weights import Weights

if TYPE_CHECKING:
    from cyxwiz.domain.pricing import NodePricing


def data_source(uri: str) -> str:
    """A dataset's URI without its options: what follows `#`, and `?` except in a web address, is left out."""
    marks = "#" if re.match("https?://", uri, re.IGNORECASE) else "[?#]"
    return re.split(marks, uri, maxsplit=1)[0]


GAVE_WAY = "gave way to "  # how the reason of a job begins that was taken from its nodes for a more urgent one
YIELDED = "preempted: "  # how that of a lease begins whose run was given back with a checkpoint
OUTRANKED = f"{YIELDED}{GAVE_WAY}"
MAX_LOG_WORD = 64  # characters of a line's level, and of its source
MAX_LOG_MESSAGE = 16_384
MAX_COUNT = 2**31  # batches of an epoch, threads of a run: fewer, as databases and messages count them in 32 bits
MAX_METRICS, MAX_METRIC_NAME = 256, 100  # figures of one point, characters of a figure's name
FETCHED = ("https", "http", "s3", "hf", "ipfs")  # schemes of data that a node gets from where their owner says
MAX_RESULT_NAMES = 64 << 10  # characters of the names of a result's files in all
REMOTE = "remote:"  # how the URI of data begins that the job's owner streams to its node


@lru_cache(4096)
def data_key(uri: str) -> str:
    """16 hex digits that stand for a dataset's data, however they are to be read: nodes name by it what they hold."""
    return hashlib.sha256(data_source(uri).encode(errors="replace")).hexdigest()[:16]


class JobType(StrEnum):
    TRAINING = "training"
    INFERENCE = "inference"
    EVALUATION = "evaluation"
    PREPROCESSING = "preprocessing"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Priority).index(self)


class Device(StrEnum):
    """What a job asks for; ANY takes whatever is there."""

    ANY = "any"
    CPU = "cpu"
    CUDA = "cuda"
    OPENCL = "opencl"
    METAL = "metal"
    VULKAN = "vulkan"


class Phase(StrEnum):
    """What a job is doing within its state, for people."""

    AWAITING_PAYMENT = "awaiting_payment"
    QUEUED = "queued"
    STARTING = "starting"
    TRAINING = "training"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    NONE = ""


class Strategy(StrEnum):
    """How the members of a gang train together."""

    DDP = "ddp"  # every gradient is averaged before every step
    FSDP = "fsdp"  # so too, and each member keeps a share of the weights and of the optimizer
    LOCAL_SGD = "local_sgd"  # each steps alone; the weights are averaged every so often
    DILOCO = "diloco"  # so too, and the average is a step of an outer optimizer


class Intent(StrEnum):
    """What is wanted of a job that a node has."""

    RUN = "run"
    PAUSE = "pause"  # save a checkpoint and wait for its owner
    MOVE = "move"  # save a checkpoint and go on elsewhere


@dataclass(frozen=True, slots=True)
class Resources:
    device: Device = Device.ANY
    vram_bytes: int = 0
    ram_bytes: int = 1 << 30
    max_duration_seconds: float = 3600.0
    regions: tuple[str, ...] = ()
    nodes: int = 1  # more than one: a gang, one member a node, all or none
    min_nodes: int = 1  # with how many it may go on after one was lost


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the owner asked for. Never changes after the submit."""

    name: str
    type: JobType
    dataset_uri: str
    # A model definition or a pipeline's steps: JSON text; the lock file of a script's packages. Empty in a job that was
    # read from the store.
    model: str
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0
    priority: Priority = Priority.NORMAL
    hyperparameters: Mapping[str, str] = field(default_factory=dict[str, str])
    resources: Resources = Resources()
    expected_seconds: float = 0.0  # for the estimate; 0: the whole allowed duration
    max_price_units: int = 0  # 0: the quote
    payment_address: str = ""
    stream_units: int = 0  # what an escrow of the client's own lets be earned in each `stream_seconds`; 0: it has none
    stream_seconds: int = 0
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    checkpoint_every: str = "auto"  # see domain.checkpoint
    script: Script | None = None  # its own code, instead of a model definition
    strategy: Strategy = Strategy.DDP  # of a gang
    weights: Weights | None = None  # of the model that is evaluated or asked
    requirements: str = ""  # SHA-256 of the lock file of its packages
    network: bool = False  # whether its script asks for the network
    reservation_id: str = ""  # it runs on the node of that reservation, or not at all
    verify: Mode = Mode.NONE
    copies: int = 2  # with Mode.QUORUM: how many nodes do it
    check: CheckSpec | None = None  # of a hidden job that checks another one's work

    @property
    def longest_seconds(self) -> float:
        """All the time that is paid for at most."""
        return max(self.expected_seconds, self.resources.max_duration_seconds)


@dataclass(frozen=True, slots=True)
class Job:
    id: JobId
    owner_id: UserId
    spec: JobSpec
    created_at: datetime
    state: JobState = JobState.PENDING
    phase: Phase = Phase.QUEUED
    progress: float = 0.0
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    node_id: NodeId | None = None
    token: Token | None = None  # of the newest lease, live or not; a gang's: of its first member, which names its group
    attempts: int = 0  # leases issued
    retry_count: int = 0  # failures charged to the job
    node_losses: int = 0  # nodes that went away under it: never charged as a failure
    not_before: datetime | None = None  # back-off
    intent: Intent = Intent.RUN
    reason: str = ""  # why it waits
    error: str = ""
    error_code: str = ""
    estimated_cost_units: int = 0
    actual_cost_units: int = 0
    compute_seconds: float = 0.0
    started_at: datetime | None = None
    first_step_at: datetime | None = None
    completed_at: datetime | None = None
    version: int = 0  # raised by each write, which is guarded by it

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_JOB_STATES

    def move(self, trigger: JobTrigger, **changes: object) -> Job:
        """The job after `trigger`, with other changes made at the same time."""
        state = advance(JOB, self.state, trigger, subject=f"Job {self.id}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Lease:
    """A node's claim on a job. It is fenced by the existence of a newer one, not by time.

    The members of a gang hold a lease each, issued together: `group` is the same for all of them, and a newer group
    fences all of an older one.
    """

    job_id: JobId
    token: Token
    node_id: NodeId
    issued_at: datetime
    boot_id: str = ""  # the run of the node that took it; empty until it accepted
    state: LeaseState = LeaseState.OFFERED
    last_seq: int = 0  # highest report committed
    ended_at: datetime | None = None
    end_reason: str = ""
    rank: int = 0
    world: int = 1  # members of its group
    lead: int = 0  # counter of the token of the group's first member; 0: its own
    pricing: NodePricing | None = None  # the node's own as it was issued, which hold to its end; None: it had set none

    @property
    def group(self) -> Token:
        """The token of the group's first member: its own, unless it is another member of a gang."""
        return Token(self.token.epoch, self.lead) if self.lead else self.token

    @property
    def live(self) -> bool:
        return self.state in LIVE_LEASE_STATES

    def move(self, trigger: LeaseTrigger, **changes: object) -> Lease:
        state = advance(LEASE, self.state, trigger, subject=f"Lease {self.token} of job {self.job_id}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """A point of a job's training curve; offsets count from 1 a job."""

    offset: int
    at: datetime
    attempt: int
    epoch: int
    progress: float
    epoch_ended: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LogLine:
    offset: int
    at: datetime
    level: str
    source: str
    message: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state from which a job can go on. Numbers count from 1 a job; `kept` while its bytes are stored."""

    number: int
    at: datetime
    node_id: NodeId
    token: Token
    epoch: int  # the epoch that goes on, from 1
    batch: int  # batches of that epoch that are done
    step: int  # optimizer steps done
    progress: float
    threads: int  # CPU threads that computed it; with the same number the curve goes on exactly
    sha256: str
    size: int
    kept: bool = True
    link: str = ""  # digest of its link of the proof


@dataclass(frozen=True, slots=True)
class Tenure:
    """How long nodes have had a job that they hold, and what is saved of it."""

    since: datetime  # its live lease, a gang's oldest, was issued
    saved_at: datetime | None  # its newest checkpoint whose bytes are stored
    gave_way: int  # how often it was taken from its nodes for a job of higher priority


@dataclass(frozen=True, slots=True)
class ResultFile:
    name: str
    sha256: str
    size: int


def check_result_names(names: Sequence[str]) -> None:
    """Raises INVALID unless each is a plain relative path, named once: of two by one name, who saves the result would
    have the one that nobody looked at."""
    if sum(map(len, names)) > MAX_RESULT_NAMES:
        raise invalid(f"artefacts: their names have more than {MAX_RESULT_NAMES} characters in all", field="artefacts")
    for name in names:
        pure = PurePosixPath(name)
        if str(pure) != name or name == "." or pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise invalid(f"artefacts: {name[:100]!r} is no plain relative path", field="artefacts")
    if len(set(names)) < len(names):
        raise invalid("artefacts: two of them have the same name", field="artefacts")


@dataclass(frozen=True, slots=True)
class JobResult:
    """The one accepted result of a job. `files[0]` is the model's weights.

    A node of the earlier kind keeps its weights: `files` is empty, and the rest is its word ("" if it said nothing).
    """

    job_id: JobId
    node_id: NodeId
    token: Token
    files: tuple[ResultFile, ...]
    weights_uri: str
    weights_hash: str  # "sha256:" + hex
    weights_size: int
    final_metrics: Mapping[str, float]
    compute_seconds: float
    accepted_at: datetime
    energy_joules: float | None = None  # of the run that gave it, where its node can read that; a share of its node's
