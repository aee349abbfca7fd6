"""What the client of a reservation asked its node for over P2P: a further job, or the end of the reservation.

The node's word is taken for its client's: it can only start jobs on itself, within a time that is paid for anyhow, and
end what it is paid for. It opens none of its client's blobs that it could not read before.
"""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import DecodeError

from cyxwiz.domain.errors import conflict, forbidden, invalid, not_found
from cyxwiz.domain.ids import JobId, ReservationId, parse_job_id, parse_reservation_id
from cyxwiz.domain.job import JobSpec
from cyxwiz.domain.node import Node
from cyxwiz.domain.reservation import Reservation
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import JobQuery, Store, Tx
from cyxwiz.protocol.job_pb2 import JobConfig
from cyxwiz.services.jobconfig import spec_of
from cyxwiz.services.jobfile import blobs_of, check_spec, resolve
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.reservation_ends import both_ended, expire
from cyxwiz.services.reservations import Reservations
from cyxwiz.services.reserved_jobs import is_over, refuse_unfit


class ReservationCommands:
    def __init__(self, store: Store, jobs: Jobs, reservations: Reservations) -> None:
        self._store = store
        self._jobs = jobs
        self._reservations = reservations

    async def obey(self, node: Node, command: pb.OwnerCommand) -> str:
        """Does what was asked; the id of the job that was started, if any.

        Raises:
            CyxError: NOT_FOUND; FORBIDDEN for another node's reservation, and for blobs that it has not seen; CONFLICT
                once it is over, for an id that another job has and for a job that the node can't take; what a submit
                refuses.
        """
        parsed = parse_reservation_id(command.reservation_id)
        if command.action == pb.OwnerCommand.START:
            return await self._start(node, parsed, command.config)
        if command.action != pb.OwnerCommand.END_RESERVATION:
            raise invalid("action: names a reservation, and is neither START nor END_RESERVATION", field="action")
        by = f"its owner, by node {node.name}"

        def unit(tx: Tx) -> Reservation:
            reservation = _of_node(tx, parsed, node)
            if not reservation.live:
                return reservation
            if reservation.over(tx.now):
                return expire(tx, reservation)
            return both_ended(tx, replace(reservation, engine_ended_at=tx.now, node_ended_at=tx.now), by)

        await self._reservations.settled(await self._store.write(unit))
        return ""

    async def _start(self, node: Node, reservation_id: ReservationId, data: bytes) -> JobId:
        config = _decoded(data)
        job_id = parse_job_id(config.job_id) if config.job_id else None
        spec: JobSpec = replace(spec_of(config), reservation_id=reservation_id)
        check_spec(spec)

        def unit(tx: Tx) -> JobId:
            reservation = _of_node(tx, reservation_id, node)
            if not reservation.live or reservation.over(tx.now):
                raise is_over(reservation)
            known = tx.job(job_id) if job_id is not None else None
            if known is not None and known.spec.reservation_id == reservation_id:
                return known.id  # asked again, or central gave it with the reservation
            if known is not None:
                raise conflict(f"Job {known.id} is another job: leave job_id empty, or take a new one")
            refuse_unfit(tx, tx.node(node.id) or node, spec)
            _refuse_unseen(tx, node, reservation, spec)
            job = self._jobs.new(reservation.owner_id, spec, job_id)
            return self._jobs.take(tx, job, f"its owner, by node {node.name}").id

        return await self._store.write(unit)


def _decoded(data: bytes) -> JobConfig:
    try:
        return JobConfig.FromString(data)
    except DecodeError:
        raise invalid("config: its bytes are no JobConfig", field="config") from None


def _of_node(tx: Tx, reservation_id: ReservationId, node: Node) -> Reservation:
    reservation = tx.reservation(reservation_id)
    if reservation is None:
        raise not_found("reservation", reservation_id)
    if reservation.node_id != node.id:
        raise forbidden(f"Reservation {reservation_id} is of another node")
    return reservation


def _refuse_unseen(tx: Tx, node: Node, reservation: Reservation, spec: JobSpec) -> None:
    """Raises FORBIDDEN for a blob that no job of the reservation names, and the node did not send: it would be the
    node's to read, and nothing shows that its client asked for that."""
    seen = [blobs_of(each.spec) for each in tx.jobs(JobQuery(reservation_id=reservation.id)).items]
    for sha256 in blobs_of(resolve(tx, spec, reservation.owner_id)):
        if not tx.sent_blob(sha256, node.id) and not any(sha256 in each for each in seen):
            raise forbidden(f"{sha256} is no file of this reservation yet: submit the job that reads it to central")
