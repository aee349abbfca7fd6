"""`cyxwiz.protocol.JobReservationService`.

Errors are in band: status FAILED and `error` with the numbers of the earlier system (400, 403, 404, 409, 410), which
are HTTP's. A malformed id, a caller without credentials and ListReservations, which has no field for it, answer by a
gRPC status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.ids import NodeId, ReservationId, parse_engine_job_id, parse_node_id, parse_reservation_id
from cyxwiz.domain.job import JobSpec
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import ReservationState
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import ReservationQuery
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2, reservation_pb2_grpc
from cyxwiz.protocol import reservation_pb2 as pb
from cyxwiz.services.api import parse_cursor, place_cursor
from cyxwiz.services.in_band import error_to
from cyxwiz.services.jobconfig import count_of, spec_of
from cyxwiz.services.legacy import LegacyNodes
from cyxwiz.services.reservation_reports import ReservationReports
from cyxwiz.services.reservations import Look, Reservations
from cyxwiz.services.validation import refuse_nul
from cyxwiz.transports.grpc.door import caller
from cyxwiz.transports.grpc.mapping import seconds_to

MAX_PAGE = 100
STATUS = {
    ReservationState.PENDING: pb.RESERVATION_PENDING,
    ReservationState.ACTIVE: pb.RESERVATION_ACTIVE,
    ReservationState.COMPLETED: pb.RESERVATION_COMPLETED,
    ReservationState.CANCELLED: pb.RESERVATION_CANCELLED,
    ReservationState.EXPIRED: pb.RESERVATION_EXPIRED,
    ReservationState.FAILED: pb.RESERVATION_FAILED,
}
UNCHARGED = "nothing was charged: no ledger is configured"
R = TypeVar("R")


class ReservationServicer(reservation_pb2_grpc.JobReservationServiceServicer):
    def __init__(
        self, reservations: Reservations, reports: ReservationReports, legacy: LegacyNodes, clock: Clock
    ) -> None:
        self._reservations = reservations
        self._reports = reports
        self._legacy = legacy
        self._clock = clock

    async def ReserveNode(self, request: pb.ReserveNodeRequest, context: Any) -> pb.ReserveNodeResponse:
        async def act(actor: Principal) -> pb.ReserveNodeResponse:
            if not request.node_id:
                raise invalid("node_id: must be given", field="node_id")
            _stated(request.user_wallet)
            refuse_nul(request)
            made = await self._reservations.reserve(
                actor,
                request.node_id,
                request.user_wallet,
                request.duration_minutes,
                _job_of(request),
                caller().idempotency_key,
            )
            one = made.look.reservation
            return pb.ReserveNodeResponse(
                status=common.STATUS_SUCCESS,
                reservation_id=one.id,
                job_id=one.id,
                node_endpoint=made.endpoint,
                p2p_auth_token=made.token,
                p2p_token_expires=made.expires_at,
                escrow_account=one.escrow_account,
                escrow_amount=one.escrow_units,
                reservation_start=seconds_to(one.started_at),
                reservation_expires=seconds_to(one.ends_at),
                price_per_hour=one.rate_units_per_hour / UNITS_PER_CYXWIZ,
            )

        if request.node_id:
            parse_node_id(request.node_id)
        return await _in_band(act, pb.ReserveNodeResponse)

    async def ConfirmJobComplete(
        self, request: pb.ConfirmJobCompleteRequest, context: Any
    ) -> pb.ConfirmJobCompleteResponse:
        """Ends the reservation. Time is what was reserved: `success` is noted and changes no payment."""

        async def act(actor: Principal) -> pb.ConfirmJobCompleteResponse:
            reason = f"confirmed by its owner: {'success' if request.success else 'no success'}"
            one = await self._reservations.complete(actor, request.reservation_id, job_id, reason)
            return pb.ConfirmJobCompleteResponse(
                status=common.STATUS_SUCCESS, payment_released=one.charged, payment_tx_hash=one.payment_tx_hash
            )

        job_id = _job_id(request.job_id)
        return await _of_one(request.reservation_id, act, pb.ConfirmJobCompleteResponse)

    async def ExtendReservation(
        self, request: pb.ExtendReservationRequest, context: Any
    ) -> pb.ExtendReservationResponse:
        async def act(actor: Principal) -> pb.ExtendReservationResponse:
            one, added, tx_hash = await self._reservations.extend(
                actor, request.reservation_id, request.additional_minutes, caller().idempotency_key
            )
            return pb.ExtendReservationResponse(
                status=common.STATUS_SUCCESS,
                new_expires=seconds_to(one.ends_at),
                additional_escrow=added,
                escrow_tx_hash=tx_hash,
            )

        return await _of_one(request.reservation_id, act, pb.ExtendReservationResponse)

    async def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: Any
    ) -> pb.ReleaseReservationResponse:
        async def act(actor: Principal) -> pb.ReleaseReservationResponse:
            one = await self._reservations.release(actor, request.reservation_id, request.reason)
            return pb.ReleaseReservationResponse(
                status=common.STATUS_SUCCESS,
                time_used_seconds=int(one.used_seconds),
                payment_released=one.paid_units,
                refund_amount=one.refunded_units,
                payment_tx_hash=one.payment_tx_hash,
                refund_tx_hash=one.refund_tx_hash,
            )

        return await _of_one(request.reservation_id, act, pb.ReleaseReservationResponse)

    async def GetReservation(self, request: pb.GetReservationRequest, context: Any) -> pb.GetReservationResponse:
        async def act(actor: Principal) -> pb.GetReservationResponse:
            found = await self._reservations.get(actor, request.reservation_id)
            return pb.GetReservationResponse(status=common.STATUS_SUCCESS, reservation=self._info(found))

        return await _of_one(request.reservation_id, act, pb.GetReservationResponse)

    async def ListReservations(self, request: pb.ListReservationsRequest, context: Any) -> pb.ListReservationsResponse:
        actor = caller().required
        size = min(MAX_PAGE, count_of(request.page_size, MAX_PAGE, "page_size"))
        after = parse_cursor(request.page_token) if request.page_token else None
        query = ReservationQuery(
            owner_id=caller().whose(request.user_id, "reservations"),
            at=self._clock.now() if request.active_only else None,
            limit=size,
            after=(after[0], ReservationId(after[1])) if after else None,
        )
        page = await self._reservations.list(actor, query)
        last = page.items[-1].reservation if len(page.items) == size else None
        return pb.ListReservationsResponse(
            reservations=[self._info(each) for each in page.items],
            next_page_token=place_cursor(last.started_at, last.id) if last else "",
            total_count=page.total,
        )

    async def EngineHeartbeat(self, request: pb.EngineHeartbeatRequest, context: Any) -> pb.EngineHeartbeatResponse:
        async def act(actor: Principal) -> pb.EngineHeartbeatResponse:
            heard = await self._reservations.heartbeat(
                actor,
                request.reservation_id,
                job_id,
                request.training_active,
                request.job_progress,
                dict(request.current_metrics),
            )
            return pb.EngineHeartbeatResponse(
                status=common.STATUS_SUCCESS,
                time_remaining_seconds=int(heard.remaining.total_seconds()),
                should_extend=heard.should_extend,
                message="extend it, or it ends soon" if heard.should_extend else "",
            )

        job_id = _job_id(request.job_id)
        return await _of_one(request.reservation_id, act, pb.EngineHeartbeatResponse)

    async def GetActiveReservations(
        self, request: pb.GetActiveReservationsRequest, context: Any
    ) -> pb.GetActiveReservationsResponse:
        async def act(actor: Principal) -> pb.GetActiveReservationsResponse:
            _stated(request.user_wallet)
            found = await self._reservations.live(actor, request.user_wallet)
            return pb.GetActiveReservationsResponse(
                status=common.STATUS_SUCCESS, reservations=[self._active(each) for each in found]
            )

        return await _in_band(act, pb.GetActiveReservationsResponse)

    async def GetReconnectionToken(
        self, request: pb.GetReconnectionTokenRequest, context: Any
    ) -> pb.GetReconnectionTokenResponse:
        async def act(actor: Principal) -> pb.GetReconnectionTokenResponse:
            _stated(request.user_wallet)
            made = await self._reservations.reconnect(actor, request.reservation_id, request.user_wallet)
            return pb.GetReconnectionTokenResponse(
                status=common.STATUS_SUCCESS,
                p2p_auth_token=made.token,
                p2p_token_expires=made.expires_at,
                node_endpoint=made.endpoint,
                time_remaining_seconds=self._left(made.look.reservation),
                current_job_id=made.look.current_job_id,
            )

        return await _of_one(request.reservation_id, act, pb.GetReconnectionTokenResponse)

    async def ReportJobCompleteFromNode(
        self, request: pb.ReportJobCompleteFromNodeRequest, context: Any
    ) -> pb.ReportJobCompleteFromNodeResponse:
        async def act(actor: Principal) -> pb.ReportJobCompleteFromNodeResponse:
            told = await self._reports.job_ended(
                self._node(actor, request.node_id),
                request.reservation_id,
                job_id,
                request.success,
                dict(request.final_metrics),
            )
            return pb.ReportJobCompleteFromNodeResponse(
                status=common.STATUS_SUCCESS,
                new_reputation=told.reputation * 100,
                reputation_change=told.change * 100,
                jobs_in_reservation=told.jobs,
                message=told.message,
            )

        parse_node_id(request.node_id)
        job_id = _job_id(request.job_id)
        return await _of_one(request.reservation_id, act, pb.ReportJobCompleteFromNodeResponse)

    async def ReportReservationEndFromEngine(
        self, request: pb.ReportReservationEndFromEngineRequest, context: Any
    ) -> pb.ReportReservationEndFromEngineResponse:
        async def act(actor: Principal) -> pb.ReportReservationEndFromEngineResponse:
            one = await self._reservations.engine_ended(actor, request.reservation_id)
            return pb.ReportReservationEndFromEngineResponse(
                status=common.STATUS_SUCCESS,
                payment_released=one.charged,
                amount_paid=one.paid_units,
                payment_tx_hash=one.payment_tx_hash,
                message="waiting for the node's report" if one.live else _money_of(one),
            )

        return await _of_one(request.reservation_id, act, pb.ReportReservationEndFromEngineResponse)

    async def ReportReservationEndFromNode(
        self, request: pb.ReportReservationEndFromNodeRequest, context: Any
    ) -> pb.ReportReservationEndFromNodeResponse:
        async def act(actor: Principal) -> pb.ReportReservationEndFromNodeResponse:
            one = await self._reports.node_ended(self._node(actor, request.node_id), request.reservation_id)
            return pb.ReportReservationEndFromNodeResponse(
                status=common.STATUS_SUCCESS,
                payment_released=one.charged,
                amount_received=one.settlement.node if not one.live else 0,
                payment_tx_hash=one.payment_tx_hash,
                message="waiting for the engine's report" if one.live else _money_of(one),
            )

        parse_node_id(request.node_id)
        return await _of_one(request.reservation_id, act, pb.ReportReservationEndFromNodeResponse)

    def _node(self, actor: Principal, node_id: str) -> NodeId:
        return self._legacy.check(actor, node_id)

    def _left(self, reservation: Reservation) -> int:
        return int(reservation.remaining(self._clock.now()).total_seconds())

    def _info(self, found: Look) -> pb.ReservationInfo:
        one = found.reservation
        return pb.ReservationInfo(
            reservation_id=one.id,
            user_id=one.owner_id,
            user_wallet=one.user_wallet,
            node_id=one.node_id,
            node_wallet=one.node_wallet,
            node_endpoint=found.node.endpoint if found.node is not None else "",
            status=status_of(one),
            start_time=seconds_to(one.started_at),
            end_time=seconds_to(one.ended_at or one.ends_at),
            time_remaining_seconds=self._left(one),
            escrow_account=one.escrow_account,
            escrow_amount=one.escrow_units,
            price_per_hour=one.rate_units_per_hour / UNITS_PER_CYXWIZ,
            current_job_id=found.current_job_id,
            job_progress=found.progress,
            current_metrics=dict(found.metrics),
            jobs_completed=found.jobs_completed,
        )

    def _active(self, found: Look) -> pb.ActiveReservationInfo:
        one = found.reservation
        return pb.ActiveReservationInfo(
            reservation_id=one.id,
            node_id=one.node_id,
            node_endpoint=found.node.endpoint if found.node is not None else "",
            time_remaining_seconds=self._left(one),
            engine_connected=one.connected(self._clock.now()),
            status=status_of(one),
            jobs_completed=found.jobs_completed,
        )


def status_of(reservation: Reservation) -> pb.ReservationStatus:
    return pb.RESERVATION_COMPLETING if reservation.ending else STATUS[reservation.state]


async def _of_one(reservation_id: str, act: Callable[[Principal], Awaitable[R]], kind: Callable[..., R]) -> R:
    parse_reservation_id(reservation_id)
    return await _in_band(act, kind)


async def _in_band(act: Callable[[Principal], Awaitable[R]], kind: Callable[..., R]) -> R:
    """The answer, or one of the same kind that says what was wrong."""
    actor = caller().required
    try:
        return await act(actor)
    except CyxError as error:
        if error.code in (Code.UNAUTHENTICATED, Code.INTERNAL):
            raise
        return kind(status=common.STATUS_FAILED, error=error_to(error))


def _job_of(request: pb.ReserveNodeRequest) -> JobSpec | None:
    """The first job; none where the request says nothing of one."""
    if not request.HasField("job_config") or request.job_config == job_pb2.JobConfig():
        return None
    return spec_of(request.job_config)


def _job_id(text: str) -> str:
    """The job that a call names, if it names one. Raises INVALID for what is no id."""
    return parse_engine_job_id(text) if text else ""


def _stated(wallet: str) -> None:
    if not wallet:
        raise invalid("user_wallet: must be given", field="user_wallet")


def _money_of(reservation: Reservation) -> str:
    if reservation.charged:
        return "paid"
    return "the payment is on its way" if reservation.settled_at is None else UNCHARGED
