"""Control groups for children, where this process may make its own: bounds that no process can leave.

Below the group that the node runs in, one group of its own is made, and in it one for each child. Nothing is written
to any group that was not made here: what its parent does not pass on is not had. Version 2 gives `cgroup.kill`, and
`pids.max` and `memory.max` where they are passed on. Where version 1 still has the pids controller, that one is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX = "cyxwiz-node-"


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one child, at most one in each hierarchy."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Moves a process in; what it starts from then on is in there, too. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit_memory(self, size: int) -> None:
        """Bounds all of its processes together, files in memory included, where that controller is had."""
        for folder in self.folders:
            if (folder / "memory.max").exists():
                (folder / "memory.max").write_text(str(size))

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
                if int(counts.get("oom_kill", 0)):
                    return True
        return False

    def kill(self) -> None:
        """Ends every process in it at once, where the kernel can (Linux 5.14)."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")

    def remove(self) -> bool:
        """Removes the groups; False while a process is still in one."""
        for folder in self.folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class Groups:
    """The node's own groups. `holds` names what they bound: kill, pids, memory; nothing where none can be made."""

    def __init__(self) -> None:
        self.holds: frozenset[str] = frozenset()
        self.why = "this process may make no control group below its own"
        self._bases: list[Path] = []
        self._left: list[Group] = []
        held: set[str] = set()
        for parent in _own_groups():
            _sweep(parent)
            base = parent / f"{_PREFIX}{os.getpid()}"
            try:
                base.mkdir(exist_ok=True)
                held |= _prepare(base)
            except OSError as error:
                self.why = f"no control group can be made below {parent}: {error.strerror}"
                with contextlib.suppress(OSError):
                    base.rmdir()
                continue
            self._bases.append(base)
        self.holds = frozenset(held)

    def make(self, name: str, *, max_processes: int) -> Group:
        """A group for one child; one without folders where none can be made."""
        self._left = [group for group in self._left if not group.remove()]
        folders: list[Path] = []
        for base in self._bases:
            folder = base / name
            try:
                folder.mkdir()
                if (folder / "pids.max").exists():
                    (folder / "pids.max").write_text(str(max_processes))
            except OSError as error:
                log.warning("no control group for a child: %s", error)
                continue
            folders.append(folder)
        return Group(tuple(folders))

    def drop(self, group: Group) -> None:
        """Removes a child's group, now or when its last process is reaped."""
        if not group.remove():
            self._left.append(group)

    def close(self) -> None:
        for group in self._left:
            group.remove()
        for base in self._bases:
            with contextlib.suppress(OSError):
                base.rmdir()
        self._bases.clear()


def _prepare(base: Path) -> set[str]:
    """What a group below `base` bounds, after everything that it was given is passed on."""
    controllers = base / "cgroup.controllers"
    if not controllers.exists():
        return {"pids"}  # version 1: the hierarchy is the controller
    given = set(controllers.read_text().split()) & {"pids", "memory"}
    if given:
        (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(given)))
    return given | ({"kill"} if (base / "cgroup.kill").exists() else set())


def _own_groups() -> list[Path]:
    """The groups that this process is in, of version 2 and of version 1's pids controller, as far as they are shown."""
    try:
        member = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    inside = {names: path for _, names, path in (line.split(":", 2) for line in member)}
    found: list[Path] = []
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        root, point = fields.split()[3:5]
        system, _, options = kind.split()[:3]
        if system == "cgroup2":
            path = inside.get("")
        elif system == "cgroup" and "pids" in options.split(","):
            path = next((path for names, path in inside.items() if "pids" in names.split(",")), None)
        else:
            continue
        if path is not None and path.startswith(root):
            below = path.removeprefix(root).lstrip("/")
            if (Path(point) / below).is_dir():
                found.append(Path(point) / below)
    return found


def _sweep(parent: Path) -> None:
    """Removes groups of nodes that are gone; those with a process in them the kernel keeps."""
    for base in parent.glob(f"{_PREFIX}*"):
        pid = base.name.removeprefix(_PREFIX)
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            for folder in (*base.glob("*/"), base):
                with contextlib.suppress(OSError):
                    folder.rmdir()
