"""Jobs as their owners see them: submit, look, explain, cancel, delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, not_found
from cyxwiz.domain.events import JobDeleted, JobSubmitted
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id, parse_job_id, parse_uuid
from cyxwiz.domain.job import Checkpoint, Job, JobResult, JobSpec, Lease, LogLine, MetricPoint, Phase
from cyxwiz.domain.link import Links
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.domain.node import P2P_SERVICE, Node
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.states import JobState
from cyxwiz.domain.verification import Outcome
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import BlobInfo, JobQuery, Page, Store, Tx
from cyxwiz.scheduler.feasible import Candidate
from cyxwiz.scheduler.policy import Verdict, candidate, explain
from cyxwiz.scheduler.price import needs_gpu
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services import leases
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.audit import record
from cyxwiz.services.barred import barred
from cyxwiz.services.blob_rights import may_read
from cyxwiz.services.budgets import keep_cost, reserve
from cyxwiz.services.dearer import asked_for, to_lock
from cyxwiz.services.jobfile import check_spec, resolve
from cyxwiz.services.leases import QUEUE
from cyxwiz.services.links import links_within
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.loglines import read_lines
from cyxwiz.services.payments import Payments, SignedLock, settled
from cyxwiz.services.proofs import ProofSeen, seen
from cyxwiz.services.repeats import Repeats
from cyxwiz.services.reports import release
from cyxwiz.services.reputation import Reputation
from cyxwiz.services.room import refuse_without_room


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would cost: on the node that it would get, else by the tariff, capped by max_price."""

    seconds: float
    units_per_second: float
    cost_units: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """How the owner reaches the node that runs the job, directly."""

    node: Node
    endpoint: str
    token: str
    expires_at: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class Explanation:
    job: Job
    verdicts: Sequence[Verdict]
    leases: Sequence[Lease]
    ahead: int  # jobs that are served before it
    links: Links  # between the nodes that have it now


class Jobs:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        accounts: Accounts,
        liveness: Liveness,
        tariff: Tariff,
        weights: Weights,
        reputation: Reputation,
        *,
        max_pending_per_user: int,
        max_user_bytes: int = 0,
        payments: Payments | None = None,
        minimum_stake: int = 0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._accounts = accounts
        self._liveness = liveness
        self._tariff = tariff
        self._weights = weights
        self._reputation = reputation
        self._max_pending = max_pending_per_user
        self._max_bytes = max_user_bytes
        self._payments = payments
        self._minimum_stake = minimum_stake
        self._closed = False

    def close(self) -> None:
        """From now on nothing is submitted here: this process stops."""
        self._closed = True

    # submit

    def estimate(self, spec: JobSpec) -> Estimate:
        """Cost of the job's expected duration, or of all that it may take."""
        gpu, resources = needs_gpu(spec), spec.resources
        seconds = spec.expected_seconds or resources.max_duration_seconds
        cost = self._tariff.cost_units(seconds * resources.nodes, gpu=gpu, ram_bytes=resources.ram_bytes)
        if spec.max_price_units:
            cost = min(cost, spec.max_price_units)
        return Estimate(seconds, self.rate(spec), cost)

    def price(self, spec: JobSpec) -> int:
        """Units that are locked for a job: what all of its allowed time costs, no more than its cap."""
        resources = spec.resources
        seconds = spec.longest_seconds * resources.nodes
        cost = self._tariff.cost_units(seconds, gpu=needs_gpu(spec), ram_bytes=resources.ram_bytes)
        return min(cost, spec.max_price_units) if spec.max_price_units else cost

    def rate(self, spec: JobSpec) -> float:
        """Units a second, of all members, that a job earns its nodes while it makes progress."""
        resources = spec.resources
        alone = self._tariff.units_per_second(gpu=needs_gpu(spec), ram_bytes=resources.ram_bytes)
        return alone * resources.nodes

    def check(self, actor: Principal, spec: JobSpec) -> None:
        """Raises what a submit refuses without a look at the store."""
        actor.require(Role.USER, Role.OPERATOR)
        check_spec(spec)
        if spec.payment_address and self._payments is not None and self._payments.ledger.info.network:
            parse_wallet(spec.payment_address, "payment_address")

    async def submit(
        self, actor: Principal, spec: JobSpec, key: str = "", lock: SignedLock | None = None
    ) -> tuple[Job, bool]:
        """Stores a job and wakes the scheduler. Returns (job, whether it is new): a repeated key gets the first job,
        and so does a `lock` that has a job already.

        Raises:
            CyxError: INVALID or UNSUPPORTED as `check_spec`, NOT_FOUND and others as `resolve`; CONFLICT for a key used
                with other content; EXHAUSTED as `take`; UNAVAILABLE while central stops.
        """
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "This central is stopping: submit again once it is back")
        self.check(actor, spec)
        request = Repeats(f"submit:{actor.id}", key, _content(spec))
        job = self.new(actor.id, spec, lock.payment.job_id if lock else None)

        def unit(tx: Tx) -> tuple[Job, bool]:
            if lock is not None and (paid := self._paid(tx, actor, spec, job.id)) is not None:
                return paid, False
            if (made := request.answered(tx)) is not None:
                first = tx.job(JobId(made))
                if first is None:
                    raise not_found("job", made)
                return first, False
            price = self.price(spec) if lock is None else lock.payment.amount_units
            if self._payments is not None and have is not None:
                if asked:
                    price = to_lock(tx, actor.id, price, have - tx.promised_units(actor.id), asked)
                self._payments.check_unpromised(tx, actor.id, price, have)
            submitted = self.take(tx, job, actor.name, lock, price)
            request.keep(tx, job.id)
            if lock is not None:
                _payment_of(actor, spec, job.id).keep(tx, job.id)
            return submitted, True

        repeated = key and await self._store.read(request.answered) is not None
        have: int | None = None
        asked: Sequence[int] = ()
        if self._payments is not None and lock is None and not repeated:
            have = await self._payments.check_funds(actor.id, self.price(spec))
            asked = await self.asked_above(spec, actor.id)
        return await self._store.write(unit)

    async def asked_above(self, spec: JobSpec, owner_id: UserId) -> Sequence[int]:
        """What nodes ask (`asked_for`) for a job whose limit is above the tariff; nothing for any other."""
        if spec.max_price_units <= self.price(spec):
            return ()
        return await self._store.read(lambda tx: asked_for(spec, owner_id, self.candidates(tx)))

    async def paid_by(self, actor: Principal, spec: JobSpec, quote: str) -> Job | None:
        """The job that a quote has paid for, however long ago; None for one that has paid for nothing yet. Raises
        CONFLICT where that was another job."""
        job_id = JobId(parse_uuid("quote", quote, "payment.quote"))
        return await self._store.read(lambda tx: self._paid(tx, actor, spec, job_id))

    def _paid(self, tx: Tx, actor: Principal, spec: JobSpec, job_id: JobId) -> Job | None:
        job = tx.job(job_id)
        if job is None or job.owner_id != actor.id:
            return None
        _payment_of(actor, spec, job_id).answered(tx)
        return job

    def new(self, owner_id: UserId, spec: JobSpec, job_id: JobId | None = None) -> Job:
        """A job that nobody has stored yet."""
        return Job(
            id=job_id or JobId(new_id()),
            owner_id=owner_id,
            spec=spec,
            created_at=self._clock.now(),
            estimated_cost_units=self.estimate(spec).cost_units,
            reason="waiting for the scheduler",
        )

    def take(self, tx: Tx, job: Job, by: str, lock: SignedLock | None = None, price: int = 0) -> Job:
        """Stores a new job, for which `price` is locked, and wakes the scheduler. Raises what `resolve` refuses, and
        EXHAUSTED when too many of the owner's jobs wait or they keep too much here."""
        submitted = replace(job, spec=resolve(tx, job.spec, job.owner_id))
        if tx.count_pending(job.owner_id, self._max_pending) >= self._max_pending:
            raise CyxError(Code.EXHAUSTED, f"You have {self._max_pending} jobs waiting; let some run first")
        refuse_without_room(tx, job.owner_id, self._max_bytes)
        if price > self.price(job.spec):
            submitted = replace(submitted, estimated_cost_units=price)
        if not job.spec.reservation_id:  # its minutes count already
            reserve(tx, job.owner_id, submitted.estimated_cost_units)
        spec = submitted.spec
        if self._payments is not None and lock is not None:
            paid = lock.payment
            spec = replace(spec, max_price_units=paid.amount_units)
            if paid.streams:
                spec = replace(spec, stream_units=paid.cap_units, stream_seconds=paid.rate_seconds)
            submitted = replace(submitted, spec=spec)
            submitted = self._payments.open_signed(tx, submitted, lock)
        elif self._payments is not None and not spec.reservation_id and price:
            # It may cost what is locked for it: dearer nodes don't get it.
            submitted = replace(submitted, spec=replace(spec, max_price_units=price))
            submitted = self._payments.open(tx, submitted, price, self.rate(spec))
        tx.add_job(submitted)
        tx.emit(JobSubmitted(job.id, job.owner_id, job.spec.name), private_to=job.owner_id)
        record(tx, by, "job.submit", f"job:{job.id}")
        if submitted.phase is not Phase.AWAITING_PAYMENT:
            tx.hint(QUEUE)
        return submitted

    async def plan(self, actor: Principal, spec: JobSpec) -> tuple[Estimate, Sequence[Verdict]]:
        """What a submit would meet: the price and every node's answer. Stores nothing."""
        self.check(actor, spec)
        if self._payments is not None and not spec.reservation_id and not spec.max_price_units:
            spec = replace(spec, max_price_units=self.price(spec))  # what is locked for it: `take`

        def unit(tx: Tx) -> Sequence[Candidate]:
            resolve(tx, spec, actor.id)
            return self.candidates(tx)

        estimate, verdicts = self.estimate(spec), explain(spec, await self._store.read(unit), self._weights, actor.id)
        if verdicts and verdicts[0].reason is None:
            units = verdicts[0].quote.units
            estimate = Estimate(estimate.seconds, units / estimate.seconds, units)
        return estimate, verdicts

    def candidates(self, tx: Tx, without: JobId | None = None) -> list[Candidate]:
        """Every node with what is left of it beside the jobs that it has; `without` one of them."""
        held: dict[NodeId, list[Job]] = {}
        for node_id, job in tx.held_jobs():
            if job.id != without:
                held.setdefault(node_id, []).append(job)
        return [
            candidate(
                self._reputation.present(node, tx.now),
                (),
                node.uptime(tx.now),
                self._liveness.connected(node.id),
                self._liveness.closed(node.id),
                self._liveness.data_keys(node.id),
                self._liveness.round_trip(node.id),
                self._tariff,
                self._minimum_stake,
                self._liveness.network_rate(node.id),
                held.get(node.id, ()),
                self._liveness.here(node.id),
            )
            for node in tx.fleet()
        ]

    def refuse_short_of_stake(self, node: Node, owner_id: UserId) -> None:
        """Raises CONFLICT for a node that has too little staked to be kept for that owner."""
        if node.stake_units < self._minimum_stake and node.owner_id != owner_id:
            least = format_cyxwiz(self._minimum_stake)
            raise conflict(f"Node {node.id} has less than {least} CYXWIZ staked: it works for its owner only")

    # look

    async def get(self, actor: Principal, job_id: str) -> Job:
        parsed = parse_job_id(job_id)
        return await self._store.read(lambda tx: owned(tx, actor, parsed))

    async def list(self, actor: Principal, query: JobQuery) -> Page[Job]:
        """The caller's jobs; an admin may ask for anybody's, or all."""
        actor.require(Role.USER, Role.OPERATOR)
        if not actor.is_admin:
            if query.owner_id not in (None, actor.id):
                raise forbidden("You can list only your own jobs")
            query = replace(query, owner_id=actor.id)
        return await self._store.read(lambda tx: tx.jobs(query))

    async def metrics(self, actor: Principal, job_id: str, after: int, limit: int) -> Sequence[MetricPoint]:
        parsed = parse_job_id(job_id)
        return await self._store.read(lambda tx: tx.metrics(owned(tx, actor, parsed).id, after, limit))

    async def logs(self, actor: Principal, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        parsed = parse_job_id(job_id)
        return await self._store.read(lambda tx: read_lines(tx, owned(tx, actor, parsed).id, after, limit)[0])

    async def proof(self, actor: Principal, job_id: str) -> ProofSeen:
        """The chain of its run so far, and what its node has signed."""
        parsed = parse_job_id(job_id)
        return await self._store.read(lambda tx: seen(tx, owned(tx, actor, parsed)))

    async def result(self, actor: Principal, job_id: str) -> JobResult:
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> JobResult:
            job = owned(tx, actor, parsed)
            result = tx.result(job.id)
            if result is None:
                raise conflict(f"Job {job.id} has no result: it is {job.state}", state=str(job.state))
            return result

        return await self._store.read(unit)

    async def explain(self, actor: Principal, job_id: str) -> Explanation:
        """Why a job waits, or where it went: every node's answer and every lease so far."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Explanation:
            job = owned(tx, actor, parsed)
            given = self.candidates(tx, job.id)
            verdicts = explain(job.spec, given, self._weights, job.owner_id, barred(tx, job))
            ahead = 0
            if job.state is JobState.PENDING:
                due = [other.id for other in tx.due_jobs(1000)]
                ahead = due.index(job.id) if job.id in due else len(due)
            runs = tx.leases_of(job.id)
            return Explanation(job, verdicts, runs, ahead, links_within(tx, [each for each in runs if each.live]))

        return await self._store.read(unit)

    async def assignment(self, job: Job, keep: timedelta) -> Assignment | None:
        """The way to the job's node, if that node serves clients itself; for as long as it keeps the weights, which is
        `keep` where it does not say."""
        if job.state in (JobState.PENDING, JobState.CANCELLED, JobState.FAILED):
            return None

        def unit(tx: Tx) -> Node | None:
            result = tx.result(job.id)
            node_id = result.node_id if result else job.node_id
            return tx.node(node_id) if node_id else None

        node = await self._store.read(unit)
        if node is None or not node.endpoint or P2P_SERVICE not in node.services:
            return None
        if node.keep_results_seconds is not None:
            keep = timedelta(seconds=node.keep_results_seconds)
        if job.completed_at is not None and job.completed_at + keep < self._clock.now():
            return None
        token, expires = self._accounts.p2p_token(job.owner_id, job.id, node.id, legacy=node.legacy)
        return Assignment(node, node.endpoint, token, expires)

    # end

    async def cancel(self, actor: Principal, job_id: str, reason: str = "") -> Job:
        """Ends a job that has not ended. Raises CONFLICT as `leases.check_cancel`."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Job:
            job = owned(tx, actor, parsed)
            leases.check_cancel(job)
            job = leases.cancel(tx, job, actor.name, reason[:500] or "cancelled by its owner")
            record(tx, actor.name, "job.cancel", f"job:{job.id}", reason=reason[:500])
            return job

        return await self._store.write(unit)

    async def gives_back(self, job: Job) -> bool:
        """Whether money that was locked for an ended job goes back to its owner, or has gone."""

        def unit(tx: Tx) -> bool:
            return any(each.open or each.refunded_units for each in tx.payments_of(job.id))

        return await self._store.read(unit)

    async def pause(self, actor: Principal, job_id: str) -> Job:
        """Sets a job aside, after its run has saved a checkpoint. Raises CONFLICT as `leases.pause`."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Job:
            job = leases.pause(tx, owned(tx, actor, parsed), actor.name)
            record(tx, actor.name, "job.pause", f"job:{job.id}")
            return job

        return await self._store.write(unit)

    async def resume(self, actor: Principal, job_id: str) -> Job:
        """Lets a paused job go on. Raises CONFLICT for one that is not paused."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Job:
            job = leases.resume(tx, owned(tx, actor, parsed), actor.name)
            record(tx, actor.name, "job.resume", f"job:{job.id}")
            return job

        return await self._store.write(unit)

    async def preempt(self, actor: Principal, job_id: str, reason: str) -> Job:
        """Takes a job away from its node, which saves a checkpoint first; it goes on elsewhere. For admins.

        Raises:
            CyxError: CONFLICT for a job that no node has, or whose node knows no checkpoints.
        """
        actor.require(Role.ADMIN)
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Job:
            job = owned(tx, actor, parsed)
            lease = tx.lease(job.id, job.token) if job.token else None
            if lease is None or not lease.live:
                raise conflict(f"Job {job.id} is {job.state}: no node has it", state=str(job.state))
            node = tx.node(lease.node_id)
            if node is not None and node.legacy:
                raise conflict(f"Job {job.id} runs on a node of the earlier kind, which saves no checkpoints")
            job = leases.preempt(tx, job, lease, reason[:300] or f"preempted by {actor.name}", actor.name)
            record(tx, actor.name, "job.preempt", f"job:{job.id}", reason=reason[:300])
            return job

        return await self._store.write(unit)

    async def checkpoints(self, actor: Principal, job_id: str, offset: int, limit: int) -> Page[Checkpoint]:
        """The newest first."""
        parsed = parse_job_id(job_id)
        return await self._store.read(lambda tx: tx.checkpoint_page(owned(tx, actor, parsed).id, offset, limit))

    async def delete(self, actor: Principal, job_id: str) -> None:
        """Forgets an ended job with its curve, logs and result. Raises CONFLICT while it has not ended."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> None:
            job = owned(tx, actor, parsed)
            if not job.ended:
                raise conflict(f"Job {job.id} is {job.state}: cancel it first", state=str(job.state))
            verification = tx.verification(job.id)
            if verification is not None and verification.outcome is Outcome.OPEN:
                raise conflict(f"The checks of job {job.id} are still being ended: try again in a moment")
            if not settled(tx, job.id):
                raise conflict(f"The payments of job {job.id} are still being settled: try again in a moment")
            for checkpoint in tx.kept_checkpoints(job.id):
                release(tx, job.id, checkpoint)
            keep_cost(tx, job)
            tx.delete_job(job.id)
            tx.emit(JobDeleted(job.id, job.owner_id), private_to=job.owner_id)
            record(tx, actor.name, "job.delete", f"job:{job.id}")

        await self._store.write(unit)

    # blobs

    async def record_blob(self, sha256: str, size: int, *, owner: UserId | None, sender: NodeId | None = None) -> None:
        """Records a blob that is stored. What a node sends belongs to nobody until a result names it."""

        def unit(tx: Tx) -> None:
            tx.add_blob(BlobInfo(sha256, size, tx.now), owner)
            if sender is not None:
                tx.add_blob_sender(sha256, sender)

        await self._store.write(unit)

    async def sent_blob(self, node_id: NodeId, sha256: str) -> bool:
        """Whether the node has sent this blob whole, and it is recorded still."""
        return await self._store.read(lambda tx: tx.sent_blob(sha256, node_id))

    async def may_read_blob(self, actor: Principal, sha256: str) -> None:
        """Raises NOT_FOUND unless the blob is the caller's, or named by a live lease of the calling node."""
        if not await self._store.read(lambda tx: may_read(tx, actor, sha256)):
            raise not_found("blob", sha256[:64])


def _content(spec: JobSpec) -> str:
    return json.dumps(asdict(spec), sort_keys=True, default=str)


def _payment_of(actor: Principal, spec: JobSpec, job_id: JobId) -> Repeats:
    """A submit with a quote: the quote is the key."""
    return Repeats(f"paid:{actor.id}", job_id, _content(spec), "quote")


def owned(tx: Tx, actor: Principal, job_id: JobId) -> Job:
    """The job, if the caller may see it. Raises NOT_FOUND or FORBIDDEN."""
    job = tx.job(job_id)
    if job is None:
        raise not_found("job", job_id)
    if not actor.owns(job.owner_id):
        raise forbidden(f"Job {job_id} is not yours")
    return job
