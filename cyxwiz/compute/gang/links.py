"""How well members of a gang reach each other, measured as they meet: over TCP, by the gang's addresses, in pairs.

The pairs take turns, so that a member measures one link at a time. What fails or takes too long is left out: nothing is
known of that link then, and the job goes on.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from cyxwiz.ports.executor import Gang, Reached

PINGS = 8
SAMPLE = 64 << 10  # bytes by which the rate is guessed
MOST = 8 << 20  # bytes a direction at most
SPAN = 0.1  # seconds that a direction is to take
PAIR_SECONDS = 3.0  # that a pair may be silent
ALL_SECONDS = 10.0  # after which no further pair begins
MOST_ROUNDS = 15  # of a large gang each member measures so many others

_HELLO = struct.Struct(">16sI")  # the listener's nonce, the caller's rank
_SIZE = struct.Struct(">Q")


class Keys(Protocol):
    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...


def rounds(world: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Pairs of ranks, the lower first, so that each rank is in one pair of a round at most and all have met in the end
    (the circle method of round-robin tournaments)."""
    players = [*range(world), *([-1] if world % 2 else [])]
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = zip(players[:half], reversed(players[half:]), strict=True)
        yield [(min(each), max(each)) for each in pairs if -1 not in each]
        players = [players[0], players[-1], *players[1:-1]]


def measure(gang: Gang, store: Keys) -> list[Reached]:
    """What this member measured to those of a higher rank; all members call it at the same time."""
    family = socket.AF_INET6 if ":" in gang.address else socket.AF_INET
    nonce = secrets.token_bytes(16)
    found: list[Reached] = []
    try:
        listener = socket.create_server((gang.address, 0), family=family, backlog=gang.world)
    except OSError:
        store.set(f"links/{gang.rank}", "")  # the others need not wait for it
        return []
    with listener:
        store.set(f"links/{gang.rank}", f"{gang.address} {listener.getsockname()[1]} {nonce.hex()}")
        others = {rank: store.get(f"links/{rank}").decode() for rank in range(gang.world)}
        callers = _Callers(listener, nonce)
        until = time.monotonic() + ALL_SECONDS
        for number, pairs in enumerate(rounds(gang.world)):
            mine = next((pair for pair in pairs if gang.rank in pair), None)
            if number == MOST_ROUNDS or time.monotonic() > until:
                break
            if mine is None or not all(others[rank] for rank in mine):
                continue
            with contextlib.suppress(OSError, ValueError):
                if gang.rank == mine[0]:
                    trip, rate = _ask(others[mine[1]], gang.rank)
                    found.append(Reached(mine[1], trip, rate))
                else:
                    _answer(callers.take(mine[0]))
        callers.close()
    return found


class _Callers:
    """Who has called, by rank: the others need not call in the order in which they are waited for."""

    def __init__(self, listener: socket.socket, nonce: bytes) -> None:
        self._listener, self._nonce = listener, nonce
        self._waiting: dict[int, socket.socket] = {}

    def take(self, rank: int) -> socket.socket:
        """Raises TimeoutError when that one does not call."""
        until = time.monotonic() + PAIR_SECONDS
        while rank not in self._waiting:
            self._listener.settimeout(max(0.001, until - time.monotonic()))
            caller, _ = self._listener.accept()
            caller.settimeout(PAIR_SECONDS)
            try:
                nonce, who = _HELLO.unpack(_read(caller, _HELLO.size))
            except OSError:
                caller.close()
                continue
            if not secrets.compare_digest(nonce, self._nonce):
                caller.close()
                continue
            self._waiting[who] = caller
        return self._waiting.pop(rank)

    def close(self) -> None:
        for each in self._waiting.values():
            each.close()


def _ask(place: str, rank: int) -> tuple[float, float]:
    """The round trip in seconds, and the bytes a second of the slower direction."""
    host, port, nonce = place.split(" ")
    with socket.create_connection((host, int(port)), timeout=PAIR_SECONDS) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(_HELLO.pack(bytes.fromhex(nonce), rank))
        link.settimeout(2 * PAIR_SECONDS)  # it may be waiting for somebody else
        _read(link, 1)
        link.settimeout(PAIR_SECONDS)
        trip = min(_timed_ping(link) for _ in range(PINGS))
        guess = SAMPLE / max(_timed_send(link, SAMPLE) - trip, 1e-6)
        size = int(min(MOST, max(SAMPLE, guess * SPAN)))
        there = _timed_send(link, size)
        began = time.perf_counter()
        link.sendall(b"r" + _SIZE.pack(size))
        _skip(link, size)
        back = time.perf_counter() - began
        link.sendall(b"e")
    return trip, size / max(max(there, back) - trip, 1e-6)


def _timed_ping(link: socket.socket) -> float:
    began = time.perf_counter()
    link.sendall(b"p")
    _read(link, 1)
    return time.perf_counter() - began


def _timed_send(link: socket.socket, size: int) -> float:
    """Until the other side says that all of it is there."""
    began = time.perf_counter()
    link.sendall(b"s" + _SIZE.pack(size))
    link.sendall(bytes(size))
    _read(link, 1)
    return time.perf_counter() - began


def _answer(link: socket.socket) -> None:
    """Does what the caller asks: p answers, s takes so many bytes, r gives them, e ends."""
    with link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(b"h")
        while (what := _read(link, 1)) != b"e":
            size = min(MOST, _SIZE.unpack(_read(link, _SIZE.size))[0]) if what in b"sr" else 0
            if what == b"r":
                link.sendall(bytes(size))
                continue
            _skip(link, size)
            link.sendall(b"a")


def _read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise ConnectionError("the other member has gone")
        data += part
    return data


def _skip(link: socket.socket, size: int) -> None:
    buffer = bytearray(min(max(size, 1), 1 << 20))
    while size:
        count = link.recv_into(buffer, min(size, len(buffer)))
        if not count:
            raise ConnectionError("the other member has gone")
        size -= count
