"""What nodes say of a reservation: a job that they brought to an end for its engine, and that it is over.

Jobs that central placed are in its own books already. Nodes of the earlier kind get theirs from the engine, and their
word is all that central knows of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid, not_found
from cyxwiz.domain.ids import JobId, NodeId, ReservationId, parse_reservation_id
from cyxwiz.domain.reputation import Kind, ReputationEvent
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import ReservationState
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services.audit import record
from cyxwiz.services.reports import check_metrics
from cyxwiz.services.reputation import Reputation
from cyxwiz.services.reservation_ends import both_ended, expire
from cyxwiz.services.reservations import MAX_JOB_ID, Reservations
from cyxwiz.services.reserved_jobs import is_over

MAX_REPORTED = 2000  # jobs of one reservation


@dataclass(frozen=True, slots=True)
class Told:
    """What a report of a job came to; reputation from 0 to 1."""

    reputation: float
    change: float
    jobs: int
    message: str


class ReservationReports:
    def __init__(self, store: Store, reservations: Reservations, reputation: Reputation) -> None:
        self._store = store
        self._reservations = reservations
        self._reputation = reputation

    async def job_ended(
        self, node_id: NodeId, reservation_id: str, job_id: str, success: bool, metrics: Mapping[str, float]
    ) -> Told:
        """A node brought a job of the reservation to an end. The same job again changes nothing.

        Raises:
            CyxError: NOT_FOUND, FORBIDDEN for another node's, INVALID, CONFLICT once it is over, EXHAUSTED.
        """
        parsed = parse_reservation_id(reservation_id)
        if not 0 < len(job_id) <= MAX_JOB_ID:
            raise invalid(f"job_id: must have 1 to {MAX_JOB_ID} characters", field="job_id")
        told = check_metrics(metrics)

        def unit(tx: Tx) -> Told:
            reservation = _of_node(tx, parsed, node_id)
            if not reservation.live:
                raise is_over(reservation)
            node = tx.node(node_id)
            if node is None:
                raise not_found("node", node_id)
            known = tx.job(JobId(job_id))
            count = tx.reserved_jobs(parsed).completed + len(reservation.reported_jobs)
            if known is not None and known.spec.reservation_id == parsed:
                return Told(node.reputation, 0.0, count, "central placed this job and counts it by its own books")
            if job_id in reservation.reported_jobs:
                return Told(node.reputation, 0.0, count, "this job was reported before")
            if len(reservation.reported_jobs) >= MAX_REPORTED:
                raise CyxError(Code.EXHAUSTED, f"At most {MAX_REPORTED} jobs are reported of one reservation")
            kind = Kind.SUCCESS if success else Kind.FAILURE
            seen = ReputationEvent(kind, note=f"job {job_id} of reservation {parsed}")
            counted = self._reputation.record(tx, node_id, seen, completed=success, failed=not success) or node
            tx.save_reservation(
                replace(
                    reservation,
                    reported_jobs=(*reservation.reported_jobs, job_id),
                    proven_at=tx.now if success else reservation.proven_at,
                )
            )
            action = "reservation.job_completed" if success else "reservation.job_failed"
            record(tx, f"node:{node_id}", action, f"reservation:{parsed}", job=job_id, metrics=told)
            return Told(counted.reputation, counted.reputation - node.reputation, count + 1, "counted")

        return await self._store.write(unit)

    async def node_ended(self, node_id: NodeId, reservation_id: str) -> Reservation:
        """The node's side is over. It stays kept until the engine says so as well, or the time is over.

        Raises:
            CyxError: NOT_FOUND, FORBIDDEN for another node's, CONFLICT for one that ended in another way.
        """
        parsed = parse_reservation_id(reservation_id)

        def unit(tx: Tx) -> Reservation:
            reservation = _of_node(tx, parsed, node_id)
            if not reservation.live:
                return reservation
            if reservation.over(tx.now):
                return expire(tx, reservation)
            noted = replace(reservation, node_ended_at=reservation.node_ended_at or tx.now)
            if noted.engine_ended_at is None:
                return tx.save_reservation(noted)
            return both_ended(tx, noted, f"node:{node_id}")

        reservation = await self._reservations.settled(await self._store.write(unit))
        if reservation.live or reservation.state is ReservationState.COMPLETED:
            return reservation
        raise is_over(reservation)


def _of_node(tx: Tx, reservation_id: ReservationId, node_id: NodeId) -> Reservation:
    reservation = tx.reservation(reservation_id)
    if reservation is None:
        raise not_found("reservation", reservation_id)
    if reservation.node_id != node_id:
        raise forbidden(f"Reservation {reservation_id} is of another node")
    return reservation
