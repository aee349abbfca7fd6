"""`Hub`: the agent tells it what happens, clients' calls read it, and what owners ask for goes to central through it.

It keeps no truth of its own: central decides about a job's state, the journal holds what was reported. How a run ended
is told, and its weights are given, once central has it: what is cancelled or paused before that never ended. What a
client needs after the run, the result's first file, is found again after a restart by `finished.json` in the job's
folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from cyxwiz.compute.data.fetch import DataCache
from cyxwiz.compute.p2p import updates
from cyxwiz.compute.p2p.feed import Feed
from cyxwiz.compute.p2p.live import MAX_WISHES, LiveJob, Reader, Standing, Weights
from cyxwiz.compute.p2p.relayed import Relayed
from cyxwiz.compute.p2p.remote import RemoteData, Say
from cyxwiz.compute.p2p.sessions import Sessions
from cyxwiz.domain.errors import Code, CyxError, conflict, not_found
from cyxwiz.domain.ids import Token
from cyxwiz.domain.job import REMOTE, JobType
from cyxwiz.domain.node import Hardware, LoadSample
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.ports.clock import Clock
from cyxwiz.protocol.execution_pb2 import TrainingUpdate
from cyxwiz.protocol.job_pb2 import JobConfig
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.p2p_tokens import Claims

if TYPE_CHECKING:
    from cyxwiz.compute.runs import Record

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0  # for central's answer to a command
RETURN_SECONDS = 15.0  # from resuming a job to its coming back here
IDLE_SECONDS = 3600.0  # for which a job that is over is remembered when nothing of it is left
ARRIVE_SECONDS = 5.0  # for a job whose token is here before central's Assign
FINISHED = "finished.json"


class Hub:
    def __init__(self, node_id: str, clock: Clock, *, max_data_bytes: int) -> None:
        self.sessions = Sessions(node_id, clock, self._in_reservation)
        self.relayed = Relayed()
        self._clock = clock
        self._max_data_bytes = max_data_bytes
        self._jobs: dict[str, LiveJob] = {}
        self._link: LinkSession | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[pb.OwnerAnswer]] = {}
        self._tasks = Tasks()
        self._arrived = asyncio.Event()
        self.sample: LoadSample | None = None  # the machine's newest
        self.hardware: Hardware | None = None

    def now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    # the way to central

    def welcomed(self, link: LinkSession, secret: bytes) -> None:
        self.sessions.share(secret)
        self._link = link

    def cut(self) -> None:
        """The stream to central is gone, and with it what was relayed and what waits for an answer."""
        self._link = None
        self.relayed.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(pb.OwnerAnswer(code=str(Code.UNAVAILABLE), message="The way to central was cut"))

    def answered(self, answer: pb.OwnerAnswer) -> None:
        waiting = self._answers.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def command(
        self, job: LiveJob, action: pb.OwnerCommand.Action, reason: str = "", *, keep_checkpoint: bool = False
    ) -> None:
        """Has central pause, resume or cancel the job. Raises central's refusal, UNAVAILABLE without a connection."""
        record, before = job.record, job.standing
        if record is None:
            raise conflict(f"Job {job.job_id} is over on this node: ask central")
        command = pb.OwnerCommand(
            job_id=job.job_id, action=action, reason=reason[:500], keep_checkpoint=keep_checkpoint
        )
        try:
            await self._command(job, record, command)
        except CyxError as error:
            if error.code is not Code.STALE or (back := await self._back(job, record)) is None:
                raise
            await self._command(job, back, command)
        if action == pb.OwnerCommand.PAUSE and before is job.standing is Standing.PAUSED:  # it had not come back
            self._set_aside(job, reason)
        if action == pb.OwnerCommand.CANCEL and job.standing is Standing.PAUSED:  # no lease is left to end
            self._stopped(job)
        if action == pb.OwnerCommand.RESUME:
            job.pausing = False
            spawn(self._expect_back(job), name=f"expect {job.job_id}", group=self._tasks)

    async def _command(self, job: LiveJob, record: Record, command: pb.OwnerCommand) -> None:
        command.token.CopyFrom(record.assign.token)
        pausing, job.pausing = job.pausing, job.pausing or command.action == pb.OwnerCommand.PAUSE
        try:
            answer = await self._ask(command)
            if answer.code:
                raise CyxError(_code(answer.code), answer.message)
        except CyxError:
            job.pausing = pausing
            raise

    async def _back(self, job: LiveJob, record: Record) -> Record | None:
        """The newer lease of a paused job, which central has given to this node and which is on its way; None when none
        comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVE_SECONDS):
                while job.record is record and job.standing is Standing.PAUSED:
                    await job.changed()
        return job.record if job.record is not record else None

    async def _ask(self, command: pb.OwnerCommand) -> pb.OwnerAnswer:
        """Central's answer. Raises UNAVAILABLE without a connection, TIMEOUT."""
        link = self._link
        if link is None:
            raise CyxError(Code.UNAVAILABLE, "This node has no connection to central, which alone decides about jobs")
        command.number = next(self._numbers)
        waiting = self._answers[command.number] = asyncio.get_running_loop().create_future()
        try:
            await link.send(pb.NodeMessage(command=command))
            async with asyncio.timeout(ANSWER_SECONDS):
                return await waiting
        except TimeoutError:
            raise CyxError(Code.TIMEOUT, f"Central did not answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            del self._answers[command.number]

    async def start_job(self, reservation_id: str, config: JobConfig) -> str:
        """Has central take a further job of a reservation of this node; its id. Raises central's refusal."""
        data = config.SerializeToString()
        command = pb.OwnerCommand(action=pb.OwnerCommand.START, reservation_id=reservation_id, config=data)
        answer = await self._ask(command)
        if answer.code:
            raise CyxError(_code(answer.code), answer.message)
        return answer.job_id

    async def end_reservation(self, reservation_id: str) -> None:
        """Tells central that the client of a reservation is done with it. Raises central's refusal."""
        command = pb.OwnerCommand(action=pb.OwnerCommand.END_RESERVATION, reservation_id=reservation_id)
        answer = await self._ask(command)
        if answer.code:
            raise CyxError(_code(answer.code), answer.message)

    def _in_reservation(self, claims: Claims, job_id: str) -> bool:
        """Whether a job on this node belongs to the reservation of a token."""
        job = self._jobs.get(job_id)
        if job is None or not claims.reservation_id:
            return False
        return (job.reservation_id, job.owner_id) == (claims.reservation_id, claims.owner_id)

    async def acknowledged(self, job: LiveJob) -> bool:
        """Waits until central has every report of the job so far; whether it came to that."""
        record = job.record
        if record is None:
            return False
        last, deadline = record.last_seq, self._clock.monotonic() + ANSWER_SECONDS
        while record.acked_seq < last and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.02)
        return record.acked_seq >= last

    async def _expect_back(self, job: LiveJob) -> None:
        """After a resume central may place the job on another node: clients are told to look for it there."""
        if job.standing is Standing.PAUSED:
            await self._clock.sleep(RETURN_SECONDS)
            if job.standing is Standing.PAUSED and not job.pausing:
                self._away(job, "It goes on, but not on this node now: ask central where it is")

    # what the agent tells

    def taken(self, record: Record) -> None:
        """Central gave the node a job, for the first time or again."""
        self._prune()
        assign = record.assign
        job = self._jobs.get(assign.job_id)
        if job is None or job.standing in (Standing.DONE, Standing.AWAY):
            job = self._jobs[assign.job_id] = LiveJob(assign.job_id, assign.owner_id)
        job.idle_since = self._clock.monotonic()
        job.record, job.pausing, job.closing = record, False, None
        job.owner_id, job.reservation_id = assign.owner_id, assign.reservation_id
        if assign.dataset_uri.startswith(REMOTE):
            job.remote = RemoteData(job, self._clock, batch=assign.batch_size, max_bytes=self._max_data_bytes)
        job.stand(Standing.HERE)
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _prune(self) -> None:
        """Of jobs that are over a short history stays, and none of those that left nothing here."""
        now = self._clock.monotonic()
        for job in list(self._jobs.values()):
            if job.standing is Standing.HERE or job.readers:
                job.idle_since = now
                continue
            job.trim()
            if job.weights is None and now - job.idle_since > IDLE_SECONDS:
                del self._jobs[job.job_id]
                job.stand(Standing.AWAY)

    def reported(self, record: Record, reports: Sequence[pb.Report]) -> None:
        """Reports that are in the journal now."""
        job = self._jobs.get(record.assign.job_id)
        if job is None or job.record is not record or record.dropped:  # what it still says counts nowhere
            return
        for report in reports:
            with _apart(job):
                self._show(job, report)
        if record.run is not None and job.wishes:  # of before: the child is there
            wishes, job.wishes = job.wishes, []
            for order, values in wishes:
                with _apart(job):
                    self.tell_run(job, order, values)

    def _show(self, job: LiveJob, report: pb.Report) -> None:
        kind = report.WhichOneof("body")
        if kind == "progress":
            job.epoch, job.batch = report.progress.epoch, report.progress.batch
            job.metrics.update(report.progress.metrics)
            job.tell(updates.progress_of(report, self.sample, self._gpu_bytes()))
        elif kind == "logs":
            for update in updates.logs_of(report):
                job.tell(update)
        elif kind == "checkpoint":
            job.checkpoint, job.checkpoints = report.checkpoint.sha256, job.checkpoints + 1
            job.tell(updates.checkpoint_of(report, job.metrics))
        elif kind in ("finished", "failed"):
            job.closing = report
        elif kind == "preempted":
            self._set_aside(job, report.preempted.reason)

    def confirmed(self, record: Record) -> None:
        """Central has more of the record's reports: an end that waited for that is told."""
        job = self._jobs.get(record.assign.job_id)
        if job is None or job.record is not record or job.standing is not Standing.HERE:
            return
        if job.closing is None or record.acked_seq < job.closing.seq:
            return
        report = record.instead or job.closing
        with _apart(job):
            if report.HasField("finished"):
                self._finished(job, record, report)
            else:
                self._failed(job, report)
        job.stand(Standing.DONE)

    def _finished(self, job: LiveJob, record: Record, report: pb.Report) -> None:
        weights = report.finished.artefacts[0]
        job.weights = Weights(record.artefact(weights.name), weights.sha256, weights.size)
        try:
            (record.directory / FINISHED).write_text(_kept(record.assign, report))
        except OSError as error:
            log.warning("the result of job %s is not found again after a restart: %s", job.job_id, error)
        job.tell(updates.complete_of(report))

    def _failed(self, job: LiveJob, report: pb.Report) -> None:
        failed = report.failed
        code = "TRAINING_FAILED" if failed.code in ("", "INTERNAL") else failed.code
        job.tell(
            updates.error_of(job.job_id, report.at_ms, code, failed.message, job.epoch, recoverable=failed.retryable)
        )

    def _set_aside(self, job: LiveJob, reason: str) -> None:
        if job.pausing:
            job.tell(updates.log_of(job.job_id, self.now_ms(), "info", "paused; send resume to go on"))
            job.stand(Standing.PAUSED)
        else:
            self._away(job, reason or "It was taken away from this node")

    def _away(self, job: LiveJob, message: str) -> None:
        job.tell(updates.error_of(job.job_id, self.now_ms(), "MOVED", message, job.epoch, recoverable=True))
        job.stand(Standing.AWAY)

    def dropped(self, cancel: pb.Cancel) -> None:
        """Central wants the lease no more; or a job that was paused here has ended, or goes on at another node."""
        job = self._jobs.get(cancel.job_id)
        if job is None or job.record is None or job.standing not in (Standing.HERE, Standing.PAUSED):
            return
        if job.record.key[1] != Token(cancel.token.epoch, cancel.token.counter):
            return
        if cancel.reason == pb.Cancel.CANCELLED:
            self._stopped(job)
        elif job.standing is Standing.PAUSED:
            self._away(job, "It goes on, but not on this node: ask central where it is")
        else:  # if it is to be paused it had not begun, and there was nothing to save
            self._set_aside(job, cancel.message)

    def _stopped(self, job: LiveJob) -> None:
        job.tell(updates.stopped_of(job.job_id, self.now_ms(), job.epoch))
        job.stand(Standing.DONE)

    def lost(self, record: Record) -> None:
        """The run is over without a last report: its clients learn it here."""
        job = self._jobs.get(record.assign.job_id)
        if job is not None and job.record is record and job.standing is Standing.HERE and job.closing is None:
            self._away(job, "Its run ended on this node")

    def recall(self, directories: Sequence[Path]) -> None:
        """After a restart: the results that lie in these folders of runs can be fetched still."""
        for directory in directories:
            try:
                self._find_again(directory)
            except OSError:
                continue  # no result there, or not all of it
            except Exception as error:  # whatever lies on the disk, the node starts
                log.warning("the result in %s can't be fetched any more: %r", directory, error)

    def _find_again(self, directory: Path) -> None:
        kept = json.loads((directory / FINISHED).read_text())
        report, owner = json_format.ParseDict(kept["report"], pb.Report()), str(kept["owner_id"])
        reservation = str(kept.get("reservation_id", ""))
        weights = report.finished.artefacts[0]
        path = directory / "out" / weights.name
        if path.stat().st_size != weights.size:
            raise ValueError(f"{weights.name} is not of {weights.size} bytes")
        job = LiveJob(report.job_id, owner, reservation, standing=Standing.DONE)
        job.epoch = report.finished.epochs_completed
        job.weights = Weights(path, weights.sha256, weights.size)
        job.tell(updates.complete_of(report))
        self._jobs[report.job_id] = job

    def owes(self, record: Record, last: Sequence[pb.Report]) -> None:
        """After a restart: a run's last report, which central does not have yet. Clients still learn of a result."""
        for report in last:
            if report.HasField("finished"):
                assign = record.assign
                job = LiveJob(assign.job_id, assign.owner_id, assign.reservation_id, record, closing=report)
                self._jobs[assign.job_id] = job

    def swept(self, directory: Path) -> None:
        """The files of a run are removed: its job is no longer here."""
        for job in [job for job in self._jobs.values() if job.weights and directory in job.weights.path.parents]:
            del self._jobs[job.job_id]
            job.stand(Standing.AWAY)

    def feed(self, record: Record, cache: DataCache, say: Say) -> Feed:
        """The data that the job's owner streams, for one run. `say` writes into the job's log."""
        assign, job = record.assign, self._jobs[record.assign.job_id]
        assert job.remote is not None
        trains = assign.job_type == JobType.TRAINING and not assign.HasField("script") and not assign.HasField("gang")
        return Feed(
            assign.job_id,
            job.remote,
            cache,
            trains=trains,
            wanted=lambda: not (record.dropped or record.preempted),
            say=say,
        )

    def _gpu_bytes(self) -> int:
        """Memory of all GPUs, as far as it is known."""
        return sum(gpu.memory_total_bytes or 0 for gpu in self.hardware.gpus) if self.hardware is not None else 0

    # what clients ask

    def knows(self, job_id: str) -> bool:
        return job_id in self._jobs

    async def find(self, job_id: str, *, wait: bool = False) -> LiveJob:
        """A job on this node; with `wait` one that central is about to give it. Raises NOT_FOUND."""
        deadline = self._clock.monotonic() + ARRIVE_SECONDS
        while (job := self._jobs.get(job_id)) is None and wait and self._clock.monotonic() < deadline:
            arrived = self._arrived
            try:
                async with asyncio.timeout(ARRIVE_SECONDS):
                    await arrived.wait()
            except TimeoutError:
                break
        if job is None:
            raise not_found("job", job_id)
        return job

    def tell_run(self, job: LiveJob, order: str, values: Mapping[str, Any] | None = None) -> None:
        """Passes a wish on to the job's child. Raises CONFLICT when it does not run."""
        run = job.record.run if job.record is not None and job.standing is Standing.HERE else None
        if run is None:
            raise conflict(f"Job {job.job_id} does not run on this node now")
        run.tell(order, {name: value for name, value in (values or {}).items() if _sound(value)})

    def wish(self, job: LiveJob, order: str, values: Mapping[str, Any] | None = None) -> None:
        """`tell_run`, once the child is there where it is yet to come: data and packages are fetched before."""
        record = job.record if job.standing is Standing.HERE else None
        coming = record is not None and not record.ended and (record.run is None or bool(job.wishes))
        if coming and len(job.wishes) < MAX_WISHES:
            job.wishes.append((order, dict(values or {})))
        else:
            self.tell_run(job, order, values)

    def reader(self, job: LiveJob, token: str) -> Reader:
        return Reader(job, token)

    def say(self, reader: Reader, level: str, message: str) -> None:
        reader.say(updates.log_of(reader.job.job_id, self.now_ms(), level, message))

    def fail(self, reader: Reader, code: str, message: str) -> None:
        update: TrainingUpdate = updates.error_of(reader.job.job_id, self.now_ms(), code, message, recoverable=True)
        reader.say(update)

    async def aclose(self) -> None:
        self.cut()
        for job in self._jobs.values():
            job.stand(Standing.AWAY)
        await self.relayed.aclose()
        await self._tasks.aclose()


@contextlib.contextmanager
def _apart(job: LiveJob) -> Iterator[None]:
    """What shows a job to its clients fails neither its run nor the way to central: it is logged, and no more."""
    try:
        yield
    except Exception:
        log.exception("clients of job %s are not shown a report of its run", job.job_id)


def _kept(assign: pb.Assign, report: pb.Report) -> str:
    """A result's report with its owner, to be found after a restart."""
    kept = {"owner_id": assign.owner_id, "reservation_id": assign.reservation_id}
    return json.dumps({**kept, "report": json_format.MessageToDict(report)})


def _sound(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _code(word: str) -> Code:
    return Code(word) if word in Code.__members__ else Code.INTERNAL
