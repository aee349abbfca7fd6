"""One lease on the node: from taking a job to the last acknowledged report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cyxwiz.compute.data.fetch import Data, DataCache
from cyxwiz.compute.gather import gathered
from cyxwiz.compute.gpus import Gpus
from cyxwiz.compute.identity import Identity
from cyxwiz.compute.p2p.feed import Feed
from cyxwiz.compute.p2p.hub import Hub
from cyxwiz.compute.packages import Environment, Packages
from cyxwiz.compute.signing import Signer
from cyxwiz.compute.uploads import CheckpointUploads, Files
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import Token
from cyxwiz.domain.job import REMOTE, JobType
from cyxwiz.domain.script import Script, check_script
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import (
    Asked,
    Check,
    Checkpointed,
    Executor,
    Failed,
    Finished,
    FirstStep,
    Gang,
    Linked,
    Logged,
    Outcome,
    Preempted,
    Progressed,
    Reached,
    Report,
    Run,
    Started,
    Work,
)
from cyxwiz.ports.node_journal import NodeJournal

log = logging.getLogger(__name__)

FULL_DISK_WAIT_SECONDS = 2.0
MAX_ASKED = 1000  # questions of one run that wait for central
LINES_A_REPORT = 100  # so that even the longest fit a message
TAIL = 200  # reports of a lease kept in memory besides the journal


@dataclass(slots=True, eq=False)
class Record:
    """What the node knows of one lease that it holds."""

    assign: pb.Assign
    directory: Path
    last_seq: int = 0
    acked_seq: int = 0
    sent_seq: int = 0  # on the present stream
    tail: deque[pb.Report] = field(default_factory=lambda: deque(maxlen=TAIL))
    ended: bool = False
    dropped: bool = False  # central told us to stop: nothing more is reported
    run: Run | None = None
    instead: pb.Report | None = None  # what was sent in place of its result, whose files could not be stored
    preempted: str = ""  # why the run is to save itself and stop
    data: Data | None = None  # what was fetched for it
    digest: str = ""  # of its data, for a run without a chain
    feed: Feed | None = None  # of data that its owner streams
    asked: dict[int, pb.NodeMessage] = field(default_factory=dict[int, pb.NodeMessage])  # not answered yet
    environment: Environment | None = None  # of its script
    signer: Signer | None = None
    _acked_at_beat: int = -1
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # a report was appended or acknowledged

    @property
    def key(self) -> tuple[str, Token]:
        return self.assign.job_id, token_of(self.assign)

    @property
    def settled(self) -> bool:
        """Over, and central knows everything."""
        return self.dropped or (self.ended and self.acked_seq >= self.last_seq)

    def appended(self, reports: Sequence[pb.Report]) -> None:
        """They are in the journal; the newest are kept at hand as well, so that sending need not read them back."""
        self.last_seq = reports[-1].seq
        self.tail.extend(reports)
        self.moved.set()

    def acknowledged(self, seq: int) -> None:
        self.acked_seq = max(self.acked_seq, seq)
        while self.tail and self.tail[0].seq <= self.acked_seq:
            self.tail.popleft()
        self.moved.set()

    def at_hand(self) -> Sequence[pb.Report] | None:
        """What is to be sent next, or None if only the journal has all of it."""
        if self.sent_seq >= self.last_seq:
            return ()
        if not self.tail or self.tail[0].seq > self.sent_seq + 1:
            return None
        return [report for report in self.tail if report.seq > self.sent_seq]

    def send_again_if_stalled(self) -> None:
        """Called at each heartbeat: if nothing was acknowledged since the last one, what was sent is sent again."""
        if self.sent_seq > self.acked_seq and self.acked_seq == self._acked_at_beat:
            self.sent_seq = self.acked_seq
            self.moved.set()
        self._acked_at_beat = self.acked_seq

    def artefact(self, name: str) -> Path:
        return self.directory / "out" / name


def token_of(message: pb.Assign | pb.Cancel | pb.Preempt | pb.Ack | pb.Held | pb.RendezvousAnswer) -> Token:
    return Token(message.token.epoch, message.token.counter)


@dataclass(frozen=True, slots=True)
class Limits:
    """How a run may use the machine."""

    threads: int
    data_roots: tuple[Path, ...]
    gpus: tuple[int, ...]  # memory of each GPU in bytes, 0 where unknown
    gang_address: str = ""  # where members of gangs on other nodes reach this machine; empty: no gangs


class Runner:
    """Runs one lease: prepares, starts a child, writes what it says to the journal."""

    def __init__(
        self,
        executor: Executor,
        journal: NodeJournal,
        files: Files,
        data: DataCache,
        clock: Clock,
        limits: Limits,
        identity: Identity,
        p2p: Hub,
        tell: Callable[[pb.NodeMessage], Awaitable[None]],
        packages: Packages | None = None,
    ) -> None:
        """`tell` sends central a message if there is a connection; what is not answered is sent again on the next."""
        self._p2p = p2p
        self._tell = tell
        self._executor = executor
        self._journal = journal
        self._files = files
        self._data = data
        self._clock = clock
        self._limits = limits
        self._identity = identity
        self._packages = packages
        self._gpus = Gpus(limits.gpus)

    def resize(self, gpus: tuple[int, ...]) -> None:
        """The node's GPUs are others now; what runs keeps the one it has."""
        self._gpus.resize(gpus)

    async def run(self, record: Record) -> None:
        """Returns when the run has ended and its last report is in the journal, whatever it ended of."""
        uploads = CheckpointUploads(
            self._files,
            lambda *stored: self._write(record, [self._saved(record, *stored)], ends=False),
            lambda: record.dropped,
        )
        try:
            record.run = await self._start(record)
            if record.run is None:  # it was stopped while it waited for its data
                if record.preempted:
                    await self._write(record, self._messages(record, Preempted(0.0)), ends=True)
                return
            async with contextlib.aclosing(gathered(record.run.reports(), record.assign.job_id)) as batches:
                async for batch in batches:
                    batch = record.feed.seen(batch) if record.feed is not None else batch
                    # of one that is dropped the child is being ended, and what it still says counts nowhere
                    if batch and not record.dropped:
                        await self._take(record, batch, uploads)
        except CyxError as error:
            await self._write(record, [self._failed(record, error)], ends=True)
        except Exception as error:
            log.exception("the run of job %s failed on this node", record.assign.job_id)
            await self._write(record, [self._failed(record, _of_this_node(error))], ends=True)
            if record.run is not None:
                await record.run.cancel()
        finally:
            await uploads.aclose()
            self._gpus.release(record)
            if record.data is not None:
                record.data.release()
            if record.feed is not None:
                await record.feed.aclose(keep=not record.dropped)
            if record.environment is not None:
                record.environment.release()

    async def _take(self, record: Record, batch: Sequence[Report], uploads: CheckpointUploads) -> None:
        """Journals what came together in one transaction, lines as one report, also those that points stand between."""
        messages: list[pb.Report] = []
        for report in batch:
            if isinstance(report, Checkpointed):
                uploads.offer(report)
                continue
            if isinstance(report, Asked):
                await self._ask(record, report)
                continue
            if isinstance(report, Reached):
                await self._tell(_measured(record, report))  # for the next placement: lost, it is measured again then
                continue
            if isinstance(report, Linked):  # a chain that lacks one is worth nothing
                await self._write(record, [*messages, self._linked(record, report)], ends=False, lasting=True)
                messages = []
                continue
            if isinstance(report, Preempted) or (isinstance(report, Failed) and report.retryable):
                await self._write(record, messages, ends=False)
                messages = []
                await uploads.settled()  # the next run goes on from there
            for message in self._messages(record, report):
                if message.HasField("logs") and (before := _lines_before(messages)) is not None:
                    before.logs.lines.extend(message.logs.lines)
                else:
                    messages.append(message)
        await self._write(record, messages, ends=isinstance(batch[-1], Outcome))

    async def _ask(self, record: Record, report: Asked) -> None:
        """Passes a question of a gang's member on to central."""
        if record.assign.HasField("gang") and len(record.asked) < MAX_ASKED:
            record.asked[report.id] = _question(record, report)
            await self._tell(record.asked[report.id])

    async def _start(self, record: Record) -> Run | None:
        assign = record.assign
        record.directory.mkdir(parents=True, exist_ok=True)
        streamed: Path | None = None
        if assign.dataset_uri.startswith(REMOTE):
            record.feed = self._p2p.feed(record, self._data, partial(self._note, record))
            streamed = await record.feed.open()
            if streamed is None:
                return None
        seconds = assign.max_duration_seconds or None
        if assign.dataset_uri:
            record.data = await self._data.hold(assign.dataset_uri, lambda: not record.dropped, seconds)
            if record.data is not None:
                record.digest = record.data.digest
            elif assign.HasField("script") or assign.job_type != JobType.TRAINING:
                record.digest = await self._data.digest(assign.dataset_uri, self._limits.data_roots)
        for note in record.data.notes if record.data is not None else ():
            await self._note(record, "info", note)
        script = await self._fetch_script(record)
        if assign.requirements:
            await self._hold_packages(record, seconds)
        resume: Path | None = None
        if assign.HasField("resume"):
            resume = record.directory / "resume.safetensors"
            await self._files.fetch(assign.resume.sha256, resume, lambda: record.dropped)
        if record.dropped:  # what was being fetched may not be there
            return None
        run = await self._executor.start(
            Work(
                job_id=assign.job_id,
                job_type=assign.job_type,
                model=assign.model,
                dataset_uri=assign.dataset_uri,
                hyperparameters=dict(assign.hyperparameters),
                epochs=assign.epochs,
                batch_size=assign.batch_size,
                seed=assign.seed,
                device=self._gpus.take(record),
                threads=self._limits.threads,
                work_dir=record.directory,
                data_roots=self._limits.data_roots,
                dataset_path=record.data.path if record.data is not None else streamed,
                streamed=record.feed is not None and record.feed.streams,
                max_duration_seconds=assign.max_duration_seconds or None,
                resume=resume,
                checkpoint_every=assign.checkpoint_every or "none",
                script=script,
                source=record.directory / "source" if script is not None else None,
                memory_bytes=assign.ram_bytes or None,
                gang=self._gang(assign),
                network=assign.network,
                weights=await self._fetch(record, "weights", assign.weights),
                chain_id=assign.chain_id,
                fixed=assign.fixed,
                check=await self._fetch_check(record),
                packages=record.environment.path if record.environment is not None else None,
            )
        )
        if record.feed is not None:
            record.feed.attach(run)
        if record.dropped:
            await run.cancel()
        elif record.preempted:
            run.preempt()
        return run

    async def _note(self, record: Record, level: str, text: str, source: str = "node") -> None:
        """A line of the node's own in the job's log."""
        await self._write(record, self._messages(record, Logged(level, text, source)), ends=False)

    def _gang(self, assign: pb.Assign) -> Gang | None:
        if not assign.HasField("gang"):
            return None
        if not self._limits.gang_address:
            raise CyxError(Code.UNSUPPORTED, "This node takes no part in gangs (node.gangs).", retryable=True)
        given = assign.gang
        return Gang(given.rank, given.world, given.strategy, self._limits.gang_address)

    async def _hold_packages(self, record: Record, seconds: float | None) -> None:
        if self._packages is None:
            raise CyxError(Code.UNSUPPORTED, "This node installs no packages (node.requirements).", retryable=True)
        lock, tell = record.assign.requirements, partial(self._note, record, "info", source="pip")
        record.environment = made = await self._packages.hold(lock, lambda: not record.dropped, seconds, tell)
        told = f"The packages {'were installed' if made.fresh else 'were on this node'}: {made.size} bytes"
        await self._note(record, "info", told)

    async def _fetch(self, record: Record, name: str, sha256: str) -> Path | None:
        """A file that the run reads, fetched; None for a run without one."""
        if not sha256:
            return None
        path = record.directory / name
        await self._files.fetch(sha256, path, lambda: record.dropped)
        return path

    async def _fetch_check(self, record: Record) -> Check | None:
        """What a check compares with, fetched; None for a run that checks nothing."""
        if not record.assign.HasField("check"):
            return None
        check = record.assign.check
        claim = await self._fetch(record, "claim", check.claim)
        result = await self._fetch(record, "result", check.result)
        return Check(check.stop_step, check.threads, check.result_weights, claim, result, check.start)

    async def _fetch_script(self, record: Record) -> Script | None:
        """Lays the script's files out below the run's folder; None for a job without one."""
        if not record.assign.HasField("script"):
            return None
        given = record.assign.script
        script = Script(given.entry, dict(given.files), tuple(given.args))
        check_script(script)  # the paths lead nowhere else
        at_once = asyncio.Semaphore(8)

        async def one(name: str, sha256: str) -> None:
            path = record.directory / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            async with at_once:
                await self._files.fetch(sha256, path, lambda: record.dropped)

        await asyncio.gather(*(one(name, sha256) for name, sha256 in script.files.items()))
        return script

    async def _write(self, record: Record, messages: list[pb.Report], *, ends: bool, lasting: bool = False) -> None:
        """Journals reports. On a full disk a curve may lose points; the end, or a `lasting` one, is tried until it is
        written."""
        while messages:
            try:
                appended = await self._journal.append(messages, ends=ends)
            except CyxError as error:
                if error.code is Code.STALE:
                    return
                log.warning("reports of job %s are not journalled: %s", record.assign.job_id, error.message)
                if not ends and (not lasting or record.dropped):
                    return
                messages = messages[-1:]
                await self._clock.sleep(FULL_DISK_WAIT_SECONDS)
                continue
            record.ended = record.ended or ends
            record.appended(appended)
            self._p2p.reported(record, appended)
            return

    def _report(self, record: Record) -> pb.Report:
        now = int(self._clock.now().timestamp() * 1000)
        return pb.Report(job_id=record.assign.job_id, token=record.assign.token, at_ms=now)

    def _saved(self, record: Record, saved: Checkpointed, sha256: str, size: int) -> pb.Report:
        message = self._report(record)
        message.checkpoint.CopyFrom(
            pb.Checkpoint(
                sha256=sha256,
                size=size,
                epoch=saved.epoch,
                batch=saved.batch,
                step=saved.step,
                progress=min(1.0, max(0.0, saved.progress)),
                threads=saved.threads,
                link=saved.link,
            )
        )
        return message

    def _signer(self, record: Record) -> Signer:
        if record.signer is None:
            record.signer = Signer(self._identity, record.assign, record.digest)
        return record.signer

    def _linked(self, record: Record, link: Linked) -> pb.Report:
        message = self._report(record)
        message.link.CopyFrom(self._signer(record).link(link))
        return message

    def _failed(self, record: Record, error: CyxError) -> pb.Report:
        message = self._report(record)
        failed = pb.Failed(code=str(error.code), message=error.message, retryable=error.retryable)
        # Of what comes before a script starts, its requirements can be wrong and worth another node's try.
        failed.by_script = record.assign.HasField("script") and error.code is Code.INVALID
        message.failed.CopyFrom(failed)
        return message

    def _messages(self, record: Record, report: Report) -> list[pb.Report]:
        message = self._report(record)
        if isinstance(report, Started):
            message.started.SetInParent()
        elif isinstance(report, FirstStep):
            message.first_step.SetInParent()
        elif isinstance(report, Progressed):
            message.progress.CopyFrom(_progress(report))
        elif isinstance(report, Logged):
            line = pb.LogLine(at_ms=message.at_ms, level=report.level, source=report.source, message=report.message)
            message.logs.lines.append(line)
        elif isinstance(report, Finished):
            uploading = self._report(record)
            uploading.uploading.SetInParent()
            artefacts = [pb.Artefact(name=a.name, sha256=a.sha256, size=a.size) for a in report.artefacts]
            finished = pb.Finished(
                artefacts=artefacts,
                final_metrics=_finite(report.final_metrics),
                epochs_completed=report.epochs_completed,
                compute_seconds=report.compute_seconds,
            )
            if report.energy_joules is not None:
                finished.energy_joules = report.energy_joules
            self._signer(record).sign(finished, finished.final_metrics)
            message.finished.CopyFrom(finished)
            return [uploading, message]
        elif isinstance(report, Failed):
            message.failed.code, message.failed.message = report.code, report.message
            message.failed.retryable, message.failed.by_script = report.retryable, report.by_script
        elif isinstance(report, Preempted):
            message.preempted.reason, message.preempted.compute_seconds = record.preempted, report.compute_seconds
        else:
            message.cancelled.SetInParent()
        return [message]


def _lines_before(messages: Sequence[pb.Report]) -> pb.Report | None:
    """The report that more lines may join: nothing but points of the curve came after it."""
    for message in reversed(messages):
        if message.HasField("logs"):
            return message if len(message.logs.lines) < LINES_A_REPORT else None
        if not message.HasField("progress"):
            return None
    return None


def _question(record: Record, report: Asked) -> pb.NodeMessage:
    kind = {"get": pb.RendezvousAsk.GET, "add": pb.RendezvousAsk.ADD}.get(report.kind, pb.RendezvousAsk.SET)
    ask = pb.RendezvousAsk(job_id=record.assign.job_id, token=record.assign.token, id=report.id, kind=kind)
    ask.key, ask.value = report.key, report.value
    return pb.NodeMessage(rendezvous=ask)


def _measured(record: Record, report: Reached) -> pb.NodeMessage:
    assign, speed = record.assign, report.bytes_per_second
    link = pb.PeerLink(rank=report.rank, round_trip_seconds=report.round_trip_seconds, bytes_per_second=speed)
    return pb.NodeMessage(links=pb.LinksMeasured(job_id=assign.job_id, token=assign.token, links=[link]))


def _of_this_node(error: Exception) -> CyxError:
    """What the owner is told of a fault of the node: not its text, which may name what is the node's own."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return CyxError(Code.INTERNAL, f"The node could not run this job ({why}); its own log says more", retryable=True)


def _progress(report: Progressed) -> pb.Progress:
    return pb.Progress(
        epoch=report.epoch,
        epochs=report.epochs,
        batch=report.batch,
        batches=report.batches,
        progress=min(1.0, max(0.0, report.progress)),
        metrics=_finite(report.metrics),
        elapsed_seconds=report.elapsed_seconds,
        remaining_seconds=report.remaining_seconds,
        epoch_ended=report.epoch_ended,
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
