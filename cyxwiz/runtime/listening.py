"""Sockets that listen, made before anything is served by them: a bad address fails the start."""

from __future__ import annotations

import socket

from cyxwiz.domain.errors import Code, CyxError

BACKLOG = 1024


def listen(host: str, port: int, advice: str) -> socket.socket:
    """A TCP socket that listens there and does not block; port 0 is any free one. Raises UNAVAILABLE, with the advice,
    when the address can't be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise CyxError(Code.UNAVAILABLE, f"Can't listen on {shown(host)}:{port}: {why}. {advice}") from None
    return listener


def shown(host: str) -> str:
    """As it stands in front of a port."""
    return f"[{host}]" if ":" in host else host
