"""This process's open connections to others: how much they have sent, and how long they may be silent."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

_BYTES_SENT = 200  # offset of tcpi_bytes_sent in struct tcp_info of linux/tcp.h, since Linux 4.19
PROBES = 3  # that a kernel leaves unanswered


def connections() -> Iterator[socket.socket]:
    """The TCP sockets of this process, each a copy that is closed as the next one is asked for."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # it was closed meanwhile
            continue
        with connection:
            if connection.type == socket.SOCK_STREAM and connection.family != socket.AF_UNIX:
                yield connection


def bytes_sent() -> int | None:
    """Payload bytes that this process's open TCP connections have sent, retransmissions included; None where the kernel
    does not tell. What goes through shared memory or InfiniBand is not in it."""
    total, told = 0, False
    for connection in connections():
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError:
            continue
        if len(info) >= _BYTES_SENT + 8:
            total += struct.unpack_from("=Q", info, _BYTES_SENT)[0]
            told = True
    return total if told else None


def end_silence(seconds: float) -> int:
    """Has the kernel break this process's connections to machines that acknowledge nothing for so long, whether or not
    there was something to send (RFC 1122, 4.2.3.6; RFC 5482); a process that is only slow is none of those. Returns how
    many connections it holds for."""
    part, held = max(1, int(seconds / (PROBES + 1))), 0
    options = (
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, part),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, part),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000)),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    )
    for connection in connections():
        try:
            for option in options:
                connection.setsockopt(*option)
        except OSError:  # it is broken already
            continue
        held += 1
    return held
