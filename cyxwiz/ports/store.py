"""The truth: everything that must survive a crash.

Long, as it is a list: what one unit can read and write, all of it in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from cyxwiz.domain.account import ApiKey, JoinToken, Role, User, UserWallet
from cyxwiz.domain.events import Event, StoredEvent
from cyxwiz.domain.ids import JobId, NodeId, ReservationId, Token, UserId
from cyxwiz.domain.job import Checkpoint, Job, JobResult, JobType, Lease, LogLine, MetricPoint, Priority, Tenure
from cyxwiz.domain.link import Links
from cyxwiz.domain.node import LoadSample, Node, NodeStatus
from cyxwiz.domain.payment import Movement, Payment
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.reputation import ReputationEntry
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.stake import Stake, StakeStep
from cyxwiz.domain.states import JobState, NodeState, PaymentState
from cyxwiz.domain.verification import JobProof, StoredLink, Validity, Verification

T = TypeVar("T")
TOTAL_CAP = 10_000
LEAST_BLOB_BYTES = 4096  # what a blob takes of its owner's room, however small it is


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page. `total` is exact up to TOTAL_CAP; beyond, it is TOTAL_CAP and `capped` is true."""

    items: Sequence[T]
    total: int
    capped: bool = False


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Newest first. `after` is the (created_at, id) of the last job already seen; it excludes `offset`."""

    owner_id: UserId | None = None
    states: frozenset[JobState] = frozenset()
    types: frozenset[JobType] = frozenset()
    node_id: NodeId | None = None
    name_contains: str = ""
    reservation_id: ReservationId | None = None
    offset: int = 0
    limit: int = 100
    after: tuple[datetime, JobId] | None = None


@dataclass(frozen=True, slots=True)
class ReservationQuery:
    """Newest first. `at`: only those that are live then; `locked`: those whose money is set aside. `after` as in
    JobQuery, by start."""

    owner_id: UserId | None = None
    wallet: str = ""
    at: datetime | None = None
    locked: bool = False
    offset: int = 0
    limit: int = 100
    after: tuple[datetime, ReservationId] | None = None


@dataclass(frozen=True, slots=True)
class ReservedJobs:
    """The jobs of a reservation: those that have not ended, and what is known of those that were completed."""

    open: Sequence[Job]
    completed: int
    last_completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """By name, then id. A node's `load` and `reservation_id` are filled in."""

    owner_id: UserId | None = None
    status: NodeStatus | None = None
    region_contains: str = ""
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Stats:
    total_nodes: int
    online_nodes: int
    jobs_by_state: Mapping[str, int]
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class BlobInfo:
    sha256: str
    size: int
    created_at: datetime
    owners: frozenset[UserId] = frozenset()

    @property
    def room_bytes(self) -> int:
        return max(self.size, LEAST_BLOB_BYTES)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    at: datetime
    actor: str
    action: str
    target: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An effect that is owed: written with the change that owes it, removed when it has happened."""

    id: int
    kind: str
    key: str  # idempotency key of the effect
    payload: Mapping[str, Any]
    due_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentQuery:
    """Newest first. A node's owner sees what its nodes were paid."""

    owner_id: UserId | None = None
    node_owner_id: UserId | None = None
    job_id: JobId | None = None
    states: frozenset[PaymentState] = frozenset()
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class MovementQuery:
    """Newest first. `account` is either end of it; with `owner_id` besides, what has to do with either of the two."""

    owner_id: UserId | None = None
    payment_id: str = ""
    job_id: str = ""
    account: str = ""
    state: str = ""
    kinds: frozenset[str] = frozenset()
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class MoneyStats:
    """Sums over all payments, in units; over reservations too, but for the counts."""

    payments_by_state: Mapping[str, int] = field(default_factory=dict[str, int])
    locked_units: int = 0  # less what was paid out of it
    paid_units: int = 0
    fee_units: int = 0
    refunded_units: int = 0


class Tx(Protocol):
    """One synchronous unit on the store: all of it happens or none. No await, no network, no sleep inside.

    Reads within a write unit lock what they read by id, where the backend has row locks. `save_*` writes are guarded by
    the version that was read: they raise STALE when somebody else wrote in between.
    """

    now: datetime  # the unit's one timestamp

    # jobs, leases. A job is read without its model definition, which may be megabytes: its `spec.model` is empty.
    def add_job(self, job: Job) -> None: ...
    def model(self, job_id: JobId) -> str:
        """The job's model definition. NOT_FOUND for an unknown job."""
        ...

    def job(self, job_id: JobId) -> Job | None: ...
    def save_job(self, job: Job) -> Job: ...
    def save_spec(self, job: Job) -> Job:
        """As `save_job`, with its spec, which else stays as it was submitted."""
        ...

    def delete_job(self, job_id: JobId) -> None: ...
    def jobs(self, query: JobQuery) -> Page[Job]: ...
    def count_pending(self, owner_id: UserId, most: int) -> int:
        """How many of a user's jobs wait, counted no further than `most`."""
        ...

    def due_jobs(self, limit: int, after: Job | None = None) -> Sequence[Job]:
        """Pending jobs whose back-off is over: highest priority first, then oldest. Locked, skipping the locked.

        `after` leaves out that job and what comes before it in this order.
        """
        ...

    def next_due_at(self) -> datetime | None:
        """When the earliest backed-off job becomes due, if any waits."""
        ...

    def next_token(self) -> Token: ...
    def raise_epoch(self) -> int:
        """After a restore from a backup: every token from now on is above those that the lost time may have issued."""
        ...

    def add_lease(self, lease: Lease) -> None: ...
    def lease(self, job_id: JobId, token: Token) -> Lease | None: ...
    def save_lease(self, lease: Lease) -> None: ...
    def live_leases(self, node_id: NodeId | None = None) -> Sequence[Lease]: ...
    def held_jobs(self) -> Sequence[tuple[NodeId, Job]]:
        """Every live lease's node and job, in no order: the job of a gang once for each of its members."""
        ...

    def tenures(self, below: Priority) -> Mapping[JobId, Tenure]:
        """Of every job of a lower priority that nodes hold; those of reservations are left out."""
        ...

    def leases_of(self, job_id: JobId) -> Sequence[Lease]: ...

    # curves, logs, results
    def add_metrics(self, job_id: JobId, points: Sequence[MetricPoint]) -> None: ...
    def metrics(self, job_id: JobId, after: int, limit: int) -> Sequence[MetricPoint]: ...
    def last_metric_offset(self, job_id: JobId) -> int: ...
    def add_logs(self, job_id: JobId, lines: Sequence[LogLine]) -> None: ...
    def logs(self, job_id: JobId, after: int, limit: int) -> Sequence[LogLine]: ...
    def last_log_offset(self, job_id: JobId) -> int: ...
    def add_result(self, result: JobResult) -> None: ...
    def result(self, job_id: JobId) -> JobResult | None: ...

    def add_checkpoint(self, job_id: JobId, checkpoint: Checkpoint) -> None: ...
    def checkpoints(self, job_id: JobId, limit: int) -> Sequence[Checkpoint]:
        """The newest, newest first."""
        ...

    def checkpoint_page(self, job_id: JobId, offset: int, limit: int) -> Page[Checkpoint]:
        """Newest first."""
        ...

    def kept_checkpoints(self, job_id: JobId) -> Sequence[Checkpoint]:
        """All whose bytes are there, newest first."""
        ...

    def release_checkpoint(self, job_id: JobId, number: int) -> None:
        """Its bytes are not needed any more; the row stays."""
        ...

    # proofs
    def add_link(self, job_id: JobId, link: StoredLink) -> None: ...
    def links(self, job_id: JobId) -> Sequence[StoredLink]:
        """A job's chain, in order."""
        ...

    def last_link(self, job_id: JobId) -> StoredLink | None: ...
    def link(self, job_id: JobId, digest: str) -> StoredLink | None: ...
    def drop_links(self, job_id: JobId, above: int) -> None:
        """Forgets those whose number is above: what a lost run said after the state that the job goes on from."""
        ...

    def add_proof(self, proof: JobProof) -> None: ...
    def drop_proof(self, job_id: JobId) -> None: ...
    def proof(self, job_id: JobId) -> JobProof | None: ...
    def save_verification(self, item: Verification) -> None:
        """Adds it, or puts it in the place of the job's last one."""
        ...

    def verification(self, job_id: JobId) -> Verification | None: ...
    def open_verifications(self) -> Sequence[Verification]:
        """Those without an outcome, the longest open first."""
        ...

    def validity(self, node_id: NodeId) -> Validity:
        """A node's record; one that nothing was written of has none yet."""
        ...

    def save_validity(self, item: Validity) -> None: ...

    # nodes
    def add_node(self, node: Node) -> None: ...
    def node(self, node_id: NodeId) -> Node | None: ...
    def node_state(self, node_id: NodeId) -> NodeState | None: ...
    def node_key(self, node_id: NodeId) -> bytes:
        """The public key that it signs with; empty where there is none, or no such node."""
        ...

    def node_pricing(self, node_id: NodeId) -> NodePricing | None: ...
    def node_by_identity(self, owner_id: UserId, identity: str) -> Node | None: ...
    def save_node(self, node: Node) -> Node: ...
    def nodes(self, query: NodeQuery) -> Page[Node]: ...
    def fleet(self) -> Sequence[Node]:
        """Every node, by name."""
        ...

    def unseen_nodes(self, before: datetime) -> Sequence[NodeId]:
        """The nodes that count as online and were last written as seen before then."""
        ...

    def touch_nodes(self, seen: Mapping[NodeId, float]) -> None:
        """Sets last_seen_at to now and adds the seconds online, for many nodes at once, unguarded."""
        ...

    def add_load(self, node_id: NodeId, sample: LoadSample) -> None: ...
    def load_samples(
        self, node_id: NodeId, start: datetime | None, end: datetime | None, limit: int
    ) -> Sequence[LoadSample]:
        """The newest `limit` samples of the span, oldest first."""
        ...

    def prune_load(self, before: datetime) -> int: ...

    # money
    def gather(self, payment_ids: Iterable[str], payments: Iterable[Payment] = (), jobs: Iterable[Job] = ()) -> None:
        """Reads payments, what else their jobs have of them, and these jobs at once: within this unit `payment`,
        `payments_of` and `job` know them, and what is saved of them is written together, at its end.

        Args:
            payments, jobs: as they were read before; what has the same version is not read again, not even for when a
                payment is due.
        """
        ...

    def add_payment(self, payment: Payment) -> None: ...
    def payment(self, payment_id: str) -> Payment | None: ...
    def save_payment(self, payment: Payment) -> Payment: ...
    def payments_of(self, job_id: JobId) -> Sequence[Payment]:
        """By member, then number."""
        ...

    def payments(self, query: PaymentQuery) -> Page[Payment]: ...
    def due_payment_ids(self, limit: int) -> Sequence[str]:
        """Open ones to look at: due by the clock, or, with no time of their own, because their job changed since or
        their deadline is near (`domain.payment.CLOSING`)."""
        ...

    def hurry_payments(self) -> None:
        """Makes all open payments due now that are due later."""
        ...

    def promised_units(self, owner_id: UserId) -> int:
        """Of the owner's prepaid payments that are to be locked, and have not failed to be so far. In a unit that
        writes, the owner's other units that ask wait until it ends: each sees what those before it promised."""
        ...

    def next_payment_at(self) -> datetime | None:
        """The earliest `due_at` of an open payment."""
        ...

    def money(self) -> MoneyStats: ...
    def add_movement(self, movement: Movement) -> bool:
        """False if its reference is there already for its payment."""
        ...

    def add_movements(self, made: Sequence[Movement]) -> None:
        """Leaves those alone that are there already."""
        ...

    def movements_of(self, payment_id: str) -> Sequence[Movement]:
        """Oldest first."""
        ...

    def movements_of_all(self, payment_ids: Iterable[str]) -> Mapping[str, Sequence[Movement]]:
        """The movements of each payment, oldest first."""
        ...

    def movement(self, reference: str) -> Movement | None:
        """By what it is looked up; one of them, where several payments share a transaction."""
        ...

    def save_movements(self, ended: Sequence[Movement]) -> None:
        """Stores how they ended: nothing else of a movement changes."""
        ...

    def movements(self, query: MovementQuery) -> Page[Movement]: ...
    def moved(self, since: datetime | None = None) -> tuple[int, int]:
        """(how many confirmed transactions there are, the units that jobs were paid by them)"""
        ...

    def post(self, key: str, lines: Mapping[str, int], overdraw: frozenset[str] = frozenset()) -> bool:
        """One entry in the platform's own books: units added to each account, in all 0. False if the key is there.

        Raises:
            CyxError: FUNDS when an account that is not in `overdraw` would fall below 0.
        """
        ...

    def account_units(self, account: str) -> int: ...
    def accounts_total(self) -> int:
        """The sum of all accounts; anything but 0 is an error in the books."""
        ...

    # stakes
    def add_stake_step(self, step: StakeStep) -> bool:
        """False if its id is there already."""
        ...

    def stake_step(self, step_id: str) -> StakeStep | None: ...
    def save_stake_step(self, step: StakeStep) -> StakeStep: ...
    def pending_stake_steps(self, node_id: NodeId) -> Sequence[StakeStep]:
        """Those of a node that are neither done nor refused, oldest first."""
        ...

    def stake_steps(self, node_id: NodeId, limit: int) -> Sequence[StakeStep]:
        """All of a node's, newest first."""
        ...

    def due_stake_steps(self, limit: int) -> Sequence[StakeStep]: ...
    def stake_of(self, account: str) -> Stake:
        """A stake in the platform's own books; an empty one if there is none."""
        ...

    def save_stake(self, stake: Stake) -> None: ...

    # reputation
    def save_node_links(self, measured: Links) -> None:
        """Each takes the place of what was known of its pair."""
        ...

    def node_links(self, since: datetime, node_id: NodeId | None = None) -> Links:
        """What was measured since then, between all nodes or by one with others; the newest 20,000 at most."""
        ...

    def prune_node_links(self, before: datetime) -> int: ...

    def add_reputation(self, given: Sequence[ReputationEntry]) -> None:
        """Adds what moved a node's reputation; EXISTS for a second complaint about one job."""
        ...

    def reputation_entries(self, node_id: NodeId, limit: int) -> Sequence[ReputationEntry]:
        """Newest first."""
        ...

    def complained(self, node_id: NodeId, job_id: JobId) -> bool:
        """Whether a complaint about this job is kept."""
        ...

    def prune_reputation(self, before: datetime) -> int: ...
    # reservations. EXISTS where a node would have two that are live.
    def add_reservation(self, reservation: Reservation) -> None: ...
    def reservation(self, reservation_id: ReservationId) -> Reservation | None: ...
    def save_reservation(self, reservation: Reservation) -> Reservation: ...
    def reservations(self, query: ReservationQuery) -> Page[Reservation]: ...
    def reservation_of(self, node_id: NodeId) -> Reservation | None:
        """The node's live one; its time may be over already."""
        ...

    def live_reservations(self) -> Sequence[Reservation]:
        """By start. Not locked."""
        ...

    def unsettled_reservations(self, limit: int) -> Sequence[Reservation]:
        """Ended ones whose money is still owed, oldest end first. Not locked."""
        ...

    def settled_reservations_with_locks(self, limit: int) -> Sequence[Reservation]:
        """Settled ones with a lock on the ledger's record that has no end there, oldest start first: it came late. Not
        locked."""
        ...

    def reserved_jobs(self, reservation_id: ReservationId) -> ReservedJobs: ...

    # budgets
    def budget(self, user_id: UserId) -> int | None:
        """Units a month, if one is set."""
        ...

    def set_budget(self, user_id: UserId, units: int | None) -> None: ...
    def costs_since(self, user_id: UserId, month: datetime) -> tuple[int, int]:
        """(units that jobs and reservations which have not ended are expected to cost, units that those cost which
        ended since then), with what was deleted of that month. Jobs in a reservation cost nothing beside it."""
        ...

    def add_deleted_cost(self, user_id: UserId, month: datetime, units: int) -> None: ...

    # accounts
    def add_user(self, user: User) -> None: ...
    def user(self, user_id: UserId) -> User | None: ...
    def user_by_name(self, name: str) -> User | None: ...
    def save_user(self, user: User) -> None: ...
    def users(self, offset: int, limit: int, role: Role | None = None) -> Page[User]: ...
    def add_wallet(self, wallet: UserWallet) -> None:
        """EXISTS, for the whole unit, when the wallet is linked already."""
        ...

    def wallet(self, address: str) -> UserWallet | None: ...
    def wallets_of(self, user_id: UserId) -> Sequence[UserWallet]:
        """The oldest first."""
        ...

    def drop_wallet(self, address: str) -> None: ...
    def add_key(self, key: ApiKey) -> None: ...
    def key_by_digest(self, digest: str) -> ApiKey | None: ...
    def key(self, key_id: str) -> ApiKey | None: ...
    def save_key(self, key: ApiKey) -> None: ...
    def keys(self, user_id: UserId | None, offset: int, limit: int, revoked: bool | None = None) -> Page[ApiKey]: ...
    def add_join_token(self, token: JoinToken) -> None: ...
    def join_token_by_digest(self, digest: str) -> JoinToken | None: ...
    def join_token(self, token_id: str) -> JoinToken | None: ...
    def save_join_token(self, token: JoinToken) -> None: ...
    def join_tokens(
        self, owner_id: UserId | None, offset: int, limit: int, usable: bool | None = None
    ) -> Page[JoinToken]:
        """`usable`: neither revoked nor expired nor used up."""
        ...

    def revoke(self, token_id: str, expires_at: datetime) -> bool:
        """Remembers that a token is void until it would expire anyhow. False if it was void already."""
        ...

    def revoked(self, token_id: str) -> bool: ...

    # blobs
    def add_blob(self, info: BlobInfo, owner_id: UserId | None) -> None:
        """Records a blob, or one more owner of it."""
        ...

    def blob(self, sha256: str) -> BlobInfo | None: ...

    def disown_blob(self, sha256: str, owner_id: UserId) -> bool:
        """False if it was not theirs."""
        ...

    def kept_bytes(self, owner_id: UserId) -> int:
        """The `room_bytes` of all that a user owns."""
        ...

    def blobs_of(self, owner_id: UserId, offset: int, limit: int) -> Page[BlobInfo]:
        """What a user owns, by hash."""
        ...

    def job_with_blob(self, owner_id: UserId, sha256: str) -> JobId | None:
        """A job of theirs that has not ended, and whose spec names the blob."""
        ...

    def add_blob_sender(self, sha256: str, node_id: NodeId) -> None:
        """Records that a node has sent a recorded blob whole."""
        ...

    def sent_blob(self, sha256: str, node_id: NodeId) -> bool: ...

    def drop_blob(self, sha256: str) -> bool:
        """Forgets a blob that nobody owns and no checkpoint needs; False if somebody does."""
        ...

    # facts
    def emit(self, event: Event, *, private_to: str = "") -> None: ...
    def events(self, after: int, topics: frozenset[str], limit: int) -> Sequence[StoredEvent]:
        """In order of seq; none that a still running transaction could yet precede. No topic, or `*`: every event."""
        ...

    def last_seq(self) -> int: ...
    def first_seq(self) -> int:
        """The oldest seq still kept; readers below it must start again from a snapshot."""
        ...

    def prune_events(self, before: datetime) -> int:
        """The newest event stays, however old: it holds the place of the sequence."""
        ...

    def audit(self, entry: AuditEntry) -> None: ...
    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        """Newest first."""
        ...

    def audit_of(self, action: str, target: str, limit: int) -> Sequence[AuditEntry]:
        """What of one kind befell one thing, newest first."""
        ...

    def remember(self, scope: str, key: str, digest: str, answer: str) -> None:
        """Keeps the answer to an idempotency key; EXISTS, for the whole unit, when another request was faster."""
        ...

    def remembered(self, scope: str, key: str) -> tuple[str, str] | None:
        """(digest of the request, answer) of an idempotency key."""
        ...

    def prune_idempotency(self, before: datetime) -> int: ...
    def add_outbox(self, kind: str, key: str, payload: Mapping[str, Any], due_at: datetime) -> None:
        """Owes an effect; one with the same kind and key is owed once."""
        ...

    def due_outbox(self, kind: str, limit: int) -> Sequence[OutboxEntry]: ...
    def finish_outbox(self, entry_id: int) -> None: ...

    # the store itself
    def setting(self, name: str) -> str | None: ...
    def put_setting(self, name: str, value: str) -> str:
        """Writes it unless it is there already; returns what is there."""
        ...

    def drop_setting(self, name: str) -> None: ...
    def stats(self) -> Stats: ...
    def hint(self, *topics: str) -> None:
        """Names topics to wake after the commit, besides those of the events."""
        ...

    def then(self, call: Callable[[], object]) -> None:
        """Has the event loop make a call soon after the commit; a process that ends first makes none."""
        ...


class Store(Protocol):
    """Runs units of work.

    `write` returns the unit's value after the commit is durable (fsynced), then publishes the topics of its events and
    hints on the bus. A unit that raises leaves nothing behind, and does not disturb the units that share its commit.
    `read` sees every write that returned before it was called, by this process.
    Both raise UNAVAILABLE when the database can't be reached and EXHAUSTED when its disk is full; what the database
    refuses ends the unit as EXISTS (a key or name is taken), CONFLICT (it refers to nothing) or INVALID (a value that
    can't be stored). A unit must not go on after such an error, and may be run again before its commit.
    """

    async def write(self, unit: Callable[[Tx], T]) -> T: ...

    async def read(self, unit: Callable[[Tx], T]) -> T: ...

    async def aclose(self) -> None: ...
