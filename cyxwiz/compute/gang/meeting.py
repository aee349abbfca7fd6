"""`meet`: the members of a gang find each other, and torch.distributed's process group is there.

What they have to tell each other for that goes through the node and central, which keeps it for their group. What they
exchange from then on goes directly from member to member: by gloo on CPUs, by nccl on CUDA devices, over the interface
that has the gang's address.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store, _set_pg_timeout

from cyxwiz.compute.gang.links import measure
from cyxwiz.compute.gang.traffic import end_silence
from cyxwiz.compute.orders import Orders
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Asked, Gang, Reached, Report

MEET_SECONDS = 300.0  # members start when their data is there: some sooner than others
EXCHANGE_SECONDS = 45.0  # what one exchange may take; a node that is lost is noticed by central sooner
PATIENT_SECONDS = 1800.0  # the same where members wait for each other's many steps
SILENCE_SECONDS = 40.0  # after which a connection breaks whose other machine acknowledges nothing; central is sooner

Send = Callable[[Report], None]


class KeptStore(Store):
    """`torch.distributed.Store` at central: what a process group needs in order to connect, and no more."""

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

    def add(self, key: str, value: int) -> int:
        return int(self._ask("add", key, str(value).encode()))

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        for key in keys:
            self.get(key)


def meet(gang: Gang, device: str, send: Send, orders: Orders) -> list[Reached]:
    """Makes the default process group of this process, and measures the links to those of a higher rank.

    Raises:
        InterruptedError: the job was told to stop meanwhile.
        CyxError: UNAVAILABLE, retryable: the others did not come.
    """
    name_interface(gang.address)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    patient = gang.strategy in ("local_sgd", "diloco")
    store = KeptStore(send, orders)
    try:
        dist.init_process_group(
            backend,
            store=store,
            rank=gang.rank,
            world_size=gang.world,
            timeout=timedelta(seconds=EXCHANGE_SECONDS),
        )
        end_silence(SILENCE_SECONDS)
        if patient:
            _set_pg_timeout(timedelta(seconds=PATIENT_SECONDS))
        reached = measure(gang, store)
    except (RuntimeError, TimeoutError) as error:
        if orders.given:
            raise InterruptedError("told to stop while its group was meeting") from error
        if isinstance(error, RuntimeError) and not is_loss(str(error)):
            raise
        raise lost(gang, error) from error
    for each in reached:
        send(each)
    return reached


def lost(gang: Gang, error: BaseException) -> CyxError:
    """What a member says that the others have left alone: it is charged to nobody."""
    return CyxError(
        Code.UNAVAILABLE,
        f"Member {gang.rank} of {gang.world} does not reach another: {str(error).splitlines()[0][:200]}",
        retryable=True,
    )


def is_loss(text: str) -> bool:
    """Whether an exception's text says that another member is not reached, rather than that something went wrong here:
    what gloo and nccl say of connections that break, are refused or stay silent."""
    words = text.lower()
    return any(name in words for name in ("gloo", "nccl")) and any(
        each in words for each in ("connection", "connect ", "timed out", "timeout", "remote process")
    )


def publish_master(gang: Gang, send: Send, orders: Orders) -> dict[str, str]:
    """The variables by which a script's own `init_process_group` finds the others, as torchrun sets them.

    The first member's address and a port that was free there a moment ago go through central.
    """
    import socket

    name_interface(gang.address)
    store = KeptStore(send, orders)
    if gang.rank == 0:
        with socket.socket(socket.AF_INET6 if ":" in gang.address else socket.AF_INET) as free:
            free.bind((gang.address, 0))
            store.set("master", f"{gang.address} {free.getsockname()[1]}")
    address, port = store.get("master").decode().split()
    return {
        "RANK": str(gang.rank),
        "WORLD_SIZE": str(gang.world),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }


def name_interface(address: str) -> None:
    """Tells gloo and nccl which network interface to use. Raises CyxError UNAVAILABLE if none has the address."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if _plain(each) == address or (address == "localhost" and _plain(each) == "127.0.0.1"):
                os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
                return
    raise CyxError(
        Code.UNAVAILABLE, f"No network interface of this node has the address {address} (node.gang_address).",
        retryable=True,
    )  # fmt: skip


def _plain(entry: Any) -> str:
    return str(entry.address).partition("%")[0]
