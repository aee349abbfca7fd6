"""`JobExecutionService` with a real central, a real agent and real sockets: at the node's door, and by relay.

Long, as it is a list: a call, or a way in which it goes wrong, a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Job
from cyxwiz.domain.node import P2P_ISSUER
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2
from cyxwiz.ports.executor import Run, Work
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.protocol import job_pb2
from cyxwiz.services.owner_commands import obey
from tests.central import Central, central
from tests.fakes import ScriptedExecutor, ScriptedRun
from tests.integration.test_link import submit, until
from tests.nodes import grpc_link, local_link, p2p_node
from tests.p2p import Engine, Stream, assignment, engine


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


class SavingExecutor(ScriptedExecutor):
    async def save_when_told(self) -> None:
        """The run that is told to save a checkpoint does so at the end of its next epoch."""
        while not (run := self.runs[-1]).told:
            await asyncio.sleep(0.01)
        run.saves = True
        self.step(1)


@dataclass
class Scene:
    """A job on a node, and a client of it that has connected."""

    server: Central
    executor: SavingExecutor
    job: Job
    engine: Engine
    address: str
    agent: Any


Way = str


@pytest.fixture(params=["direct", "relayed"])
def way(request: pytest.FixtureRequest) -> Way:
    return str(request.param)


@contextlib.asynccontextmanager
async def scene(
    server: Central, tmp_path: Path, way: Way, *, executor: SavingExecutor | None = None, **job: Any
) -> AsyncIterator[Scene]:
    executor = executor or SavingExecutor(gated=True)
    link = grpc_link(server) if way == "direct" else local_link(server)
    async with p2p_node(tmp_path / "node", link, executor, slots=2) as (agent, _, address):
        made = await submit(server, **job)
        given = await assignment(server, made.id)
        assert given.node_endpoint == address
        where = address if way == "direct" else server.address
        async with engine(where, given.auth_token, made.id) as client:
            answer = await client.connect()
            assert (answer.status, answer.node_id) == (common.STATUS_SUCCESS, given.node_id)
            yield Scene(server, executor, made, client, where, agent)


async def paused(on: Scene) -> Stream:
    """The stream of a client that has paused its job after an epoch."""
    stream = on.engine.stream()
    on.executor.step(1)
    await stream.until("progress")
    await stream.say(pause=True)
    await stream.until("log", lambda log: "paused" in log.message)
    return stream


async def is_kept_for_its_owner(server: Central, cancelled: pb.CancelTrainingResponse) -> None:
    assert cancelled.partial_model_saved
    kept = cancelled.partial_model_path.removeprefix("blob://sha256/")
    owner = await server.core.accounts.authenticate(server.key)
    stored = await server.core.store.read(lambda tx: tx.blob(kept))
    assert stored is not None
    assert owner.id in stored.owners


async def test_a_job_is_followed_and_its_weights_fetched(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way, epochs=4) as on:
        on.executor.step(2)
        sent = await on.engine.send_job()
        assert sent.accepted
        stream = on.engine.stream()
        await stream.until("progress", lambda progress: progress.current_epoch == 2)  # so far, then live
        on.executor.step(2)
        complete = (await stream.until("complete")).complete
        weights = f"weights of {on.job.id}".encode()
        assert complete.success
        assert complete.result_hash == f"sha256:{hashlib.sha256(weights).hexdigest()}"
        assert complete.final_weights_size == len(weights)
        assert complete.final_metrics["val_accuracy"] == 1.0
        assert complete.total_epochs_completed == 4
        assert await stream.end() is grpc.StatusCode.OK
        progress = [update for update in stream.seen if update.WhichOneof("update") == "progress"]
        assert [update.progress.current_epoch for update in progress] == [1, 2, 3, 4]
        assert [update.progress.progress_percentage for update in progress] == [0.25, 0.5, 0.75, 1.0]
        assert all(1e12 < update.timestamp < 1e14 for update in stream.seen)
        assert progress[-1].progress.cpu_usage == 0.5
        chunks = await on.engine.download(size=5)
        assert b"".join(chunk.data for chunk in chunks) == weights
        assert [chunk.is_last_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert all(chunk.checksum == f"sha256:{hashlib.sha256(chunk.data).hexdigest()}" for chunk in chunks)
        rest = await on.engine.download(offset=chunks[2].offset, size=7)
        assert b"".join(chunk.data for chunk in rest) == weights[10:]
        (end,) = await on.engine.download(offset=len(weights))
        assert (end.is_last_chunk, end.data, end.total_size) == (True, b"", len(weights))
        # Who comes when it has ended sees it all the same.
        late = on.engine.stream()
        assert await late.end() is grpc.StatusCode.OK
        assert late.kinds[-1] == "complete"
    await until(server, on.job, JobState.COMPLETED)


async def test_pause_and_resume_end_in_centrals_record(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way, epochs=4) as on:
        stream = on.engine.stream()
        on.executor.step(2)
        await stream.until("progress", lambda progress: progress.current_epoch == 2)
        await stream.say(pause=True)
        saved = (await stream.until("checkpoint")).checkpoint
        assert saved.checkpoint_hash.startswith("sha256:")
        assert saved.epoch == 3
        paused = await until(server, on.job, JobState.PAUSED)
        assert "its owner" in paused.reason
        await stream.until("log", lambda log: "paused" in log.message)
        await stream.say(resume=True)
        on.executor.step(4)
        assert (await stream.until("complete")).complete.success
        assert await stream.end() is grpc.StatusCode.OK
        assert len(on.executor.runs) == 2
        assert on.executor.runs[1].work.resume is not None


async def test_stop_cancels(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way) as on:
        stream = on.engine.stream()
        await stream.until("log")
        await stream.say(stop=True)
        complete = (await stream.until("complete")).complete
        assert (complete.success, dict(complete.final_metrics)) == (False, {"stopped_by_user": 1.0})
        await until(server, on.job, JobState.CANCELLED)


async def test_what_is_paused_can_be_stopped(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way, epochs=4) as on:
        stream = await paused(on)
        await stream.say(stop=True)
        complete = (await stream.until("complete")).complete
        assert (complete.success, complete.total_epochs_completed) == (False, 1)
        assert await stream.end() is grpc.StatusCode.OK
        await until(server, on.job, JobState.CANCELLED)


async def test_clients_of_a_paused_job_learn_what_became_of_it(server: Central, tmp_path: Path, way: Way) -> None:
    """It was cancelled at central: the node has no lease of it any more, and is told all the same."""
    async with scene(server, tmp_path, way, epochs=4) as on:
        stream = await paused(on)
        owner = await server.core.accounts.authenticate(server.key)
        await server.core.jobs.cancel(owner, on.job.id, "enough")
        complete = (await stream.until("complete")).complete
        assert dict(complete.final_metrics) == {"stopped_by_user": 1.0}
        assert await stream.end() is grpc.StatusCode.OK


async def test_clients_of_a_job_that_was_paused_before_it_began_learn_it_too(server: Central, tmp_path: Path) -> None:
    class Slow(SavingExecutor):
        async def start(self, work: Work) -> Run:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits that long")

    async with scene(server, tmp_path, "direct", executor=Slow(gated=True)) as on:
        stream = on.engine.stream()
        await stream.say(pause=True)
        await stream.until("log", lambda log: "paused" in log.message)
        assert (await until(server, on.job, JobState.PAUSED)).attempts == 1
        owner = await server.core.accounts.authenticate(server.key)
        await server.core.jobs.cancel(owner, on.job.id, "enough")
        complete = (await stream.until("complete")).complete
        assert dict(complete.final_metrics) == {"stopped_by_user": 1.0}


async def test_clients_of_a_paused_job_learn_that_it_went_elsewhere(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=4) as on:
        stream = await paused(on)
        owner = await server.core.accounts.authenticate(server.key)
        other = ScriptedExecutor(gated=True)
        async with p2p_node(tmp_path / "other", grpc_link(server), other, name="other"):
            await server.core.nodes.cordon(owner, on.agent._identity.node_id, on=True)
            await server.core.jobs.resume(owner, on.job.id)
            await until(server, on.job, JobState.RUNNING)
            assert len(other.runs) == 1
            assert (await stream.until("error")).error.error_code == "MOVED"
            other.step(4)
            await until(server, on.job, JobState.COMPLETED)


async def test_a_pause_that_central_does_not_answer_leaves_no_trace(server: Central, tmp_path: Path) -> None:
    """A job that is moved later is not taken for one that was paused."""
    async with scene(server, tmp_path, "direct", epochs=4) as on:
        stream = on.engine.stream()
        await stream.until("log")
        hub = on.agent._p2p
        kept, hub._link = hub._link, None
        await stream.say(pause=True)
        await stream.until("log", lambda log: "no connection to central" in log.message)
        hub._link = kept
        owner = await server.core.accounts.authenticate(server.key)
        await server.core.jobs.pause(owner, on.job.id)
        assert (await stream.until("error")).error.error_code == "MOVED"


async def test_a_cancel_of_a_paused_job_keeps_what_it_had_saved(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct", epochs=4) as on:
        stub, metadata = on.engine.stub, on.engine.metadata
        on.executor.step(1)
        await on.engine.stream().until("progress")
        await stub.PauseTraining(pb.PauseTrainingRequest(job_id=on.job.id), metadata=metadata)
        request = pb.CancelTrainingRequest(job_id=on.job.id, save_partial_model=True)
        cancelled = await stub.CancelTraining(request, metadata=metadata)
        await is_kept_for_its_owner(server, cancelled)


async def test_only_the_node_that_has_a_job_speaks_for_its_owner(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct") as on:
        lease = on.agent._records[next(iter(on.agent._records))].assign.token
        wrong = link_pb2.Token(epoch=lease.epoch, counter=lease.counter + 1)
        node_id, unknown = on.agent._identity.node_id, "6a1c3a05-0000-4000-8000-000000000000"
        for job_id, token, sender in (
            (on.job.id, wrong, node_id),
            (unknown, lease, node_id),
            (on.job.id, lease, unknown),
        ):

            def unit(tx: Any, job_id: str = job_id, token: Any = token, sender: str = sender) -> None:
                node = replace(tx.node(node_id), id=sender)
                obey(tx, node, link_pb2.OwnerCommand(job_id=job_id, token=token, action=link_pb2.OwnerCommand.CANCEL))

            with pytest.raises(CyxError) as refused:
                await server.core.store.write(unit)
            assert refused.value.code is Code.STALE
        stream = on.engine.stream()
        on.executor.step(3)
        assert (await stream.until("complete")).complete.success


async def test_wishes_reach_the_run(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct") as on:
        stream = on.engine.stream()
        await stream.until("log")
        await stream.say(request_checkpoint=True)
        await stream.say(update_params=pb.UpdateHyperparameters(learning_rate=0.01, batch_size=8))
        await stream.say(update_params=pb.UpdateHyperparameters(learning_rate=float("nan")))
        told = await stream.until("log", lambda log: log.level == pb.LogMessage.ERROR)
        assert "finite" in told.log.message
        assert on.executor.runs[0].told == [
            ("checkpoint", {}),
            ("update", {"learning_rate": 0.01, "batch_size": 8}),
        ]


async def test_wishes_wait_for_a_run_that_is_yet_to_begin(server: Central, tmp_path: Path) -> None:
    """They were refused for as long as the node fetched a job's data: what a client says first had no effect."""

    class Late(SavingExecutor):
        def __init__(self) -> None:
            super().__init__(gated=True)
            self.begins = asyncio.Event()

        async def start(self, work: Work) -> Run:
            await self.begins.wait()
            return await super().start(work)

    executor = Late()
    async with scene(server, tmp_path, "direct", executor=executor, epochs=2) as on:
        stream = on.engine.stream()
        await stream.say(request_checkpoint=True)
        await stream.say(update_params=pb.UpdateHyperparameters(learning_rate=0.01))
        await stream.say(update_params=pb.UpdateHyperparameters(learning_rate=float("nan")))
        told = await stream.until("log", lambda log: log.level == pb.LogMessage.ERROR)
        assert "finite" in told.log.message, "those before it are not refused"
        executor.begins.set()
        executor.step(2)
        await stream.until("complete")
        assert executor.runs[0].told == [("checkpoint", {}), ("update", {"learning_rate": 0.01})]


async def test_calls_pause_resume_and_cancel(
    server: Central, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2**31 - 1
    monkeypatch.setattr(ScriptedRun, "batches", 2**32 - 1)  # more than these messages can hold
    async with scene(server, tmp_path, way, epochs=4) as on:
        stub, metadata, job_id = on.engine.stub, on.engine.metadata, on.job.id
        stream = on.engine.stream()
        on.executor.step(1)
        await stream.until("progress", lambda progress: progress.current_batch == progress.total_batches == most)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ResumeTraining(pb.ResumeTrainingRequest(job_id=job_id), metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        paused = await stub.PauseTraining(pb.PauseTrainingRequest(job_id=job_id), metadata=metadata)
        assert (paused.success, paused.current_epoch, paused.current_batch) == (True, 1, most)
        assert paused.checkpoint_path.startswith("blob://sha256/")
        resumed = await stub.ResumeTraining(pb.ResumeTrainingRequest(job_id=job_id), metadata=metadata)
        assert (resumed.success, resumed.resumed_batch) == (True, most)
        on.executor.step(1)
        await stream.until("progress", lambda progress: progress.current_epoch == 2)
        asking = asyncio.ensure_future(on.executor.save_when_told())
        request = pb.CancelTrainingRequest(job_id=job_id, reason="enough", save_partial_model=True)
        cancelled = await stub.CancelTraining(request, metadata=metadata)
        await asking
        assert (cancelled.success, cancelled.epochs_completed) == (True, 2)
        await is_kept_for_its_owner(server, cancelled)
        ended = await until(server, on.job, JobState.CANCELLED)
        assert ended.error == "enough"


async def test_the_owners_next_job_is_gone_on_with(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way, epochs=1) as on:
        stream = on.engine.stream()
        on.executor.step(1)
        await stream.until("complete")
        for config, code in (
            (job_pb2.JobConfig(epochs=0), "INVALID_CONFIG"),
            (job_pb2.JobConfig(epochs=1), "INVALID"),
        ):
            await stream.say(new_job_config=config)
            assert (await stream.until("error")).error.error_code == code
        for malformed in (pb.StartNewJobRequest(job_id="x"), pb.StartNewJobRequest(reservation_id="x")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await on.engine.stub.StartNewJob(malformed, metadata=on.engine.metadata)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        another = await submit(server, epochs=1)
        await assignment(server, another.id)
        await stream.say(new_job_config=job_pb2.JobConfig(job_id=another.id, epochs=1))
        await stream.until("log", lambda log: log.message == "started")
        assert stream.seen[-1].job_id == another.id
        accepted = await on.engine.stub.StartNewJob(
            pb.StartNewJobRequest(job_id=another.id), metadata=on.engine.metadata
        )
        assert accepted.accepted
        on.executor.step(1)
        await stream.until("complete")
        await stream.say(reservation_end=True)
        async with asyncio.timeout(5):
            assert await stream.call.read() is grpc.aio.EOF  # without a half-close


def forged(on: Scene, **changes: Any) -> str:
    claims = {**jwt.decode(on.engine.token, options={"verify_signature": False}), **changes}
    secret = on.server.core.secrets.p2p_for(claims["node_id"], legacy=False)
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, secret, algorithm="HS256")


async def test_tokens_are_checked(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way) as on:
        good = on.engine.token
        other = server.core.accounts.p2p_token("somebody", "f" * 8, "0" * 8, legacy=False)[0]
        bad = {
            "empty": "",
            "rubbish": "a.b.c",
            "signature": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
            "expired": forged(on, exp=1),
            "issuer": forged(on, iss="somebody else"),
            "no issuer": forged(on, iss=None),
            "no expiry": forged(on, exp=None),
            "job": forged(on, job_id="6a1c3a05-0000-4000-8000-000000000000"),
            **({"another node's": other} if way == "direct" else {}),  # the relay would look for that node
            "root secret": jwt.encode(
                jwt.decode(good, options={"verify_signature": False}), server.core.secrets.p2p, algorithm="HS256"
            ),
            "unsigned": jwt.encode(jwt.decode(good, options={"verify_signature": False}), None, algorithm="none"),
        }
        assert jwt.decode(good, options={"verify_signature": False})["iss"] == P2P_ISSUER
        for what, token in bad.items():
            async with engine(on.address, token, on.job.id) as stranger:
                answer = await stranger.connect()
                assert (answer.status, answer.error.code) == (common.STATUS_ERROR, 401), what
                assert answer.error.details == "UNAUTHENTICATED", what
                sent = await stranger.send_job()
                assert (sent.accepted, sent.error.code) == (False, 401), what
                assert sent.error.details == "UNAUTHENTICATED", what
                if token:
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await stranger.download()
                    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, what
                    stream = stranger.stream()
                    assert await stream.end() is grpc.StatusCode.UNAUTHENTICATED, what
                    left = await stranger.stub.DisconnectFromNode(pb.DisconnectRequest(), metadata=stranger.metadata)
                    assert left.status == common.STATUS_SUCCESS, what


async def test_sessions_belong_to_tokens_not_to_connections(server: Central, tmp_path: Path, way: Way) -> None:
    """Two jobs on one channel, and a client that shows its log-in instead of the token after ConnectToNode."""
    async with scene(server, tmp_path, way) as on:
        second = await submit(server, name="second")
        given = await assignment(server, second.id)
        channel = grpc.aio.insecure_channel(on.address)
        async with channel:
            one, two = Engine(channel, on.engine.token, on.job.id), Engine(channel, given.auth_token, second.id)
            assert (await two.send_job()).error.code == 401  # it has not connected
            await one.connect()
            await two.connect()
            assert (await one.send_job()).accepted
            assert (await two.send_job()).accepted
            crossed = Engine(channel, on.engine.token, second.id)
            assert (await crossed.send_job()).error.code == 401
            earlier = (("authorization", "Bearer the user's own log-in"),)
            request = pb.ConnectRequest(auth_token=given.auth_token, job_id=second.id)
            assert (await two.stub.ConnectToNode(request, metadata=earlier)).status == common.STATUS_SUCCESS
            sent = await two.stub.SendJob(pb.SendJobRequest(job_id=second.id), metadata=earlier)
            assert sent.accepted
            sent = await one.stub.SendJob(pb.SendJobRequest(job_id=on.job.id), metadata=earlier)
            assert sent.error.code == 401
            await Stream(two.stub.StreamTrainingMetrics(metadata=(*earlier, ("x-job-id", second.id)))).until("log")
            left = await two.stub.DisconnectFromNode(pb.DisconnectRequest(reason="done"), metadata=two.metadata)
            assert left.status == common.STATUS_SUCCESS
            assert (await two.send_job()).error.code == 401
            assert (await one.send_job()).accepted


RUBBISH = b"\xff\xff\xff\xff"


async def test_rubbish_at_every_method(server: Central, tmp_path: Path, way: Way) -> None:
    async with scene(server, tmp_path, way, epochs=1) as on:
        on.executor.step(1)
        await until(server, on.job, JobState.COMPLETED)
        names = [method.name for method in pb.DESCRIPTOR.services_by_name["JobExecutionService"].methods]
        assert len(names) == 9
        async with grpc.aio.insecure_channel(on.address) as channel:
            for name in names:
                path = f"/cyxwiz.protocol.JobExecutionService/{name}"
                if name == "StreamTrainingMetrics":
                    call: Any = channel.stream_stream(path)(metadata=on.engine.metadata)
                    await call.write(RUBBISH)
                    with pytest.raises(grpc.aio.AioRpcError):
                        while await call.read() is not grpc.aio.EOF:
                            pass
                elif name == "DownloadWeights":
                    call = channel.unary_stream(path)(RUBBISH, metadata=on.engine.metadata)
                else:
                    call = channel.unary_unary(path)(RUBBISH, metadata=on.engine.metadata)
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        size = len(f"weights of {on.job.id}")
        for offset, chunk in ((size + 1, 0), (-1, 0), (0, -1), (0, 1 << 30)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await on.engine.download(offset, chunk)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await on.engine.download())[-1].is_last_chunk  # it serves on


async def test_a_malformed_id_is_told_from_a_bad_token(server: Central, tmp_path: Path, way: Way) -> None:
    """Without an id a job was NOT_FOUND, and of one that is none the client was sent for a new token."""
    async with scene(server, tmp_path, way, epochs=1) as on:
        stub, metadata = on.engine.stub, on.engine.metadata
        for malformed in ("", "x", f"{on.job.id}_x"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.PauseTraining(pb.PauseTrainingRequest(job_id=malformed), metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, malformed
            sent = await stub.SendJob(pb.SendJobRequest(job_id=malformed), metadata=metadata)
            assert (sent.accepted, sent.error.code) == (False, 400), malformed
        other = await stub.SendJob(pb.SendJobRequest(job_id=str(uuid.uuid4())), metadata=metadata)
        assert (other.error.code, "Not connected" in other.rejection_reason) == (401, False), "it is connected"
        shouted = await stub.SendJob(pb.SendJobRequest(job_id=on.job.id.upper()), metadata=metadata)
        assert shouted.accepted


async def test_a_job_that_is_not_here(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "direct") as on:
        gone = "6a1c3a05-0000-4000-8000-000000000000"
        async with engine(on.address, forged(on, job_id=gone), gone) as client:
            assert (await client.connect()).status == common.STATUS_SUCCESS
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.download()
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await on.engine.download()
        assert early.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_weights_outlive_the_node_but_not_their_time(server: Central, tmp_path: Path) -> None:
    executor = ScriptedExecutor()
    async with p2p_node(tmp_path / "node", grpc_link(server), executor):
        job = await until(server, await submit(server), JobState.COMPLETED)
    async with p2p_node(tmp_path / "node", grpc_link(server), executor, keep=5) as (agent, _, address):
        given = await assignment(server, job.id)
        async with engine(address, given.auth_token, job.id) as client:
            assert b"".join(chunk.data for chunk in await client.download()) == f"weights of {job.id}".encode()
            async with asyncio.timeout(20):
                while list(agent.jobs_directory.glob("*/*")):
                    await asyncio.sleep(0.05)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.download()
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    kept = await server.core.jobs.assignment(job, timedelta(hours=24))
    assert kept is None, "central goes by what the node says, not by its own setting"


async def test_a_cut_to_central_ends_relayed_calls_alone(server: Central, tmp_path: Path) -> None:
    async with scene(server, tmp_path, "relayed", epochs=2) as on:
        direct = (await assignment(server, on.job.id)).node_endpoint
        relayed = on.engine.stream()
        await relayed.until("log")
        async with engine(direct, on.engine.token, on.job.id) as other:
            stream = other.stream()
            await stream.until("log")
            await on.agent._session.aclose()
            assert await relayed.end() is grpc.StatusCode.UNAVAILABLE
            on.executor.step(2)
            await stream.until("complete")
        again = on.engine.stream()
        async with asyncio.timeout(10):
            while (code := await again.end()) is grpc.StatusCode.UNAVAILABLE:
                again = on.engine.stream()
        assert code is grpc.StatusCode.OK
        assert again.kinds[-1] == "complete"
