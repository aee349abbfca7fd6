"""`ProcessExecutor`: every job in a child process of its own, in a cell of the sandbox.

Implements `ports.executor`. A pool of warm children, torch imported, waits ahead of need, so that a job starts within
milliseconds; it is filled again when a run ends or `warm()` is called. What a cell is made for is settled when it is
made: a job with another device than the warm children's, or with the network, gets a child started for it.

How a run ends is `child_run`'s concern. Runs on Linux; children die with the thread that drives the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cyxwiz.compute.child_protocol import (
    CHECKED,
    INPUTS,
    MAX_FRAME,
    Frame,
    ProtocolError,
    encode,
    encode_work,
)
from cyxwiz.compute.child_run import ChildRun
from cyxwiz.compute.hardware.energy import Shares
from cyxwiz.compute.process import Child, Listener, end, within
from cyxwiz.compute.sandbox.sandbox import Needs, Sandbox
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import (
    Run,
    Work,
)
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)

START_SECONDS = 30.0


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
        energy: Shares | None = None,
    ) -> None:
        self._clock = clock
        self._energy = energy
        self._sandbox = sandbox
        self._warm_children = warm_children
        self._warm_needs = tuple(Needs(device) for device in warm_devices)
        self._python = python
        self._tasks = Tasks()
        self._idle: list[_Idle] = []
        self._runs: set[ChildRun] = set()
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

    async def _start_in(self, child: Child | None, needs: Needs, work: Work) -> ChildRun | None:
        """The run, or None when that child ended before it took the job."""
        run = ChildRun(work, self._clock, self._tasks, self._remove, self._energy)
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

    def _ended(self, run: ChildRun) -> None:
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
