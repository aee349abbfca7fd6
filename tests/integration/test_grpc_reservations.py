"""`JobReservationService` by its stubs alone, against a central with loops and nodes that register by call."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2, node_pb2, reservation_pb2_grpc
from cyxwiz.protocol import reservation_pb2 as pb
from tests.central import MODEL, Central, Stubs, central

CONFIG = {"job_type": 1, "model_definition": MODEL, "dataset_uri": "builtin:digits", "epochs": 2, "required_device": 1}
WALLET = "my wallet"


@dataclass
class Engine:
    """One caller's stub; every call answers the response."""

    channel: grpc.aio.Channel
    token: str

    async def __call__(self, method: str, **fields: Any) -> Any:
        stub = reservation_pb2_grpc.JobReservationServiceStub(self.channel)
        request = getattr(pb, f"{method}Request")(**fields)
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        return await getattr(stub, method)(request, metadata=metadata)

    async def reserve(self, node_id: str, **fields: Any) -> pb.ReserveNodeResponse:
        given = {"node_id": node_id, "user_wallet": WALLET, "duration_minutes": 10, **fields}
        return await self("ReserveNode", **given)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


@pytest.fixture
async def channel(server: Central) -> AsyncIterator[grpc.aio.Channel]:
    async with server.channel() as opened:
        yield opened


@pytest.fixture
async def engine(server: Central, channel: grpc.aio.Channel) -> Engine:
    return Engine(channel, (await server.user("alice"))[1])


async def legacy(server: Central, channel: grpc.aio.Channel, name: str = "old") -> tuple[str, str]:
    """A node of the earlier kind: its id and its session token."""
    info = node_pb2.NodeInfo(
        name=name,
        cpu_cores=4,
        ram_total=8 << 30,
        ram_available=4 << 30,
        ip_address="127.0.0.1",
        port=50052,
        pricing=node_pb2.NodePricing(price_per_hour=0.1),
    )
    stubs = Stubs(channel, server.key)
    answer = await stubs.nodes.RegisterNode(node_pb2.RegisterNodeRequest(info=info), metadata=stubs.metadata)
    return answer.node_id, answer.session_token


def told(answer: Any) -> tuple[int, int]:
    return answer.status, answer.error.code


async def test_the_flow_of_the_earlier_system(server: Central, channel: grpc.aio.Channel, engine: Engine) -> None:
    node_id, session = await legacy(server, channel)
    node = Engine(channel, session)
    made = await engine.reserve(node_id, job_config=job_pb2.JobConfig(**CONFIG))
    assert made.status == common.STATUS_SUCCESS
    assert made.job_id == made.reservation_id
    assert made.node_endpoint == "127.0.0.1:50052"
    assert (made.escrow_account, made.escrow_amount) == ("", int(0.10 * 10 / 60 * 1e9))
    assert made.reservation_expires - made.reservation_start == 600
    assert made.p2p_token_expires - made.reservation_expires == 300
    assert made.price_per_hour == pytest.approx(0.1)
    ident = made.reservation_id
    pending = await engine("GetReservation", reservation_id=ident)
    assert pending.reservation.status == pb.RESERVATION_PENDING
    beat = await engine("EngineHeartbeat", reservation_id=ident, job_id=ident, training_active=True, job_progress=0.25)
    assert beat.status == common.STATUS_SUCCESS
    assert 590 <= beat.time_remaining_seconds <= 600
    assert not beat.should_extend
    one = (await engine("GetActiveReservations", user_wallet=WALLET)).reservations[0]
    assert (one.reservation_id, one.engine_connected, one.status) == (ident, True, pb.RESERVATION_ACTIVE)
    token = await engine("GetReconnectionToken", reservation_id=ident, user_wallet=WALLET)
    assert (token.status, token.current_job_id) == (common.STATUS_SUCCESS, ident)
    assert token.p2p_token_expires - made.reservation_expires == 300
    report = await node("ReportJobCompleteFromNode", reservation_id=ident, node_id=node_id, job_id=ident, success=True)
    assert (report.status, report.jobs_in_reservation) == (common.STATUS_SUCCESS, 1)
    assert (report.reputation_change, report.new_reputation) == (pytest.approx(1.0), pytest.approx(76.0))
    longer = await engine("ExtendReservation", reservation_id=ident, additional_minutes=5)
    assert (longer.new_expires, longer.additional_escrow) == (made.reservation_expires + 300, 8333333 + 1)
    assert longer.escrow_tx_hash == ""
    first = await node("ReportReservationEndFromNode", reservation_id=ident, node_id=node_id, jobs_completed=1)
    assert (first.status, first.payment_released, first.amount_received) == (common.STATUS_SUCCESS, False, 0)
    assert "waiting for the engine" in first.message
    ending = (await engine("GetReservation", reservation_id=ident)).reservation
    assert ending.status == pb.RESERVATION_COMPLETING
    last = await engine("ReportReservationEndFromEngine", reservation_id=ident, jobs_completed=1)
    assert (last.status, last.payment_released, last.payment_tx_hash) == (common.STATUS_SUCCESS, False, "")
    assert last.amount_paid == 100_000_000 // 60
    assert "no ledger" in last.message
    again = await node("ReportReservationEndFromNode", reservation_id=ident, node_id=node_id)
    assert again.amount_received == last.amount_paid - last.amount_paid // 10
    done = (await engine("GetReservation", reservation_id=ident)).reservation
    assert (done.status, done.jobs_completed, done.time_remaining_seconds) == (pb.RESERVATION_COMPLETED, 1, 0)


async def test_a_release_divides_what_was_locked(server: Central, channel: grpc.aio.Channel, engine: Engine) -> None:
    node_id, _ = await legacy(server, channel)
    made = await engine.reserve(node_id)
    released = await engine("ReleaseReservation", reservation_id=made.reservation_id, reason="enough")
    assert released.status == common.STATUS_SUCCESS
    assert released.payment_released + released.refund_amount == made.escrow_amount
    assert released.payment_released == 100_000_000 // 60, "a begun minute"
    assert (released.payment_tx_hash, released.refund_tx_hash) == ("", "")
    again = await engine.reserve(node_id)
    assert again.status == common.STATUS_SUCCESS
    confirmed = await engine("ConfirmJobComplete", reservation_id=again.reservation_id, success=True)
    assert (confirmed.status, confirmed.payment_released) == (common.STATUS_SUCCESS, False)
    one = (await engine("GetReservation", reservation_id=again.reservation_id)).reservation
    assert one.status == pb.RESERVATION_COMPLETED


async def test_errors_are_in_band(server: Central, channel: grpc.aio.Channel, engine: Engine) -> None:
    node_id, session = await legacy(server, channel)
    unknown = str(uuid.uuid4())
    bob = Engine(channel, (await server.user("bob"))[1])
    failed = common.STATUS_FAILED
    assert told(await engine.reserve("")) == (failed, 400)
    assert told(await engine.reserve(node_id, user_wallet="")) == (failed, 400)
    assert told(await engine.reserve(node_id, user_wallet="w" * 201)) == (failed, 400)
    for minutes in (9, 1441, 0, -10):
        assert told(await engine.reserve(node_id, duration_minutes=minutes)) == (failed, 400)
    assert told(await engine.reserve(node_id, job_config=job_pb2.JobConfig(epochs=3))) == (failed, 400)
    assert told(await engine.reserve(unknown)) == (failed, 404)
    made = await engine.reserve(node_id)
    ident = made.reservation_id
    taken = await bob.reserve(node_id)
    assert (told(taken), taken.reservation_id, "reserved until" in taken.error.message) == ((failed, 409), "", True)
    calls = {
        "EngineHeartbeat": {},
        "ExtendReservation": {"additional_minutes": 5},
        "ReleaseReservation": {},
        "ConfirmJobComplete": {},
        "GetReservation": {},
        "GetReconnectionToken": {"user_wallet": WALLET},
        "ReportReservationEndFromEngine": {},
    }
    for method, fields in calls.items():
        assert told(await engine(method, reservation_id=unknown, **fields)) == (failed, 404), method
        assert told(await bob(method, reservation_id=ident, **fields)) == (failed, 403), method
        for malformed in ("", "a-reservation", f"{ident}_1"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await engine(method, reservation_id=malformed, **fields)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Engine(channel, "")(method, reservation_id=ident, **fields)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method
    assert told(await engine("GetReconnectionToken", reservation_id=ident, user_wallet="other")) == (failed, 403)
    assert told(await engine("GetReconnectionToken", reservation_id=ident)) == (failed, 400)
    assert told(await engine("GetActiveReservations")) == (failed, 400)
    assert told(await engine("ExtendReservation", reservation_id=ident, additional_minutes=0)) == (failed, 400)
    assert told(await engine("EngineHeartbeat", reservation_id=ident, job_progress=2.0)) == (failed, 400)
    for malformed in ("x", f"{ident}_", f"{ident}_x", f"x_{ident}"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await engine("EngineHeartbeat", reservation_id=ident, job_id=malformed)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, malformed
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await engine("ConfirmJobComplete", reservation_id=ident, job_id=malformed, success=True)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, malformed
        reported = {"reservation_id": ident, "node_id": node_id, "job_id": malformed}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Engine(channel, session)("ReportJobCompleteFromNode", **reported)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, malformed
    foreign = f"{node_id}_1760000000"
    assert told(await engine("EngineHeartbeat", reservation_id=ident, job_id=foreign)) == (failed, 404)
    assert told(await engine("ConfirmJobComplete", reservation_id=ident, job_id=foreign)) == (failed, 404)
    assert (await engine("GetReservation", reservation_id=ident)).reservation.status == pb.RESERVATION_PENDING
    # What an engine of the earlier system calls its further jobs.
    assert (
        await engine("EngineHeartbeat", reservation_id=ident, job_id=f"{ident}_1760000000")
    ).status == common.STATUS_SUCCESS
    for method in ("ReportJobCompleteFromNode", "ReportReservationEndFromNode"):
        given = {"reservation_id": ident, "node_id": node_id} | ({"job_id": ident} if "Job" in method else {})
        assert told(await engine(method, **given)) == (failed, 403), "only the node itself"
        other, its_session = await legacy(server, channel, f"other-{method}")
        assert told(await Engine(channel, its_session)(method, **{**given, "node_id": other})) == (failed, 403)
        assert told(await Engine(channel, session)(method, **{**given, "reservation_id": unknown})) == (failed, 404)
    await engine("ReleaseReservation", reservation_id=ident)
    over = await engine("EngineHeartbeat", reservation_id=ident)
    assert (told(over), over.error.details) == ((failed, 409), "CONFLICT")


async def test_what_ran_out_is_gone(server: Central, channel: grpc.aio.Channel, engine: Engine) -> None:
    node_id, _ = await legacy(server, channel)
    made = await engine.reserve(node_id)
    ident = made.reservation_id

    def unit(tx: Any) -> None:
        one = tx.reservation(ident)
        tx.save_reservation(replace(one, started_at=one.started_at - timedelta(minutes=10)))

    await server.core.store.write(unit)
    answers = [
        await engine("EngineHeartbeat", reservation_id=ident),
        await engine("GetReconnectionToken", reservation_id=ident, user_wallet=WALLET),
        await engine("ExtendReservation", reservation_id=ident, additional_minutes=5),
    ]
    assert [told(answer) for answer in answers] == [(common.STATUS_FAILED, 410)] * 3
    assert (await engine("GetReservation", reservation_id=ident)).reservation.status == pb.RESERVATION_EXPIRED
    assert not (await engine("GetActiveReservations", user_wallet=WALLET)).reservations


async def test_lists_are_paged_and_one_s_own(server: Central, channel: grpc.aio.Channel, engine: Engine) -> None:
    made = []
    for index in range(3):
        node_id, _ = await legacy(server, channel, f"node-{index}")
        made.append((await engine.reserve(node_id)).reservation_id)
    await engine("ReleaseReservation", reservation_id=made[0])
    first = await engine("ListReservations", page_size=2)
    assert [each.reservation_id for each in first.reservations] == [made[2], made[1]]
    assert first.total_count == 3
    rest = await engine("ListReservations", page_size=2, page_token=first.next_page_token)
    assert [each.reservation_id for each in rest.reservations] == [made[0]]
    active = await engine("ListReservations", active_only=True, user_id="alice")
    assert {each.reservation_id for each in active.reservations} == set(made[1:])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await engine("ListReservations", user_id=str(uuid.uuid4()))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Engine(channel, server.key)("ListReservations", user_id="x")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bob = Engine(channel, (await server.user("bob"))[1])
    assert (await bob("ListReservations")).total_count == 0
    assert (await Engine(channel, server.key)("ListReservations")).total_count == 3


async def test_many_who_want_one_node_get_one_reservation(
    server: Central, channel: grpc.aio.Channel, engine: Engine
) -> None:
    node_id, _ = await legacy(server, channel)
    answers = await asyncio.gather(*(engine.reserve(node_id) for _ in range(20)))
    assert sorted(answer.error.code for answer in answers) == [0, *[409] * 19]
    (won,) = [answer.reservation_id for answer in answers if answer.reservation_id]
    await engine("ReleaseReservation", reservation_id=won)

    assert (await server.core.nodes.get(node_id)).status == "online"
