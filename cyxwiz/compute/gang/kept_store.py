"""`KeptStore`: torch.distributed's store for a gang, kept by central for the members of its newest group."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

from torch.distributed.distributed_c10d import Store

from cyxwiz.compute.orders import Orders
from cyxwiz.ports.executor import Asked, Report

MEET_SECONDS = 300.0  # members start when their data is there: some sooner than others

Send = Callable[[Report], None]


class KeptStore(Store):
    """`torch.distributed.Store` at central: as much as an elastic agent and a process group need to meet."""

    def __init__(self, send: Send, orders: Orders) -> None:
        super().__init__()
        self._send, self._orders = send, orders
        self._numbers = itertools.count(1)

    def _ask(self, kind: str, key: str, value: bytes = b"") -> bytes:
        number = next(self._numbers)
        self._send(Asked(number, kind, key, value))
        return self._orders.answers.take(number, MEET_SECONDS)

    def set(self, key: str, value: str | bytes) -> None:
        self._ask("set", key, value.encode() if isinstance(value, str) else bytes(value))

    def get(self, key: str) -> bytes:
        """Waits until somebody has set it. Raises TimeoutError, and InterruptedError once the job is told to stop."""
        return self._ask("get", key)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return [self.get(key) for key in keys]

    def multi_set(self, keys: list[str], values: list[str]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.set(key, value)

    def add(self, key: str, value: int) -> int:
        return int(self._ask("add", key, str(value).encode()))

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        for key in keys:
            self.get(key)
