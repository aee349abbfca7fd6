"""`ProcessExecutor`: every job in a child process of its own.

Implements `ports.executor`. A pool of warm children, torch imported, waits ahead of need, so that a job starts within
milliseconds; it is filled again when a run ends or `warm()` is called. A job that overstays its time is ended and
Failed with TIMEOUT. What the child says is checked: a frame that is none, or a result outside the job's own folder,
fails the job. Runs on Linux; children die with the thread that drives the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator

import psutil

from cyxwiz.compute.child_protocol import (
    MAX_FRAME,
    Frame,
    ProtocolError,
    encode,
    encode_work,
    to_report,
)
from cyxwiz.compute.process import Child
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import (
    PREEMPT_SECONDS,
    Artefact,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    Logged,
    Outcome,
    Preempted,
    Report,
    Run,
    Started,
    Work,
)
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)

START_SECONDS = 30.0
ASK_SECONDS = 0.5  # from the polite word to SIGTERM
TERM_SECONDS = 1.0  # from SIGTERM to SIGKILL
KILL_SECONDS = 0.4  # from SIGKILL to giving up on a process that the kernel cannot end
EXIT_SECONDS = 2.0  # from the outcome to a child's own end
_QUEUE_HIGH = 1000
_QUEUE_LOW = 250


class ProcessExecutor:
    """Runs jobs in child processes of this machine. `aclose` ends all of them."""

    def __init__(self, clock: Clock, *, warm_children: int = 1, python: str = sys.executable) -> None:
        self._clock = clock
        self._warm_children = warm_children
        self._python = python
        self._tasks = Tasks()
        self._idle: list[_Idle] = []
        self._runs: set[_ProcessRun] = set()
        self._closed = False

    def warm(self) -> None:
        """Fills the pool; returns at once. A machine that can start no child now is reported when a job needs one."""
        while not self._closed and len(self._idle) < self._warm_children:
            try:
                idle = _Idle(self._python, self._idle)
            except OSError as error:
                log.warning("no warm child could be started: %s", error)
                return
            self._idle.append(idle)
            idle.child.send_now(encode("warm"))

    async def start(self, work: Work) -> Run:
        try:
            frame = encode_work(work)
        except (ProtocolError, ValueError) as error:
            raise invalid(
                f"Job {work.job_id} cannot be sent to a child: {error}; {MAX_FRAME} bytes at most."
            ) from error
        for child in (self._take_idle(), None):
            if self._closed:
                raise CyxError(Code.UNAVAILABLE, "This node is stopping and starts no jobs.")
            run = await self._start_in(child, work, frame)
            if run is not None:
                return run
            if child is None:
                break
        raise CyxError(Code.UNAVAILABLE, f"No child process took job {work.job_id}; see the node's log.")

    async def _start_in(self, child: Child | None, work: Work, frame: bytes) -> _ProcessRun | None:
        """The run, or None when that child ended before it took the job."""
        run = _ProcessRun(work, self._clock, self._tasks)
        try:
            run.adopt(child or Child(self._python, run))
        except OSError as error:
            raise CyxError(Code.UNAVAILABLE, f"This node can start no process now: {error.strerror}.") from error
        self._runs.add(run)
        run.on_end = lambda: self._ended(run)
        try:
            with contextlib.suppress(OSError):  # a child that is gone is seen by its end
                await run.child.send(frame)
            await within(self._clock, START_SECONDS, run.taken)
        finally:
            if not run.started:
                run.child.signal_group(signal.SIGKILL)
        if run.started:
            run.supervise()
            return run
        log.warning("a child ended before it took job %s: %s", work.job_id, run.child.last_stderr or "no output")
        return None

    def _take_idle(self) -> Child | None:
        """The warm child that has waited longest, whether or not it is done with its imports."""
        ready = next((idle for idle in self._idle if idle.ready), None)
        idle = ready or (self._idle[0] if self._idle else None)
        if idle is None:
            return None
        self._idle.remove(idle)
        return idle.child

    def _ended(self, run: _ProcessRun) -> None:
        self._runs.discard(run)
        self.warm()

    async def aclose(self) -> None:
        self._closed = True
        idle = [entry.child for entry in self._idle]
        self._idle.clear()
        for child in idle:
            child.signal_group(signal.SIGKILL)
        await asyncio.gather(*(run.cancel() for run in list(self._runs)))
        for child in idle:
            await child.exited.wait()
        await self._tasks.aclose()


class _Idle:
    """A warm child in the pool. It leaves the pool when it dies."""

    def __init__(self, python: str, pool: list[_Idle]) -> None:
        self.ready = False
        self._pool = pool
        self.child = Child(python, self)

    def framed(self, frame: Frame) -> None:
        self.ready = self.ready or frame["type"] == "ready"

    def printed(self, source: str, line: str) -> None:
        log.debug("warm child %s: %s", source, line)

    def broke(self, reason: str) -> None:
        log.warning("a warm child sent %s", reason)
        self.child.signal_group(signal.SIGKILL)

    def ended(self) -> None:
        if self in self._pool:
            log.warning("a warm child ended: %s", _how(self.child))
            self._pool.remove(self)


class _ProcessRun:
    """One job in one child. Every way to end goes through `ended`, which decides the outcome once."""

    child: Child

    def __init__(self, work: Work, clock: Clock, tasks: Tasks) -> None:
        self._work, self._clock, self._tasks = work, clock, tasks
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
        self.on_end = lambda: None

    def adopt(self, child: Child) -> None:
        self.child = child
        child.listener = self

    def supervise(self) -> None:
        spawn(self._supervise(), name=f"supervise {self._work.job_id}", group=self._tasks)

    async def reports(self) -> AsyncIterator[Report]:
        while True:
            while self._queue:
                report = self._queue.popleft()
                if len(self._queue) == _QUEUE_LOW:
                    self.child.resume()
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

    async def _insist(self) -> None:
        if not await within(self._clock, PREEMPT_SECONDS, self._concluded):
            log.warning("job %s saved no checkpoint within %.0f s", self._work.job_id, PREEMPT_SECONDS)
            self._judge(Preempted(0.0))  # whoever supervises ends the child then

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
        if isinstance(report, Started):
            self.started = True
            self.taken.set()
        if isinstance(report, Finished):
            report = self._checked(report)
        elif isinstance(report, Checkpointed) and not self._is_own(report.file):
            report = Failed("INTERNAL", "The job's checkpoint is not the file that it was said to be.")
        if isinstance(report, Outcome):
            self._outcome = report
            self._concluded.set()
        else:
            self._put(report)

    def printed(self, source: str, line: str) -> None:
        self._put(Logged("warning" if source == "stderr" else "info", line, source))

    def broke(self, reason: str) -> None:
        self._judge(Failed("INTERNAL", f"The job's process sent {reason}.", retryable=True))
        self.child.signal_group(signal.SIGKILL)

    def ended(self) -> None:
        if self._over:
            return
        outcome = self._outcome or self._verdict
        if outcome is None and self._stopping is not None:
            outcome = Cancelled()
        self._put(outcome or self._crash())
        self._over = True
        self.taken.set()
        self._concluded.set()
        self.on_end()

    def _put(self, report: Report) -> None:
        self._queue.append(report)
        if len(self._queue) >= _QUEUE_HIGH:
            self.child.pause()
        self._news.set()

    def _judge(self, verdict: Outcome) -> None:
        if self._outcome is None and self._verdict is None:
            self._outcome = self._verdict = verdict
            self._concluded.set()

    def _checked(self, report: Finished) -> Report:
        """The result, if its files lie in the job's own folder: the child may not name others for the node to send."""
        for artefact in report.artefacts:
            if not self._is_own(artefact):
                return Failed("INTERNAL", f"The job's result {artefact.name} is not the file that it was said to be.")
        if not report.artefacts:
            return Failed("INTERNAL", "The job ended without a result.")
        return report

    def _is_own(self, artefact: Artefact) -> bool:
        path = artefact.path.resolve()
        within_folder = path.is_relative_to(self._work.work_dir.resolve())
        return within_folder and path.is_file() and path.stat().st_size == artefact.size

    def _crash(self) -> Failed:
        last = f"; last on stderr: {self.child.last_stderr[:500]}" if self.child.last_stderr else ""
        return Failed("INTERNAL", f"The job's process {_how(self.child)} without a result{last}.", retryable=True)

    # How it ends

    async def _supervise(self) -> None:
        limit = self._work.max_duration_seconds
        if not await within(self._clock, limit, self._concluded):
            self._judge(
                Failed("TIMEOUT", f"The job took longer than its {limit:g} seconds; allow more, or train less.")
            )
            await self._stop()
        elif not await within(self._clock, EXIT_SECONDS, self.child.exited):
            await self._stop()

    async def _stop(self) -> None:
        """Ends the child and all its descendants: asks, then SIGTERM, then SIGKILL, each with its time."""
        child = self.child
        if child.exited.is_set():
            return
        family = set(child.family())
        child.send_now(encode("cancel"))
        if not await within(self._clock, ASK_SECONDS, child.exited):
            family |= set(child.family())
            child.signal_group(signal.SIGTERM)
            if not await within(self._clock, TERM_SECONDS, child.exited):
                family |= set(child.family())
                child.signal_group(signal.SIGKILL)
        for process in family:  # psutil refuses to kill another process that got the same id
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
        if not await within(self._clock, KILL_SECONDS, child.exited):
            log.error("process %s of job %s outlives SIGKILL", child.pid, self._work.job_id)


async def within(clock: Clock, seconds: float | None, event: asyncio.Event) -> bool:
    """Waits for the event, at most so long by the clock; whether it is set."""
    if seconds is None:
        await event.wait()
    elif not event.is_set():
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(event.wait()), group.create_task(clock.sleep(seconds))}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
    return event.is_set()


def _how(child: Child) -> str:
    code = child.returncode
    if code is None or code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
