"""The filter of system calls: a small BPF program, built and installed here.

What a job never needs and what kernels were broken through is refused (EPERM), or said not to be there (ENOSYS) where
libraries have a second way. Calls of another architecture, x32's too, end the process. Sockets are of the families
that are given. Memory that no process maps (memfd, SysV segments) can't be had, so that the memory watch sees it all;
a child with a GPU may have memfd, since drivers use it.

A deny list: what is not named stays allowed, behind the other walls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Sequence

from cyxwiz.compute.sandbox.syscalls import MACHINES

REFUSED = (
    "acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "create_module", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module",
    "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "migrate_pages", "modify_ldt", "mount", "mount_setattr", "move_mount",
    "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "open_tree_attr",
    "perf_event_open", "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "query_module",
    "quotactl", "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday",
    "swapoff", "swapon", "sysfs", "syslog", "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup",
)  # fmt: skip
# glibc falls back to clone when clone3 is not there, whose flags a filter can read.
ABSENT = ("clone3", "memfd_secret", "mq_open", "msgget", "semget", "shmget")

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
_CLONE_NEW = 0x7E020080  # user, pid, net, ipc, uts, cgroup, mount and time
_IOCTLS = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX push input into a terminal
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP_MODE_FILTER, _PR_SET_SECCOMP = 1, 2, 22
_PERSONALITY_QUERY = 0xFFFFFFFF
_X32 = 0x40000000

_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes, low half first

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def supported(machine: str | None = None) -> bool:
    return (machine or os.uname().machine) in MACHINES


def program(
    families: Iterable[int], *, memfd: bool = False, deathsig: bool = True, machine: str | None = None
) -> bytes:
    """The filter as an array of struct sock_filter, for this machine or the one that is named.

    Args:
        families: address families of which sockets may be made; none refuses every socket but socketpair's.
        memfd: whether memfd_create stays allowed.
        deathsig: whether a process may change the signal that it gets when its parent dies.
    Raises:
        OSError: ENOSYS, for a machine whose numbers are not known here.
    """
    name = machine or os.uname().machine
    if name not in MACHINES:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {name}")
    arch, numbers = MACHINES[name]
    refuse, absent = _give(errno.EPERM), _give(errno.ENOSYS)
    code: list[_Instruction] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL)]
    code.append((_LOAD, 0, 0, _NUMBER))
    if name == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    gone = ABSENT if memfd else (*ABSENT, "memfd_create")
    for names, answer in ((REFUSED, refuse), (gone, absent)):
        for call in names:
            if call in numbers:
                code += [(_EQUAL, 0, 1, numbers[call]), answer]
    code += _when(numbers["clone"], 0, [(_ANY_BIT, 0, 1, _CLONE_NEW), refuse])
    code += _when(numbers["ioctl"], 1, _among(_IOCTLS, refuse))
    if not deathsig:
        code += _when(numbers["prctl"], 0, _among((_PR_SET_PDEATHSIG,), refuse))
    code += _when(numbers["personality"], 0, _unless((0, _PERSONALITY_QUERY), refuse))
    code += _when(numbers["socket"], 0, _unless(tuple(families), _give(errno.EAFNOSUPPORT)))
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _give(number: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


def _when(number: int, argument: int, body: Sequence[_Instruction]) -> list[_Instruction]:
    """`body` on the low half of one argument of one call; a body that decides nothing lets the call through."""
    whole = [(_LOAD, 0, 0, _ARGUMENT + 8 * argument), *body, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(whole), number), *whole]


def _among(values: Iterable[int], answer: _Instruction) -> list[_Instruction]:
    return [part for value in values for part in ((_EQUAL, 0, 1, value), answer)]


def _unless(values: Sequence[int], answer: _Instruction) -> list[_Instruction]:
    allowed = [part for value in values for part in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    return [*allowed, answer]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(filter_: bytes) -> None:
    """Puts the filter on this thread and all that come from it, for good. Needs no_new_privs. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    whole = _Program(len(filter_) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _PR_SET_SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter of system calls is not taken")
