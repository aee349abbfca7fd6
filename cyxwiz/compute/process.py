"""`Child`: one child process on the running event loop, as callbacks.

It is started in a cell of the sandbox, spoken to and watched here; what its frames mean is its listener's concern.
Reading pauses when told to, so that a child that floods its node waits instead. Its end is seen through a pidfd (Linux
5.3 and later), after which every byte that it wrote before is still delivered, and what is left in its cell is killed.
Nothing is left open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from cyxwiz.compute.child_protocol import Decoder, Frame, ProtocolError, encode
from cyxwiz.compute.sandbox.sandbox import Needs, Sandbox
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)

MAX_LINE = 8 * 1024
MAX_UNREAD = 16 * 1024 * 1024
ASK_SECONDS = 0.5  # from the polite word to the end of the cell
KILL_SECONDS = 1.0  # from there to killing process by process
LAST_SECONDS = 0.4  # from there to giving up on a process that the kernel cannot end
_READ = 64 * 1024


class Listener(Protocol):
    """Who is told what a child says and that it ended. Called on the event loop, never after `ended`."""

    def framed(self, frame: Frame) -> None: ...

    def printed(self, source: str, line: str) -> None: ...

    def broke(self, reason: str) -> None: ...

    def ended(self) -> None: ...


class Frames(Protocol):
    """Bytes in, whole frames out."""

    def feed(self, data: bytes) -> Iterator[Frame]: ...


class Child:
    """A running child of `module`, whose frames `decoder` reads. `exited` is set once it is gone and everything it said
    was delivered to `listener`; `settled` when its cell is set up: no job may be sent before, for until then the kernel
    does not end it with its node."""

    def __init__(
        self,
        sandbox: Sandbox,
        needs: Needs,
        listener: Listener,
        python: str | None = None,
        *,
        module: str = "cyxwiz.compute.child",
        decoder: Frames | None = None,
    ) -> None:
        self.listener = listener
        self.exited = asyncio.Event()
        self.settled = asyncio.Event()
        self.last_stderr = ""
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[memoryview] = deque()
        self._unread = 0  # bytes of them
        self._sent = asyncio.Event()  # all of them
        self._sent.set()
        self._channel, theirs = socket.socketpair()
        try:
            self._channel.setblocking(False)
            channel = theirs.fileno()
            arguments = ["-P", "-u", "-m", module, str(channel)]
            self.cell = sandbox.start(arguments, needs, pass_fds=(channel,), python=python)
            self._process = self.cell.process
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self._sandbox = sandbox
        self.bounds = sandbox.bounds
        self._pidfd = os.pidfd_open(self.pid)
        frames = decoder or Decoder()
        self._sources: dict[int, Callable[[bytes], None]] = {
            self._channel.fileno(): lambda data: self._frames(frames, data),
            _fileno(self._process.stdout): Lines(lambda line: self._line("stdout", line)).feed,
            _fileno(self._process.stderr): Lines(lambda line: self._line("stderr", line)).feed,
        }
        self._open = set(self._sources)
        self._paused = True
        self.resume()
        self._loop.add_reader(self._pidfd, self._end)
        if self.cell.waits_on is not None:
            self._loop.add_reader(self.cell.waits_on, self._advance)
        else:
            self.settled.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_now(self, data: bytes) -> None:
        """Sends a short frame, after those before it and as soon as the child reads; to a child that is gone it is
        lost. A child that leaves MAX_UNREAD bytes unread `broke`."""
        self._post(data)
        if self._unread > MAX_UNREAD:
            self.listener.broke(f"nothing, and leaves {MAX_UNREAD} bytes unread")

    async def send(self, data: bytes) -> None:
        """As `send_now`, a frame of any size: waits until all of it is on its way, or the child is gone."""
        self._post(data)
        await self._sent.wait()

    def _post(self, data: bytes) -> None:
        if not self.exited.is_set():
            self._unsent.append(memoryview(data))
            self._unread += len(data)
            if self._sent.is_set():
                self._sent.clear()
                self._write()

    def _write(self) -> None:
        """Writes what the child has room for; the rest follows when it has read, and others have had their turn."""
        while self._unsent:
            try:
                written = self._channel.send(self._unsent[0])
            except BlockingIOError:
                written = 0
            except OSError:  # it is gone, which its end says
                break
            self._unread -= written
            if rest := self._unsent.popleft()[written:]:
                self._unsent.appendleft(rest)
                self._loop.add_writer(self._channel, self._write)
                return
        self._stop_writing()

    def _stop_writing(self) -> None:
        self._unsent.clear()
        self._unread = 0
        self._loop.remove_writer(self._channel)
        self._sent.set()

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            for descriptor in self._open:
                self._loop.remove_reader(descriptor)

    def resume(self) -> None:
        if self._paused and not self.exited.is_set():
            self._paused = False
            for descriptor in self._open:
                self._loop.add_reader(descriptor, self._read, descriptor)

    def _advance(self) -> None:
        descriptor = self.cell.waits_on
        assert descriptor is not None
        self._loop.remove_reader(descriptor)  # before it is closed
        self.cell.advance()
        if self.cell.waits_on is None:
            self.settled.set()
        else:
            self._loop.add_reader(descriptor, self._advance)

    def _read(self, descriptor: int) -> bool:
        """Reads once; False when there is nothing more for now, or ever."""
        try:
            data = os.read(descriptor, _READ)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # the other side of the channel is gone
            data = b""
        if not data:
            self._open.discard(descriptor)
            self._loop.remove_reader(descriptor)
        self._sources[descriptor](data)
        return bool(data)

    def _frames(self, decoder: Frames, data: bytes) -> None:
        try:
            for frame in decoder.feed(data):
                self.listener.framed(frame)
        except ProtocolError as error:
            self.listener.broke(str(error))

    def _line(self, source: str, line: str) -> None:
        if source == "stderr" and line.strip():
            self.last_stderr = line
        self.listener.printed(source, line)

    def _end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self.cell.waits_on is not None:
            self._loop.remove_reader(self.cell.waits_on)
        self.pause()
        # Until the child is reaped, here and nowhere else, its id and its group's can't be another process's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.cell.kill()
        self._process.wait()  # returns at once: the pidfd says that it ended
        for descriptor, take in self._sources.items():
            while descriptor in self._open and self._read(descriptor):
                pass
            if descriptor in self._open:  # somebody else holds the other end
                take(b"")
        os.close(self._pidfd)
        self._stop_writing()
        self._channel.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._sandbox.release(self.cell)
        self.settled.set()
        self.exited.set()
        self.listener.ended()


class Lines:
    """Bytes in, lines out; a line past the limit is cut there and its rest dropped."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._part = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; empty means the end, which also ends the last line."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            self._finish()
        self._add(rest)
        if not data and self._part:
            self._finish()

    def _add(self, piece: bytes) -> None:
        if self._skipping:
            return
        room = MAX_LINE - len(self._part)
        self._part += piece[:room]
        self._skipping = len(piece) > room

    def _finish(self) -> None:
        text = bytes(self._part).decode("utf-8", "replace").rstrip("\r")
        self._take(f"{text}…" if self._skipping else text)
        self._part.clear()
        self._skipping = False


def _fileno(pipe: IO[bytes] | None) -> int:
    assert pipe is not None
    return pipe.fileno()


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
