"""The guard: a small process between the node and a child that no process namespace holds.

It adopts whatever the job starts, also what left its session or was orphaned (PR_SET_CHILD_SUBREAPER), and ends all of
it when the job's process ends, when the node says so (SIGTERM) and when the node is gone. It ends the way the job's
process did. The job can't signal it where the job has another user, or Landlock from ABI 6 on.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import NoReturn

_PR_SET_CHILD_SUBREAPER = 36
_AGAIN_SECONDS = 0.005


def stand() -> None:
    """Splits this process in two: returns in the new child, which has a session of its own; the guard never returns."""
    from cyxwiz.compute.sandbox.confine import die_with_parent

    node = os.getppid()
    waited = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no guard can be had: PR_SET_CHILD_SUBREAPER failed")
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
        return
    _close_all()
    die_with_parent(node, signal.SIGTERM)
    _watch(child, waited)


def _close_all() -> None:
    """The channel and the pipes are the child's alone: their end must be seen when it ends."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, 1 << 16)


def _watch(child: int, waited: set[signal.Signals]) -> NoReturn:
    status: int | None = None
    while status is None:
        number = signal.sigwait(waited)
        if number == signal.SIGTERM:
            os.kill(child, signal.SIGKILL)
        status = _reap(child)
    while end_descendants():
        _reap(child)
        signal.sigtimedwait(waited, _AGAIN_SECONDS)  # one that the kernel can't end now must not keep a core busy
    _end_like(status)


def _reap(child: int) -> int | None:
    """Takes every process that has ended; the job's own wait status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def end_descendants() -> bool:
    """Kills everything that came from this process; whether there was anything. Those that it kills are not reaped."""
    parents = _parents()
    family, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    family.discard(os.getpid())
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none can fork ahead of the kills
        for pid in family:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
    return bool(family)


def _parents() -> dict[int, int]:
    """The parent of every process of this machine."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name is in brackets and may hold anything, spaces and brackets too.
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    return parents


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
