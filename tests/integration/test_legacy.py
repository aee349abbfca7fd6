"""Nodes of the earlier kind: unary calls, a pushed AssignJob, no stream; and discovery.

Long, as it is a list: a call of theirs, or a way in which it goes wrong, a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from cyxwiz.domain.account import Role
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2, node_pb2_grpc
from cyxwiz.protocol import node_pb2 as pb
from cyxwiz.transports.grpc import legacy_push
from tests.central import MODEL, Central, Stubs, central
from tests.fakes import GIB


@dataclass
class OldNode(node_pb2_grpc.NodeServiceServicer):
    """The node's side of the push."""

    accept: bool = True
    jobs: list[job_pb2.JobConfig] = field(default_factory=list)
    port: int = 0

    async def AssignJob(self, request: pb.AssignJobRequest, context: Any) -> pb.AssignJobResponse:
        self.jobs.append(request.job)
        if not self.accept:
            return pb.AssignJobResponse(status=common.STATUS_FAILED, error=common.Error(code=429, message="busy"))
        return pb.AssignJobResponse(
            status=common.STATUS_SUCCESS, job_id=request.job.job_id, accepted=True, estimated_start_time="immediate"
        )

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        server = grpc.aio.server()
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "auth.mode=open", "scheduler.node_heartbeat_timeout_ms=1500") as running:
        yield running


def info(name: str = "old", port: int = 50052, **changes: Any) -> pb.NodeInfo:
    values: dict[str, Any] = {
        "name": name,
        "cpu_cores": 8,
        "ram_total": 32 * GIB,
        "ram_available": 16 * GIB,
        "ip_address": "127.0.0.1",
        "port": port,
        "region": "eu-west",
    }
    return pb.NodeInfo(**{**values, **changes})


async def register(stubs: Stubs, **kwargs: Any) -> pb.RegisterNodeResponse:
    response = await stubs.nodes.RegisterNode(pb.RegisterNodeRequest(info=info(**kwargs)), metadata=stubs.metadata)
    assert response.status == common.STATUS_SUCCESS
    assert uuid.UUID(response.node_id)
    return response


async def submit(stubs: Stubs) -> str:
    config = job_pb2.JobConfig(
        job_type=1,
        model_definition=MODEL,
        dataset_uri="builtin:digits",
        epochs=4,
        batch_size=16,
        required_device=common.DEVICE_CPU,
        hyperparameters={"learning_rate": "0.01"},
    )
    response = await stubs.jobs.SubmitJob(job_pb2.SubmitJobRequest(config=config), metadata=stubs.metadata)
    return str(response.job_id)


async def status_of(stubs: Stubs, job_id: str) -> job_pb2.GetJobStatusResponse:
    return await stubs.jobs.GetJobStatus(job_pb2.GetJobStatusRequest(job_id=job_id), metadata=stubs.metadata)


async def soon(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.01)


async def pushed_job(old: OldNode, channel: Any) -> tuple[Stubs, str, str]:
    """A registered node that was pushed a job: (stubs, node id, job id)."""
    stubs = Stubs(channel, "")
    node_id = (await register(stubs, port=old.port)).node_id
    job_id = await submit(stubs)
    await soon(lambda: _true(old.jobs))
    return stubs, node_id, job_id


async def test_the_classic_flow_in_open_mode(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        pushed = old.jobs[0]
        assert (pushed.job_id, pushed.epochs, pushed.batch_size) == (job_id, 4, 16)
        assert pushed.hyperparameters["learning_rate"] == "0.01"
        update = pb.UpdateJobStatusRequest(
            node_id=node_id, job_id=job_id, status=common.STATUS_IN_PROGRESS, progress=0.5, current_epoch=2
        )
        update.metrics["loss"] = 0.75
        answer = await stubs.status.UpdateJobStatus(update)
        assert answer.should_continue
        now = await status_of(stubs, job_id)
        assert now.status.status == common.STATUS_IN_PROGRESS
        assert (now.status.progress, now.status.current_epoch) == (0.5, 2)
        assert now.status.metrics["loss"] == 0.75
        assert now.node_assignment.node_endpoint == f"127.0.0.1:{old.port}"
        claims = jwt.decode(
            now.node_assignment.auth_token,
            opened.core.secrets.p2p,
            algorithms=["HS256"],
            issuer="CyxWiz-Central-Server",
        )
        assert (claims["job_id"], claims["node_id"]) == (job_id, node_id)
        assert claims["exp"] == now.node_assignment.token_expires_at
        assert 0 < claims["exp"] - claims["iat"] <= 3600
        result = pb.ReportJobResultRequest(
            node_id=node_id,
            job_id=job_id,
            final_status=common.STATUS_SUCCESS,
            final_metrics={"accuracy": 0.9},
            model_weights_uri="file:///weights",
            model_weights_hash="sha256:" + "a" * 64,
            model_size=123,
            total_compute_time=2500,
        )
        assert (await stubs.status.ReportJobResult(result)).status == common.STATUS_SUCCESS
        assert (await stubs.status.ReportJobResult(result)).status == common.STATUS_SUCCESS, "told twice, taken once"
        done = await status_of(stubs, job_id)
        assert done.status.status == common.STATUS_COMPLETED
        assert done.status.metrics["accuracy"] == 0.9
        assert (done.status.progress, done.status.current_epoch) == (1.0, 4)


async def _true(value: object) -> bool:
    return bool(value)


async def test_a_session_token_speaks_for_its_node_only(server: Central) -> None:
    old = OldNode()
    admin = await server.core.accounts.authenticate(server.key)
    _, join = await server.core.accounts.create_join_token(admin, None, None)
    async with old.serve(), server.channel() as channel:
        nobody = Stubs(channel, "")
        request = pb.RegisterNodeRequest(info=info(port=old.port), authentication_token=join)
        mine = await nobody.nodes.RegisterNode(request)
        other = await nobody.nodes.RegisterNode(
            pb.RegisterNodeRequest(info=info("other", port=1), authentication_token=join)
        )
        owner, me, thief = (
            Stubs(channel, server.key),
            Stubs(channel, mine.session_token),
            Stubs(channel, other.session_token),
        )
        await server.core.nodes.cordon(admin, other.node_id, on=True)
        job_id = await submit(owner)
        await soon(lambda: _true(old.jobs))
        update = pb.UpdateJobStatusRequest(node_id=mine.node_id, job_id=job_id, status=4, progress=0.25)
        for stubs in (nobody, thief, owner):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.status.UpdateJobStatus(update, metadata=stubs.metadata)
            assert caught.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        foreign = pb.UpdateJobStatusRequest(node_id=other.node_id, job_id=job_id, status=4, progress=0.9)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await thief.status.UpdateJobStatus(foreign, metadata=thief.metadata)
        assert caught.value.code() is grpc.StatusCode.ABORTED, "it does not hold the lease"
        assert (await status_of(owner, job_id)).status.progress == 0.0
        answer = await me.status.UpdateJobStatus(update, metadata=me.metadata)
        assert answer.should_continue


async def test_registering_needs_a_credential(server: Central) -> None:
    _, key = await server.user("carol", Role.USER)
    async with server.channel() as channel:
        for stubs in (Stubs(channel, ""), Stubs(channel, key)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.nodes.RegisterNode(pb.RegisterNodeRequest(info=info()), metadata=stubs.metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        _, operator = await server.user("oscar", Role.OPERATOR)
        await register(Stubs(channel, operator))


async def test_a_node_that_registers_again_keeps_its_id(opened: Central) -> None:
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        first = await register(stubs)
        assert (await register(stubs)).node_id == first.node_id
        assert (await register(stubs, node_id=first.node_id, name="renamed")).node_id != ""
        assert (await register(stubs, name="another")).node_id != first.node_id


async def test_cancelled_jobs_come_with_the_heartbeat(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        await stubs.nodes.NotifyJobAccepted(pb.JobAcceptedRequest(node_id=node_id, job_id=job_id))
        beat = pb.HeartbeatRequest(node_id=node_id, active_jobs=[job_id], current_status=info(port=old.port))
        assert list((await stubs.nodes.Heartbeat(beat)).jobs_to_cancel) == []
        listed = await stubs.discovery.GetNodeInfo(pb.GetNodeInfoRequest(node_id=node_id))
        assert listed.info.is_online
        assert (await opened.core.nodes.get(node_id)).status == "busy", "a heartbeat frees no slot"
        await stubs.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))
        assert list((await stubs.nodes.Heartbeat(beat)).jobs_to_cancel) == [job_id]
        going = await stubs.status.UpdateJobStatus(
            pb.UpdateJobStatusRequest(node_id=node_id, job_id=job_id, status=4, progress=0.1)
        )
        assert not going.should_continue
        metrics = await stubs.nodes.GetNodeMetrics(pb.GetNodeMetricsRequest(node_id=node_id))
        assert metrics.metrics[0].memory_usage == 0.5


async def test_refused_and_unreachable_pushes_go_elsewhere(opened: Central) -> None:
    busy, free = OldNode(accept=False), OldNode()
    async with busy.serve(), free.serve(), opened.channel() as channel:
        stubs = Stubs(channel, "")
        await register(stubs, name="busy", port=busy.port)
        job_id = await submit(stubs)
        await soon(lambda: _true(busy.jobs))
        await register(stubs, name="free", port=free.port)
        await soon(lambda: _true(free.jobs))
        assert free.jobs[0].job_id == job_id


async def test_a_push_to_an_address_that_is_none_goes_elsewhere(opened: Central) -> None:
    free = OldNode()
    async with free.serve(), opened.channel() as channel:
        stubs = Stubs(channel, "")
        await register(stubs, name="nowhere", ip_address="old..example")
        job_id = await submit(stubs)
        assert "can't be resolved" in await declined(opened, job_id)
        await register(stubs, name="free", port=free.port)
        await soon(lambda: _true(free.jobs))


async def test_a_push_that_breaks_is_a_refusal(
    opened: Central, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(job: Any, model: str) -> Any:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(legacy_push, "config_to", broken)
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        await register(stubs)
        job_id = await submit(stubs)
        reason = await declined(opened, job_id)
    assert "Internal error" in reason
    assert "nobody foresaw this" not in reason
    assert "nobody foresaw this" in caplog.text


async def declined(central: Central, job_id: str) -> str:
    """Why the job's first lease ended, once it has."""
    reasons: list[str] = []

    async def ended() -> bool:
        leases = await central.core.store.read(lambda tx: tx.leases_of(JobId(job_id)))
        reasons.extend(lease.end_reason for lease in leases if lease.end_reason)
        return bool(reasons)

    await soon(ended)
    return reasons[0]


async def test_the_push_tries_the_ports_of_the_earlier_programs(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs = Stubs(channel, "")
        await register(stubs, port=old.port - 3)
        await submit(stubs)
        await soon(lambda: _true(old.jobs))


async def test_a_silent_node_loses_its_job(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        await stubs.nodes.NotifyJobAccepted(pb.JobAcceptedRequest(node_id=node_id, job_id=job_id))

        async def pending() -> bool:
            return (await status_of(stubs, job_id)).status.status == common.STATUS_PENDING

        await soon(pending)
        beat = pb.HeartbeatRequest(node_id=node_id, active_jobs=[job_id])
        assert list((await stubs.nodes.Heartbeat(beat)).jobs_to_cancel) == [], "nobody else got it: it goes on"
        now = await status_of(stubs, job_id)
        assert now.status.status == common.STATUS_IN_PROGRESS


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"progress": 1.5}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"progress": -0.1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"progress": math.nan}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"metrics": {"loss": math.nan}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"metrics": {"loss": math.inf}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"current_epoch": -1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"current_epoch": 1000}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"job_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"node_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"job_id": str(uuid.uuid4())}, grpc.StatusCode.NOT_FOUND),
        ({"node_id": str(uuid.uuid4())}, grpc.StatusCode.ABORTED),
    ],
)
async def test_bad_progress_is_refused_and_nothing_stored(
    opened: Central, changes: dict[str, Any], code: grpc.StatusCode
) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        values = {"node_id": node_id, "job_id": job_id, "status": common.STATUS_IN_PROGRESS, "progress": 0.5, **changes}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.status.UpdateJobStatus(pb.UpdateJobStatusRequest(**values))
        assert caught.value.code() is code, caught.value.details()
        assert (await status_of(stubs, job_id)).status.progress == 0.0


async def test_progress_never_goes_back_within_a_lease(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        told: Any = {"node_id": node_id, "job_id": job_id}
        await stubs.status.UpdateJobStatus(
            pb.UpdateJobStatusRequest(**told, status=common.STATUS_IN_PROGRESS, progress=0.5, current_epoch=2)
        )
        await stubs.nodes.ReportProgress(pb.ReportProgressRequest(**told, current_metrics={"loss": 0.5}))
        now = (await status_of(stubs, job_id)).status
        assert (now.progress, now.current_epoch, now.metrics["loss"]) == (0.5, 2, 0.5)
        earlier = job_pb2.JobStatus(status=common.STATUS_IN_PROGRESS, progress=0.25, current_epoch=1)
        await stubs.nodes.ReportProgress(pb.ReportProgressRequest(**told, status=earlier))
        now = (await status_of(stubs, job_id)).status
        assert (now.progress, now.current_epoch) == (0.5, 2)
        await stubs.nodes.ReportProgress(
            pb.ReportProgressRequest(**told, status=job_pb2.JobStatus(status=common.STATUS_FAILED))
        )
        await soon(lambda: _true(len(old.jobs) > 1))
        earlier.status = common.STATUS_SUCCESS
        assert (await stubs.nodes.ReportProgress(pb.ReportProgressRequest(**told, status=earlier))).continue_job
        now = (await status_of(stubs, job_id)).status
        assert (now.progress, now.current_epoch) == (0.25, 1), "another lease begins anew"


@pytest.mark.parametrize("status", [common.STATUS_FAILED, common.STATUS_ERROR, common.STATUS_CANCELLED])
async def test_progress_that_says_a_run_ended_ends_it(opened: Central, status: common.StatusCode) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        await opened.core.store.write(lambda tx: tx.save_node(_drained(tx.node(NodeId(node_id)))))
        error = common.Error(code=13, message="out of memory")
        failure = pb.ReportProgressRequest(
            node_id=node_id, job_id=job_id, status=job_pb2.JobStatus(job_id=job_id, status=status, error=error)
        )
        for _ in range(2):
            answer = await stubs.nodes.ReportProgress(failure)
            assert (answer.status, answer.continue_job) == (common.STATUS_SUCCESS, False)
        again = await opened.core.store.read(lambda tx: tx.job(JobId(job_id)))
        assert again is not None and (again.retry_count, again.reason) == (1, "waiting again: out of memory")


async def test_a_node_gives_up_a_cancelled_job(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        await stubs.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))
        status = job_pb2.JobStatus(status=common.STATUS_CANCELLED)
        answer = await stubs.nodes.ReportProgress(
            pb.ReportProgressRequest(node_id=node_id, job_id=job_id, status=status)
        )
        assert not answer.continue_job
        result = pb.ReportJobResultRequest(node_id=node_id, job_id=job_id, final_status=common.STATUS_CANCELLED)
        assert (await stubs.status.ReportJobResult(result)).status == common.STATUS_SUCCESS
        result.final_status = common.STATUS_SUCCESS
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.status.ReportJobResult(result)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert (await status_of(stubs, job_id)).status.status == common.STATUS_CANCELLED


@pytest.mark.parametrize("number", range(9))
async def test_what_a_status_means_in_a_report_of_progress(opened: Central, number: int) -> None:
    going = (common.STATUS_UNKNOWN, common.STATUS_PENDING, common.STATUS_IN_PROGRESS, common.STATUS_SUCCESS)
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        status: Any = number
        update = pb.UpdateJobStatusRequest(node_id=node_id, job_id=job_id, status=status, progress=0.25)
        report = pb.ReportProgressRequest(
            node_id=node_id, job_id=job_id, status=job_pb2.JobStatus(status=status, progress=0.5)
        )
        if number in going:
            assert (await stubs.status.UpdateJobStatus(update)).should_continue
            assert (await stubs.nodes.ReportProgress(report)).continue_job
            return
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.status.UpdateJobStatus(update)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        if number == common.STATUS_COMPLETED:
            assert (await stubs.nodes.ReportProgress(report)).continue_job, "the completion is still to come"
        elif number not in common.StatusCode.values():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.nodes.ReportProgress(report)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_bad_registrations(opened: Central) -> None:
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.nodes.RegisterNode(pb.RegisterNodeRequest())
        assert caught.value.details() == "Node info is required"
        for changes in (
            {"name": ""},
            {"cpu_cores": 0},
            {"ram_total": -1},
            {"port": 70000},
            {"compute_score": math.nan},
            {"ip_address": "x" * 300},
            {"supported_formats": ["x"] * 65},
            {"devices": [common.DeviceCaps(compute_capability=math.inf)]},
            {"devices": [common.DeviceCaps(device_name="x" * 300)]},
            {"devices": [common.DeviceCaps()] * 257},
            {"pricing": pb.NodePricing(price_per_hour=1.0, usd_equivalent=math.inf)},
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.nodes.RegisterNode(pb.RegisterNodeRequest(info=info(**changes)))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        listed = await stubs.discovery.ListNodes(pb.ListNodesRequest())
        assert listed.total_count == 0


async def _market(stubs: Stubs) -> dict[str, str]:
    cuda = common.DeviceCaps(device_type=common.DEVICE_CUDA, gpu_model="RTX", vram_total=24 * GIB)
    cheap = pb.NodePricing(price_per_hour=0.01, usd_equivalent=0.5, free_tier_available=True, free_tier_minutes=5)
    dear = pb.NodePricing(price_per_hour=3.0, usd_equivalent=9.0, billing_model=pb.NodePricing.BILLING_PER_EPOCH)
    made = {
        "small": {"port": 1, "cpu_cores": 2, "ram_total": 4 * GIB, "region": "us-east", "pricing": cheap},
        "big": {"port": 2, "cpu_cores": 64, "ram_total": 256 * GIB, "region": "eu-west"},
        "gpu": {"port": 3, "devices": [cuda], "region": "eu-north", "pricing": dear},
    }
    return {name: (await register(stubs, name=name, **values)).node_id for name, values in made.items()}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["small", "big", "gpu"]),
        ({"required_device": common.DEVICE_CUDA}, ["gpu"]),
        ({"min_memory": 100 * GIB}, ["big"]),
        ({"min_vram": 16 * GIB}, ["gpu"]),
        ({"min_compute_score": 1500.0}, ["big"]),
        ({"min_reputation": 0.9}, []),
        ({"min_reputation": 0.5}, ["small", "big", "gpu"]),
        ({"min_stake": 1.0}, []),
        ({"preferred_region": "EU"}, ["big", "gpu"]),
        ({"allowed_regions": ["us-east"]}, ["small"]),
        ({"blocked_regions": ["us-east", "eu-west"]}, ["gpu"]),
        ({"max_price_per_hour": 1.0}, ["small", "big"]),
        ({"max_price_usd": 1.0}, ["small", "big"]),
        ({"preferred_billing": pb.NodePricing.BILLING_PER_EPOCH}, ["gpu"]),
        ({"require_free_tier": True}, ["small"]),
        ({"max_results": 2}, ["small", "big"]),
        ({"sort_by": pb.FindNodesRequest.SORT_BY_PERFORMANCE}, ["big", "gpu", "small"]),
    ],
)
async def test_find_nodes(opened: Central, filters: dict[str, Any], names: list[str]) -> None:
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        await _market(stubs)
        found = await stubs.discovery.FindNodes(pb.FindNodesRequest(**filters))
        assert [node.name for node in found.nodes] == names
        if "max_results" not in filters:
            assert found.total_matching == len(names)
        if names and not filters:
            assert found.min_price_per_hour == 0.01
            assert found.max_price_per_hour == 3.0


@pytest.mark.parametrize(
    "filters",
    [{"min_memory": -1}, {"min_vram": -1}, {"max_price_usd": -0.5}, {"min_reputation": -1}, {"preferred_billing": 9}],
)
async def test_find_nodes_refuses_what_no_node_could_meet(opened: Central, filters: dict[str, Any]) -> None:
    """Some of these found every node, others none."""
    async with opened.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Stubs(channel, "").discovery.FindNodes(pb.FindNodesRequest(**filters))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert next(iter(filters)) in str(caught.value.details())


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
async def test_filters_are_finite_numbers(opened: Central, value: float) -> None:
    async with opened.channel() as channel:
        discovery = Stubs(channel, "").discovery
        for call in (
            discovery.FindNodes(pb.FindNodesRequest(max_price_per_hour=value)),
            discovery.ListNodes(pb.ListNodesRequest(min_price_per_hour=value)),
            discovery.ListNodes(pb.ListNodesRequest(max_price_per_hour=value)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_list_nodes_pages_sorts_and_filters(opened: Central) -> None:
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        await _market(stubs)
        names: list[str] = []
        token = ""
        while True:
            request = pb.ListNodesRequest(
                page_size=2, page_token=token, sort_by=pb.FindNodesRequest.SORT_BY_PRICE, sort_descending=True
            )
            page = await stubs.discovery.ListNodes(request)
            assert (page.total_count, page.online_count) == (3, 3)
            names += [node.name for node in page.nodes]
            token = page.next_page_token
            if not token:
                break
        assert names == ["gpu", "big", "small"]
        for request, wanted in (
            (pb.ListNodesRequest(filter_device=common.DEVICE_CUDA), {"gpu"}),
            (pb.ListNodesRequest(filter_region="eu"), {"gpu", "big"}),
            (pb.ListNodesRequest(min_price_per_hour=0.02, max_price_per_hour=1), {"big"}),
        ):
            assert {node.name for node in (await stubs.discovery.ListNodes(request)).nodes} == wanted
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.discovery.GetNodeInfo(pb.GetNodeInfoRequest(node_id=str(uuid.uuid4())))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.discovery.ListNodes(pb.ListNodesRequest(page_token="x"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_heartbeat_brings_no_hardware_that_a_registration_may_not(opened: Central) -> None:
    async with opened.channel() as channel:
        stubs = Stubs(channel, "")
        node_id = (await register(stubs)).node_id
        impossible = info(devices=[common.DeviceCaps(compute_capability=math.inf)])
        for status in (info(cpu_cores=2**31 - 1), info(ram_total=2**62), impossible):
            beat = pb.HeartbeatRequest(node_id=node_id, current_status=status)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.nodes.Heartbeat(beat)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await opened.core.nodes.get(node_id)).hardware.cpu_cores == 8
        page = await stubs.discovery.ListNodes(pb.ListNodesRequest(page_token=""))
        assert page.total_count == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.discovery.ListNodes(pb.ListNodesRequest(page_token="\N{SUPERSCRIPT TWO}"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_node_that_forgot_what_it_was_pushed_loses_it(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs = Stubs(channel, "")
        node_id = (await register(stubs, port=old.port)).node_id
        await submit(stubs)

        async def pushed_again() -> bool:
            await stubs.nodes.Heartbeat(pb.HeartbeatRequest(node_id=node_id, active_jobs=[]))
            return len(old.jobs) > 1

        await soon(pushed_again)


async def test_a_failure_may_be_told_twice(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        old.accept = False
        failure = pb.ReportJobResultRequest(
            node_id=node_id, job_id=job_id, final_status=common.STATUS_FAILED, error_message="out of memory"
        )
        await opened.core.store.write(lambda tx: tx.save_node(_drained(tx.node(node_id))))
        for _ in range(2):
            await stubs.status.ReportJobResult(failure)
        again = await opened.core.store.read(lambda tx: tx.job(job_id))
        assert again is not None and again.retry_count == 1


async def test_a_completion_told_again_names_the_transaction_that_paid_for_it(tmp_path: Path) -> None:
    old = OldNode()
    async with (
        central(tmp_path, "auth.mode=open", "ledger.backend=credits", charged=True) as opened,
        old.serve(),
        opened.channel() as channel,
    ):
        stubs, node_id, job_id = await pushed_job(old, channel)
        result = job_pb2.JobResult(status=common.STATUS_SUCCESS, total_compute_time=3600)
        completion = pb.ReportCompletionRequest(node_id=node_id, job_id=job_id, result=result)
        await stubs.nodes.ReportCompletion(completion)
        assert await opened.core.legacy.paid_by(NodeId(str(uuid.uuid4())), JobId(job_id)) == "", "another node's pay"

        async def released() -> bool:
            return (await stubs.nodes.ReportCompletion(completion)).payment_released

        await soon(released)
        again = await stubs.nodes.ReportCompletion(completion)
        admin = await opened.core.accounts.authenticate(opened.key)
        (payment,) = (await opened.core.api.receipts.of_job(admin, job_id))["payments"]
        assert payment["node_reward_units"] > 0
        assert again.payment_tx_hash == payment["transactions"][-1]["reference"]


@pytest.mark.parametrize(
    ("uri", "hashed", "kept"),
    [
        ("file:///models/m.bin", "sha256:" + "a" * 64, ("file:///models/m.bin", "sha256:" + "a" * 64)),
        ("file:///models/m.bin", "AB" * 32, ("file:///models/m.bin", "sha256:" + "ab" * 32)),
        ("", "", ("", "")),
        ("", "rubbish", ("", "")),
        ("file:///" + "x" * 3000, "sha256:" + "a" * 63, ("", "")),
        ("file:///\x1b[2J", "a" * 65, ("", "")),
    ],
)
async def test_what_a_node_says_of_its_weights_is_its_word_and_no_file(
    opened: Central, uri: str, hashed: str, kept: tuple[str, str]
) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        result = pb.ReportJobResultRequest(
            node_id=node_id,
            job_id=job_id,
            final_status=common.STATUS_SUCCESS,
            model_weights_uri=uri,
            model_weights_hash=hashed,
        )
        await stubs.status.ReportJobResult(result)
        assert (await status_of(stubs, job_id)).status.status == common.STATUS_COMPLETED
    admin = await opened.core.accounts.authenticate(opened.key)
    made = await opened.core.jobs.result(admin, job_id)
    assert (made.weights_uri, made.weights_hash) == kept
    assert made.files == (), "central has none of its bytes"
    receipt = await opened.core.api.receipts.of_job(admin, job_id)
    assert (receipt["model_weights_hash"], receipt["files"]) == (kept[1] or None, [])


async def test_no_later_job_takes_weights_that_a_node_kept(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        result = pb.ReportJobResultRequest(node_id=node_id, job_id=job_id, final_status=common.STATUS_SUCCESS)
        result.model_weights_hash = "a" * 64
        await stubs.status.ReportJobResult(result)
        config = job_pb2.JobConfig(
            job_type=job_pb2.JOB_TYPE_INFERENCE,
            model_definition=json.dumps({"from_job": job_id}),
            dataset_uri="builtin:digits",
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.jobs.SubmitJob(job_pb2.SubmitJobRequest(config=config))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "with its node" in str(caught.value.details())


async def test_a_result_names_the_job_of_its_report_or_none(opened: Central) -> None:
    old = OldNode()
    async with old.serve(), opened.channel() as channel:
        stubs, node_id, job_id = await pushed_job(old, channel)
        for named in (str(uuid.uuid4()), "zzz"):
            result = job_pb2.JobResult(job_id=named, status=common.STATUS_SUCCESS)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.nodes.ReportCompletion(
                    pb.ReportCompletionRequest(node_id=node_id, job_id=job_id, result=result)
                )
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await status_of(stubs, job_id)).status.status == common.STATUS_IN_PROGRESS
        result = job_pb2.JobResult(job_id=job_id.upper(), status=common.STATUS_SUCCESS)
        await stubs.nodes.ReportCompletion(pb.ReportCompletionRequest(node_id=node_id, job_id=job_id, result=result))
        assert (await status_of(stubs, job_id)).status.status == common.STATUS_COMPLETED


def _drained(node: Any) -> Any:
    return dataclasses.replace(node, cordoned=True)
