"""Several jobs in one reservation, over P2P: a real central, a real agent, and clients of stubs alone."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, ReservationId
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2
from cyxwiz.ports.store import JobQuery
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.protocol import job_pb2, reservation_pb2
from cyxwiz.services.jobconfig import spec_of
from tests.central import Central, central
from tests.fakes import ScriptedExecutor
from tests.integration.test_grpc_reservations import CONFIG, WALLET
from tests.integration.test_grpc_reservations import Engine as Booker
from tests.integration.test_link import submit, until
from tests.nodes import grpc_link, local_link, p2p_node
from tests.p2p import Engine, engine


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


@dataclass
class Scene:
    server: Central
    book: Booker
    engine: Engine
    executor: ScriptedExecutor
    ident: str
    node_id: str
    where: str
    made: reservation_pb2.ReserveNodeResponse

    async def jobs(self) -> list[Any]:
        """Oldest first."""
        page = await self.server.core.store.read(lambda tx: tx.jobs(JobQuery()))
        return list(reversed(page.items))

    async def state(self) -> int:
        return (await self.book("GetReservation", reservation_id=self.ident)).reservation.status

    async def start(self, **fields: Any) -> pb.StartNewJobResponse:
        return await self.engine.stub.StartNewJob(pb.StartNewJobRequest(**fields), metadata=self.engine.metadata)


@contextlib.asynccontextmanager
async def scene(
    server: Central, tmp_path: Path, way: str = "direct", *, job: bool = True, gated: bool = False, slots: int = 1
) -> AsyncIterator[Scene]:
    link = grpc_link(server) if way == "direct" else local_link(server)
    executor = ScriptedExecutor(gated=gated)
    async with p2p_node(tmp_path / "node", link, executor, slots=slots) as (_, _, address), server.channel() as channel:
        book = Booker(channel, (await server.user("alice"))[1])
        (node,) = await server.core.nodes.fleet()
        given = {"job_config": job_pb2.JobConfig(**CONFIG)} if job else {}
        made = await book.reserve(node.id, **given)
        assert made.status == common.STATUS_SUCCESS, made.error
        assert made.node_endpoint == address
        where = address if way == "direct" else server.address
        async with engine(where, made.p2p_auth_token, made.job_id) as client:
            assert (await client.connect()).status == common.STATUS_SUCCESS
            yield Scene(server, book, client, executor, made.reservation_id, node.id, where, made)


@pytest.mark.parametrize("way", ["direct", "relayed"])
async def test_jobs_follow_each_other_in_one_stream(server: Central, tmp_path: Path, way: str) -> None:
    async with scene(server, tmp_path, way) as on:
        assert (await on.engine.send_job(config=job_pb2.JobConfig(**CONFIG))).accepted
        stream = on.engine.stream()
        first = await stream.until("complete")
        assert first.job_id == on.ident
        await stream.say(new_job_config=job_pb2.JobConfig(**{**CONFIG, "epochs": 3}))
        second = await stream.until("complete")
        assert second.job_id not in ("", on.ident)
        assert second.complete.total_epochs_completed == 3
        asked = str(uuid.uuid4())
        await stream.say(new_job_config=job_pb2.JobConfig(**CONFIG, job_id=asked))
        assert (await stream.until("complete")).job_id == asked
        jobs = await on.jobs()
        assert [job.id for job in jobs] == [on.ident, second.job_id, asked]
        assert {(job.state, job.spec.reservation_id, job.node_id) for job in jobs} == {
            (JobState.COMPLETED, on.ident, on.node_id)
        }
        info = (await on.book("GetReservation", reservation_id=on.ident)).reservation
        assert (info.jobs_completed, info.status) == (3, reservation_pb2.RESERVATION_PENDING)
        await stream.say(reservation_end=True)
        assert await stream.end() is grpc.StatusCode.OK
        assert await on.state() == reservation_pb2.RESERVATION_COMPLETED
        # The weights of every one of its jobs can be fetched still, with the same token.
        for job in jobs:
            async with engine(on.where, on.engine.token, job.id) as client:
                assert b"".join(chunk.data for chunk in await client.download()) == f"weights of {job.id}".encode()
        ended = await on.book("ReportReservationEndFromEngine", reservation_id=on.ident, jobs_completed=3)
        assert (ended.status, ended.amount_paid > 0) == (common.STATUS_SUCCESS, True)


async def test_the_first_job_may_come_over_p2p(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, job=False) as on:
        assert await on.jobs() == []
        sent = await on.engine.send_job(config=job_pb2.JobConfig(**{**CONFIG, "dataset_uri": ""}))
        assert (sent.status, "dataset" in sent.rejection_reason) == (common.STATUS_ERROR, True)
        config = job_pb2.JobConfig(**{**CONFIG, "dataset_uri": ""}, job_id=on.ident)
        sent = await on.engine.send_job(config=config, dataset_uri="builtin:digits")
        assert sent.accepted, sent.rejection_reason
        assert (await on.engine.send_job(config=config)).accepted, "again it is the same job"
        assert (await on.engine.stream().until("complete")).job_id == on.ident
        assert [job.id for job in await on.jobs()] == [on.ident]


async def test_a_node_opens_no_blobs_of_its_client_by_its_own_word(server: Central, tmp_path: Path) -> None:
    """A reserved node started jobs in its client's name on any blob whose hash it knew, and so could read it."""
    (tmp_path / "data.csv").write_text("1,2,3\n0,4,5\n")
    sha256, size = await server.blobs.add_file(tmp_path / "data.csv")
    async with scene(server, tmp_path, job=False) as on:
        reservation = await server.core.store.read(lambda tx: tx.reservation(ReservationId(on.ident)))
        assert reservation is not None
        await server.core.jobs.record_blob(sha256, size, owner=reservation.owner_id)
        config = job_pb2.JobConfig(**{**CONFIG, "dataset_uri": f"blob://sha256/{sha256}"})
        refused = await on.start(reservation_id=on.ident, job_config=config)
        assert (refused.accepted, "no file of this reservation" in refused.message) == (False, True)
        assert await on.jobs() == []
        alice = Principal(reservation.owner_id, "alice", Role.USER)
        spec = replace(spec_of(config), reservation_id=reservation.id)
        job, _ = await server.core.jobs.submit(alice, spec)
        await until(server, job, JobState.COMPLETED)
        assert (await on.start(reservation_id=on.ident, job_config=config)).accepted, "its owner gave it to the node"


async def test_engines_of_the_earlier_system_name_their_further_jobs(server: Central, tmp_path: Path) -> None:
    """By the reservation and the time: such a name stands for one job wherever the session uses it."""
    async with scene(server, tmp_path, gated=True) as on:
        stream = on.engine.stream()
        on.executor.step(CONFIG["epochs"])
        await stream.until("complete")
        name, other = f"{on.ident}_1760000000", f"{uuid.uuid4()}_1760000000"
        for wrong in (other, f"{on.ident}_soon"):
            await stream.say(new_job_config=job_pb2.JobConfig(**CONFIG, job_id=wrong))
            assert (await stream.until("error")).error.error_code == "INVALID"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await on.start(job_config=job_pb2.JobConfig(**CONFIG), job_id=wrong)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await stream.say(new_job_config=job_pb2.JobConfig(**CONFIG, job_id=name))
        second = await stream.until("log", lambda log: log.message == "started")
        async with engine(on.where, on.engine.token, name) as client:
            assert (await client.connect()).status == common.STATUS_SUCCESS
            assert (await client.send_job()).accepted
            assert (await client.stream().until("log")).job_id == second.job_id
            request = pb.PauseTrainingRequest(job_id=name)
            assert (await client.stub.PauseTraining(request, metadata=client.metadata)).success
            await client.stub.ResumeTraining(pb.ResumeTrainingRequest(job_id=name), metadata=client.metadata)
            on.executor.step(10)
            assert (await stream.until("complete")).job_id == second.job_id
            weights = b"".join(chunk.data for chunk in await client.download())
            assert weights == f"weights of {second.job_id}".encode()
        started = await on.start(reservation_id=on.ident, job_config=job_pb2.JobConfig(**CONFIG), job_id=name)
        assert (started.accepted, second.job_id in started.message) == (True, True), "again it is the same job"
        started = await on.start(job_config=job_pb2.JobConfig(**CONFIG), job_id=f"{on.ident}_1760000001")
        assert started.accepted
        assert len(await on.jobs()) == 3


async def test_a_further_job_waits_for_the_slot_and_the_engine_may_come_back(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, gated=True) as on:
        stream = on.engine.stream()
        on.executor.step(1)
        await stream.until("progress")
        await stream.say(new_job_config=job_pb2.JobConfig(**CONFIG))
        assert (await stream.until("error")).error.error_code == "BUSY"
        started = await on.start(reservation_id=on.ident, job_config=job_pb2.JobConfig(**CONFIG))
        assert started.accepted
        assert "waits for a free slot" in started.message
        first, second = await on.jobs()
        assert second.state is JobState.PENDING
        on.executor.step(10)
        await until(server, first, JobState.COMPLETED)
        await until(server, second, JobState.COMPLETED)
        token = await on.book("GetReconnectionToken", reservation_id=on.ident, user_wallet=WALLET)
        async with engine(token.node_endpoint, token.p2p_auth_token, second.id) as again:
            assert (await again.connect()).status == common.STATUS_SUCCESS
            assert (await again.stream().until("complete")).job_id == second.id


async def test_slots_are_used_side_by_side(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, gated=True, slots=2) as on:
        other = str(uuid.uuid4())
        started = await on.start(reservation_id=on.ident, job_id=other, job_config=job_pb2.JobConfig(**CONFIG))
        assert (started.accepted, other in started.message) == (True, True)
        assert {job.state for job in await on.jobs()} <= {JobState.ASSIGNED, JobState.RUNNING}
        released = await on.book("ReleaseReservation", reservation_id=on.ident)
        assert released.status == common.STATUS_SUCCESS
        for job in await on.jobs():
            await until(server, job, JobState.CANCELLED)


async def test_what_is_refused(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, gated=True) as on:
        config = job_pb2.JobConfig(**CONFIG)
        for fields, says in (
            ({"reservation_id": str(uuid.uuid4()), "job_config": config}, "not the one that this token is for"),
            ({"job_config": job_pb2.JobConfig(**{**CONFIG, "required_device": 2})}, "no cuda device"),
            ({"job_config": job_pb2.JobConfig(**{**CONFIG, "model_definition": "{"})}, "model"),
            ({}, "job_id"),
        ):
            answer = await on.start(**fields)
            assert (answer.accepted, says in answer.message) == (False, True), answer.message
        with pytest.raises(grpc.aio.AioRpcError) as malformed:
            await on.start(job_config=config, job_id="mine")
        assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        foreign = await submit(server)
        answer = await on.start(job_config=config, job_id=foreign.id)
        assert (answer.accepted, "another job" in answer.message) == (False, True)
        async with engine(on.where, on.engine.token, foreign.id) as stranger:
            assert (await stranger.connect()).error.code == 401
        assert (await server.core.store.read(lambda tx: tx.job(JobId(foreign.id)))).state is JobState.PENDING  # type: ignore[union-attr]
        await on.book("ReleaseReservation", reservation_id=on.ident)
        answer = await on.start(job_config=config)
        assert (answer.accepted, "is cancelled" in answer.message) == (False, True)


async def test_a_node_speaks_for_its_own_reservations_only(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, job=False) as on:
        other = await server.core.nodes.get(on.node_id)
        stranger = replace(other, id=type(other.id)(str(uuid.uuid4())))
        commands = server.core.gateway._reserved
        for action, code in (
            (link_pb2.OwnerCommand.START, Code.FORBIDDEN),
            (link_pb2.OwnerCommand.END_RESERVATION, Code.FORBIDDEN),
            (link_pb2.OwnerCommand.CANCEL, Code.INVALID),
        ):
            data = job_pb2.JobConfig(**CONFIG).SerializeToString()
            command = link_pb2.OwnerCommand(action=action, reservation_id=on.ident, config=data)
            with pytest.raises(CyxError) as caught:
                await commands.obey(stranger, command)
            assert caught.value.code is code
        assert await on.state() == reservation_pb2.RESERVATION_PENDING
