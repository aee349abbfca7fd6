"""Landlock: what files and TCP ports a process may reach, decided by itself and for good. By ctypes: no package needed.

Numbers and structures are those of <linux/landlock.h>. The kernel says how much it knows (its ABI): 1 files, 2 moves
between folders, 3 truncation, 4 TCP, 5 device ioctls, 6 abstract sockets and signals. What it does not know is not
asked of it, so callers look at `abi()` for what holds.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every machine
_GET_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_TCP = 0b11  # bind and connect
_SCOPED = 0b11  # abstract sockets and signals

# The rights on files that each ABI knows, as the number of its lowest bits.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_SINCE_5 = 16


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def abi() -> int:
    """The kernel's version of Landlock; 0 where it has none."""
    version = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_GET_VERSION))
    return max(0, int(version))


def restrict(read: Iterable[Path], write: Iterable[Path], *, files: bool = True, tcp: bool = True) -> int:
    """Closes everything but these to this thread and all that come from it; the ABI that was used, 0 for none.

    Args:
        read: files and folders that may be read and executed, with all below them; what is not there is passed over.
        write: likewise, and written.
        files: whether files are restricted at all.
        tcp: whether TCP is denied, from ABI 4 on.

    Signals to processes outside, and their abstract sockets, are denied from ABI 6 on. Needs no_new_privs.
    Raises OSError.
    """
    version = abi()
    if version == 0:
        return 0
    handled = (1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_SINCE_5)) - 1 if files else 0
    attributes = struct.pack("=QQQ", handled, _TCP if tcp and version >= 4 else 0, _SCOPED if version >= 6 else 0)
    size = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)
    if not any(attributes[:size]):
        return version
    libc = _libc()
    ruleset = _checked(
        libc.syscall(_CREATE_RULESET, attributes[:size], ctypes.c_size_t(size), ctypes.c_uint(0)), "no ruleset"
    )
    try:
        for paths, rights in ((read, _READING), (write, (1 << _FILE_RIGHTS_SINCE_5) - 1)):
            for path in paths if files else ():
                _allow(libc, ruleset, path, rights & handled)
        _checked(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)), "not restricted")
    finally:
        os.close(ruleset)
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        _checked(
            libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0)),
            f"no rule for {path}",
        )
    finally:
        os.close(descriptor)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {what}: {os.strerror(number)}")
    return result
