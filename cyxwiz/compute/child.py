"""`python -m cyxwiz.compute.child [FD]`: the process that runs one job and ends.

Promises its node: one job, its outcome as the last frame on the channel (descriptor 3; FD names where it was inherited,
3 by default), standard output and error for logs only. It ends at once, with its process group, when the channel
closes, and by the kernel's hand when the thread that started it ends. Before anything else it confines itself as its
node says (`sandbox.confine`): it takes no new privileges and writes no core dump.

torch is imported when the node says `warm`, or else with the job: the start itself costs little.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from cyxwiz.compute import child_protocol as protocol
from cyxwiz.compute.child_protocol import CHANNEL_FD, Frame
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.sandbox.confine import confine, limit_memory
from cyxwiz.domain.errors import CyxError
from cyxwiz.ports.executor import Cancelled, Failed, Preempted, Report, Started

if TYPE_CHECKING:
    from cyxwiz.ports.executor import Work

ORDERS = ("cancel", "preempt", "checkpoint", "update", "fed")
# Address space that a child may fill before the watch of its whole group acts: what is reserved is not yet used.
_MEMORY_FACTOR, _MEMORY_MARGIN = 2, 2 << 30


def main(arguments: list[str]) -> None:
    confine()
    channel = take_channel(int(arguments[0]) if arguments else CHANNEL_FD)
    inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    orders = Orders()
    threading.Thread(target=_watch, args=(channel, inbox, orders), name="watch", daemon=True).start()
    while (frame := inbox.get())["type"] != "job":
        if frame["type"] == "warm":
            _warm()
            channel.sendall(protocol.encode("ready"))
    work = protocol.to_work(frame)

    sending = threading.Lock()  # a checkpoint is reported by the thread that wrote it

    def send(report: Report) -> None:
        frame = protocol.encode_report(report)
        with sending:
            channel.sendall(frame)

    send(Started(os.getpid()))
    send(_outcome(work, send, orders))
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: it would wait for threads and free what the kernel frees faster.
    os._exit(0)


def take_channel(inherited: int) -> socket.socket:
    if inherited != CHANNEL_FD:
        os.dup2(inherited, CHANNEL_FD, inheritable=False)
        os.close(inherited)
    else:
        os.set_inheritable(CHANNEL_FD, False)  # no grandchild may hold the channel open
    return socket.socket(fileno=CHANNEL_FD)


def _watch(channel: socket.socket, inbox: queue.SimpleQueue[Frame], orders: Orders) -> None:
    try:
        while (frame := protocol.read_frame(channel)) is not None:
            if frame["type"] in ORDERS:
                orders.give(frame["type"], frame.get("values"))
            elif frame["type"] == "answer":
                orders.answers.put(frame["id"], base64.b64decode(frame["value"]))
            else:
                inbox.put(frame)
    except (OSError, protocol.ProtocolError):
        traceback.print_exc()
    die()


def die() -> None:
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _warm() -> None:
    """Takes everything slow out of the way of a job: the imports, and what torch loads with its first optimizer."""
    import torch
    from safetensors.torch import save  # noqa: F401

    import cyxwiz.compute.export
    import cyxwiz.compute.train  # noqa: F401

    torch.set_num_interop_threads(1)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()


def _let_finish() -> None:
    """What the interpreter does at its end, which this process does not have: threads that are no daemons come to their
    end, then what was left with atexit is called."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _outcome(work: Work, send: Any, orders: Orders) -> Report:
    """Runs the job; every way in which it can end, as a report."""
    try:
        work.work_dir.mkdir(parents=True, exist_ok=True)
        os.chdir(work.work_dir)
        os.environ.update(HOME=str(work.work_dir), OMP_NUM_THREADS=str(work.threads))
        if work.memory_bytes is not None and work.device == "cpu":  # drivers reserve far more than they use
            limit_memory(_MEMORY_FACTOR * work.memory_bytes + _MEMORY_MARGIN)
        if work.install:
            from cyxwiz.compute.install import install

            return install(work, send)
        if work.script is not None:
            from cyxwiz.compute.script import run_script

            return run_script(work, work.script, send, orders, _let_finish)
        from cyxwiz.compute.course import Stopped
        from cyxwiz.compute.kinds import run_job

        began = time.perf_counter()
        try:
            return run_job(work, send, orders)
        except Stopped:
            return Cancelled() if orders.cancelled else Preempted(time.perf_counter() - began)
    except CyxError as error:
        return Failed(str(error.code), error.message, error.details, retryable=error.retryable)
    except MemoryError:
        traceback.print_exc()
        return _out_of_memory(work)
    except Exception as error:
        traceback.print_exc()
        if type(error).__name__ == "OutOfMemoryError":  # torch's own, for a device
            message = f"The job ran out of memory on {work.device}; use a smaller model or batch."
            return Failed("EXHAUSTED", message, retryable=True)
        if "can't allocate memory" in str(error):  # torch's own, for the machine's memory
            return _out_of_memory(work)
        # A full disk or a broken device is this node's trouble; another node may do better.
        elsewhere = isinstance(error, OSError) or "CUDA" in str(error)
        return Failed("INTERNAL", f"The job failed: {type(error).__name__}: {str(error)[:500]}", retryable=elsewhere)


def _out_of_memory(work: Work) -> Failed:
    """Another node gives a job no more than it asked for, so that only a job that asked for nothing is tried again."""
    message = "The job ran out of memory; use a smaller model or batch, or ask for more (resources.ram)."
    return Failed("EXHAUSTED", message, retryable=work.memory_bytes is None)


if __name__ == "__main__":
    main(sys.argv[1:])
