"""`KernelPool`: tensor operations in children of their own, in cells of the sandbox. Implements `ports.kernels`.

A child serves one caller, one request after the other, and ends when it has had nothing to do for a while: what it
holds in memory, no other caller's operations can find. When all children are taken, requests wait in line; an idle
child of another caller makes room. A request that is cancelled, overstays its time or breaks its child ends that child.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cyxwiz.compute.child_protocol import Frame, ProtocolError
from cyxwiz.compute.executor import START_SECONDS
from cyxwiz.compute.kernels import frames
from cyxwiz.compute.kernels.kernel import SECTION
from cyxwiz.compute.process import Child, end, within
from cyxwiz.compute.sandbox.sandbox import Needs, Sandbox
from cyxwiz.domain.errors import Code, CyxError, invalid, unsupported
from cyxwiz.domain.operation import Computed, Operation, Tensor
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)

MODULE = "cyxwiz.compute.kernels.child"


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """What tensor operations may take of this node. Settings node.operations.…"""

    children: int = 2
    waiting: int = 64  # requests that wait for a child
    waiting_each: int = 16  # of one caller
    graph_operations: int = 256
    input_bytes: int = 64 << 20  # of a request's tensors, uncompressed
    room_bytes: int = 64 << 20  # of an array that an operation makes, and of all outputs
    memory_bytes: int = 2 << 30  # of a child on the CPU
    seconds: float = 30.0  # of a request, from the moment that its child has it
    idle_seconds: float = 60.0  # that a child waits for its caller's next request
    threads: int = 1


class KernelPool:
    """Runs operations in children. `aclose` ends all of them; the sandbox stays its owner's."""

    def __init__(self, clock: Clock, sandbox: Sandbox, limits: KernelLimits | None = None) -> None:
        self._clock = clock
        self._sandbox = sandbox
        self._limits = limits or KernelLimits()
        self._tasks = Tasks()
        self._places = asyncio.Semaphore(self._limits.children)  # gives them in the order of asking
        self._alive: set[_Worker] = set()
        self._busy: set[_Worker] = set()
        self._idle: list[_Worker] = []  # the one that has waited longest first
        self._endings: set[asyncio.Task[None]] = set()
        self._waiting: Counter[str] = Counter()
        self._closed = False
        self.why_closed: Callable[[], str] = str  # by its owner's limits; empty while the node may work

    async def run(self, caller: str, operations: Sequence[Operation]) -> Computed:
        needs = self._check(operations)
        try:
            request = frames.encode_run(operations)
        except ProtocolError as error:
            raise CyxError(Code.EXHAUSTED, f"The request is too large: {error}.", retryable=False) from error
        await self._queue(caller)
        try:
            worker = await self._worker(caller, needs)
        except BaseException:
            self._places.release()
            raise
        sound = False
        try:
            answer = await worker.run(request)
            sound = True
        finally:
            self._leave(worker, sound)
        if isinstance(answer, CyxError):
            raise answer
        return answer

    def _check(self, operations: Sequence[Operation]) -> Needs:
        """What a child for these has to have. Raises for what is seen to be wrong without a kernel."""
        limits = self._limits
        if not operations:
            raise invalid("No operation was sent.")
        if len(operations) > limits.graph_operations:
            raise invalid(
                f"{len(operations)} operations were sent; at most {limits.graph_operations} are taken "
                f"({SECTION}.graph_operations of this node)."
            )
        for each in operations:
            each.check()
        tensors = [each for one in operations for each in one.inputs if isinstance(each, Tensor)]
        size = max(sum(each.nbytes for each in tensors), sum(len(each.data) for each in tensors))
        if size > limits.input_bytes:
            message = (
                f"The tensors take {size} bytes together; at most {limits.input_bytes} are taken "
                f"({SECTION}.input_bytes of this node)."
            )
            raise CyxError(Code.EXHAUSTED, message, retryable=False)
        if all(each.device == "cpu" for each in operations):
            return Needs("cpu")
        if not self._sandbox.gpus:
            raise unsupported("This node computes on its CPU only: set target_device to CPU.", devices=["cpu"])
        return Needs("cuda:0")

    async def _queue(self, caller: str) -> None:
        """Waits for a place."""
        self._be_open()
        waiting, limits = self._waiting.total(), self._limits
        own = self._waiting[caller]
        if self._places.locked() and (waiting >= limits.waiting or own >= limits.waiting_each):
            all_of_them = waiting >= limits.waiting
            name, most = ("waiting", limits.waiting) if all_of_them else ("waiting_each", limits.waiting_each)
            message = (
                f"{waiting if all_of_them else own} requests {'' if all_of_them else 'of yours '}wait for this node's "
                f"{limits.children} processes; at most {most} may ({SECTION}.{name} of this node): wait a little."
            )
            raise CyxError(Code.EXHAUSTED, message)
        self._waiting[caller] += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def _be_open(self) -> None:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "This node is stopping and computes nothing.")
        if reason := self.why_closed():
            raise CyxError(Code.UNAVAILABLE, f"This node is closed: {reason}.")

    async def _worker(self, caller: str, needs: Needs) -> _Worker:
        """The caller's own idle child, or a new one where another's idle child makes room. Takes a held place."""
        self._be_open()
        own = next((each for each in self._idle if each.serves(caller, needs)), None)
        if own is not None:
            self._idle.remove(own)
            self._busy.add(own)
            return own
        # Ends are waited for, so that there are never more children than places. One of the places is held by who asks:
        # where all children are there, some are idle or ending.
        while len(self._alive) >= self._limits.children:
            if self._idle:
                self._end(self._idle.pop(0))
            await asyncio.wait(self._endings, return_when=asyncio.FIRST_COMPLETED)
        self._be_open()
        try:
            worker = _Worker(self._clock, self._sandbox, caller, needs, self._limits, self._tasks)
        except OSError as error:
            raise CyxError(Code.UNAVAILABLE, f"This node can start no process now: {error.strerror}.") from error
        self._alive.add(worker)
        self._busy.add(worker)
        return worker

    def _leave(self, worker: _Worker, sound: bool) -> None:
        """Lets the child wait for its caller's next request, or ends it where it is of no use."""
        self._busy.discard(worker)
        if not sound:
            self._end(worker, self._places)
            return
        self._places.release()
        worker.uses += 1
        self._idle.append(worker)
        spawn(self._retire(worker, worker.uses), name="retire a child for operations", group=self._tasks)

    async def _retire(self, worker: _Worker, uses: int) -> None:
        await within(self._clock, self._limits.idle_seconds, worker.child.exited)
        if worker in self._idle and worker.uses == uses:
            self._idle.remove(worker)
            self._end(worker)

    def _end(self, worker: _Worker, place: asyncio.Semaphore | None = None) -> asyncio.Task[None]:
        """Ends a child and all of it, and then gives its place back."""

        async def ending() -> None:
            try:
                await end(worker.child, self._clock, ask=False)
                await asyncio.to_thread(worker.child.cell.slot.remove)
            finally:
                self._alive.discard(worker)
                if place is not None:
                    place.release()

        task = spawn(ending(), name="end a child for operations", group=self._tasks)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def aclose(self) -> None:
        """Requests under way and waiting are refused with UNAVAILABLE."""
        if self._closed:
            return
        self._closed = True
        for worker in self._busy:
            worker.child.cell.kill()  # whoever waits for its answer ends it
        for worker in self._idle:
            self._end(worker)
        self._idle.clear()
        while self._busy or self._endings:
            await asyncio.gather(*self._endings, *(worker.child.exited.wait() for worker in self._busy))
        await self._tasks.aclose()


class _Worker:
    """One child and the request that it has."""

    def __init__(
        self, clock: Clock, sandbox: Sandbox, caller: str, needs: Needs, limits: KernelLimits, tasks: Tasks
    ) -> None:
        self._caller, self._clock, self._limits, self._tasks = caller, clock, limits, tasks
        self._answer: Frame | None = None
        self._asked = False
        self._over = asyncio.Event()  # an answer is there, or the child is gone
        self._broken = ""
        self.uses = 0
        self.child = Child(sandbox, needs, self, module=MODULE, decoder=frames.Decoder(limits.room_bytes))

    def serves(self, caller: str, needs: Needs) -> bool:
        return self._caller == caller and self.child.cell.needs == needs and not self.child.exited.is_set()

    async def run(self, request: Sequence[bytes]) -> Computed | CyxError:
        """The answer, be it an error. Raises when the child is of no use any more."""
        self._answer, self._asked = None, True
        self._over.clear()
        sending = spawn(self._send(request), name="send operations", group=self._tasks)
        try:
            if not await within(self._clock, self._limits.seconds, self._over):
                message = (
                    f"The operations took longer than {self._limits.seconds:g} s ({SECTION}.seconds of this node): "
                    "ask for less at a time."
                )
                raise CyxError(Code.TIMEOUT, message)
            if self._answer is None:
                raise self._end_of_child()
            if not sending.done():
                raise CyxError(Code.INTERNAL, "The process answered before it was asked.", retryable=True)
            try:
                return frames.decode_answer(self._answer)
            except CyxError as error:
                return error
            except ProtocolError as error:
                log.warning("a child for operations sent %s", error)
                raise CyxError(Code.INTERNAL, f"The process sent {error}.", retryable=True) from error
        finally:
            sending.cancel()
            self._answer, self._asked = None, False

    async def _send(self, request: Sequence[bytes]) -> None:
        if not self.uses:
            await within(self._clock, START_SECONDS, self.child.settled)
            for part in self._terms():
                await self.child.send(part)
        for part in request:
            await self.child.send(part)

    def _terms(self) -> list[bytes]:
        """The first frame, with what the child may take. Drivers of GPUs reserve far more memory than they use."""
        on_cpu, limits = self.child.cell.needs.device == "cpu", self._limits
        if on_cpu:
            with contextlib.suppress(OSError):  # the child's own limit holds in any case
                self.child.cell.group.limit_memory(limits.memory_bytes * 5 // 4)
        memory = limits.memory_bytes if on_cpu else None
        return frames.encode(
            "open", {"threads": limits.threads, "memory_bytes": memory, "room_bytes": limits.room_bytes}
        )

    def _end_of_child(self) -> CyxError:
        cell = self.child.cell
        if self._broken:
            return CyxError(Code.INTERNAL, f"The process sent {self._broken}.", retryable=True)
        if cell.ran_out:
            message = (
                f"The operations need more memory than they may take ({SECTION}.memory_bytes of this node): "
                "send smaller tensors."
            )
            return CyxError(Code.EXHAUSTED, message, retryable=False)
        log.warning("a child for operations %s: %s", cell.how_it_ended(), self.child.last_stderr or "no output")
        message = f"The process of the operations {cell.how_it_ended()} without an answer."
        return CyxError(Code.UNAVAILABLE, message)

    # What the child says

    def framed(self, frame: Frame) -> None:
        if not self._asked or self._answer is not None:
            self.broke("an answer that nobody asked for")
            return
        self._answer = frame
        self._over.set()

    def printed(self, source: str, line: str) -> None:
        log.info("operations, %s: %s", source, line)

    def broke(self, reason: str) -> None:
        self._broken = reason
        self.child.cell.kill()

    def ended(self) -> None:
        self._over.set()
