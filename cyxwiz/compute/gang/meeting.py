"""`join` and `meet`: the members of a gang find each other, and torch.distributed's process group is there.

What they have to tell each other for that goes through the node and central, which keeps it for their group. What they
exchange from then on goes directly from member to member: by gloo on CPUs, by nccl on CUDA devices, over the interface
that has the gang's address.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from cyxwiz.compute.gang.elastic import Member
from cyxwiz.compute.gang.links import measure
from cyxwiz.compute.gang.traffic import end_silence
from cyxwiz.compute.orders import Orders
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Gang, Reached, Report, Work

EXCHANGE_SECONDS = 45.0  # what one exchange may take; a node that is lost is noticed by central sooner
PATIENT_SECONDS = 1800.0  # the same where members wait for each other's many steps
SILENCE_SECONDS = 40.0  # after which a connection breaks whose other machine acknowledges nothing; central is sooner

STORE_LOST = ("distnetworkerror:", "diststoreerror:")

Send = Callable[[Report], None]


def join(work: Work, send: Send, orders: Orders) -> Member:
    """The elastic agent of this process, once all members have met.

    Raises:
        InterruptedError: the job was told to stop meanwhile.
        CyxError: UNAVAILABLE, retryable: the others did not come, or this machine has no interface with its address.
    """
    assert work.gang is not None
    name_interface(work.gang.address)
    member = Member(work.job_id, work.gang, send, orders)
    with _losses(work.gang, orders):
        member.join()
    return member


def meet(member: Member, gang: Gang, device: str, send: Send, orders: Orders) -> list[Reached]:
    """Makes the default process group of this process, and measures the links to those of a higher rank.

    Raises:
        InterruptedError, CyxError: as `join`.
    """
    backend = "nccl" if device.startswith("cuda") else "gloo"
    patient = gang.strategy in ("local_sgd", "diloco")
    with _losses(gang, orders):
        dist.init_process_group(
            backend,
            store=member.store,
            rank=gang.rank,
            world_size=gang.world,
            timeout=timedelta(seconds=EXCHANGE_SECONDS),
        )
        end_silence(SILENCE_SECONDS)
        if patient:
            _set_pg_timeout(timedelta(seconds=PATIENT_SECONDS))
        reached = measure(gang, member.store)
    for each in reached:
        send(each)
    return reached


@contextlib.contextmanager
def _losses(gang: Gang, orders: Orders) -> Iterator[None]:
    """Tells members who do not come, and orders to stop, from what goes wrong here."""
    try:
        yield
    except (RuntimeError, TimeoutError) as error:
        if orders.given:
            raise InterruptedError("told to stop while its group was meeting") from error
        if isinstance(error, RuntimeError) and not is_loss(str(error)):
            raise
        raise lost(gang, error) from error


def lost(gang: Gang, error: BaseException) -> CyxError:
    """What a member says that the others have left alone: it is charged to nobody."""
    return CyxError(
        Code.UNAVAILABLE,
        f"Member {gang.rank} of {gang.world} does not reach another: {str(error).splitlines()[0][:200]}",
        retryable=True,
    )


def is_loss(text: str) -> bool:
    """Whether an exception's text says that another member is not reached, rather than that something went wrong here:
    what gloo and nccl say of connections that break, are refused or stay silent, and torch of a script's store, which
    is the first member's (the text begins with the exception's name then)."""
    words = text.lower()
    return words.startswith(STORE_LOST) or (
        any(name in words for name in ("gloo", "nccl"))
        and any(each in words for each in ("connection", "connect ", "timed out", "timeout", "remote process"))
    )


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
