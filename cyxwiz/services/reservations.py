"""Reservations as their owners use them: reserve a node, keep it, run jobs on it, give it back.

A change is a unit of the store; the money that it owes moves afterwards, by keys that let it be tried again. What has
ended stays owed in the store until its money has moved (`settle_owed`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import CyxError, conflict, forbidden, invalid, not_found
from cyxwiz.domain.ids import JobId, NodeId, ReservationId, engine_job, new_id, parse_node_id, parse_reservation_id
from cyxwiz.domain.job import Job, JobSpec
from cyxwiz.domain.node import Node
from cyxwiz.domain.reservation import (
    EXTEND_BELOW,
    NOTHING,
    TOKEN_STAYS,
    Reservation,
    check_amount,
    check_minutes,
    extended,
    hourly_rate,
)
from cyxwiz.domain.states import NodeState, ReservationState, ReservationTrigger
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Page, ReservationQuery, ReservedJobs, Store, Tx
from cyxwiz.services import budgets
from cyxwiz.services import reservation_ends as ends
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.audit import record
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.repeats import Repeats
from cyxwiz.services.reports import check_metrics, share
from cyxwiz.services.reservation_funds import ReservationFunds
from cyxwiz.services.reserved_jobs import is_over, refuse_foreign, refuse_unfit

log = logging.getLogger(__name__)
MAX_WALLET = 200
MAX_JOB_ID = 100
OWED_BATCH = 100

Act = Callable[[Tx, Reservation], Reservation]


@dataclass(frozen=True, slots=True)
class Look:
    """A reservation with what is known around it."""

    reservation: Reservation
    node: Node | None
    jobs_completed: int
    current_job_id: str
    progress: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pass:
    """How the owner reaches the node: the token is for all jobs of the reservation, until a while after its end."""

    look: Look
    endpoint: str
    token: str
    expires_at: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class Heard:
    reservation: Reservation
    remaining: timedelta
    should_extend: bool


class Reservations:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        accounts: Accounts,
        liveness: Liveness,
        jobs: Jobs,
        funds: ReservationFunds,
        *,
        fee_percent: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._accounts = accounts
        self._liveness = liveness
        self._jobs = jobs
        self._funds = funds
        self._fee_percent = fee_percent

    @property
    def charges(self) -> bool:
        """Whether a ledger moves money; without one the amounts are what would be paid."""
        return self._funds.charges

    # reserve

    async def reserve(
        self, actor: Principal, node_id: str, wallet: str, minutes: int, spec: JobSpec | None = None, key: str = ""
    ) -> Pass:
        """Keeps a node for the caller, locks the price and submits the first job, which has the reservation's id.

        A node of the earlier kind gets its jobs from its client: none is submitted for it here.

        Raises:
            CyxError: INVALID out of bounds; NOT_FOUND; CONFLICT for a node that is away, drained, closed, busy or
                reserved, or can't take the job; what a submit of the job refuses; FUNDS.
        """
        actor.require(Role.USER, Role.OPERATOR)
        check_minutes(minutes)
        if len(wallet) > MAX_WALLET:
            raise invalid(f"user_wallet: at most {MAX_WALLET} characters", field="user_wallet")
        parsed, reservation_id = parse_node_id(node_id), ReservationId(new_id())
        request = Repeats(f"reserve:{actor.id}", key, _asked(parsed, wallet, minutes, spec))
        if spec is not None:
            spec = replace(spec, reservation_id=reservation_id)
            self._jobs.check(actor, spec)

        def unit(tx: Tx) -> tuple[Reservation, bool]:
            if (known := request.answered(tx)) is not None:
                first = tx.reservation(ReservationId(known))
                if first is None:
                    raise not_found("reservation", known)
                return first, False
            node = self._free(tx, parsed, spec)
            self._jobs.refuse_short_of_stake(node, actor.id)
            rate = hourly_rate(node)
            check_amount(rate, minutes)
            made = Reservation(
                id=reservation_id,
                owner_id=actor.id,
                node_id=node.id,
                user_wallet=wallet,
                node_wallet=node.wallet_address,
                started_at=tx.now,
                minutes=minutes,
                rate_units_per_hour=rate,
                fee_percent=self._fee_percent,
            )
            budgets.reserve(tx, actor.id, made.escrow_units, minutes=minutes)
            tx.add_reservation(made)
            request.keep(tx, made.id)
            record(tx, actor.name, "reservation.reserve", f"reservation:{made.id}", node=node.id, minutes=minutes)
            return made, True

        made, new = await self._store.write(unit)
        if new:
            await self._open(actor, made, spec)
        elif not made.live:
            raise is_over(made)
        return await self._pass(made.id)

    def _free(self, tx: Tx, node_id: NodeId, spec: JobSpec | None) -> Node:
        """The node, if it can be reserved now, and take the job. Raises NOT_FOUND, CONFLICT."""
        node = tx.node(node_id)
        if node is None:
            raise not_found("node", node_id)
        before = tx.reservation_of(node_id)
        if before is not None and before.over(tx.now):
            ends.expire(tx, before)
        elif before is not None:
            until = before.ends_at.isoformat(timespec="seconds")
            raise conflict(f"Node {node_id} is reserved until {until}: take another one", until=until)
        closed = self._liveness.closed(node_id)
        if node.state is not NodeState.ONLINE or not self._liveness.connected(node_id):
            raise conflict(f"Node {node_id} is not online: take another one", status=node.status)
        if node.cordoned or closed:
            raise conflict(f"Node {node_id} takes no jobs now: {closed or 'it is draining'}", status=node.status)
        if node.load:
            raise conflict(f"Node {node_id} runs {node.load} jobs: only an idle node can be reserved", load=node.load)
        if spec is not None:
            refuse_unfit(tx, node, spec)
        return node

    async def _open(self, actor: Principal, made: Reservation, spec: JobSpec | None) -> None:
        """Locks the amount and submits the first job. What goes wrong ends the reservation, at no cost."""
        job = self._jobs.new(actor.id, spec, JobId(made.id)) if spec is not None else None

        def unit(tx: Tx) -> None:
            held = _live(tx, made.id)
            tx.save_reservation(replace(held, held=True, escrow_account=hold.account, escrow_tx_hash=hold.tx_hash))
            node = tx.node(made.node_id)
            if job is not None and (node is None or not node.legacy):
                self._jobs.take(tx, job, actor.name)

        try:
            hold = await self._funds.reserve(made, f"reserve:{made.id}")
            await self._store.write(unit)
        except CyxError as error:
            reason = error.message
            await self._store.write(lambda tx: self._fail(tx, made.id, reason))
            await self._settle(made.id)
            raise

    def _fail(self, tx: Tx, reservation_id: ReservationId, reason: str) -> None:
        reservation = tx.reservation(reservation_id)
        if reservation is not None and reservation.live:
            ends.finish(tx, reservation, ReservationTrigger.FAIL, NOTHING, reason, ends.SYSTEM)

    # look

    async def get(self, actor: Principal, reservation_id: str) -> Look:
        parsed = parse_reservation_id(reservation_id)
        return await self._store.read(lambda tx: look(tx, owned(tx, actor, parsed)))

    async def list(self, actor: Principal, query: ReservationQuery) -> Page[Look]:
        """The caller's reservations; an admin may ask for anybody's, or all."""
        actor.require(Role.USER, Role.OPERATOR)
        if not actor.is_admin:
            if query.owner_id not in (None, actor.id):
                raise forbidden("You can list only your own reservations")
            query = replace(query, owner_id=actor.id)

        def unit(tx: Tx) -> Page[Look]:
            found = tx.reservations(query)
            return Page([look(tx, each) for each in found.items], found.total, found.capped)

        return await self._store.read(unit)

    async def live(self, actor: Principal, wallet: str) -> Sequence[Look]:
        """The caller's reservations of that wallet that keep a node now."""
        query = ReservationQuery(wallet=wallet, at=self._clock.now())
        return (await self.list(actor, query)).items

    async def reconnect(self, actor: Principal, reservation_id: str, wallet: str = "") -> Pass:
        """A fresh token for a live reservation. Raises FORBIDDEN for another wallet than it was made with."""
        parsed = parse_reservation_id(reservation_id)

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            if wallet and reservation.user_wallet and wallet != reservation.user_wallet:
                raise forbidden(f"Reservation {reservation.id} belongs to another wallet")
            return reservation

        return await self._pass((await self._change(actor, parsed, act)).id)

    async def _pass(self, reservation_id: ReservationId) -> Pass:
        def unit(tx: Tx) -> Look:
            reservation = tx.reservation(reservation_id)
            assert reservation is not None, "reservations are never deleted"
            return look(tx, reservation)

        found = await self._store.read(unit)
        reservation, node = found.reservation, found.node
        token, expires = self._accounts.p2p_token(
            reservation.owner_id,
            reservation.id,
            reservation.node_id,
            legacy=node is not None and node.legacy,
            reservation_id=reservation.id,
            until=reservation.ends_at + TOKEN_STAYS,
        )
        return Pass(found, node.endpoint if node is not None else "", token, expires)

    # use

    async def heartbeat(
        self,
        actor: Principal,
        reservation_id: str,
        job_id: str,
        training: bool,
        progress: float,
        metrics: Mapping[str, float],
    ) -> Heard:
        """The engine is there; the first one makes it active. Raises INVALID, NOT_FOUND for a foreign job, CONFLICT."""
        if len(job_id) > MAX_JOB_ID:
            raise invalid(f"job_id: at most {MAX_JOB_ID} characters", field="job_id")
        share(progress, "job_progress")
        told = check_metrics(metrics)

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            refuse_foreign(tx, reservation, job_id)
            heard = replace(reservation, heard_at=tx.now, current_job_id=job_id, job_progress=progress, metrics=told)
            if heard.state is ReservationState.PENDING:
                heard = heard.move(ReservationTrigger.CONNECT)
            heard = tx.save_reservation(heard)
            return ends.attend(tx, heard, self._liveness.takes_jobs)

        reservation = await self._change(actor, parse_reservation_id(reservation_id), act)
        if not reservation.live:
            raise is_over(await self._settle(reservation.id))
        remaining = reservation.remaining(self._clock.now())
        return Heard(reservation, remaining, training and remaining < EXTEND_BELOW)

    async def extend(
        self, actor: Principal, reservation_id: str, minutes: int, key: str = ""
    ) -> tuple[Reservation, int, str]:
        """More time at the same price, once a key: the reservation, the units locked for it, and the transaction that
        did."""
        parsed = parse_reservation_id(reservation_id)
        request = Repeats(f"extend:{actor.id}", key, f"{parsed} {minutes}")
        if key and (answer := await self._store.read(request.answered)) is not None:
            units, _, transaction = answer.partition(" ")
            return (await self.get(actor, parsed)).reservation, int(units), transaction

        def see(tx: Tx, reservation: Reservation) -> Reservation:
            more = extended(reservation, minutes, tx.now).escrow_units - reservation.escrow_units
            budgets.reserve(tx, reservation.owner_id, more, minutes=minutes)
            return reservation

        seen = await self._change(actor, parsed, see)
        longer = extended(seen, minutes, self._clock.now())
        added = longer.escrow_units - seen.escrow_units
        hold = await self._funds.extend(seen, added, f"extend:{seen.id}:{longer.extensions}:{minutes}")

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            if request.answered(tx) is not None:
                return reservation  # the same call was under way; it locked the same once
            if reservation.extensions != seen.extensions:
                raise conflict(f"Reservation {parsed} was extended by another call meanwhile: look, then try again")
            if reservation.ending:
                raise conflict(f"Reservation {parsed} is being ended by one of its sides: reserve anew")
            saved = tx.save_reservation(
                replace(reservation, minutes=longer.minutes, extensions=longer.extensions)
            )  # fmt: skip
            record(tx, actor.name, "reservation.extend", f"reservation:{parsed}", minutes=minutes, units=added)
            request.keep(tx, f"{added} {hold.tx_hash}")
            return saved

        return await self._change(actor, parsed, act), added, hold.tx_hash

    # end

    async def release(self, actor: Principal, reservation_id: str, reason: str = "") -> Reservation:
        """Gives the node back: what was used is paid, the rest goes back. Again, it answers as before."""

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            used = reservation.used(tx.now)
            why = reason[:400] or "released by its owner"
            return ends.finish(tx, reservation, ReservationTrigger.CANCEL, used, why, actor.name)

        return await self._end(actor, reservation_id, act, ReservationState.CANCELLED)

    async def complete(self, actor: Principal, reservation_id: str, job_id: str, reason: str) -> Reservation:
        """Its owner says that all is done: paid as in `release`, but the end of a reservation that went well. Raises
        NOT_FOUND for a job that is not the reservation's: whoever names it means another one."""

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            refuse_foreign(tx, reservation, job_id)
            used = reservation.used(tx.now)
            return ends.finish(tx, reservation, ReservationTrigger.COMPLETE, used, reason, actor.name)

        return await self._end(actor, reservation_id, act, ReservationState.COMPLETED)

    async def engine_ended(self, actor: Principal, reservation_id: str) -> Reservation:
        """The engine's side is over: nothing more counts as used.

        Central itself keeps the books of the nodes that hold a stream to it, so that their side is over with the
        engine's; one of the earlier kind has to say so itself.
        """

        def act(tx: Tx, reservation: Reservation) -> Reservation:
            noted = replace(reservation, engine_ended_at=reservation.engine_ended_at or tx.now)
            node = tx.node(noted.node_id)
            if noted.node_ended_at is None and node is not None and node.legacy:
                return tx.save_reservation(noted)
            return ends.both_ended(tx, noted, actor.name)

        return await self._end(actor, reservation_id, act, ReservationState.COMPLETED)

    async def settle_owed(self) -> int:
        """Moves the money of what has ended, as far as the ledger lets it; returns how many were settled."""
        owed = await self._store.read(lambda tx: tx.unsettled_reservations(OWED_BATCH))
        settled = [await self._settle(each.id) for each in owed]
        return sum(each.settled_at is not None for each in settled)

    async def attend(self) -> int:
        """Expires what is over and fails what lost its node; returns how many were changed."""

        def unit(tx: Tx) -> list[ReservationId]:
            live, takes = tx.live_reservations(), self._liveness.takes_jobs
            return [each.id for each in live if ends.wants_attention(tx, each, takes)]

        def act(tx: Tx, reservation_id: ReservationId) -> None:
            reservation = tx.reservation(reservation_id)
            if reservation is not None and reservation.live:
                ends.attend(tx, reservation, self._liveness.takes_jobs)

        found = await self._store.read(unit)
        for reservation_id in found:
            await self._store.write(lambda tx: act(tx, reservation_id))  # noqa: B023
        return len(found)

    async def settled(self, reservation: Reservation) -> Reservation:
        """A reservation whose end was just written, once its money has moved or the ledger would not."""
        return await self._settle(reservation.id) if reservation.ended_at is not None else reservation

    # within

    async def _change(self, actor: Principal, reservation_id: ReservationId, act: Act) -> Reservation:
        """Changes a live reservation of the caller's. Raises CONFLICT (`is_over`) for one that has ended."""

        def unit(tx: Tx) -> tuple[Reservation, bool]:
            reservation = owned(tx, actor, reservation_id)
            if reservation.live and reservation.over(tx.now):
                reservation = ends.expire(tx, reservation)
            return (act(tx, reservation), True) if reservation.live else (reservation, False)

        reservation, changed = await self._store.write(unit)
        if not changed:
            raise is_over(await self._settle(reservation.id))
        return reservation

    async def _end(self, actor: Principal, reservation_id: str, act: Act, state: ReservationState) -> Reservation:
        """Ends a reservation; one that has ended in this way already is answered as it was then."""
        parsed = parse_reservation_id(reservation_id)
        try:
            ended = await self._change(actor, parsed, act)
        except CyxError:
            before = await self._store.read(lambda tx: owned(tx, actor, parsed))
            if before.state is not state:
                raise
            return before
        return await self.settled(ended)

    async def _settle(self, reservation_id: ReservationId) -> Reservation:
        """Moves what is owed. A ledger that would not is asked again later."""
        reservation = await self._store.read(lambda tx: tx.reservation(reservation_id))
        assert reservation is not None, "reservations are never deleted"
        if reservation.ended_at is None or reservation.settled_at is not None:
            return reservation
        try:
            moved = await self._funds.settle(reservation)
        except CyxError as error:
            log.warning("reservation %s is not settled yet: %s", reservation.id, error.message)
            return reservation

        def unit(tx: Tx) -> Reservation:
            found = tx.reservation(reservation_id)
            if found is None or found.settled_at is not None:
                return found or reservation
            paid = found.paid_units if moved.paid_units is None else moved.paid_units
            if paid != found.paid_units:  # as on a ledger whose deadline has passed: the row says what was
                log.error("reservation %s: %d of the %d units owed were paid", found.id, paid, found.paid_units)
            return tx.save_reservation(
                replace(
                    found,
                    paid_units=paid,
                    refunded_units=found.escrow_units - paid,
                    payment_tx_hash=moved.payment_tx_hash,
                    refund_tx_hash=moved.refund_tx_hash,
                    charged=self._funds.charges,
                    settled_at=tx.now,
                )
            )

        return await self._store.write(unit)


def owned(tx: Tx, actor: Principal, reservation_id: ReservationId) -> Reservation:
    """The reservation, if the caller may see it. Raises NOT_FOUND or FORBIDDEN."""
    reservation = tx.reservation(reservation_id)
    if reservation is None:
        raise not_found("reservation", reservation_id)
    if not actor.owns(reservation.owner_id):
        raise forbidden(f"Reservation {reservation_id} is not yours")
    return reservation


def look(tx: Tx, reservation: Reservation) -> Look:
    jobs = tx.reserved_jobs(reservation.id)
    running = _running(jobs)
    told = reservation.current_job_id or (running.id if running else "")
    known = next((job for job in jobs.open if job.id == engine_job(told)), None)
    return Look(
        reservation,
        tx.node(reservation.node_id),
        jobs.completed + len(reservation.reported_jobs),
        told,
        known.progress if known else reservation.job_progress,
        known.metrics if known else reservation.metrics,
    )


def _running(jobs: ReservedJobs) -> Job | None:
    return next((job for job in jobs.open if job.node_id is not None), None) or next(iter(jobs.open), None)


def _live(tx: Tx, reservation_id: ReservationId) -> Reservation:
    reservation = tx.reservation(reservation_id)
    if reservation is None:
        raise not_found("reservation", reservation_id)
    if not reservation.live:
        raise is_over(reservation)
    return reservation


def _asked(node_id: NodeId, wallet: str, minutes: int, spec: JobSpec | None) -> str:
    asked = [node_id, wallet, minutes, asdict(spec) if spec is not None else None]
    return json.dumps(asked, sort_keys=True, default=str)
