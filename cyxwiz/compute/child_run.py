"""One job in one child: what the child says, what it may take, and the one way in which the run ended.

What the child says is checked: a frame that is none, or a result outside the job's own folder, fails the job. A job
that overstays its time is ended and Failed with TIMEOUT; one that takes more memory or disk than is its, with
EXHAUSTED; one whose process somebody stopped, as one that was killed. How long a script ran, which it is billed by, the
node's clock says.

A declared model runs in our own code: that its process breaks is the node's trouble, and another node tries. A script
can end, stop and write what it likes: how it breaks is taken as its own doing, `by_script`, and it is tried again only
after what the machine may have done to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import psutil

from cyxwiz.compute.child_protocol import Frame, ProtocolError, encode, to_report
from cyxwiz.compute.hardware.energy import Shares
from cyxwiz.compute.process import Child, end, within
from cyxwiz.compute.sandbox import measure
from cyxwiz.compute.sandbox.slot import NotThere
from cyxwiz.domain.job import MAX_COUNT
from cyxwiz.job import AGAIN
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import (
    PREEMPT_SECONDS,
    Artefact,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    Linked,
    Logged,
    Outcome,
    Preempted,
    Progressed,
    Report,
    Started,
    Wanted,
    Work,
)
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)

EXIT_SECONDS = 2.0  # from the outcome to a child's own end
WATCH_SECONDS = 0.25  # between two looks at what a job takes
STOPPED_SECONDS = 20.0  # that a job's process may be: nobody who waits for it would know
DISK_EVERY = 4  # looks at the memory for one at the disk
# What libraries and drivers take in a job on a GPU besides the job's own memory.
GPU_MARGIN = 2 << 30
LEAST_MEMORY = 512 << 20  # PyTorch alone takes a good part of it
MACHINE_SHARE = 0.8
MORE_TIME = "allow more (resources.max_duration), or train less"
MORE_MEMORY = "ask for more (resources.ram), or use a smaller model or batch"
# What ends a process for want of memory, at a stop of the machine, or for its disk or its processor.
_OF_MACHINE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGBUS, -signal.SIGILL}
_QUEUE_HIGH = 1000
_QUEUE_LOW = 250


class ChildRun:
    """One job in one child. Every way to end goes through `ended`, which decides the outcome once."""

    child: Child

    def __init__(
        self, work: Work, clock: Clock, tasks: Tasks, remove: Callable[[Child], None], energy: Shares | None
    ) -> None:
        self._work, self._clock, self._tasks, self._remove, self._energy = work, clock, tasks, remove, energy
        self._queue: deque[Report] = deque()
        self._news = asyncio.Event()
        self._outcome: Report | None = None  # the child's own word
        self._verdict: Outcome | None = None  # the node's, which stands above it
        self._over = False
        self._concluded = asyncio.Event()  # an outcome is there, or the child is gone
        self._stopping: asyncio.Task[None] | None = None
        self._yielding = False
        self.taken = asyncio.Event()
        self.started = False
        self._pid = 0  # of the job's process, once it is started
        self._began = 0.0
        self._saved = False  # a state, in this run
        self.on_end = lambda: None

    def adopt(self, child: Child) -> None:
        self.child = child
        child.listener = self

    @property
    def _limit(self) -> int:
        """Bytes of memory that the job may take."""
        named = self._work.memory_bytes or self.child.bounds.memory_bytes
        limit = max(LEAST_MEMORY, named or int(psutil.virtual_memory().total * MACHINE_SHARE))
        return limit + (GPU_MARGIN if self._work.device.startswith("cuda") else 0)

    def supervise(self) -> None:
        if self._energy is not None and not self._over:
            self._energy.begin(self)
        with contextlib.suppress(OSError):  # the watch sees to it in any case
            self.child.cell.group.limit_memory(self._limit * 5 // 4)
        spawn(self._supervise(), name=f"supervise {self._work.job_id}", group=self._tasks)

    async def reports(self) -> AsyncIterator[Report]:
        while True:
            while self._queue:
                report = self._queue.popleft()
                if len(self._queue) == _QUEUE_LOW:
                    self.child.resume()
                if artefacts := getattr(report, "artefacts", ()):
                    report = await asyncio.to_thread(self._taken, report, artefacts)
                    self._remove_if_over()
                if isinstance(report, Failed) and self._work.script is not None:
                    report = replace(report, by_script=True)  # its own word, too: it has the channel in its hands
                yield report
            if self._over:
                return
            self._news.clear()
            await self._news.wait()

    def preempt(self) -> None:
        if not self._yielding:
            self._yielding = True
            self.child.send_now(encode("preempt"))
            spawn(self._insist(), name=f"preempt {self._work.job_id}", group=self._tasks)

    def answer(self, number: int, value: bytes) -> None:
        self.child.send_now(encode("answer", {"id": number, "value": base64.b64encode(value).decode()}))

    def tell(self, order: str, values: Mapping[str, Any] | None = None) -> None:
        if not self._concluded.is_set():
            self.child.send_now(encode(order, {"values": dict(values or {})}))

    async def _insist(self) -> None:
        if not await within(self._clock, PREEMPT_SECONDS, self._concluded):
            log.warning("job %s saved no checkpoint within %.0f s", self._work.job_id, PREEMPT_SECONDS)
            self._judge(self._timed(Preempted(0.0)))  # whoever supervises ends the child then

    async def cancel(self) -> None:
        # A task of its own: a caller who is itself cancelled halfway must not leave the child half ended.
        if self._stopping is None:
            self._stopping = spawn(self._stop(), name=f"stop {self._work.job_id}", group=self._tasks)
        await asyncio.shield(self._stopping)

    # What the child says

    def framed(self, frame: Frame) -> None:
        if frame["type"] == "ready" or self._outcome is not None:
            return
        report = to_report(frame)
        self._check(report)
        if isinstance(report, Started):
            self.started = True
            self.taken.set()
            self._pid, self._began = self.child.cell.main_pid(report.pid), self._clock.monotonic()
            report = Started(self._pid)
        if isinstance(report, Finished | Checkpointed) and not report.artefacts:
            report = Failed("INTERNAL", "The job named no file as its result or its checkpoint.")
        self._saved = self._saved or isinstance(report, Checkpointed)
        if isinstance(report, Outcome):
            self._outcome = self._timed(report)
            self._concluded.set()
        else:
            self._put(report)

    def _check(self, report: Report) -> None:
        """Raises ProtocolError for what central would refuse the node for: a script may have written it itself."""
        epochs, script = self._work.epochs, self._work.script is not None
        if isinstance(report, Started) and self.started:  # its seconds would count from there
            raise ProtocolError("a second start")
        if isinstance(report, Progressed) and report.epoch > epochs:
            raise ProtocolError(f"a point of epoch {report.epoch}, past the last one")
        if isinstance(report, Checkpointed) and not 1 <= report.epoch <= epochs + 1:
            raise ProtocolError(f"a checkpoint of epoch {report.epoch}, of {epochs}")
        if isinstance(report, Checkpointed) and max(report.batch, report.threads) >= MAX_COUNT:
            raise ProtocolError("a checkpoint of more batches or threads than there can be")
        if isinstance(report, Wanted) and not self._work.streamed:
            raise ProtocolError("which rows it wants, of data that nobody streams")
        if isinstance(report, Cancelled) and self._stopping is None:
            raise ProtocolError("that it was cancelled, and nobody did that")
        if script and isinstance(report, Preempted) and self._stopping is None and not self._may_yield:
            raise ProtocolError("that it stopped to go on later, unasked and with nothing saved")
        if script and (isinstance(report, Linked) or (isinstance(report, Checkpointed) and report.link)):
            raise ProtocolError("a link, and scripts have no chain")

    def _timed(self, outcome: Outcome) -> Outcome:
        """The outcome with the seconds that a script has run so far. Our own code leaves out what its start took."""
        if self._work.script is not None and isinstance(outcome, Finished | Preempted):
            return replace(outcome, compute_seconds=self._clock.monotonic() - self._began)
        return outcome

    def printed(self, source: str, line: str) -> None:
        self._put(Logged("warning" if source == "stderr" else "info", line, source))

    def broke(self, reason: str) -> None:
        self._judge(self._broken(f"The job's process sent {reason}.", own_doing=True))
        self.child.cell.kill()

    def ended(self) -> None:
        if self._over:
            return
        outcome = self._outcome or self._verdict
        if outcome is None and self._stopping is not None:
            outcome = Cancelled()
        if outcome is None and self._asks_again:
            outcome = self._timed(Preempted(0.0))
        joules = self._energy.end(self) if self._energy is not None else None
        if isinstance(outcome, Finished):
            outcome = replace(outcome, energy_joules=joules)
        self._put(outcome or self._crash())
        self._over = True
        self.taken.set()
        self._concluded.set()
        if not isinstance(outcome, Finished):  # whose files are taken when it is read
            self._remove(self.child)
        self.on_end()

    @property
    def _asks_again(self) -> bool:
        """Whether a script left by itself (`os._exit`) with the status that asks for another run, and may."""
        return self._work.script is not None and self._may_yield and self.child.cell.exit_status == AGAIN

    @property
    def _may_yield(self) -> bool:
        """Whether the run may end as one that goes on elsewhere: as `script.run_script` has it."""
        gang = self._work.gang
        may = self._saved or self._yielding or self._work.resume is not None
        return may or (gang is not None and gang.rank > 0)  # the first member saves for all

    def _remove_if_over(self) -> None:
        if self._over and not self._queue:
            self._remove(self.child)

    def _put(self, report: Report) -> None:
        self._queue.append(report)
        if len(self._queue) >= _QUEUE_HIGH:
            self.child.pause()
        self._news.set()

    def _judge(self, verdict: Outcome) -> None:
        if self._outcome is None and self._verdict is None:
            self._outcome = self._verdict = verdict
            self._concluded.set()

    def _taken(self, report: Any, artefacts: tuple[Artefact, ...]) -> Report:
        """The report with its files in the job's own folder, out of the child's reach. A result must have all of them
        as `out/NAME`; another report is told as a warning when its files are not what it says."""
        folder, slot, most = self._work.work_dir, self.child.cell.slot, self.child.bounds.disk_bytes
        try:
            if sum(max(0, artefact.size) for artefact in artefacts) > most:  # sparse files, or one under many names
                raise NotThere(f"its files are larger together than this node's {_mib(most)}")
            kept = tuple(slot.take(artefact, folder) for artefact in artefacts)
            if isinstance(report, Finished):
                for artefact in kept:
                    if artefact.path != folder / "out" / artefact.name:
                        raise NotThere(f"{artefact.name[:200]} does not lie in the folder of results")
        except NotThere as error:
            if isinstance(report, Finished):
                return Failed("INTERNAL", f"The job's result is not the file that it was said to be: {error}.")
            return Logged("warning", f"a file that the job named is not kept: {error}", "node")
        return replace(report, artefacts=kept)

    def _crash(self) -> Failed:
        if self.child.cell.ran_out:
            return Failed("EXHAUSTED", f"The job took more than its {_mib(self._limit)} of memory: {MORE_MEMORY}.")
        last = f"; last on stderr: {self.child.last_stderr[:500]}" if self.child.last_stderr else ""
        message = f"The job's process {self.child.cell.how_it_ended()} without a result{last}."
        return self._broken(message, own_doing=self.child.cell.exit_status not in _OF_MACHINE)

    def _broken(self, message: str, *, own_doing: bool) -> Failed:
        """How a process broke. `own_doing`: a script that did so would do it again; not in a gang, where it may have
        been another member's end."""
        gang = self._work.gang
        if own_doing and self._work.script is not None and (gang is None or gang.world == 1):
            return Failed("INVALID", message)
        return Failed("INTERNAL", message, retryable=True)

    # How it ends

    async def _supervise(self) -> None:
        limit = self._work.max_duration_seconds
        watch = spawn(self._watch(), name=f"watch {self._work.job_id}", group=self._tasks)
        try:
            if not await within(self._clock, limit, self._concluded):
                self._judge(
                    Failed("TIMEOUT", f"The job's time is over, of which this run had {limit:g} seconds: {MORE_TIME}.")
                )
                await self._stop()
            elif not await within(self._clock, EXIT_SECONDS, self.child.exited):
                await self._stop()
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """Ends a job that takes more memory or disk than is its, or whose process somebody stopped."""
        look, moved_at = 0, self._clock.monotonic()
        while not self._concluded.is_set():
            now = self._clock.monotonic()
            excess, stopped = await asyncio.to_thread(self._seen, look % DISK_EVERY == 0)
            moved_at = moved_at if stopped else now
            verdict: Failed | None = None
            if excess is not None:
                verdict = Failed("EXHAUSTED", excess)
            elif now - moved_at >= STOPPED_SECONDS:
                message = f"The job's process was stopped by a signal and stood still for {STOPPED_SECONDS:g} seconds."
                verdict = self._broken(message, own_doing=False)
            if verdict is not None:
                self._judge(verdict)
                self.child.cell.kill()
                return
            look += 1
            await self._clock.sleep(WATCH_SECONDS)

    def _seen(self, with_disk: bool) -> tuple[str | None, bool]:
        """What the job takes too much of, and whether its process is stopped."""
        seen = self._excess(with_disk), measure.is_stopped(self._pid)
        if with_disk and self._energy is not None:
            self._energy.look()
        return seen

    def _excess(self, with_disk: bool) -> str | None:
        """What the job takes too much of, in a sentence; None if nothing."""
        cell, bounds, limit = self.child.cell, self.child.bounds, self._limit
        used = cell.memory_bytes(limit)
        if used > limit:
            return f"The job took {_mib(used)} of memory, more than its {_mib(limit)}: {MORE_MEMORY}."
        if with_disk:
            try:
                used = cell.disk_bytes()
            except measure.TooManyFiles:
                return f"The job wrote more than {measure.MAX_FILES} files, or folders too deep: write fewer."
            except OSError as error:
                log.debug("the folder of job %s is not measured: %s", self._work.job_id, error)
                return None
            if used > bounds.disk_bytes:
                bound = _mib(bounds.disk_bytes)
                return f"The job wrote {_mib(used)} to disk, more than this node's {bound}: write less."
        return None

    async def _stop(self) -> None:
        await end(self.child, self._clock)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
