"""`ProcessExecutor`: every job in a child process of its own, in a cell of the sandbox.

Implements `ports.executor`. A pool of warm children, torch imported, waits ahead of need, so that a job starts within
milliseconds; it is filled again when a run ends or `warm()` is called. What a cell is made for is settled when it is
made: a job with another device than the warm children's, or with the network, gets a child started for it.

A job that overstays its time is ended and Failed with TIMEOUT; one that takes more memory or disk than is its, with
EXHAUSTED; one whose process somebody stopped, as one that was killed. What the child says is checked: a frame that is
none, or a result outside the job's own folder, fails the job. Runs on Linux; children die with the thread that drives
the loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psutil

from cyxwiz.compute.child_protocol import (
    CHECKED,
    INPUTS,
    MAX_FRAME,
    Frame,
    ProtocolError,
    encode,
    encode_work,
    to_report,
)
from cyxwiz.compute.process import Child, Listener
from cyxwiz.compute.sandbox import measure
from cyxwiz.compute.sandbox.sandbox import Needs, Sandbox
from cyxwiz.compute.sandbox.slot import NotThere
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
ASK_SECONDS = 0.5  # from the polite word to the end of the cell
KILL_SECONDS = 1.0  # from there to killing process by process
LAST_SECONDS = 0.4  # from there to giving up on a process that the kernel cannot end
EXIT_SECONDS = 2.0  # from the outcome to a child's own end
WATCH_SECONDS = 0.25  # between two looks at what a job takes
STOPPED_SECONDS = 20.0  # that a job's process may be: nobody who waits for it would know
DISK_EVERY = 4  # looks at the memory for one at the disk
# What libraries and drivers take in a job on a GPU besides the job's own memory.
GPU_MARGIN = 2 << 30
LEAST_MEMORY = 512 << 20  # PyTorch alone takes a good part of it
MACHINE_SHARE = 0.8
MORE_MEMORY = "ask for more (resources.ram), or use a smaller model or batch"
_QUEUE_HIGH = 1000
_QUEUE_LOW = 250


class ProcessExecutor:
    """Runs jobs in child processes of this machine. `aclose` ends all of them and closes the sandbox.

    `warm_devices` are the devices that the pool has children for, `warm_children` each. `python` is another program for
    the children, which sandboxes without bubblewrap take.
    """

    def __init__(
        self,
        clock: Clock,
        sandbox: Sandbox,
        *,
        warm_children: int = 1,
        warm_devices: Sequence[str] = ("cpu",),
        python: str | None = None,
    ) -> None:
        self._clock = clock
        self._sandbox = sandbox
        self._warm_children = warm_children
        self._warm_needs = tuple(Needs(device) for device in warm_devices)
        self._python = python
        self._tasks = Tasks()
        self._idle: list[_Idle] = []
        self._runs: set[_ProcessRun] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._closed = False

    def warm(self) -> None:
        """Fills the pool; returns at once. A machine that can start no child now is reported when a job needs one."""
        for needs in () if self._closed else self._warm_needs:
            while sum(idle.child.cell.needs == needs for idle in self._idle) < self._warm_children:
                try:
                    idle = _Idle(self._start, needs, self._idle, self._remove)
                except OSError as error:
                    log.warning("no warm child could be started: %s", error)
                    return
                self._idle.append(idle)
                idle.child.send_now(encode("warm"))

    def _start(self, needs: Needs, listener: Listener) -> Child:
        return Child(self._sandbox, needs, listener, self._python)

    async def start(self, work: Work) -> Run:
        try:
            encode_work(work)
        except (ProtocolError, ValueError) as error:
            raise invalid(
                f"Job {work.job_id} cannot be sent to a child: {error}; {MAX_FRAME} bytes at most."
            ) from error
        # What trains a declared model is this program: no job's code is given the network by being in a gang.
        of_job = (work.network and not work.install) or (work.gang is not None and work.script is not None)
        if of_job and not self._sandbox.allow_network:
            message = f"Job {work.job_id} asks for the network, which this node's owner gives to no job"
            raise CyxError(Code.UNSUPPORTED, f"{message} (node.network).", retryable=True)
        needs = Needs(work.device, work.network or work.gang is not None)
        for child in (self._take_idle(needs), None):
            if self._closed:
                raise CyxError(Code.UNAVAILABLE, "This node is stopping and starts no jobs.")
            run = await self._start_in(child, needs, work)
            if run is not None:
                return run
            if child is None:
                break
        raise CyxError(Code.UNAVAILABLE, f"No child process took job {work.job_id}; see the node's log.")

    async def _start_in(self, child: Child | None, needs: Needs, work: Work) -> _ProcessRun | None:
        """The run, or None when that child ended before it took the job."""
        run = _ProcessRun(work, self._clock, self._tasks, self._remove)
        try:
            run.adopt(child or self._start(needs, run))
        except OSError as error:
            raise CyxError(Code.UNAVAILABLE, f"This node can start no process now: {error.strerror}.") from error
        self._runs.add(run)
        run.on_end = lambda: self._ended(run)
        try:
            frame = encode_work(await asyncio.to_thread(_as_seen, work, run.child))
            await within(self._clock, START_SECONDS, run.child.settled)
            await run.child.send(frame)
            await within(self._clock, START_SECONDS, run.taken)
        except OSError as error:
            raise CyxError(Code.UNAVAILABLE, f"The files of job {work.job_id} can't be laid out: {error}.") from error
        finally:
            if not run.started:
                spawn(end(run.child, self._clock, ask=False), name=f"end {work.job_id}", group=self._tasks)
        if run.started:
            run.supervise()
            return run
        log.warning("a child ended before it took job %s: %s", work.job_id, run.child.last_stderr or "no output")
        return None

    def _take_idle(self, needs: Needs) -> Child | None:
        """The warm child for that device that has waited longest, whether or not it is done with its imports."""
        fitting = [idle for idle in self._idle if idle.child.cell.needs == needs]
        idle = next((idle for idle in fitting if idle.ready), next(iter(fitting), None))
        if idle is None:
            return None
        self._idle.remove(idle)
        return idle.child

    def _ended(self, run: _ProcessRun) -> None:
        self._runs.discard(run)
        self.warm()

    def _remove(self, child: Child) -> None:
        """Removes a child's folder, off the loop; what a stop leaves behind goes with the sandbox."""
        if not self._closed:
            task = spawn(asyncio.to_thread(child.cell.slot.remove), name="remove a slot", group=self._tasks)
            self._removals.add(task)
            task.add_done_callback(self._removals.discard)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        idle = [entry.child for entry in self._idle]
        self._idle.clear()
        await asyncio.gather(
            *(run.cancel() for run in list(self._runs)), *(end(child, self._clock, ask=False) for child in idle)
        )
        await asyncio.gather(*self._removals)  # a thread can't be cancelled
        await self._tasks.aclose()
        await asyncio.to_thread(self._sandbox.close)


def _as_seen(work: Work, child: Child) -> Work:
    """The job with its paths as the child sees them, after its inputs are laid out. Raises OSError."""
    slot = child.cell.slot
    changes: dict[str, Any] = {"work_dir": slot.seen_work}
    for name in INPUTS:
        if (path := getattr(work, name)) is not None:
            changes[name] = slot.place(path, name)
    if work.streamed and not slot.shares(work.dataset_path, "dataset_path"):
        raise OSError("what is streamed can't be seen there: the node's cache and its sandbox need one file system")
    if work.check is not None:
        given = {name: path for name in CHECKED if (path := getattr(work.check, name)) is not None}
        changes["check"] = replace(work.check, **{name: slot.place(path, name) for name, path in given.items()})
    if work.device.startswith("cuda"):
        changes["device"] = "cuda:0"  # the only one that it sees
    return replace(work, **changes)


class _Idle:
    """A warm child in the pool. It leaves the pool when it dies."""

    def __init__(
        self,
        start: Callable[[Needs, Listener], Child],
        needs: Needs,
        pool: list[_Idle],
        remove: Callable[[Child], None],
    ) -> None:
        self.ready = False
        self._pool, self._remove = pool, remove
        self.child = start(needs, self)

    def framed(self, frame: Frame) -> None:
        self.ready = self.ready or frame["type"] == "ready"

    def printed(self, source: str, line: str) -> None:
        log.debug("warm child %s: %s", source, line)

    def broke(self, reason: str) -> None:
        log.warning("a warm child sent %s", reason)
        self.child.cell.kill()

    def ended(self) -> None:
        if self in self._pool:
            log.warning("a warm child %s: %s", self.child.cell.how_it_ended(), self.child.last_stderr or "no output")
            self._pool.remove(self)
        self._remove(self.child)


class _ProcessRun:
    """One job in one child. Every way to end goes through `ended`, which decides the outcome once."""

    child: Child

    def __init__(self, work: Work, clock: Clock, tasks: Tasks, remove: Callable[[Child], None]) -> None:
        self._work, self._clock, self._tasks, self._remove = work, clock, tasks, remove
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
            self._pid = self.child.cell.main_pid(report.pid)
            report = Started(self._pid)
        if isinstance(report, Finished | Checkpointed) and not report.artefacts:
            report = Failed("INTERNAL", "The job named no file as its result or its checkpoint.")
        if isinstance(report, Outcome):
            self._outcome = report
            self._concluded.set()
        else:
            self._put(report)

    def printed(self, source: str, line: str) -> None:
        self._put(Logged("warning" if source == "stderr" else "info", line, source))

    def broke(self, reason: str) -> None:
        self._judge(Failed("INTERNAL", f"The job's process sent {reason}.", retryable=True))
        self.child.cell.kill()

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
        if not isinstance(outcome, Finished):  # whose files are taken when it is read
            self._remove(self.child)
        self.on_end()

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
        return Failed("INTERNAL", message, retryable=True)

    # How it ends

    async def _supervise(self) -> None:
        limit = self._work.max_duration_seconds
        watch = spawn(self._watch(), name=f"watch {self._work.job_id}", group=self._tasks)
        try:
            if not await within(self._clock, limit, self._concluded):
                self._judge(
                    Failed("TIMEOUT", f"The job took longer than its {limit:g} seconds; allow more, or train less.")
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
                verdict = Failed("INTERNAL", message, retryable=True)
            if verdict is not None:
                self._judge(verdict)
                self.child.cell.kill()
                return
            look += 1
            await self._clock.sleep(WATCH_SECONDS)

    def _seen(self, with_disk: bool) -> tuple[str | None, bool]:
        """What the job takes too much of, and whether its process is stopped."""
        return self._excess(with_disk), measure.is_stopped(self._pid)

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


async def end(child: Child, clock: Clock, *, ask: bool = True) -> None:
    """Ends a child and all its descendants: asks, then ends its cell, then kills what is left; each with its time."""
    if child.exited.is_set():
        return
    if ask:
        child.send_now(encode("cancel"))
        if await within(clock, ASK_SECONDS, child.exited):
            return
    child.cell.kill()
    if not await within(clock, KILL_SECONDS, child.exited):
        child.cell.kill_each()
        if not await within(clock, LAST_SECONDS, child.exited):
            log.error("process %s outlives SIGKILL", child.pid)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


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
