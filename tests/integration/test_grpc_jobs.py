"""JobService over a real channel, with a node that runs what it is given."""

from __future__ import annotations

import asyncio
import hashlib
import math
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cyxwiz.domain.account import Role
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2 as pb
from tests.central import MODEL, Central, Stubs, central
from tests.fakes import ScriptedExecutor
from tests.nodes import grpc_link, node


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path) as running:
        yield running


@pytest.fixture
async def admin(server: Central) -> AsyncIterator[Stubs]:
    async with server.channel() as channel:
        yield Stubs(channel, server.key)


def config(**changes: object) -> pb.JobConfig:
    values: dict[str, object] = {
        "job_type": pb.JOB_TYPE_TRAINING,
        "model_definition": MODEL,
        "dataset_uri": "builtin:digits",
        "epochs": 3,
        "batch_size": 64,
        "hyperparameters": {"learning_rate": "0.01", "optimizer": "adam"},
    }
    return pb.JobConfig(**{**values, **changes})  # type: ignore[arg-type]


async def submit(stubs: Stubs, **changes: object) -> str:
    response = await stubs.jobs.SubmitJob(pb.SubmitJobRequest(config=config(**changes)), metadata=stubs.metadata)
    assert response.status == common.STATUS_SUCCESS
    return str(response.job_id)


async def refused(call: object, code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is code, caught.value
    return str(caught.value.details())


async def test_a_job_goes_through(server: Central, admin: Stubs, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server)):
        job_id = await submit(admin)
        updates = [
            update
            async for update in admin.jobs.StreamJobUpdates(
                pb.GetJobStatusRequest(job_id=job_id), metadata=admin.metadata
            )
        ]
    last = updates[-1].status
    assert last.status == common.STATUS_COMPLETED
    assert last.progress == 1.0
    assert last.current_epoch == 3
    assert last.end_time >= last.start_time > 0
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(last.metrics)
    assert all(update.job_id == job_id for update in updates)
    response = await admin.jobs.GetJobStatus(pb.GetJobStatusRequest(job_id=job_id), metadata=admin.metadata)
    assert response.status == last
    assert not response.HasField("node_assignment"), "this node serves no clients itself"


async def test_stream_has_every_epoch_in_order_and_ends(server: Central, admin: Stubs, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", grpc_link(server), executor):
        job_id = await submit(admin, epochs=5)
        epochs: list[int] = []
        stream = admin.jobs.StreamJobUpdates(pb.GetJobStatusRequest(job_id=job_id), metadata=admin.metadata)
        async for update in stream:
            if update.status.current_epoch not in epochs:
                epochs.append(update.status.current_epoch)
            if update.status.status == common.STATUS_IN_PROGRESS and update.status.current_epoch < 5:
                executor.step()
    assert epochs == [0, 1, 2, 3, 4, 5]


async def test_stream_of_a_finished_job_is_its_final_state(server: Central, admin: Stubs, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server)):
        job_id = await submit(admin)
        request = pb.GetJobStatusRequest(job_id=job_id)
        async for _ in admin.jobs.StreamJobUpdates(request, metadata=admin.metadata):
            pass
        again = [u async for u in admin.jobs.StreamJobUpdates(request, metadata=admin.metadata)]
    assert [update.status.status for update in again] == [common.STATUS_COMPLETED]


async def test_stream_of_an_unknown_job(admin: Stubs) -> None:
    stream = admin.jobs.StreamJobUpdates(pb.GetJobStatusRequest(job_id=str(uuid.uuid4())), metadata=admin.metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("money", [False, True])
async def test_a_cancel_says_whether_money_comes_back(tmp_path: Path, money: bool) -> None:
    async with central(tmp_path, charged=money) as server, server.channel() as channel:
        stubs = Stubs(channel, server.key)
        job_id = await submit(stubs)
        response = await stubs.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=stubs.metadata)
        assert response.refund_issued is money


async def test_cancel_of_a_running_job_reaches_the_node(server: Central, admin: Stubs, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", grpc_link(server), executor) as agent:
        job_id = await submit(admin)
        while not agent.active:
            await asyncio.sleep(0.005)
        response = await admin.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=admin.metadata)
        assert response.status == common.STATUS_CANCELLED
        assert response.refund_issued is False
        async with asyncio.timeout(2):
            while agent.active:
                await asyncio.sleep(0.005)
        details = await refused(
            admin.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=admin.metadata),
            grpc.StatusCode.FAILED_PRECONDITION,
        )
        assert "cancelled" in details


async def test_list_filters_and_pages(server: Central, admin: Stubs) -> None:
    ids = [await submit(admin) for _ in range(5)]
    await admin.jobs.CancelJob(pb.CancelJobRequest(job_id=ids[0]), metadata=admin.metadata)
    seen: list[str] = []
    token = ""
    while True:
        page = await admin.jobs.ListJobs(
            pb.ListJobsRequest(page_size=2, page_token=token, filter_status=common.STATUS_PENDING),
            metadata=admin.metadata,
        )
        assert page.total_count == 4
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids[:0:-1]
    other = await admin.jobs.ListJobs(pb.ListJobsRequest(filter_type=pb.JOB_TYPE_INFERENCE), metadata=admin.metadata)
    assert other.total_count == 0


async def test_delete_answers_in_band(admin: Stubs) -> None:
    job_id = await submit(admin)
    active = await admin.jobs.DeleteJob(pb.DeleteJobRequest(job_id=job_id), metadata=admin.metadata)
    assert active.status == common.STATUS_ERROR
    assert (active.error.code, active.error.details) == (409, "CONFLICT")
    await admin.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=admin.metadata)
    deleted = await admin.jobs.DeleteJob(pb.DeleteJobRequest(job_id=job_id), metadata=admin.metadata)
    assert deleted.status == common.STATUS_SUCCESS
    await refused(
        admin.jobs.GetJobStatus(pb.GetJobStatusRequest(job_id=job_id), metadata=admin.metadata),
        grpc.StatusCode.NOT_FOUND,
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"epochs": -1}, "epochs"),
        ({"batch_size": -5}, "batch_size"),
        ({"required_device": 77}, "required_device"),
        ({"job_type": 99}, "job_type"),
        ({"priority": 9}, "priority"),
        ({"job_id": "x"}, "job ID"),
        ({"estimated_duration": 2**63 - 1}, "estimated_duration"),
        ({"reservation_duration_minutes": -3}, "reservation_duration_minutes"),
        ({"payment_address": "a\0b"}, "payment_address"),
        ({"payment_amount": math.nan}, "payment_amount"),
        ({"payment_amount": -1.0}, "payment_amount"),
        ({"estimated_memory": -1}, "estimated_memory"),
        ({"model_definition": ""}, "model"),
        ({"model_definition": "{"}, "model"),
        ({"dataset_uri": ""}, "dataset"),
        ({"dataset_uri": "gopher://x"}, "gopher"),
        ({"dataset_uri": "builtin:nope"}, "nope"),
        ({"hyperparameters": {"learning_rate": "fast"}}, "learning_rate"),
        ({"hyperparameters": {"learning_rate": "nan"}}, "learning_rate"),
    ],
)
async def test_a_bad_job_is_refused_and_nothing_stored(admin: Stubs, changes: dict[str, object], word: str) -> None:
    details = await refused(
        admin.jobs.SubmitJob(pb.SubmitJobRequest(config=config(**changes)), metadata=admin.metadata),
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert word in details
    page = await admin.jobs.ListJobs(pb.ListJobsRequest(), metadata=admin.metadata)
    assert page.total_count == 0


async def test_no_config(admin: Stubs) -> None:
    details = await refused(
        admin.jobs.SubmitJob(pb.SubmitJobRequest(), metadata=admin.metadata), grpc.StatusCode.INVALID_ARGUMENT
    )
    assert details == "Job config is required"


async def test_whose_jobs_are_listed_is_said_by_id_or_by_ones_own_name(server: Central, admin: Stubs) -> None:
    alice, key = await server.user("alice")
    theirs = Stubs(admin.channel, key)
    await submit(theirs)
    for asking, named in ((admin, alice.id), (admin, ""), (theirs, alice.id), (theirs, "alice"), (theirs, "")):
        page = await asking.jobs.ListJobs(pb.ListJobsRequest(user_id=named), metadata=asking.metadata)
        assert page.total_count == 1, named
    for asking in (admin, theirs):
        call = asking.jobs.ListJobs(pb.ListJobsRequest(user_id="x"), metadata=asking.metadata)
        assert "user ID" in await refused(call, grpc.StatusCode.INVALID_ARGUMENT)
    call = theirs.jobs.ListJobs(pb.ListJobsRequest(user_id=str(uuid.uuid4())), metadata=theirs.metadata)
    await refused(call, grpc.StatusCode.PERMISSION_DENIED)


@pytest.mark.parametrize("method", ["GetJobStatus", "CancelJob", "DeleteJob"])
async def test_malformed_id(admin: Stubs, method: str) -> None:
    requests = {
        "GetJobStatus": pb.GetJobStatusRequest(job_id="x"),
        "CancelJob": pb.CancelJobRequest(job_id="x"),
        "DeleteJob": pb.DeleteJobRequest(job_id="x"),
    }
    call = getattr(admin.jobs, method)(requests[method], metadata=admin.metadata)
    assert "Invalid job ID" in await refused(call, grpc.StatusCode.INVALID_ARGUMENT)


async def test_credentials(server: Central) -> None:
    async with server.channel() as channel:
        for token in ("", "cyx_wrong", "garbage", "a.b.c"):
            stubs = Stubs(channel, token)
            await refused(
                stubs.jobs.ListJobs(pb.ListJobsRequest(), metadata=stubs.metadata), grpc.StatusCode.UNAUTHENTICATED
            )
        basic = (("authorization", "Basic abc"),)
        await refused(
            Stubs(channel, "").jobs.ListJobs(pb.ListJobsRequest(), metadata=basic), grpc.StatusCode.UNAUTHENTICATED
        )


async def test_somebody_elses_job(server: Central, admin: Stubs) -> None:
    _, key = await server.user("mallory", Role.USER)
    job_id = await submit(admin)
    async with server.channel() as channel:
        stranger = Stubs(channel, key)
        request = pb.GetJobStatusRequest(job_id=job_id)
        await refused(
            stranger.jobs.GetJobStatus(request, metadata=stranger.metadata), grpc.StatusCode.PERMISSION_DENIED
        )
        await refused(
            stranger.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=stranger.metadata),
            grpc.StatusCode.PERMISSION_DENIED,
        )
        page = await stranger.jobs.ListJobs(pb.ListJobsRequest(), metadata=stranger.metadata)
        assert page.total_count == 0


async def test_idempotency(admin: Stubs) -> None:
    metadata = (*admin.metadata, ("idempotency-key", "once"))
    request = pb.SubmitJobRequest(config=config())
    first = await admin.jobs.SubmitJob(request, metadata=metadata)
    again = await admin.jobs.SubmitJob(request, metadata=metadata)
    assert first.job_id == again.job_id
    await refused(
        admin.jobs.SubmitJob(pb.SubmitJobRequest(config=config(epochs=4)), metadata=metadata),
        grpc.StatusCode.FAILED_PRECONDITION,
    )


@pytest.mark.parametrize("streams", [False, True])
async def test_rubbish_is_invalid_argument(server: Central, streams: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with server.channel() as channel:
        metadata = (("authorization", f"Bearer {server.key}"),)
        rubbish = b"\xff\xff\xff\xff"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if streams:
                call = channel.stream_stream("/cyxwiz.ext.v1.NodeLink/Connect")

                async def bytes_() -> AsyncIterator[bytes]:
                    yield rubbish

                async for _ in call(bytes_(), metadata=metadata):
                    pass
            else:
                await channel.unary_unary("/cyxwiz.protocol.JobService/SubmitJob")(rubbish, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in caplog.text


async def test_a_message_too_large(tmp_path: Path) -> None:
    async with central(tmp_path, "server.max_request_bytes=100000") as server, server.channel() as channel:
        stubs = Stubs(channel, server.key)
        request = pb.SubmitJobRequest(config=config(), initial_data=b"x" * 200_000)
        await refused(stubs.jobs.SubmitJob(request, metadata=stubs.metadata), grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_inline_data_becomes_a_blob(server: Central, admin: Stubs) -> None:
    rows = "\n".join(f"{i % 7},{i % 3},{i % 2}" for i in range(40)).encode()
    request = pb.SubmitJobRequest(config=config(dataset_uri=""), initial_data=rows)
    response = await admin.jobs.SubmitJob(request, metadata=admin.metadata)
    job = await server.core.jobs.get(await server.core.accounts.authenticate(server.key), response.job_id)
    assert job.spec.dataset_uri.startswith("blob://sha256/")


async def test_jobs_with_the_same_inline_data_at_a_time(server: Central, admin: Stubs) -> None:
    rows = b"1,2,0\n" * 40_000
    request = pb.SubmitJobRequest(config=config(dataset_uri=""), initial_data=rows)
    answers = await asyncio.gather(
        *(admin.jobs.SubmitJob(request, metadata=admin.metadata) for _ in range(12)), return_exceptions=True
    )
    assert [answer for answer in answers if isinstance(answer, BaseException)] == []


async def test_inline_data_beside_a_data_set_are_refused(server: Central, admin: Stubs) -> None:
    request = pb.SubmitJobRequest(config=config(dataset_uri="builtin:digits"), initial_data=b"1,2,0\n")
    await refused(admin.jobs.SubmitJob(request, metadata=admin.metadata), grpc.StatusCode.INVALID_ARGUMENT)
    assert (await admin.jobs.ListJobs(pb.ListJobsRequest(), metadata=admin.metadata)).total_count == 0


async def test_inline_data_of_a_wrong_job_is_not_stored(server: Central, admin: Stubs) -> None:
    rows = b"1,2,0\n" * 40
    for wrong in ({"model_definition": "{}"}, {"hyperparameters": {"learning_rate": "-5"}}):
        request = pb.SubmitJobRequest(config=config(dataset_uri="", **wrong), initial_data=rows)
        await refused(admin.jobs.SubmitJob(request, metadata=admin.metadata), grpc.StatusCode.INVALID_ARGUMENT)
    assert await server.blobs.size(hashlib.sha256(rows).hexdigest()) is None
