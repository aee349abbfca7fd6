"""How reservations end, and what that does: inside a unit of the store.

An end writes the amounts into the row; the ledger moves them afterwards. Jobs of the reservation that have not ended
are cancelled, and their last checkpoints become the owner's blobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from cyxwiz.domain.node import Node
from cyxwiz.domain.reservation import NOTHING, Reservation
from cyxwiz.domain.states import NodeState, ReservationTrigger
from cyxwiz.ports.store import ReservedJobs, Tx
from cyxwiz.services import leases
from cyxwiz.services.audit import record
from cyxwiz.services.owner_commands import keep_checkpoint

SYSTEM = "central"
UNHELD_STAYS = timedelta(seconds=60)  # for which a reservation may wait for its amount to be locked

TakesJobs = Callable[[Node], bool | None]
"""Whether a node that is online takes jobs; None where another central knows."""


def finish(
    tx: Tx, reservation: Reservation, trigger: ReservationTrigger, used: timedelta, reason: str, by: str
) -> Reservation:
    """The end of a live reservation after so much use."""
    ended = tx.save_reservation(reservation.end(trigger, tx.now, used, reason))
    for listed in tx.reserved_jobs(ended.id).open:
        job = tx.job(listed.id)
        if job is not None and not job.ended:
            keep_checkpoint(tx, job)
            leases.cancel(tx, job, by, f"its reservation ended: {reason}"[:500])
    amounts = {"paid_units": ended.paid_units, "refunded_units": ended.refunded_units}
    record(tx, by, f"reservation.{trigger}", f"reservation:{ended.id}", reason=reason[:500], **amounts)
    tx.hint(leases.QUEUE, f"node:{ended.node_id}")
    return ended


def expire(tx: Tx, reservation: Reservation) -> Reservation:
    """Its time is over: what was kept for its owner counts as used, whether it was used or not."""
    return finish(
        tx, reservation, ReservationTrigger.EXPIRE, reservation.used(tx.now), "its time is over", SYSTEM
    )  # fmt: skip


def lose(tx: Tx, reservation: Reservation, since: datetime) -> Reservation:
    """Its node is away. Under a connected engine or a job that had begun it fails, and only the time up to the last
    completed job is paid; else the room is kept until the node is back, the engine comes, or the time is over."""
    jobs = tx.reserved_jobs(reservation.id)
    begun = any(job.attempts for job in jobs.open)
    if not begun and not reservation.connected(tx.now):
        if reservation.node_lost_at is not None:
            return reservation
        lost_at = min(tx.now, max(since, reservation.started_at))
        return tx.save_reservation(replace(reservation, node_lost_at=lost_at))
    proven = replace(reservation, proven_at=_last(reservation.proven_at, jobs))
    reason = "its node went away while it was in use"
    return finish(tx, proven, ReservationTrigger.FAIL, proven.proven(tx.now), reason, SYSTEM)


def found_again(tx: Tx, reservation: Reservation) -> Reservation:
    """Its node is back before anybody missed it, or takes jobs again: the time away is not paid."""
    assert reservation.node_lost_at is not None
    away = reservation.away_seconds + (tx.now - reservation.node_lost_at).total_seconds()
    return tx.save_reservation(replace(reservation, node_lost_at=None, away_seconds=away))


def wants_attention(tx: Tx, reservation: Reservation, takes_jobs: TakesJobs) -> bool:
    """Whether `attend` would change something."""
    return (
        reservation.over(tx.now)
        or (not reservation.held and tx.now - reservation.started_at > UNHELD_STAYS)
        or _there(tx.node(reservation.node_id), takes_jobs) is (reservation.node_lost_at is not None)
    )


def attend(tx: Tx, reservation: Reservation, takes_jobs: TakesJobs) -> Reservation:
    """Brings a live reservation up to date with the time and its node."""
    if not reservation.held and tx.now - reservation.started_at > UNHELD_STAYS:
        return finish(
            tx, reservation, ReservationTrigger.FAIL, NOTHING, "its amount was not locked in time", SYSTEM
        )  # fmt: skip
    if reservation.over(tx.now):
        return expire(tx, reservation)
    node = tx.node(reservation.node_id)
    if node is None or node.state is not NodeState.ONLINE:
        return lose(tx, reservation, node.last_seen_at if node is not None else tx.now)
    there, missed = _there(node, takes_jobs), reservation.node_lost_at is not None
    if there and missed:
        return found_again(tx, reservation)
    if there is False and not missed:  # the room is kept, and the time until it takes jobs again is not paid
        return tx.save_reservation(replace(reservation, node_lost_at=tx.now))
    return reservation


def _there(node: Node | None, takes_jobs: TakesJobs) -> bool | None:
    """Whether the node can be used now; None where another central knows."""
    return takes_jobs(node) if node is not None and node.state is NodeState.ONLINE else False


def _last(proven_at: datetime | None, jobs: ReservedJobs) -> datetime | None:
    known = [at for at in (proven_at, jobs.last_completed_at) if at is not None]
    return max(known) if known else None


def both_ended(tx: Tx, reservation: Reservation, by: str) -> Reservation:
    """Engine and node have said that it is over."""
    saved = tx.save_reservation(reservation)
    used = saved.used(tx.now)
    return finish(tx, saved, ReservationTrigger.COMPLETE, used, "ended by its engine and its node", by)
