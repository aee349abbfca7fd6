"""Users for children of a node that is root, one each, and their user namespaces.

A namespace has root, to find the way to what is bound, and the child's user. It is made ahead of the child by a small
process, and handed to bubblewrap: were bubblewrap to wait for it, it could be left waiting for ever when the node dies.
No further user namespace can be made inside.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

# A range that nothing else hands out (systemd's list of ranges calls 0x70000000 to 0x7FFFFFFF unused).
FIRST_UID, MOST_UIDS = 0x7000_0000, 65_536
NOBODY = 65534
INSIDE_UID = 65534
_SECONDS = 10.0
_MAKER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) != 0:  # CLONE_NEWUSER
    raise SystemExit(ctypes.get_errno())
try:
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
except OSError:
    pass  # /proc/sys is read-only in many containers; the filter of system calls refuses them, too
os.write(1, b".")
os.read(0, 1)
"""


class Users:
    """Hands out users of the machine. None is another node's at the same time: each is claimed by the name of an
    abstract socket, which the kernel frees with the process that has it."""

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket] = {}
        self._taken: set[int] = set()

    def take(self) -> int:
        """A user that no other child has; NOBODY where there is none, as in a container with few users."""
        for uid in range(FIRST_UID, FIRST_UID + MOST_UIDS):
            if uid in self._taken:
                continue
            if not _mapped(uid):
                break
            if self._claimed(uid):
                self._taken.add(uid)
                return uid
        return NOBODY

    def give(self, uid: int) -> None:
        """Its child has ended; the next one may have it."""
        self._taken.discard(uid)

    def _claimed(self, uid: int) -> bool:
        if uid not in self._claims:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0cyxwiz user of a child {uid}")
            except OSError:
                claim.close()
                return False
            self._claims[uid] = claim
        return True

    def close(self) -> None:
        for claim in self._claims.values():
            claim.close()
        self._claims.clear()


def _mapped(uid: int) -> bool:
    """Whether that user exists in this process's user namespace."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= uid < first + count:
            return True
    return False


def make_user_namespace(uid: int) -> int:
    """A descriptor of a new user namespace in which that user of the machine is INSIDE_UID. Raises OSError."""
    with subprocess.Popen(  # noqa: S603  our own interpreter and program
        [sys.executable, "-I", "-S", "-c", _MAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
    ) as maker:
        assert maker.stdout is not None
        try:
            if not select.select([maker.stdout], [], [], _SECONDS)[0]:
                raise TimeoutError(errno.ETIMEDOUT, "no user namespace was made in time")
            if not maker.stdout.read(1):
                number = maker.wait() or errno.EPERM
                raise OSError(number, f"no user namespace can be made: {os.strerror(number)}")
            for kind in ("uid", "gid"):
                Path(f"/proc/{maker.pid}/{kind}_map").write_text(f"0 0 1\n{INSIDE_UID} {uid} 1")
            return os.open(f"/proc/{maker.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            maker.kill()
