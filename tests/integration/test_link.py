"""A node's stream, over gRPC and in process: the same tests on both. Long, as it is a list: a turn of events each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz.cli.certs import make
from cyxwiz.compute.hardware.score import RESULT
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id
from cyxwiz.domain.job import Job
from cyxwiz.domain.node import HELLO_CONTEXT
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.executor import Asked, Cancelled, Failed, FirstStep, Logged, Progressed, Report, Run, Started, Work
from cyxwiz.services import gateway
from cyxwiz.services.hardware import hardware_to
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.transports.grpc.link import GrpcLink
from tests.central import DIGITS, LOCAL_TOKEN, Central, central
from tests.e2e.proxy import proxy
from tests.fakes import GIB, ScriptedExecutor, ScriptedRun, hardware
from tests.nodes import grpc_link, local_link, node

Link = Callable[..., CentralLink]


@pytest.fixture(params=["grpc", "local"])
def link(request: pytest.FixtureRequest) -> Link:
    return grpc_link if request.param == "grpc" else local_link


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


async def admin(server: Central) -> Principal:
    return await server.core.accounts.authenticate(server.key)


async def submit(server: Central, **changes: object) -> Job:
    spec = parse_jobfile({**DIGITS, **changes})
    return (await server.core.jobs.submit(await admin(server), spec))[0]


async def until(server: Central, job: Job, *states: JobState, seconds: float = 10.0) -> Job:
    async with asyncio.timeout(seconds):
        async for update in server.core.watch.job(await admin(server), job.id):
            if update.job.state in states:
                return update.job
    raise AssertionError("the watch ended before the job got there")


async def test_result_is_stored_and_owned(server: Central, link: Link, tmp_path: Path) -> None:
    async with node(tmp_path / "node", link(server)):
        job = await until(server, await submit(server), JobState.COMPLETED)
    result = await server.core.jobs.result(await admin(server), job.id)
    assert result.weights_uri == f"blob://sha256/{result.files[0].sha256}"
    stored = b"".join([chunk async for chunk in server.blobs.read(result.files[0].sha256)])
    assert stored == f"weights of {job.id}".encode()
    assert job.attempts == 1
    assert job.actual_cost_units > 0
    lines = await server.core.jobs.logs(await admin(server), job.id, 0, 100)
    assert [line.message for line in lines] == ["started"]


class TalkingRun(ScriptedRun):
    async def reports(self) -> AsyncIterator[Report]:
        async for report in super().reports():
            if isinstance(report, Progressed):
                yield Logged("info", f"epoch {report.epoch}")
            yield report


class ExecutorOf(ScriptedExecutor):
    """Whose runs are of a kind."""

    def __init__(self, kind: type[ScriptedRun]) -> None:
        super().__init__()
        self._kind = kind

    async def start(self, work: Work) -> Run:
        run = self._kind(work, None, None)
        self.runs.append(run)
        return run


async def test_lines_travel_together_past_points(server: Central, link: Link, tmp_path: Path) -> None:
    async with node(tmp_path / "node", link(server), ExecutorOf(TalkingRun)):
        job = await until(server, await submit(server), JobState.COMPLETED)
    lines = await server.core.jobs.logs(await admin(server), job.id, 0, 100)
    assert [line.message for line in lines] == ["started", *(f"epoch {epoch}" for epoch in range(1, job.epoch + 1))]
    points = await server.core.jobs.metrics(await admin(server), job.id, 0, 100)
    assert [point.epoch for point in points] == list(range(1, job.epoch + 1))
    [lease] = await server.core.store.read(lambda tx: tx.leases_of(job.id))
    assert lease.last_seq <= 6 + len(points), "started, lines, first step, lines, the points, the upload, the result"


class LoudRun(ScriptedRun):
    async def reports(self) -> AsyncIterator[Report]:
        async for report in super().reports():
            if isinstance(report, FirstStep):
                for number in range(1000):
                    yield Logged("info", f"{number} " + "\u20ac" * 16_000)
            yield report


async def test_however_much_is_said_it_fits_the_way_to_central(server: Central, link: Link, tmp_path: Path) -> None:
    """48 MB of lines, of which central takes 16 MiB in one message."""
    async with node(tmp_path / "node", link(server), ExecutorOf(LoudRun)):
        job = await until(server, await submit(server), JobState.COMPLETED, seconds=60)
    lines = await server.core.jobs.logs(await admin(server), job.id, 990, 100)
    assert [line.message.partition(" ")[0] for line in lines][:11] == [str(number) for number in range(989, 1000)]


async def test_node_keeps_its_id_and_is_sampled(server: Central, link: Link, tmp_path: Path) -> None:
    async with node(tmp_path / "node", link(server)) as agent:
        node_id = agent._identity.node_id
    assert (await server.core.nodes.get(node_id)).pricing is None
    (tmp_path / "node" / RESULT).write_text(json.dumps({"compute_score": 143.5}))
    async with node(tmp_path / "node", link(server), pricing=NodePricing(7)) as agent:
        assert agent._identity.node_id == node_id
        async with asyncio.timeout(5):
            while not await server.core.nodes.metrics(node_id, None, None):
                await asyncio.sleep(0.01)
    page = (await server.core.api.list_nodes(_call(await admin(server))))["nodes"]
    told = [(each["id"], each["pricing"]["per_hour"], each["measured_score"]) for each in page]
    assert told == [(node_id, "0.000000007", 143.5)]


def _call(principal: Principal) -> object:
    from cyxwiz.services.api import Call

    return Call(principal)


async def test_job_survives_a_cut_link(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        assert agent._session is not None
        await agent._session.aclose()
        executor.step(3)
        job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 1
    points = await server.core.jobs.metrics(await admin(server), job.id, 0, 100)
    assert [point.epoch for point in points] == [1, 2, 3]


async def test_silent_node_loses_its_lease_and_gets_it_back(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        dial = agent._link.open

        async def unreachable() -> object:
            raise CyxError(Code.UNAVAILABLE, "cut")

        agent._link.open = unreachable  # type: ignore[method-assign, assignment]
        assert agent._session is not None
        await agent._session.aclose()
        job = await until(server, job, JobState.PENDING)
        executor.step(3)
        agent._link.open = dial  # type: ignore[method-assign]
        job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 1, "nobody else had it: the lease revives"
    assert len(executor.runs) == 1


async def test_another_node_takes_over_and_the_first_is_stale(server: Central, link: Link, tmp_path: Path) -> None:
    first, second = ScriptedExecutor(gated=True), ScriptedExecutor(gated=True)
    async with node(tmp_path / "one", link(server), first, name="one") as one:
        job = await until(server, await submit(server), JobState.RUNNING)
        dial = one._link.open

        async def unreachable() -> object:
            raise CyxError(Code.UNAVAILABLE, "cut")

        one._link.open = unreachable  # type: ignore[method-assign, assignment]
        assert one._session is not None
        await one._session.aclose()
        async with node(tmp_path / "two", link(server), second, name="two"):
            await until(server, job, JobState.PENDING)
            job = await until(server, job, JobState.RUNNING)
            assert job.attempts == 2
            one._link.open = dial  # type: ignore[method-assign]
            async with asyncio.timeout(10):
                while one.active:
                    await asyncio.sleep(0.01)
            second.step(3)
            job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 2
    assert job.retry_count == 0


async def test_restarted_node_loses_its_run_at_once(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        agent._task.cancel()  # type: ignore[union-attr]  as kill -9 would: no good-bye
        agent.stopping.set()
    again = ScriptedExecutor()
    async with node(tmp_path / "node", link(server), again):
        job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 2
    assert job.node_losses == 1
    assert len(again.runs) == 1


async def test_stopped_node_hands_its_job_back(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor):
        job = await until(server, await submit(server), JobState.RUNNING)
    job = await server.core.jobs.get(await admin(server), job.id)
    assert job.state is JobState.PENDING
    page = (await server.core.api.list_nodes(_call(await admin(server))))["nodes"]
    assert [each["status"] for each in page] == ["offline"]


async def test_failures_are_retried_and_counted(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(fail=Failed("INTERNAL", "the GPU fell off the bus", retryable=True))
    async with node(tmp_path / "node", link(server), executor):
        job = await until(server, await submit(server), JobState.FAILED)
    assert job.retry_count == 3
    assert job.attempts == 4
    assert "bus" in job.error


async def test_a_bad_job_fails_once(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(fail=Failed("INVALID", "layer 2 does not fit"))
    async with node(tmp_path / "node", link(server), executor):
        job = await until(server, await submit(server), JobState.FAILED)
    assert (job.attempts, job.retry_count, job.error_code) == (1, 0, "INVALID")


async def test_slots_are_respected(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor, slots=2):
        jobs = [await submit(server, name=f"job {index}") for index in range(4)]
        for job in jobs[:2]:
            await until(server, job, JobState.RUNNING)
        await asyncio.sleep(0.05)
        waiting = await server.core.jobs.get(await admin(server), jobs[2].id)
        assert waiting.state is JobState.PENDING
        assert "all slots busy" in waiting.reason
        executor.step(12)
        for job in jobs:
            await until(server, job, JobState.COMPLETED)


async def test_a_slot_whose_run_is_still_ending_is_given_on(server: Central, link: Link, tmp_path: Path) -> None:
    """Central gives a slot on at once, the run that had it takes a while to end: that is no reason to decline."""
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor):
        first = await submit(server)
        await until(server, first, JobState.RUNNING)
        (run,), ended = executor.runs, asyncio.Event()
        at_once = run.cancel

        async def slowly() -> None:
            await asyncio.sleep(0.3)
            ended.set()
            await at_once()

        run.cancel = slowly  # type: ignore[method-assign]
        await server.core.jobs.cancel(await admin(server), first.id)
        second = await until(server, await submit(server), JobState.RUNNING)
        assert ended.is_set(), "the two did not run side by side"
        assert second.attempts == 1, second.reason
        executor.step(12)
        await until(server, second, JobState.COMPLETED)


async def test_gpu_jobs_go_to_gpus(link: Link, tmp_path: Path) -> None:
    async with (
        central(tmp_path) as server,  # with the usual time-out: neither node may be missed, however busy the machine
        node(tmp_path / "cpu", link(server), name="cpu"),
        node(tmp_path / "gpu", link(server), name="gpu", machine=hardware(gpus=(24 * GIB,))) as gpu,
    ):
        job = await submit(server, resources={"device": "cuda", "vram": "16GiB"})
        job = await until(server, job, JobState.COMPLETED)
        assert job.node_id == gpu._identity.node_id
        job = await until(server, await submit(server), JobState.COMPLETED)
        assert job.node_id != gpu._identity.node_id, "a CPU job does not take the GPU machine"


async def test_a_stranger_needs_a_join_token(server: Central, link: Link, tmp_path: Path) -> None:
    with pytest.raises(CyxError) as caught:
        async with node(tmp_path / "one", link(server, local=False), wait=False) as agent:
            error = await asyncio.wait_for(agent.died(), 5)
            raise error
    assert caught.value.code is Code.UNAUTHENTICATED
    assert "join token" in caught.value.message
    _, token = await server.core.accounts.create_join_token(await admin(server), 1, None)
    async with node(tmp_path / "two", link(server, local=False), join_token=token):
        await until(server, await submit(server), JobState.COMPLETED)
    with pytest.raises(CyxError):
        async with node(tmp_path / "three", link(server, local=False), join_token=token, wait=False) as agent:
            raise await asyncio.wait_for(agent.died(), 5)


async def test_a_thief_of_an_id_is_refused(server: Central, link: Link, tmp_path: Path) -> None:
    async with node(tmp_path / "one", link(server)) as agent:
        node_id = agent._identity.node_id
    (tmp_path / "two").mkdir()
    from cyxwiz.compute.identity import load_identity

    load_identity(tmp_path / "two")
    (tmp_path / "two" / "node_id").write_text(node_id)
    with pytest.raises(CyxError) as caught:
        async with node(tmp_path / "two", link(server), wait=False) as agent:
            raise await asyncio.wait_for(agent.died(), 5)
    assert caught.value.code is Code.FORBIDDEN


async def test_nodes_on_copies_of_one_directory_learn_of_each_other(
    server: Central, link: Link, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(tmp_path / "one", link(server)):
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        async with node(tmp_path / "two", link(server)), asyncio.timeout(5):
            while not any("on a copy of its data directory" in line for line in caplog.messages):
                await asyncio.sleep(0.02)


async def test_progress_without_the_lease_is_stale(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "holder", link(server), executor, name="holder"):
        job = await until(server, await submit(server), JobState.RUNNING)
        async with node(tmp_path / "other", link(server), name="other") as other:
            session = other._session
            assert session is not None and job.token is not None
            token = pb.Token(epoch=job.token.epoch, counter=job.token.counter)
            report = pb.Report(job_id=job.id, token=token, seq=job.attempts + 5, progress=pb.Progress(progress=0.9))
            await session.send(pb.NodeMessage(report=report))
            await asyncio.sleep(0.2)
        seen = await server.core.jobs.get(await admin(server), job.id)
        assert seen.progress == 0.0
        executor.step(3)
        await until(server, job, JobState.COMPLETED)


async def test_a_node_is_told_nothing_of_a_lease_that_it_only_claims(
    server: Central, link: Link, tmp_path: Path
) -> None:
    """How another's run ended, with what its job said: jobs' ids are told in many places, and tokens are counted."""
    executor = ScriptedExecutor(fail=Failed("INVALID", "row 7: patient Doe"))
    async with node(tmp_path / "holder", link(server), executor):
        job = await until(server, await submit(server), JobState.FAILED)
    assert job.token is not None
    key, node_id = Ed25519PrivateKey.generate(), new_id()
    _, join_token = await server.core.accounts.create_join_token(await admin(server), 1, None)
    claimed = pb.Held(job_id=job.id, token=pb.Token(epoch=job.token.epoch, counter=job.token.counter))
    async with contextlib.aclosing(link(server)) as dialled:
        session = await dialled.open()
        messages = session.receive()
        hello = pb.Hello(protocol_min=1, protocol_max=1, node_id=node_id, name="snoop", join_token=join_token)
        hello.public_key, hello.max_concurrent_jobs = key.public_key().public_bytes_raw(), 1
        hello.hardware.CopyFrom(hardware_to(hardware()))
        hello.held.append(claimed)
        await session.send(pb.NodeMessage(hello=hello))
        nonce = (await anext(messages)).challenge.nonce
        proof = pb.Proof(signature=key.sign(HELLO_CONTEXT + nonce + node_id.encode()))
        await session.send(pb.NodeMessage(proof=proof))
        assert (await anext(messages)).WhichOneof("body") == "welcome"
        told = await asyncio.wait_for(anext(messages), 5)
        assert told.cancel.message == "another node has this job now"
        await session.aclose()


async def test_drained_node_takes_nothing_new(server: Central, link: Link, tmp_path: Path) -> None:
    async with node(tmp_path / "node", link(server)) as agent:
        await server.core.nodes.cordon(await admin(server), agent._identity.node_id, on=True)
        job = await submit(server)
        await asyncio.sleep(0.1)
        seen = await server.core.jobs.get(await admin(server), job.id)
        assert seen.state is JobState.PENDING
        assert "draining" in seen.reason
        await server.core.nodes.cordon(await admin(server), agent._identity.node_id, on=False)
        await until(server, job, JobState.COMPLETED)


async def test_banned_node_is_thrown_out(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        await server.core.nodes.ban(await admin(server), agent._identity.node_id, 60)
        await until(server, job, JobState.PENDING)
        async with asyncio.timeout(5):
            while agent.active:
                await asyncio.sleep(0.01)


async def test_a_central_that_stops_takes_no_jobs(server: Central) -> None:
    server.core.jobs.close()
    with pytest.raises(CyxError) as caught:
        await submit(server)
    assert caught.value.code is Code.UNAVAILABLE


async def test_a_blob_on_disk_that_no_row_knows_is_sent_again(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor):
        job = await until(server, await submit(server), JobState.RUNNING)
        (tmp_path / "weights").write_text(f"weights of {job.id}")
        await server.blobs.add_file(tmp_path / "weights")  # as a restore of the files alone leaves it
        executor.step(3)
        job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 1


async def test_files_have_a_connection_of_their_own(server: Central, tmp_path: Path) -> None:
    """What fills a slow line would else stand before the heartbeats."""
    with proxy(int(server.address.rpartition(":")[2])) as line:
        async with node(tmp_path / "node", GrpcLink(line.address, local_token=LOCAL_TOKEN)):
            await until(server, await submit(server), JobState.COMPLETED)
        assert line.accepted == 2


async def test_a_sender_that_gives_up_leaves_the_stream_to_others(server: Central, link: Link, tmp_path: Path) -> None:
    """As a client does that is gone while central passes its words on."""
    pulse = pb.CentralMessage(pulse=pb.Pulse(at_ms=1))
    async with node(tmp_path / "node", link(server)) as agent:
        await until(server, await submit(server), JobState.COMPLETED)
        send = server.core.gateway._sessions[agent._identity.node_id].send
        for _ in range(20):
            gone = asyncio.ensure_future(send(pulse))
            await asyncio.sleep(0)
            gone.cancel()
            await send(pulse)


async def test_nodes_behind_one_address_are_not_counted_together(tmp_path: Path) -> None:
    async with (
        central(tmp_path, "server.max_streams_per_principal=1") as server,
        node(tmp_path / "one", grpc_link(server)),
        node(tmp_path / "two", grpc_link(server)),
    ):
        page = await server.core.api.list_nodes(_call(await admin(server)))
        assert page["total"] == 2


async def test_a_stranger_says_little_before_it_proves_anything(server: Central, link: Link) -> None:
    """It is kept for as long as the proof may take, for hundreds of streams of one address."""
    async with contextlib.aclosing(link(server)) as dialled:
        session = await dialled.open()
        hello = pb.Hello(protocol_min=1, protocol_max=1, node_id=new_id(), features=["f" * gateway.MAX_HELLO])
        await session.send(pb.NodeMessage(hello=hello))
        with pytest.raises(CyxError, match="at most 1048576 bytes") as refused:
            await asyncio.wait_for(anext(session.receive()), 5)
        assert refused.value.code is Code.INVALID


async def test_who_proves_nothing_locks_nobody_out(
    server: Central, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "MAX_UNPROVED", 2)
    hello = pb.NodeMessage(
        hello=pb.Hello(protocol_min=1, protocol_max=1, node_id="00000000-0000-4000-8000-000000000001")
    )
    async with contextlib.AsyncExitStack() as stack:
        answers = []
        for _ in range(3):
            dialled = link(server)
            stack.push_async_callback(dialled.aclose)
            session = await dialled.open()
            await session.send(hello)
            answers.append(session.receive())
            assert (await anext(answers[-1])).WhichOneof("body") == "challenge"
        with pytest.raises(CyxError) as pushed_out:
            await asyncio.wait_for(anext(answers[0]), 5)
        assert pushed_out.value.code in (Code.TIMEOUT, Code.UNAVAILABLE)
        async with node(tmp_path / "node", link(server)):
            assert len(server.core.gateway._unproved["127.0.0.1"]) == 1, "the proved one counts no more"
    async with asyncio.timeout(5):
        while server.core.gateway._unproved:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("central_speaks_tls", "node_tls", "setting"),
    [(True, False, "node.tls = true"), (False, True, "leave node.tls out"), (True, True, "tls.ca_file")],
)
async def test_a_node_that_speaks_otherwise_is_told_which_setting_is_wrong(
    tmp_path: Path, central_speaks_tls: bool, node_tls: bool, setting: str
) -> None:
    made = make(tmp_path / "certs", [], days=30)
    pair = (Path(made["key_file"]).read_bytes(), Path(made["cert_file"]).read_bytes())
    door = grpc.aio.server()
    if central_speaks_tls:
        port = door.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = door.add_insecure_port("127.0.0.1:0")
    await door.start()
    credentials = grpc.ssl_channel_credentials() if node_tls else None
    link = GrpcLink(f"127.0.0.1:{port}", credentials)
    try:
        with pytest.raises(CyxError, match=setting):
            session = await link.open()
            await session.send(pb.NodeMessage())
            async for _ in session.receive():
                pass
    finally:
        await link.aclose()
        await door.stop(None)


class _Asking(ScriptedRun):
    """A member of a group that waits for the others."""

    async def reports(self) -> AsyncIterator[Report]:
        yield Started(1)
        yield Asked(1, "get", "address", b"")
        await self._cancelled.wait()
        yield Cancelled()

    def answer(self, number: int, value: bytes) -> None:
        raise AssertionError("nobody answers here")


class _AskingExecutor(ScriptedExecutor):
    async def start(self, work: Work) -> Run:
        run = await super().start(work)
        if work.gang is None:
            return run
        self.runs[-1] = _Asking(work, None, None)
        return self.runs[-1]


class _Told:
    """A stream on which central says what the test says; None cuts it."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[pb.CentralMessage | None] = asyncio.Queue()
        self.heard: list[pb.NodeMessage] = []

    async def send(self, message: pb.NodeMessage) -> None:
        await asyncio.sleep(0.02)  # as a wire takes its time
        self.heard.append(message)

    async def receive(self) -> AsyncIterator[pb.CentralMessage]:
        while (message := await self.says.get()) is not None:
            yield message
        raise CyxError(Code.UNAVAILABLE, "cut")

    async def aclose(self) -> None:
        self.says.put_nowait(None)


class _ToldLink:
    session_token = ""

    def __init__(self, *sessions: _Told) -> None:
        self._sessions = [*sessions]

    async def open(self) -> _Told:
        return self._sessions.pop(0)

    async def push_blob(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        return sha256 or "", path.stat().st_size  # central has it

    async def fetch_blob(self, sha256: str, path: Path) -> None:
        raise AssertionError("these jobs name no blob")

    async def aclose(self) -> None:
        """There is nothing to close."""


async def test_what_is_forgotten_as_the_node_comes_back_does_not_end_it(tmp_path: Path) -> None:
    """A result is acknowledged in the Welcome, while a group's member asks again what it asked before."""
    welcome = pb.Welcome(heartbeat_interval_ms=60_000, lease_timeout_ms=60_000)
    done, waits = (
        pb.Assign(job_id=new_id(), token=pb.Token(epoch=1, counter=each), job_type="training", epochs=1, device="cpu")
        for each in (1, 2)
    )
    waits.gang.CopyFrom(pb.Gang(rank=0, world=2, strategy="ddp"))
    first, second = _Told(), _Told()
    async with node(
        tmp_path / "node", _ToldLink(first, second), _AskingExecutor(), slots=2, wait=False, gang_address="127.0.0.1"
    ) as agent:
        for message in (
            pb.CentralMessage(welcome=welcome),
            *(pb.CentralMessage(assign=each) for each in (done, waits)),
        ):
            first.says.put_nowait(message)

        def finished() -> list[pb.Report]:
            reports = [message.report for message in first.heard if message.WhichOneof("body") == "report"]
            return [each for each in reports if each.WhichOneof("body") == "finished"]

        async with asyncio.timeout(20):
            while not finished() or not any(message.HasField("rendezvous") for message in first.heard):
                await asyncio.sleep(0.01)
            welcome.acks.append(pb.Ack(job_id=done.job_id, token=done.token, seq=finished()[0].seq))
            second.says.put_nowait(pb.CentralMessage(welcome=welcome))
            first.says.put_nowait(None)
            while not any(message.HasField("beat") for message in second.heard):
                await asyncio.sleep(0.01)
        assert any(message.HasField("rendezvous") for message in second.heard)
        assert agent.active == 1
