"""`JobExecutionService`, all nine methods: a `ports.execution.Execution` over the node's `Hub`.

ConnectToNode and SendJob answer in band, and so does StartNewJob but for malformed ids; every other refusal is a
status. Commands that change the job's state go to central, which decides; those that change the run go to its child.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError, Message

from cyxwiz.compute.p2p.downloads import chunks
from cyxwiz.compute.p2p.hub import Hub
from cyxwiz.compute.p2p.live import LiveJob, Reader, Standing
from cyxwiz.compute.p2p.sessions import Session
from cyxwiz.compute.p2p.updates import int32
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, not_found, unsupported
from cyxwiz.domain.ids import engine_job, parse_engine_job_id, parse_reservation_id
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import Hardware
from cyxwiz.ext.v1.link_pb2 import OwnerCommand
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.execution import Headers
from cyxwiz.ports.executor import PREEMPT_SECONDS
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.protocol.job_pb2 import JobConfig
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.in_band import disconnected, not_connected, not_sent

log = logging.getLogger(__name__)

OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam")
MAX_BATCH = 1_000_000  # as a job file
DEVICES = {
    Device.CPU: common.DEVICE_CPU,
    Device.CUDA: common.DEVICE_CUDA,
    Device.OPENCL: common.DEVICE_OPENCL,
    Device.METAL: common.DEVICE_METAL,
    Device.VULKAN: common.DEVICE_VULKAN,
}
Unary = Callable[[Any, Headers], Awaitable[Message]]


class ExecutionService:
    def __init__(self, hub: Hub, clock: Clock, node_id: str) -> None:
        self._hub = hub
        self._clock = clock
        self._node_id = node_id
        self._unary: dict[str, tuple[type[Message], Unary]] = {
            "ConnectToNode": (pb.ConnectRequest, self._connect),
            "DisconnectFromNode": (pb.DisconnectRequest, self._disconnect),
            "SendJob": (pb.SendJobRequest, self._send_job),
            "PauseTraining": (pb.PauseTrainingRequest, self._pause),
            "ResumeTraining": (pb.ResumeTrainingRequest, self._resume),
            "CancelTraining": (pb.CancelTrainingRequest, self._cancel),
            "StartNewJob": (pb.StartNewJobRequest, self._start_new_job),
        }

    async def serve(self, method: str, requests: AsyncIterator[bytes], headers: Headers) -> AsyncIterator[bytes]:
        """Serves one call; see `ports.execution`."""
        headers = replace(headers, job_id=engine_job(headers.job_id))
        if method == "StreamTrainingMetrics":
            async for update in self._stream(requests, headers):
                yield update.SerializeToString()
        elif method == "DownloadWeights":
            request = await _only(pb.DownloadRequest, requests)
            job = await self._job(headers, request.job_id)
            if job.weights is None:
                raise _without_weights(job)
            async for chunk in chunks(job.weights, request.offset, request.chunk_size):
                yield chunk.SerializeToString()
        elif method in self._unary:
            kind, answer = self._unary[method]
            response = await answer(await _only(kind, requests), headers)
            yield response.SerializeToString()
        else:
            raise unsupported(f"JobExecutionService has no method {method[:80]}")

    async def _job(self, headers: Headers, job_id: str) -> LiveJob:
        """The job of a call by somebody who may reach it. Raises UNAUTHENTICATED, NOT_FOUND."""
        job_id = engine_job(job_id)
        self._hub.sessions.admit(headers, job_id)
        return await self._hub.find(job_id)

    # sessions

    async def _connect(self, request: pb.ConnectRequest, headers: Headers) -> pb.ConnectResponse:
        try:
            self._hub.sessions.connect(request.auth_token, engine_job(request.job_id), headers.authorization)
        except CyxError as error:
            if error.code is not Code.UNAUTHENTICATED:
                raise
            return not_connected(error, self._node_id)
        return pb.ConnectResponse(
            status=common.STATUS_SUCCESS, node_id=self._node_id, capabilities=capabilities(self._hub.hardware)
        )

    async def _disconnect(self, request: pb.DisconnectRequest, headers: Headers) -> pb.DisconnectResponse:
        return disconnected(found=self._hub.sessions.disconnect(headers))

    async def _send_job(self, request: pb.SendJobRequest, headers: Headers) -> pb.SendJobResponse:
        """Attaches to the job that central assigned: central's is the configuration that counts. In a reservation a job
        that central does not have yet is submitted to it."""
        job_id = engine_job(request.job_id)
        try:
            session = self._hub.sessions.admit(headers, job_id, connected=True)
            await self._started(session, request.config, job_id, request.dataset_uri)
            job = await self._hub.find(job_id, wait=True)
            if job.standing is Standing.AWAY:
                raise not_found("job", job_id)
            if request.initial_dataset:
                _give(job, request.initial_dataset)
        except CyxError as error:
            return not_sent(error)
        return pb.SendJobResponse(
            status=common.STATUS_SUCCESS, accepted=True, estimated_start_time=int(self._clock.now().timestamp())
        )

    async def _start_new_job(self, request: pb.StartNewJobRequest, headers: Headers) -> pb.StartNewJobResponse:
        """Lets the session reach the owner's next job, once central has given it to this node. In a reservation the
        job is submitted with this call, where central does not have it yet; one without a free slot waits. Raises
        INVALID for a malformed id."""
        session = self._hub.sessions.admit(headers, headers.job_id or self._hub.sessions.job_of(headers))
        asked = _asked(session, request.job_id or request.job_config.job_id)
        if request.reservation_id:
            parse_reservation_id(request.reservation_id)
        started = ""
        try:
            if request.reservation_id not in ("", session.claims.reservation_id):
                raise invalid("reservation_id: is not the one that this token is for", field="reservation_id")
            started = await self._started(session, request.job_config, asked)
            await self._next_job(session, started or asked, wait=True)
        except CyxError as error:
            if not started or error.code is not Code.NOT_FOUND:
                return pb.StartNewJobResponse(accepted=False, message=error.message)
            session.jobs.add(started)
            return pb.StartNewJobResponse(accepted=True, message=f"job {started} waits for a free slot of this node")
        return pb.StartNewJobResponse(accepted=True, message=f"go on with job {started or asked}")

    async def _started(self, session: Session, config: JobConfig, job_id: str, dataset_uri: str = "") -> str:
        """Has central take a further job of the session's reservation; its id. Empty where there is nothing to take: no
        reservation, a job that is here already, or a config without a model. Raises central's refusal."""
        reservation_id = session.claims.reservation_id
        if not reservation_id or not config.model_definition or self._hub.knows(job_id):
            return ""
        asked = JobConfig()
        asked.CopyFrom(config)
        asked.job_id = job_id
        asked.dataset_uri = config.dataset_uri or dataset_uri
        return await self._hub.start_job(reservation_id, asked)

    async def _next_job(self, session: Session, job_id: str, *, wait: bool = False) -> LiveJob:
        """A further job of the same owner on this node. Raises INVALID, NOT_FOUND."""
        if not job_id:
            raise invalid("A new job needs its job_id: submit it to central first, which gives it one")
        job = await self._hub.find(job_id, wait=wait)
        if job.owner_id != session.claims.owner_id:
            raise not_found("job", job_id)
        session.jobs.add(job_id)
        return job

    # commands as calls

    async def _pause(self, request: pb.PauseTrainingRequest, headers: Headers) -> pb.PauseTrainingResponse:
        job = await self._job(headers, request.job_id)
        if not (job.standing is Standing.PAUSED and job.pausing):  # one that was resumed is about to come back
            if job.standing not in (Standing.HERE, Standing.PAUSED):
                raise conflict(f"Job {job.job_id} does not run on this node now")
            await self._hub.command(job, OwnerCommand.PAUSE)
            await self._until(job, lambda: job.standing is not Standing.HERE, PREEMPT_SECONDS)
        return pb.PauseTrainingResponse(
            success=job.standing is Standing.PAUSED,
            checkpoint_path=_path(job),
            current_epoch=int32(job.epoch),
            current_batch=int32(job.batch),
            message="paused" if job.standing is Standing.PAUSED else f"it is {job.standing} now",
        )

    async def _resume(self, request: pb.ResumeTrainingRequest, headers: Headers) -> pb.ResumeTrainingResponse:
        job = await self._job(headers, request.job_id)
        if request.checkpoint_path and request.checkpoint_path != _path(job):
            raise invalid("checkpoint_path: a job goes on from its last checkpoint; leave it empty", got=_path(job))
        await self._hub.command(job, OwnerCommand.RESUME)
        return pb.ResumeTrainingResponse(
            success=True,
            resumed_epoch=int32(job.epoch),
            resumed_batch=int32(job.batch),
            message="it goes on from its checkpoint",
        )

    async def _cancel(self, request: pb.CancelTrainingRequest, headers: Headers) -> pb.CancelTrainingResponse:
        job = await self._job(headers, request.job_id)
        saved = False
        if request.save_partial_model:
            before = job.checkpoints
            with contextlib.suppress(CyxError):  # it does not run now: there is what was saved before, or nothing
                self._hub.tell_run(job, "checkpoint")
                await self._until(job, lambda: job.checkpoints > before, PREEMPT_SECONDS)
            saved = bool(job.checkpoint) and await self._hub.acknowledged(job)
        await self._hub.command(job, OwnerCommand.CANCEL, request.reason, keep_checkpoint=saved)
        return pb.CancelTrainingResponse(
            success=True,
            epochs_completed=int32(job.epoch),
            partial_model_saved=saved,
            partial_model_path=_path(job) if saved else "",
            message="cancelled",
        )

    async def _until(self, job: LiveJob, done: Callable[[], bool], seconds: float) -> None:
        """Waits for a change of the job, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while not done() and job.standing is Standing.HERE:
                    await job.changed()
        except TimeoutError:
            log.warning("job %s did not get there within %.0f s", job.job_id, seconds)

    # the stream

    async def _stream(self, requests: AsyncIterator[bytes], headers: Headers) -> AsyncGenerator[pb.TrainingUpdate]:
        job_id = headers.job_id or self._hub.sessions.job_of(headers)
        session = self._hub.sessions.admit(headers, job_id)
        reader = self._hub.reader(await self._hub.find(job_id, wait=True), session.token)
        tasks = Tasks()
        spawn(self._heed(reader, session, requests), name=f"commands {job_id}", group=tasks)
        try:
            async for update in reader.updates():
                yield update
            if reader.dismissed and session.claims.reservation_id:
                await self._hub.end_reservation(session.claims.reservation_id)
        finally:
            reader.leave()
            if reader.job.remote is not None:
                reader.job.remote.left(reader)
            await tasks.aclose()

    async def _heed(self, reader: Reader, session: Session, requests: AsyncIterator[bytes]) -> None:
        """The client's commands, one after the other. What can't be done is told in the stream; rubbish ends it."""
        try:
            async for data in requests:
                command = _decoded(pb.TrainingCommand, data)
                try:
                    await self._obey(reader, session, command)
                except CyxError as error:
                    self._hub.say(reader, "error", error.message)
            reader.half_closed = True
        except CyxError as error:
            reader.failed = error
        except Exception as error:  # raised in the call, whose door says it with an id
            reader.failed = error
        reader.job.stir()
        reader.news.set()

    async def _obey(self, reader: Reader, session: Session, command: pb.TrainingCommand) -> None:
        job, kind = reader.job, command.WhichOneof("command")
        if kind == "pause":
            await self._hub.command(job, OwnerCommand.PAUSE if command.pause else OwnerCommand.RESUME)
        elif kind == "resume" and command.resume:
            await self._hub.command(job, OwnerCommand.RESUME)
        elif kind == "stop" and command.stop:
            await self._hub.command(job, OwnerCommand.CANCEL, "stopped by its owner")
        elif kind == "request_checkpoint" and command.request_checkpoint:
            self._hub.wish(job, "checkpoint")
        elif kind == "update_params":
            self._update(job, command.update_params)
        elif kind == "batch_response" and job.remote is not None:
            job.remote.answered(reader, command.batch_response)
        elif kind == "dataset_info_response" and job.remote is not None:
            job.remote.answered(reader, command.dataset_info_response)
        elif kind == "new_job_config":
            await self._go_on(reader, session, command)
        elif kind == "reservation_end":
            reader.dismissed = command.reservation_end
            reader.news.set()
        elif kind is None:
            raise invalid("The command is none that this node knows")

    def _update(self, job: LiveJob, params: pb.UpdateHyperparameters) -> None:
        values: dict[str, Any] = dict(params.other_params)
        if params.batch_size:
            values["batch_size"] = params.batch_size
        if params.learning_rate:
            values["learning_rate"] = params.learning_rate
        if not values:
            raise invalid("update_params: names nothing to change")
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise invalid(f"update_params: {', '.join(sorted(wrong))[:200]} must be finite")
        self._hub.wish(job, "update", values)

    async def _go_on(self, reader: Reader, session: Session, command: pb.TrainingCommand) -> None:
        config = command.new_job_config
        if config.epochs < 1:
            self._hub.fail(reader, "INVALID_CONFIG", f"epochs: must be at least 1, not {config.epochs}")
            return
        if reader.job.standing is Standing.HERE:
            self._hub.fail(reader, "BUSY", f"Job {reader.job.job_id} has not ended: its stream goes on")
            return
        try:
            asked = _asked(session, config.job_id)
            started = await self._started(session, config, asked)
            reader.follow(await self._next_job(session, started or asked, wait=True))
        except CyxError as error:
            self._hub.fail(reader, str(error.code), error.message)


def capabilities(hardware: Hardware | None) -> pb.NodeCapabilities:
    """What the machine has, and what training here knows."""
    devices = hardware.devices if hardware is not None else ()
    kinds = dict.fromkeys([Device.CPU, *(device.kind for device in devices)])
    return pb.NodeCapabilities(
        supported_devices=[DEVICES[kind] for kind in kinds if kind in DEVICES],
        max_memory=hardware.ram_total_bytes if hardware is not None else 0,
        max_batch_size=MAX_BATCH,
        supported_optimizers=OPTIMIZERS,
        supports_checkpointing=True,
        supports_distributed=False,
    )


def _asked(session: Session, job_id: str) -> str:
    """The job that a client asks for next, if it names one. Raises INVALID for what is no id, and for a name after
    another reservation than the session's."""
    if not job_id:
        return ""
    reservation_id, mark, _ = parse_engine_job_id(job_id).partition("_")
    if mark and reservation_id != session.claims.reservation_id:
        raise invalid("job_id: is named after another reservation than the one that this token is for", field="job_id")
    return engine_job(job_id)


def _give(job: LiveJob, data: bytes) -> None:
    if job.remote is None:
        raise conflict(f"Job {job.job_id} has a data set of its own: leave initial_dataset empty")
    job.remote.give(data)


def _path(job: LiveJob) -> str:
    return f"blob://sha256/{job.checkpoint}" if job.checkpoint else ""


def _without_weights(job: LiveJob) -> CyxError:
    if job.standing in (Standing.HERE, Standing.PAUSED):
        return conflict(f"Job {job.job_id} has no weights yet: it is {job.standing}")
    return CyxError(Code.NOT_FOUND, f"Job {job.job_id} left no weights on this node", {"id": job.job_id})


def _decoded(kind: type[Any], data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid("The request's bytes are no protobuf message of the expected type") from None


async def _only(kind: type[Any], requests: AsyncIterator[bytes]) -> Any:
    async for data in requests:
        return _decoded(kind, data)
    raise invalid("The call brought no request")
