"""Jobs of a reservation: who may submit one, and that its node can take it."""

from __future__ import annotations

from dataclasses import replace

from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, invalid, not_found
from cyxwiz.domain.ids import JobId, parse_reservation_id
from cyxwiz.domain.job import JobSpec
from cyxwiz.domain.node import Node
from cyxwiz.domain.reservation import Reservation
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.feasible import why_not
from cyxwiz.scheduler.policy import candidate


def check_reserved(tx: Tx, spec: JobSpec, owner_id: str) -> None:
    """Refuses a job that names a reservation which it can't run in. A job that names none is not looked at.

    Raises:
        CyxError: NOT_FOUND, FORBIDDEN, CONFLICT once the reservation is over; INVALID for a gang.
    """
    if not spec.reservation_id:
        return
    reservation_id = parse_reservation_id(spec.reservation_id)
    reservation = tx.reservation(reservation_id)
    if reservation is None:
        raise not_found("reservation", reservation_id)
    if reservation.owner_id != owner_id:
        raise forbidden(f"Reservation {reservation_id} is not yours")
    if not reservation.live or reservation.over(tx.now):
        raise is_over(reservation)
    if not reservation.held:
        raise CyxError(Code.UNAVAILABLE, f"Reservation {reservation_id} is being paid for: try again in a moment")
    if spec.resources.nodes > 1:
        raise invalid("resources.nodes: a reservation is of one node; leave out one of the two", field="reservation")


def refuse_unfit(tx: Tx, node: Node, spec: JobSpec) -> None:
    """Raises CONFLICT for a job that the node can't take even when it is kept for it and nothing else runs there."""
    kept = replace(node, reservation_id=spec.reservation_id)
    reason = why_not(spec, candidate(kept, (), node.uptime(tx.now)))
    if reason is not None:
        raise conflict(f"Node {node.id} can't take this job: {reason}", reason=reason)


def refuse_foreign(tx: Tx, reservation: Reservation, job_id: str) -> None:
    """Raises NOT_FOUND for a job that is not the reservation's, if one is named. What is named after it is; and of a
    node of the earlier kind, which gets its jobs from the engine, central knows none."""
    if not job_id or job_id.partition("_")[0] == reservation.id:
        return
    job, node = tx.job(JobId(job_id)), tx.node(reservation.node_id)
    unknown = job is None and "_" not in job_id and node is not None and node.legacy
    if not unknown and (job is None or job.spec.reservation_id != reservation.id):
        raise not_found("job", job_id)


def is_over(reservation: Reservation) -> CyxError:
    """What a call on a reservation that has ended is told. `expired` in the details: its time ran out."""
    state = "expired" if reservation.live else str(reservation.state)
    why = f": {reservation.end_reason}" if reservation.end_reason else ""
    message = f"Reservation {reservation.id} is {state}{why}; reserve anew"
    return conflict(message, state=state, expired=state == "expired")
