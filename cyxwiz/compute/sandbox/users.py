"""User namespaces for children of a node that is root: root, to find the way to what is bound, and the child's user.

Made ahead of the child by a small process, and handed to bubblewrap: were bubblewrap to wait for it, it could be left
waiting for ever when the node dies. No further user namespace can be made inside.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from pathlib import Path

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
