"""`cyxwiz.protocol.JobService`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, invalid, unsupported
from cyxwiz.domain.ids import new_id, parse_job_id
from cyxwiz.domain.job import JobSpec, JobType, MetricPoint
from cyxwiz.domain.payment import Funds
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import JobQuery
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2 as pb
from cyxwiz.protocol import job_pb2_grpc
from cyxwiz.services.api import job_cursor, parse_cursor
from cyxwiz.services.in_band import error_to
from cyxwiz.services.jobconfig import TYPES, count_of, enum_of, spec_of
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.payments import SignedLock
from cyxwiz.services.quotes import Quotes
from cyxwiz.services.room import Room
from cyxwiz.services.watch import JobUpdate, Watch
from cyxwiz.transports.grpc.door import caller
from cyxwiz.transports.grpc.mapping import (
    STATES_OF,
    assignment_to,
    seconds_to,
    status_to,
)

DEFAULT_PAGE = 100
MAX_PAGE = 100


class JobServicer(job_pb2_grpc.JobServiceServicer):
    def __init__(
        self,
        jobs: Jobs,
        watch: Watch,
        blobs: BlobStore,
        room: Room,
        clock: Clock,
        *,
        keep: timedelta,
        quotes: Quotes | None,
    ) -> None:
        self._jobs = jobs
        self._quotes = quotes
        self._watch = watch
        self._blobs = blobs
        self._room = room
        self._clock = clock
        self._keep = keep

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        if not request.HasField("config"):
            raise invalid("Job config is required", field="config")
        actor = caller().required
        if request.config.job_id:
            parse_job_id(request.config.job_id)
        spec = spec_of(request.config)
        if request.initial_data:
            if spec.dataset_uri:
                raise invalid(
                    "initial_data: config.dataset_uri names a data set: leave one empty", field="initial_data"
                )
            digest = hashlib.sha256(request.initial_data).hexdigest()
            spec = replace(spec, dataset_uri=f"blob://sha256/{digest}")
            self._jobs.check(actor, spec)
            await self._keep_data(actor, request.initial_data, digest)
        lock = None
        try:
            lock = await self._lock(actor, spec, request.config)
            job, _ = await self._jobs.submit(actor, spec, caller().idempotency_key, lock)
        except CyxError as error:
            escrow = request.config.escrow_tx_hash and lock is None and error.code is not Code.UNAVAILABLE
            if not escrow and error.code is not Code.FUNDS:
                raise
            return pb.SubmitJobResponse(status=common.STATUS_ERROR, error=error_to(error))
        return pb.SubmitJobResponse(
            job_id=job.id, status=common.STATUS_SUCCESS, estimated_start_time=seconds_to(self._clock.now())
        )

    async def _lock(self, actor: Principal, spec: JobSpec, config: pb.JobConfig) -> SignedLock | None:
        """By `escrow_tx_hash` the client has paid itself; `job_id` then is that of its quote."""
        if not config.escrow_tx_hash:
            return None
        if not config.job_id:
            raise invalid("job_id: missing; escrow_tx_hash counts for the quote whose id is given here", field="job_id")
        if self._quotes is None:
            raise unsupported("escrow_tx_hash: nothing is locked on a chain here: leave it out")
        return await self._quotes.lock(actor, spec, Funds(config.job_id, reference=config.escrow_tx_hash))

    async def _keep_data(self, actor: Principal, data: bytes, digest: str) -> None:
        """Inline data becomes a blob. The upload is this call's own: calls with the same data don't meet."""
        async with self._room.hold(actor, len(data), digest):
            try:
                upload = await self._blobs.begin(digest, len(data), 0, new_id())
            except CyxError as error:
                if error.code is not Code.EXISTS:
                    raise
            else:
                try:
                    await upload.write(data)
                    await upload.commit()
                finally:
                    await upload.aclose()
            await self._jobs.record_blob(digest, len(data), owner=actor.id)

    async def GetJobStatus(self, request: pb.GetJobStatusRequest, context: Any) -> pb.GetJobStatusResponse:
        actor = caller().required
        job = await self._jobs.get(actor, request.job_id)
        response = pb.GetJobStatusResponse(status=status_to(job))
        assignment = await self._jobs.assignment(job, self._keep)
        if assignment is not None:
            response.node_assignment.CopyFrom(assignment_to(assignment))
        return response

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        job = await self._jobs.cancel(caller().required, request.job_id, request.reason)
        refunds = await self._jobs.gives_back(job)
        return pb.CancelJobResponse(status=common.STATUS_CANCELLED, refund_issued=refunds)

    async def StreamJobUpdates(
        self, request: pb.GetJobStatusRequest, context: Any
    ) -> AsyncIterator[pb.JobUpdateStream]:
        """The job as it is, then every reported epoch and log line, then its final state and the end."""
        actor = caller().required
        async for update in self._watch.job(actor, request.job_id):
            for message in _messages(update):
                yield message

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        actor = caller().required
        size = min(MAX_PAGE, count_of(request.page_size, DEFAULT_PAGE, "page_size"))
        states = enum_of(STATES_OF, request.filter_status, "filter_status")
        kind = enum_of(TYPES, request.filter_type, "filter_type")
        query = JobQuery(
            owner_id=caller().whose(request.user_id, "jobs"),
            states=states,  # type: ignore[arg-type]
            types=frozenset({JobType(str(kind))}) if request.filter_type else frozenset(),
            limit=size,
            after=parse_cursor(request.page_token) if request.page_token else None,
        )
        page = await self._jobs.list(actor, query)
        token = job_cursor(page.items[-1]) if len(page.items) == size else ""
        return pb.ListJobsResponse(
            jobs=[status_to(job) for job in page.items], next_page_token=token, total_count=page.total
        )

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> pb.DeleteJobResponse:
        parse_job_id(request.job_id)
        try:
            await self._jobs.delete(caller().required, request.job_id)
        except CyxError as error:
            if error.code is Code.UNAUTHENTICATED:
                raise
            return pb.DeleteJobResponse(status=common.STATUS_ERROR, error=error_to(error))
        return pb.DeleteJobResponse(status=common.STATUS_SUCCESS)


def _messages(update: JobUpdate) -> list[pb.JobUpdateStream]:
    """One message an epoch and log line, in order, then one with the job as it is if that says something new."""
    job = update.job
    messages = [_point(update, point) for point in update.points]
    messages += [
        pb.JobUpdateStream(
            job_id=job.id, status=status_to(job), live_metrics=dict(job.metrics), log_message=line.message
        )
        for line in update.lines
    ]
    if not messages or update.events or update.last:
        messages.append(pb.JobUpdateStream(job_id=job.id, status=status_to(job), live_metrics=dict(job.metrics)))
    return messages


def _point(update: JobUpdate, point: MetricPoint) -> pb.JobUpdateStream:
    """The job as it was at that point of its curve."""
    status = status_to(replace(update.job, progress=point.progress, epoch=point.epoch, metrics=point.metrics))
    if update.job.ended:
        status.status = common.STATUS_IN_PROGRESS
        status.end_time = 0
        status.ClearField("error")
    return pb.JobUpdateStream(job_id=update.job.id, status=status, live_metrics=dict(point.metrics))
