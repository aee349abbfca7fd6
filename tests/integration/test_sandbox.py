"""Hostile code in the sandbox. Each attack is really run, in every mode that works here, with the binds of a job's
child; and without a sandbox, where it must succeed: an attack that fails anyway would prove nothing.

Long, as it is a list: an attack a test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import cyxwiz
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.sandbox import choose, landlock
from cyxwiz.compute.sandbox.sandbox import Cell, Needs, Sandbox
from cyxwiz.ports.executor import Cancelled, Failed, Finished, Started
from cyxwiz.runtime.clock import SystemClock
from tests.integration.hostile import HOOK, MODES, SMALL, attack, breaches, job, liar, reports, sandboxed
from tests.missing import missing

ROOT = os.geteuid() == 0
held_and_not = pytest.mark.parametrize(
    ("mode", "breached"), [("bubblewrap", False), ("rlimits", False), ("none", True)]
)


# --- the owner's files, keys and environment


@held_and_not
def test_the_owners_files_and_keys(mode: str, breached: bool, tmp_path: Path) -> None:
    key, world = tmp_path / "node.key", tmp_path / "everybody.txt"
    for path, bits in ((key, 0o600), (world, 0o644)):
        path.write_text("secret")
        path.chmod(bits)
    code = "for path in args[0]: tried(lambda: open(path).read()) and breach(path)"
    found = breaches(mode, tmp_path, code, [key, world, "/etc/shadow", Path.home(), tmp_path])
    assert found == ([str(key), str(world)] + ["/etc/shadow"] * ROOT if breached else [])


@held_and_not
def test_the_owners_folders_are_not_written(mode: str, breached: bool, tmp_path: Path) -> None:
    package = Path(cyxwiz.__file__).parent
    folders = [
        tmp_path,
        package,
        "/opt/packages/0/cyxwiz",
        "/opt/python",
        "/usr",
        "/etc",
        "/cyxwiz",
        "/cyxwiz/inputs",
        "/",
    ]
    code = """
for folder in args[0]:
    path = f"{folder}/hostile"
    if tried(lambda: open(path, "x").close()):
        os.unlink(path)
        breach(folder)
"""
    found = breaches(mode, tmp_path, code, folders)
    assert ({str(tmp_path), str(package)} <= set(found)) if breached else found == []


@held_and_not
def test_the_nodes_environment(mode: str, breached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYXWIZ_AUTH__JWT_SECRET", "hush-hush")
    code = """
if "hush-hush" in str(dict(os.environ)):
    breach("own")
for pid in {*listed("/proc"), "1", str(os.getppid()), str(args[0])}:
    with contextlib.suppress(OSError):
        if "hush-hush" in open(f"/proc/{pid}/environ").read():
            breach(pid)
"""
    # What the node was started with is in its /proc entry: a process of the owner's stands for it.
    with subprocess.Popen(["sleep", "60"], env={"SECRET": "hush-hush"}) as owner:
        found = breaches(mode, tmp_path, code, owner.pid)
        owner.kill()
    assert found == ([str(owner.pid)] if breached else [])


# --- networks and other processes


@held_and_not
def test_loopback_and_sockets(mode: str, breached: bool, tmp_path: Path) -> None:
    code = """
def reach(family, kind, address, name):
    with contextlib.suppress(OSError), socket.socket(family, kind) as way:
        way.settimeout(2)
        way.connect(address)
        way.send(b"x")
        if kind == socket.SOCK_STREAM:
            breach(name)
reach(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", args[0]), "tcp")
reach(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", args[0]), "udp")
reach(socket.AF_UNIX, socket.SOCK_STREAM, args[1], "file")
reach(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + args[2], "abstract")
"""
    with (
        socket.socket(socket.AF_INET) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as file,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        name = os.urandom(8).hex()
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        file.bind(path := f"/tmp/{name}.sock")
        abstract.bind(f"\0{name}")
        for each in (tcp, file, abstract):
            each.listen()
        os.chmod(path, 0o777)
        udp.setblocking(False)
        try:
            found = breaches(mode, tmp_path, code, tcp.getsockname()[1], path, name)
        finally:
            os.unlink(path)
        with contextlib.suppress(BlockingIOError):
            found += ["udp"] if udp.recv(10) else []
    assert sorted(found) == (["abstract", "file", "tcp", "udp"] if breached else [])


@held_and_not
def test_processes_of_the_machine(mode: str, breached: bool, tmp_path: Path) -> None:
    code = """
libc = ctypes.CDLL(None, use_errno=True)
pid = args[0]
tried(os.kill, pid, 0) and breach("signal")
str(pid) in listed("/proc") and breach("seen")
tried(lambda: open(f"/proc/{pid}/cmdline").read()) and breach("command line")
libc.ptrace(0x4206, pid, None, None) == 0 and breach("ptrace")  # PTRACE_SEIZE
tried(os.kill, pid, signal.SIGKILL) and breach("kill")
"""
    with subprocess.Popen(["sleep", "60"]) as victim:
        found = breaches(mode, tmp_path, code, victim.pid)
        died = victim.poll() is not None or (breached and victim.wait(5) < 0)
        victim.kill()
    if mode == "rlimits" and landlock.abi() < 6 and not ROOT:
        missing("signals in the sandbox rlimits: Landlock of ABI 6 (Linux 6.12)")
    assert (found, died) == ((["signal", "seen", "command line", "ptrace", "kill"], True) if breached else ([], False))


OTHER = HOOK + "open(os.environ['HOME'] + '/model', 'w').write('weights')\nprint('up', flush=True)\ntime.sleep(60)\n"


@held_and_not
def test_other_jobs(mode: str, breached: bool, tmp_path: Path) -> None:
    code = """
slot, pids = args
ways = [f"{slot}/work/model", *(f"/proc/{pid}/{way}" for pid in {*pids, *listed("/proc")}
        for way in ("root/cyxwiz/work/model", "cwd/model", f"root{slot}/work/model"))]
for way in ways:
    with contextlib.suppress(OSError):
        "weights" in open(way).read() and breach("read")
for pid in pids:
    tried(os.kill, pid, 0) and breach("signal")
"""
    with sandboxed(mode, tmp_path) as sandbox:
        other = sandbox.start(["-P", "-c", OTHER], Needs())
        other.settle()
        assert other.process.stdout is not None
        os.set_blocking(other.process.stdout.fileno(), True)
        assert other.process.stdout.readline() == b"up\n"
        found = attack(sandbox, code, other.slot.root, other.pids())
        assert (other.slot.work / "model").read_text() == "weights"
        end(sandbox, other)
    assert set(found) == ({"read", "signal"} if breached else set())


def end(sandbox: Sandbox, cell: Cell) -> None:
    choose.finish(cell)
    sandbox.release(cell)
    cell.slot.remove()


# --- too much of everything

BOMB = """
read, write = os.pipe()
count = 0
try:
    while count < args[0]:
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        count += 1
except OSError as error:
    print(error)
os.close(write)
for _ in range(count):
    os.wait()
breach(count)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_bomb(mode: str, tmp_path: Path) -> None:
    bound = SMALL.processes
    with sandboxed(mode, tmp_path) as sandbox:
        if mode == "rlimits" and ROOT and not sandbox.own_users and "pids" not in sandbox.groups.holds:
            missing("fork bombs in the sandbox rlimits as root: a control group, or an interpreter that all can read")
        assert 1 < int(attack(sandbox, BOMB, 3 * bound)[0]) < bound
    done = subprocess.run(
        [sys.executable, "-c", f"{HOOK}args = [{3 * bound}]\n{BOMB}"], capture_output=True, check=True
    )
    assert int(done.stdout.split()[-1]) == 3 * bound


@asynccontextmanager
async def lying(mode: str, folder: Path, code: str) -> AsyncIterator[ProcessExecutor]:
    with sandboxed(mode, folder) as chosen:
        pass  # it works here
    sandbox = liar(chosen, code)
    executor = ProcessExecutor(SystemClock(), sandbox, warm_children=0)
    try:
        yield executor
    finally:
        await executor.aclose()
    assert not sandbox.slots.exists()


MANY_CHILDREN = """
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            held = b"x" * (100 << 20)
            time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
IN_TMPFS = """
for folder in ("/tmp", "/dev/shm"):
    for number in range(10):
        with contextlib.suppress(OSError):
            with open(f"{folder}/{number}", "wb") as file:
                for _ in range(30): file.write(b"x" * (1 << 20))
# What is not full yet is filled with shared memory that is mapped.
held = mmap.mmap(-1, 100 << 20)
held.write(b"x" * (100 << 20))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("mode", "code"),
    [("bubblewrap", MANY_CHILDREN), ("rlimits", MANY_CHILDREN), ("none", MANY_CHILDREN), ("bubblewrap", IN_TMPFS)],
)
async def test_memory_of_the_whole_group(mode: str, code: str, tmp_path: Path) -> None:
    """No process of it is past the limit: together they are."""
    async with lying(mode, tmp_path, code) as executor:
        found = (await reports(executor, job(tmp_path, memory_bytes=1)))[-1]
    assert isinstance(found, Failed)
    assert (found.code, found.retryable) == ("EXHAUSTED", False)
    assert "of memory, more than its 512 MiB" in found.message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "code",
    [
        "for n in range(64): open(str(n), 'wb').write(b'x' * (1 << 20))",
        (
            "files = [open(str(n), 'wb') for n in range(64)]\n"
            "for n in range(64): files[n].write(b'x' * (1 << 20)); os.unlink(str(n))"
        ),
    ],
    ids=["files", "deleted files"],
)
async def test_the_disk(mode: str, code: str, tmp_path: Path) -> None:
    async with lying(mode, tmp_path, f"{code}\ntime.sleep(60)") as executor:
        found = (await reports(executor, job(tmp_path)))[-1]
    assert isinstance(found, Failed)
    assert (found.code, found.retryable) == ("EXHAUSTED", False)
    assert "to disk, more than this node's 32 MiB" in found.message


async def test_a_result_that_takes_no_room_until_it_is_copied(tmp_path: Path) -> None:
    """A file of holes, named again and again: what the node would keep of it is bounded as what is written."""
    code = """
os.makedirs("out")
with open("out/model", "wb") as file:
    file.truncate(8 << 20)
nothing = {"name": "x", "path": os.path.join(os.getcwd(), "x"), "sha256": "", "size": 0}
finish("model", os.path.join(os.getcwd(), "out/model"), 8 << 20, times=5, more=[nothing])
time.sleep(60)
"""
    async with lying("auto", tmp_path, code) as executor:
        found = (await reports(executor, job(tmp_path)))[-1]
    assert isinstance(found, Failed)
    assert "larger together than this node's 32 MiB" in found.message
    assert not list((tmp_path / "job").rglob("model*")), "nothing of it was kept"


async def test_folders_too_deep_to_walk(tmp_path: Path) -> None:
    """Neither the measuring nor the removal may be beaten by depth."""
    code = "for _ in range(1500): os.mkdir('d' * 200); os.chdir('d' * 200)\ntime.sleep(60)"
    async with lying("auto", tmp_path, code) as executor:
        found = (await reports(executor, job(tmp_path)))[-1]
    assert isinstance(found, Failed)
    assert "too deep" in found.message


@held_and_not
def test_one_file_past_the_bound_and_hidden_memory(mode: str, breached: bool, tmp_path: Path) -> None:
    code = """
libc = ctypes.CDLL(None, use_errno=True)
with open(os.environ["HOME"] + "/big", "wb") as file:
    tried(file.truncate, 64 << 20) and breach("file")
tried(os.memfd_create, "hidden") and breach("memfd")
libc.shmget(0, 4096, 0o600) != -1 and breach("segment")
"""
    assert breaches(mode, tmp_path, code) == (["file", "memfd", "segment"] if breached else [])


# --- the kernel

SURFACES = {
    "unshare": (0x10000000,), "setns": (0, 0), "mount": (0, 0, 0, 0, 0), "umount2": (0, 0), "pivot_root": (0, 0),
    "ptrace": (0, 0, 0, 0), "process_vm_readv": (1, 0, 0, 0, 0, 0), "kexec_load": (0, 0, 0, 0), "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0), "userfaultfd": (1,), "io_uring_setup": (1, 0), "keyctl": (0, -3, 1),
    "add_key": (0, 0, 0, 0, 0), "open_by_handle_at": (-1, 0, 0), "init_module": (0, 0, 0), "swapon": (0, 0),
    "settimeofday": (0, 0), "clone3": (0, 0), "chroot": (0,), "fsopen": (0, 0), "personality": (0x0040000,),
}  # fmt: skip
CALLS = """
libc = ctypes.CDLL(None, use_errno=True)
from cyxwiz.compute.sandbox.syscalls import MACHINES
import platform
numbers = MACHINES[platform.machine()][1]
for name, given in args[0].items():
    if os.fork() == 0:  # a call that goes through must not change the next one
        code = ctypes.get_errno() if libc.syscall(numbers[name], *map(ctypes.c_long, given)) == -1 else 0
        os._exit(0 if code in (errno.EPERM, errno.ENOSYS) else 1)
    os.wait()[1] and breach(name)
for name, family in {"netlink": 16, "packet": 17, "alg": 38, "vsock": 40}.items():
    tried(socket.socket, family, socket.SOCK_RAW if family == 16 else socket.SOCK_SEQPACKET if family == 38
        else socket.SOCK_STREAM if family == 40 else socket.SOCK_RAW) and breach(name)
if platform.machine() == "x86_64":
    if os.fork() == 0:
        libc.syscall(0x40000000 | 39)  # x32
        os._exit(0)
    os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGSYS or breach("x32")
if os.fork() == 0:
    os._exit(0 if libc.syscall(numbers["clone"], ctypes.c_long(0x10000000 | signal.SIGCHLD), 0, 0, 0, 0) == -1 else 1)
os.wait()[1] and breach("clone")
"""


@held_and_not
def test_kernel_surfaces(mode: str, breached: bool, tmp_path: Path) -> None:
    found = breaches(mode, tmp_path, CALLS, SURFACES)
    if not breached:
        assert found == []
    else:  # as root on a plain kernel; some are closed by the machine's own settings
        assert {"userfaultfd", "io_uring_setup", "keyctl", "clone3", "personality", "x32"} - set(found) <= {"x32"}
        assert not ROOT or {"unshare", "clone"} <= set(found)


@pytest.mark.parametrize("mode", MODES)
def test_a_guard_or_the_first_process_can_not_be_turned_against_the_node(mode: str, tmp_path: Path) -> None:
    code = """
for pid in {1, os.getppid()}:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.kill(pid, number)
            pid == 1 or breach(f"{pid} got {number}")
    tried(lambda: open(f"/proc/{pid}/mem", "rb").read(1)) and breach("memory")
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
time.sleep(0.2)
"""
    if mode == "rlimits" and landlock.abi() < 6 and not ROOT:
        missing("signals in the sandbox rlimits: Landlock of ABI 6 (Linux 6.12)")
    found = breaches(mode, tmp_path, code)
    # In a process namespace the parent is its first process, which no signal of the inside can end.
    assert found == [] if mode == "rlimits" else all("memory" not in each for each in found)


# --- out of the work folder, and past the end

SECRET = Path("/etc/passwd")
SIZE = SECRET.stat().st_size
ESCAPES = {
    "another path": f"finish('passwd', '{SECRET}', {SIZE})",
    "a link": f"os.mkdir('out'); os.symlink('{SECRET}', 'out/m'); finish('m', os.getcwd() + '/out/m', {SIZE})",
    "a linked folder": f"os.symlink('/etc', 'out'); finish('passwd', os.getcwd() + '/out/passwd', {SIZE})",
    "dots": f"finish('passwd', os.getcwd() + '/../../../../../../../../etc/passwd', {SIZE})",
    "a name with a path": (
        "os.mkdir('out'); open('out/m', 'w').write('x'); "
        "finish('../../../node.key', os.getcwd() + '/out/m', 1)"
    ),
    "a pipe": "os.mkdir('out'); os.mkfifo('out/m'); finish('m', os.getcwd() + '/out/m', 0)",
    "a folder": "os.makedirs('out/m'); finish('m', os.getcwd() + '/out/m', 4096)",
    "another size": "os.mkdir('out'); open('out/m', 'w').write('xx'); finish('m', os.getcwd() + '/out/m', 1)",
    "nothing": "finish('m', os.getcwd() + '/out/m', 1)",
}  # fmt: skip


@pytest.mark.parametrize("mode", [*MODES, "none"])
async def test_results_that_are_not_the_jobs(mode: str, tmp_path: Path) -> None:
    for name, code in ESCAPES.items():
        async with lying(mode, tmp_path, code) as executor:
            found = (await reports(executor, job(tmp_path)))[-1]
        assert isinstance(found, Failed), name
        assert found.code == "INTERNAL", name
        assert not list((tmp_path / "job").rglob("passwd")), name
    honest = "os.mkdir('out'); open('out/m', 'w').write('x'); finish('m', os.getcwd() + '/out/m', 1)"
    async with lying(mode, tmp_path, honest) as executor:
        found = (await reports(executor, job(tmp_path)))[-1]
    assert isinstance(found, Finished)
    assert found.artefacts[0].path == tmp_path / "job" / "out" / "m"
    assert found.artefacts[0].path.read_text() == "x"


CLINGING = """
for number in range(1, 32):
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 100)
            while True:
                time.sleep(0.01)
                if os.fork():  # a new process each time: who is listed is gone already
                    os._exit(0)
        os._exit(0)
print("clinging", flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("mode", [*MODES, "none"])
async def test_surviving_cancel(mode: str, tmp_path: Path) -> None:
    async with lying(mode, tmp_path, CLINGING) as executor:
        run = await executor.start(job(tmp_path))
        stream = run.reports()
        seen = [await anext(stream) for _ in range(2)]
        assert isinstance(seen[0], Started)
        mark = next(iter(executor._runs)).child.cell.slot.root
        deadline = time.monotonic() + 10
        while len(holding(mark)) < 2:  # those that cling come and go while they are counted
            assert time.monotonic() < deadline
        began = time.monotonic()
        await run.cancel()
        assert time.monotonic() - began < 2
        assert isinstance([report async for report in stream][-1], Cancelled)
        assert holding(mark) == []


def holding(slot: Path) -> list[int]:
    """Processes of a cell: those whose working folder is its slot, whatever they are called there."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if slot.name in os.readlink(entry / "cwd") or os.path.samefile(entry / "cwd", slot / "work"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


HASTY = """
import os, socket, sys, time
from pathlib import Path
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.compute.sandbox.sandbox import Needs
sandbox = choose(sys.argv[1], Path(sys.argv[2]))
def start():
    ours, theirs = socket.socketpair()
    arguments = ["-P", "-u", "-m", "cyxwiz.compute.child", str(theirs.fileno())]
    with theirs:
        return ours, sandbox.start(arguments, Needs(), pass_fds=[theirs.fileno()])
for seconds in (0, 0.001, 0.003, 0.006, 0.01, 0.02):
    channel, cell = start()
    time.sleep(seconds)
    if sys.argv[3] == "alive":
        cell.kill()
        cell.process.wait()
    elif os.fork() == 0:  # started by a node that dies now
        channel, cell = start()
        time.sleep(seconds)
        os.kill(os.getpid(), 9)
print("done", flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("node", ["alive", "dies"])
def test_an_end_in_the_middle_of_the_setting_up_leaves_nothing(mode: str, node: str, tmp_path: Path) -> None:
    with sandboxed(mode, tmp_path):
        pass  # it works here
    line = [sys.executable, "-c", HASTY, mode, str(tmp_path), node]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr
    choose.choose(mode, tmp_path).close()  # the node's next start ends what bubblewrap itself left waiting
    deadline = time.monotonic() + 10
    while left := naming(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def naming(folder: Path) -> list[str]:
    """Processes that were started with a path below the folder in their arguments or variables."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                found += [f"{entry.name} {said[:60]!r}"] if f"{folder}/".encode() in said else []
    return found


# --- honest jobs
