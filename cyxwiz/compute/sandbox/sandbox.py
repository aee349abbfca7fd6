"""`Sandbox`: starts commands in cells. One sandbox for a node, one cell for each child.

Modes, from the strongest: `bubblewrap`, `rlimits`, `none`; docs/guides/sandbox.md says what each holds. In all of them
a child gets a slot as its only folder and no variable of the node's environment, and a cell that is killed leaves no
process. Starting returns at once: where the node has to set the cell up with the kernel's help, `Cell.advance` is to be
called whenever `Cell.waits_on` can be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from cyxwiz.compute.sandbox import bubblewrap, measure, seccomp, users
from cyxwiz.compute.sandbox.cgroup import Group, Groups
from cyxwiz.compute.sandbox.confine import VARIABLE, Rules
from cyxwiz.compute.sandbox.devices import Gpu
from cyxwiz.compute.sandbox.runtime import PACKAGE, USER_BASE, find_runtime, readable_roots
from cyxwiz.compute.sandbox.slot import Slot, clear, sweep
from cyxwiz.domain.ids import new_id

log = logging.getLogger(__name__)

Mode = Literal["bubblewrap", "rlimits", "none"]

SETUP_SECONDS = 10.0
_PASSED = ("LANG", "LC_ALL", "TZ")
_READABLE = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime",
    "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/dev/urandom", "/dev/random", "/dev/zero", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory", "/sys/devices/system",
)  # fmt: skip
_READABLE_FOR_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    *bubblewrap.OF_INTERFACES,
)  # fmt: skip
_READABLE_FOR_GPU = ("/sys", "/proc/driver/nvidia", "/proc/devices")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one child may use, whatever its job says."""

    processes: int = 1024  # threads count
    open_files: int = 4096
    disk_bytes: int = 20 << 30
    tmp_bytes: int = 1 << 30  # each of /tmp and /dev/shm, in memory
    memory_bytes: int | None = None  # of a job that names no size; None is four fifths of the machine's


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be settled before a child starts."""

    device: str = "cpu"  # or cuda:N
    network: bool = False


@dataclass(slots=True, eq=False)
class Cell:
    """A process in its sandbox, with all that comes from it."""

    needs: Needs
    slot: Slot
    process: subprocess.Popen[bytes]
    group: Group
    mode: Mode
    uid: int | None
    waits_on: int | None = None  # a descriptor: bubblewrap tells on it what it has made
    _release: int | None = None
    _told: bytes = b""
    _init: int | None = None  # pidfd of the first process of the cell's process namespace
    _init_pid: int | None = None
    ran_out: bool = False  # of memory, by the kernel's word; known at its end

    def advance(self) -> None:
        """Goes on with the setting up; `waits_on` is None when there is nothing left to do. Never blocks."""
        assert self.waits_on is not None
        assert self._release is not None
        try:
            part = os.read(self.waits_on, 4096)
            self._told += part
            if part and not self._told.rstrip().endswith(b"}"):
                return
            if part:
                self._set_up(int(json.loads(self._told)["child-pid"]))
                os.write(self._release, b"1")
        except (OSError, ValueError, KeyError) as error:
            log.warning("a child could not be put into its sandbox: %s", error)
            self.process.kill()
        self._close_setup()

    def _set_up(self, init: int) -> None:
        """The namespaces are there and wait: the first process in them gets its control group."""
        self._init_pid = init
        self._init = os.pidfd_open(init)
        self.group.add(init)  # not bubblewrap's own process: it ends when everything inside has ended

    def settle(self, seconds: float = SETUP_SECONDS) -> None:
        """Does all of `advance`, waiting: for callers without an event loop."""
        deadline = time.monotonic() + seconds
        while self.waits_on is not None:
            if not select.select([self.waits_on], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.kill()
                self._close_setup()
                return
            self.advance()

    def _close_setup(self) -> None:
        for descriptor in (self.waits_on, self._release):
            if descriptor is not None:
                os.close(descriptor)
        self.waits_on = self._release = None

    def pids(self) -> list[int]:
        """Every process in the cell."""
        return measure.family(self._init_pid or self.process.pid)

    def main_pid(self, said: int) -> int:
        """The job's process by the machine's count; `said` is what the process takes its number to be."""
        if self._init_pid is None:
            return said
        return next(iter(measure.family(self._init_pid)[1:]), self._init_pid)

    def memory_bytes(self, limit: int) -> int:
        """What its processes and its file systems in memory take; an upper bound where it is below `limit`."""
        pids = self.pids()
        used = measure.memory_bytes(pids, limit)
        if self.mode == "bubblewrap" and len(pids) > 1:
            used += measure.tmpfs_bytes(pids[1], bubblewrap.MEMORY_MOUNTS)
        return used

    def disk_bytes(self) -> int:
        """What its folder and its deleted files take. Raises OSError and `measure.TooManyFiles`."""
        return measure.disk_bytes(self.slot.work, self.pids())

    def kill(self) -> None:
        """Ends everything in the cell. It is done when `process` has ended: that is bubblewrap, which waits for the
        namespace's first process and so for all of them, or the guard, which waits for all."""
        self.group.kill()
        if self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        elif self.mode == "bubblewrap":
            self.process.kill()
        else:
            self.process.terminate()

    def kill_each(self) -> None:
        """The last resort, for a guard that does not do its work in time: kills process by process, and the guard only
        when it has nobody left to see to."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    process.kill()
        if self.mode == "bubblewrap" or len(self.pids()) <= 1:
            self.process.kill()
        else:
            self.process.send_signal(signal.SIGCONT)

    @property
    def exit_status(self) -> int | None:
        """None before `process` was waited for; a signal's number below 0, which bubblewrap tells as 128 and it."""
        code = self.process.returncode
        if code is not None and self.mode == "bubblewrap" and 128 < code < 128 + signal.NSIG:
            return 128 - code
        return code

    def how_it_ended(self) -> str:
        """In words."""
        code = self.exit_status
        if code is None:
            return "has not ended"
        if code >= 0:
            return f"ended with exit status {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def close(self) -> None:
        """Lets go of the kernel's things; the process must have ended. The slot stays."""
        self.ran_out = self.group.ran_out()
        self._close_setup()
        if self._init is not None:
            os.close(self._init)
            self._init = None


@dataclass
class Sandbox:
    """Starts cells. `folder` is its own, below which slots and what all children read lie. Not for several threads."""

    mode: Mode
    folder: Path
    program: Path | None = None  # bwrap
    data_roots: tuple[Path, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    gpus: tuple[Gpu, ...] = ()
    allow_network: bool = False

    def __post_init__(self) -> None:
        self.data_roots = tuple(Path(os.path.abspath(root)) for root in self.data_roots)
        for root in self.data_roots if self.mode == "bubblewrap" else ():
            bubblewrap.check_data_root(root)
        self.runtime = find_runtime()
        self.groups = Groups()
        self._users = users.Users()  # where each child becomes one of its own
        self._namespaces: dict[int, int] = {}  # of users of children: descriptors
        self.own_users = self._own_users()
        self.slots = self.folder / "slots"
        if self.mode == "rlimits" and self.own_users and not _open_to_all(self.folder):
            self.slots = _elsewhere(self.folder)
        if self.mode == "bubblewrap":
            bubblewrap.end_stale(self.slots)
        sweep(self.slots)
        if self.mode == "bubblewrap":
            bubblewrap.write_files(self.folder / "shown", self.runtime)

    def _own_users(self) -> bool:
        """Whether each child becomes a user of its own."""
        if os.geteuid() != 0 or self.mode == "none":
            return False
        return self.mode == "bubblewrap" or all(_open_to_all(root) for root in (*readable_roots(), PACKAGE))

    def start(
        self, arguments: Sequence[str], needs: Needs, *, pass_fds: Sequence[int] = (), python: str | None = None
    ) -> Cell:
        """Runs the interpreter with these arguments in a new cell; its output goes into pipes.

        Args:
            pass_fds: descriptors that the command keeps under their numbers.
            python: another program instead of the interpreter; without bubblewrap only.
        Raises:
            OSError: nothing could be started.
        """
        uid = self._users.take() if self.own_users else None
        name = new_id()
        try:
            seen = (bubblewrap.WORK, bubblewrap.INPUTS) if self.mode == "bubblewrap" else (None, None)
            slot = Slot.make(self.slots / name, uid, *seen)
        except OSError:
            self._give_uid(uid)
            raise
        group = self.groups.make(name, max_processes=self.bounds.processes)
        try:
            if self.mode == "bubblewrap":
                return self._start_caged(arguments, needs, slot, group, uid, pass_fds)
            line = [python or sys.executable, *arguments]
            return self._start_plain(line, needs, slot, group, uid, pass_fds)
        except BaseException:
            self.groups.drop(group)
            slot.remove()
            self._give_uid(uid)
            raise

    def _start_caged(
        self, arguments: Sequence[str], needs: Needs, slot: Slot, group: Group, uid: int | None, pass_fds: Sequence[int]
    ) -> Cell:
        assert self.program is not None
        users_fd = None if uid is None else self._namespace(uid)
        info, info_theirs = os.pipe2(os.O_CLOEXEC)
        release_theirs, release = os.pipe2(os.O_CLOEXEC)
        rules = Rules(
            uid=None if uid is None else users.INSIDE_UID,
            drop_capabilities=True,
            limits=self._limits(),
            families=_families(network=needs.network, inside=True),
            memfd=needs.device != "cpu",
            landlock=True,
        )
        cage = bubblewrap.Cage(
            slot, self.folder / "shown", self.data_roots, self._devices(needs), needs.network, self.bounds.tmp_bytes,
            users_fd, info_theirs, release_theirs,
        )  # fmt: skip
        environment = {**self._environment(needs, slot), VARIABLE: rules.encode()}
        environment |= {"PATH": "/usr/bin:/bin", "PYTHONUSERBASE": str(USER_BASE)}
        if self.runtime.library_path:
            environment["LD_LIBRARY_PATH"] = self.runtime.library_path
        line = bubblewrap.command(self.program, self.runtime, cage, environment.items())
        try:
            process = _popen(
                [*line, str(self.runtime.seen_python), *arguments],
                {"PATH": "/usr/bin:/bin"},  # its own; a job could read it
                [each for each in (*pass_fds, info_theirs, release_theirs, users_fd) if each is not None],
            )
        except BaseException:
            os.close(info)
            os.close(release)
            raise
        finally:
            os.close(info_theirs)
            os.close(release_theirs)
        os.set_blocking(info, False)
        return Cell(needs, slot, process, group, self.mode, uid, info, release)

    def _start_plain(
        self, line: Sequence[str], needs: Needs, slot: Slot, group: Group, uid: int | None, pass_fds: Sequence[int]
    ) -> Cell:
        tmp = slot.work / "tmp"
        tmp.mkdir(mode=0o700)
        if uid is not None:
            os.chown(tmp, uid, uid)
        held = self.mode == "rlimits"
        groups = [str(folder) for folder in group.folders]
        rules = Rules(guarded=True, groups=groups)
        if held:
            readable = [*_READABLE, *map(str, (*readable_roots(), *self.data_roots, slot.inputs))]
            readable += _READABLE_FOR_NETWORK if needs.network else ()
            readable += _READABLE_FOR_GPU if needs.device != "cpu" else ()
            rules = Rules(
                uid=uid,
                drop_capabilities=True,
                guarded=True,
                groups=groups,
                limits=self._limits(),
                families=_families(network=needs.network, inside=False) if seccomp.supported() else None,
                memfd=needs.device != "cpu",
                landlock=True,
                closed_files=True,
                read=readable,
                write=[str(slot.work), "/dev/null", *map(str, self._devices(needs))],
                tcp=needs.network,
            )
        environment = {**self._environment(needs, slot), VARIABLE: rules.encode(), "TMPDIR": str(tmp)}
        environment |= {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PYTHONPATH": str(PACKAGE.parent)}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        process = _popen(line, environment, pass_fds)
        return Cell(needs, slot, process, group, self.mode, uid)

    def _devices(self, needs: Needs) -> tuple[Path, ...]:
        gpu = self._gpu(needs)
        return () if gpu is None else gpu.files

    def _gpu(self, needs: Needs) -> Gpu | None:
        kind, _, index = needs.device.partition(":")
        if kind != "cuda" or int(index or 0) >= len(self.gpus):
            return None
        return self.gpus[int(index or 0)]

    def _limits(self) -> dict[str, int]:
        """Those that hold for every process. NPROC counts all of a user, and holds for everybody but root."""
        others = 0 if self.own_users or self.mode == "bubblewrap" else measure.tasks_of(os.geteuid())
        return {
            "CORE": 0,
            "NOFILE": self.bounds.open_files,
            "FSIZE": self.bounds.disk_bytes,
            "MSGQUEUE": 0,
            "NPROC": others + self.bounds.processes,
        }

    def _environment(self, needs: Needs, slot: Slot) -> dict[str, str]:
        """What a job may know of its node: no secret of the node's own environment gets through."""
        gpu = self._gpu(needs)
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        # One thread until the job says how many; cuBLAS gives the same sums each time with a fixed workspace only.
        # Threads that wait for each other sleep soon: where jobs share cores, those that spin keep the others out.
        return passed | {
            "HOME": str(slot.seen_work),
            "OMP_NUM_THREADS": "1",
            "GOMP_SPINCOUNT": "10000",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "CUDA_VISIBLE_DEVICES": "" if gpu is None else gpu.name,
        }

    def release(self, cell: Cell) -> None:
        """After a cell's process has ended: its control group and its user are free again. The slot stays."""
        cell.close()
        self.groups.drop(cell.group)
        self._give_uid(cell.uid)

    def _namespace(self, uid: int) -> int:
        """The user namespace for that user: made once, and used by one child after the other."""
        if uid not in self._namespaces:
            self._namespaces[uid] = users.make_user_namespace(uid)
        return self._namespaces[uid]

    def _give_uid(self, uid: int | None) -> None:
        if uid is not None:
            self._users.give(uid)

    def close(self) -> None:
        """Removes every slot and the node's control groups; all cells must have ended."""
        clear(self.slots)
        self.groups.close()
        for descriptor in self._namespaces.values():
            os.close(descriptor)
        self._namespaces.clear()
        self._users.close()


def _popen(line: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, or bubblewrap with our own arguments
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=pass_fds,
        start_new_session=True,
        cwd="/",
        env=environment,
    )
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
    return process


def _families(*, network: bool, inside: bool) -> tuple[int, ...]:
    """Sockets that may be made. Where the machine's files are in sight, even a Unix socket could lead to a service."""
    if network:
        return (seccomp.AF_UNIX, seccomp.AF_INET, seccomp.AF_INET6, seccomp.AF_NETLINK)
    return (seccomp.AF_UNIX, seccomp.AF_INET, seccomp.AF_INET6) if inside else ()


def _open_to_all(path: Path) -> bool:
    """Whether every user may go into a folder and all above it."""
    real = path.resolve()
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents) if folder.is_dir())
    except OSError:
        return False


def _elsewhere(folder: Path) -> Path:
    """A place for slots that every user can go to, where the node's folder is closed to them."""
    mark = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    base = Path("/var/tmp") / f"cyxwiz-{mark}"  # noqa: S108  made by us alone, or refused
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o711)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{base} is not this program's own folder: remove it")
    base.chmod(0o711)
    return base
