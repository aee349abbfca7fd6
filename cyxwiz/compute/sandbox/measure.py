"""What a group of processes uses: memory and disk, counted from outside.

Memory is the sum over all processes of what is theirs and can't be dropped: the proportional share of anonymous and
shared pages, so that pages that several share count once. Files that are mapped can be read again and don't count.
The cheap upper bound is looked at first: only where it is near the limit the exact figure is taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512  # of st_blocks, everywhere
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_FILES = 200_000
MAX_DEPTH = 100


class TooManyFiles(Exception):
    """A folder holds more files, or folders deeper in each other, than are counted."""


def family(root: int) -> list[int]:
    """A process and all that came from it and still hang below it."""
    found, todo = [root], [root]
    while todo:
        for child in _children(todo.pop()):
            found.append(child)
            todo.append(child)
    return found


def _children(pid: int) -> Iterator[int]:
    for task in _listed(Path(f"/proc/{pid}/task")):
        try:
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
        except OSError:
            continue
        yield from map(int, text.split())


def tasks_of(uid: int) -> int:
    """How many threads a user has on this machine."""
    count = 0
    for name in _listed(Path("/proc")):
        if name.isdigit():
            try:
                count += os.stat(f"/proc/{name}").st_uid == uid and len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, as SIGSTOP does; not one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def memory_bytes(pids: Iterable[int], limit: int) -> int:
    """The group's memory in bytes; an upper bound of it where that is below `limit` already."""
    pids = list(pids)
    upper = sum(map(_resident, pids))
    return upper if upper <= limit else sum(map(_proportional, pids))


def _resident(pid: int) -> int:
    """All resident pages in bytes, which is never less than the exact figure without swap; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it is gone, or made itself unreadable: then all of what it shares counts as its own
        return _resident(pid)
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines()[1:])}
    if "Pss_Anon" not in kib:  # before Linux 5.10
        return kib.get("Pss", 0) * 1024
    return (kib["Pss_Anon"] + kib.get("Pss_Shmem", 0) + kib.get("SwapPss", 0)) * 1024


def tmpfs_bytes(pid: int, mounts: Iterable[str]) -> int:
    """What lies in these folders of a process's own view, which are file systems in memory."""
    total = 0
    for mount in mounts:
        try:
            found = os.statvfs(f"/proc/{pid}/root{mount}")
        except OSError:
            continue
        total += (found.f_blocks - found.f_bfree) * found.f_frsize
    return total


def disk_bytes(folder: Path, pids: Iterable[int] = ()) -> int:
    """What a folder takes on disk, with the files that the processes hold open and have deleted.

    Links are not followed. A file that was deleted and is only mapped is not seen.

    Raises:
        TooManyFiles: there are more than MAX_FILES, or folders deeper than MAX_DEPTH.
    """
    counted: dict[tuple[int, int], int] = {}
    _walk(os.open(folder, _FOLDER), counted, 0)
    for pid in pids:
        for name in _listed(Path(f"/proc/{pid}/fd")):
            try:
                found = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                counted[found.st_dev, found.st_ino] = found.st_blocks * _BLOCK
    return sum(counted.values())


def _walk(descriptor: int, counted: dict[tuple[int, int], int], depth: int) -> None:
    """Takes the open folder over and closes it."""
    inner: list[str] = []
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                counted[found.st_dev, found.st_ino] = found.st_blocks * _BLOCK
                if len(counted) > MAX_FILES or depth > MAX_DEPTH:
                    raise TooManyFiles
                if stat.S_ISDIR(found.st_mode):
                    inner.append(entry.name)
        for name in inner:
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            except OSError:
                continue
            _walk(below, counted, depth + 1)
    finally:
        os.close(descriptor)
