"""Running one job on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cyxwiz.domain.script import Script

PREEMPT_SECONDS = 60.0  # from asking for a last checkpoint to doing without


@dataclass(frozen=True, slots=True)
class Gang:
    """The run is one of `world` that train together; `address` is this machine's among the others."""

    rank: int
    world: int
    strategy: str  # domain.job.Strategy
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Check:
    """What a run that checks another one's work does besides: where it stops, and what it compares its weights with."""

    stop_step: int = 0  # 0: it runs to its end
    threads: int = 0  # of the run that is checked; 0: those of a checkpoint, or the node's own
    result_weights: str = ""  # the digest that the weights of the file `result` must have; empty: nothing to look at
    claim: Path | None = None  # the weights to be compared with: a checkpoint, or a result's file
    result: Path | None = None
    start: str = ""  # the digest that the state which it goes on from must have; empty: nothing to look at


@dataclass(frozen=True, slots=True)
class Work:
    """Everything a child process needs to run one job.

    The node gives an executor paths of its own machine. The child gets them as it sees them: `work_dir` is the job's
    own folder, `dataset_path` what was laid out for it to read.
    """

    job_id: str
    job_type: str
    model: str
    dataset_uri: str
    hyperparameters: Mapping[str, str]
    epochs: int
    batch_size: int
    seed: int
    device: str  # "cpu" or "cuda:0"
    threads: int
    work_dir: Path
    data_roots: tuple[Path, ...] = ()
    dataset_path: Path | None = None  # what the node fetched for the dataset: a file or a folder, not to be changed
    max_duration_seconds: float | None = None
    resume: Path | None = None  # a checkpoint to go on from
    checkpoint_every: str = "none"  # see domain.checkpoint
    script: Script | None = None
    source: Path | None = None  # the folder of the script's files
    memory_bytes: int | None = None  # what the job asked for; None leaves it to the node
    network: bool = False  # whether the job asks for the network
    gang: Gang | None = None
    weights: Path | None = None  # the file of the trained model that is evaluated or asked
    packages: Path | None = None  # the folder of the script's packages
    chain_id: str = ""  # the job that the proof's chain is of; empty: this one
    fixed: bool = False  # nothing about it may be changed while it runs
    link_steps: tuple[int, ...] = ()  # a replay: links at these steps, and no checkpoints
    check: Check | None = None  # it re-runs a part of another's work
    streamed: bool = False  # `dataset_path` is still being filled: the child says what it needs first (`Wanted`)
    install: bool = False  # no job: the node itself wants the packages of `source` installed, from the index `model`


@dataclass(frozen=True, slots=True)
class Started:
    """The child is up and has taken the job."""

    pid: int


@dataclass(frozen=True, slots=True)
class FirstStep:
    """The first training step was taken."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """A point of the training curve. `epoch` counts from 1, `progress` is 0 to 1; NaN never occurs in `metrics`."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    progress: float
    metrics: Mapping[str, float]
    elapsed_seconds: float
    remaining_seconds: float
    epoch_ended: bool


@dataclass(frozen=True, slots=True)
class Logged:
    level: str  # "debug", "info", "warning", "error"
    message: str
    source: str = "job"  # "job", "stdout", "stderr", "node"


@dataclass(frozen=True, slots=True)
class Asked:
    """A member's question to the rendezvous of its group, for central; `Run.answer` brings the answer."""

    id: int  # from 1 a run
    kind: str  # "set", "get", "add"
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of streamed data the child needs next, in this order, after those that it named before. It is told
    `fed` with `count`, how many of all that it named are there, without a gap from the first on."""

    rows: bytes  # row numbers, 4 bytes each, little-endian


@dataclass(frozen=True, slots=True)
class Reached:
    """What a member measured to another one as its group met."""

    rank: int  # the other one's
    round_trip_seconds: float
    bytes_per_second: float  # of the slower direction


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file of the job. Its path is the node's own where a `Run` reports it, below `Work.work_dir`."""

    name: str
    path: Path
    sha256: str  # hex; empty for a checkpoint's, which is named by what whoever stores it reads
    size: int


@dataclass(frozen=True, slots=True)
class Linked:
    """A link of the run's proof (`domain.proof`): digests in hex, `environment` as JSON."""

    kind: int
    step: int
    loss: float
    weights: str
    link: str
    data: str
    environment: str


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A saved state, complete in the job's own folder, not durable: it is read once, to be stored. `epoch` goes on from
    batch `batch`; `step` optimizer steps in. `link` is the digest of the link that was told for it before, empty for a
    run without a chain."""

    artefacts: tuple[Artefact, ...]  # one file
    epoch: int
    batch: int
    step: int
    progress: float
    threads: int
    link: str = ""

    @property
    def file(self) -> Artefact:
        return self.artefacts[0]


@dataclass(frozen=True, slots=True)
class Finished:
    """The job's own end, successful. `artefacts[0]` is the model's weights."""

    artefacts: tuple[Artefact, ...]
    final_metrics: Mapping[str, float]
    epochs_completed: int
    compute_seconds: float
    energy_joules: float | None = None  # its share of what the machine used, where that can be read


@dataclass(frozen=True, slots=True)
class Failed:
    """The job's own end, unsuccessful. `retryable`: another node may do better (a crash); not so for a bad job.
    `by_script`: it came out of the process of a job's own code, which can end itself in any way that there is."""

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    retryable: bool = False
    by_script: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was ended by `Run.cancel`."""


@dataclass(frozen=True, slots=True)
class Preempted:
    """The job stopped because `Run.preempt` asked for it, and can go on from its last checkpoint."""

    compute_seconds: float


Outcome = Finished | Failed | Cancelled | Preempted
Report = Started | FirstStep | Progressed | Logged | Linked | Checkpointed | Asked | Wanted | Reached | Outcome


class Run(Protocol):
    """One job in a child process.

    `reports()` yields every report in order and ends after exactly one Outcome, also when the child dies by a signal
    (Failed, retryable, naming the signal). It is iterated once.
    `preempt()` asks the child to save a checkpoint and stop, and returns at once; a child that has not done so within
    PREEMPT_SECONDS is ended, and its outcome is Preempted as well. It is idempotent, and a no-op after the end.
    `answer()` hands the child what it asked for with `Asked`.
    `tell()` passes a wish of the job's owner on and returns at once: "checkpoint" (save one and go on) or "update" (new
    hyperparameters in `values`). What comes of it is reported, by a Checkpointed or a Logged; a no-op after the end.
    "fed" is the node's own word: `count` of the rows that the child `Wanted` are there.
    `cancel()` ends the child and all its descendants within two seconds; it is idempotent, and a no-op after the end.
    """

    def reports(self) -> AsyncIterator[Report]: ...

    def preempt(self) -> None: ...

    def answer(self, number: int, value: bytes) -> None: ...

    def tell(self, order: str, values: Mapping[str, Any] | None = None) -> None: ...

    async def cancel(self) -> None: ...


class Executor(Protocol):
    """Starts runs. `start` returns once a child has the job or raises CyxError; `aclose` ends every child.

    `warm()` prepares a child ahead of need and returns at once.
    """

    async def start(self, work: Work) -> Run: ...

    def warm(self) -> None: ...

    async def aclose(self) -> None: ...
