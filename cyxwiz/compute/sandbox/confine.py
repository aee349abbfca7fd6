"""What a child does to itself before anything else: limits, user, capabilities, Landlock, the filter of system calls.

The node says what to do in one environment variable; without it nothing is done. Everything here is for good: a process
can't take any of it off, and what it starts inherits it. A step that the node asked for and that fails raises OSError:
a child that could not be confined runs nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

VARIABLE = "CYXWIZ_CONFINE"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64  # more than there are: the kernel refuses the rest


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a child. Everything is optional, so that each mode takes what it can."""

    uid: int | None = None  # also its group; None stays who it is
    drop_capabilities: bool = False
    limits: Mapping[str, int] = field(default_factory=dict[str, int])  # RLIMIT_… without the prefix: value
    families: Sequence[int] | None = None  # of sockets; None is no filter of system calls
    memfd: bool = False
    guarded: bool = False  # a guard is the parent, whose death must stay this process's death
    groups: Sequence[str] = ()  # control groups to join; the guard stays outside, and sees to what they hold
    landlock: bool = False
    closed_files: bool = False  # whether Landlock closes all files but these
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    tcp: bool = True  # whether TCP may be used, as far as Landlock can deny it

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Rules:
        return cls(**json.loads(text))


def confine(environ: MutableMapping[str, str] = os.environ) -> Rules:
    """Does what the environment says and takes it out of there. Call it before any thread is started.

    Raises:
        OSError: a step failed; the process must end.
    """
    rules = Rules.decode(environ.pop(VARIABLE, "{}"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent = os.getppid()
    if rules.guarded:
        from cyxwiz.compute.sandbox import guard

        guard.stand()  # returns in the child of the guard
        parent = os.getppid()
    for group in rules.groups:
        Path(group, "cgroup.procs").write_text("0")  # itself
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent(parent)
    for name, value in rules.limits.items():
        _limit(name, value)
    if rules.landlock:
        from cyxwiz.compute.sandbox import landlock

        read, write = map(Path, rules.read), map(Path, rules.write)
        landlock.restrict(read, write, files=rules.closed_files, tcp=not rules.tcp)
    if rules.drop_capabilities:
        _drop_bounds()
    if rules.uid is not None:
        _become(rules.uid)
        die_with_parent(parent)  # a change of user clears the signal
    if rules.drop_capabilities:
        _drop_capabilities()
    if rules.families is not None:
        from cyxwiz.compute.sandbox import seccomp

        seccomp.install(seccomp.program(rules.families, memfd=rules.memfd, deathsig=not rules.guarded))
    return rules


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """This process gets that signal when the thread that started it ends, also if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def limit_memory(size: int) -> None:
    """Bounds this process's private memory: a quick stop before the watch of the whole group sees it."""
    _limit("DATA", size)


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}")
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_DUMPABLE, 1)  # the change of user made this process's own /proc entries root's


def _drop_bounds() -> None:
    # Without CAP_SETPCAP there is nothing to drop it with, and no_new_privs keeps what is left from being used.
    for capability in range(_CAPABILITIES):
        with contextlib.suppress(OSError):
            _prctl(_PR_CAPBSET_DROP, capability)


def _drop_capabilities() -> None:
    with contextlib.suppress(OSError):  # a kernel before 4.3 has no ambient ones
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capabilities are not dropped")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
