"""Hands jobs to nodes of the earlier kind by `NodeService.AssignJob` on the address that they registered."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket

import grpc

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.bus import Bus
from cyxwiz.protocol import node_pb2 as pb
from cyxwiz.protocol import node_pb2_grpc
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.legacy import LegacyNodes, Push
from cyxwiz.transports.auth import internal
from cyxwiz.transports.grpc.mapping import config_to

log = logging.getLogger(__name__)

TOPIC = "outbox:assign_legacy"
PORT_OFFSETS = (0, 3, 2)  # the port registered, then where the earlier system's two programs listen
CALL_SECONDS = 5.0


class LegacyPusher(Service):
    """Works off the owed pushes. A push is safe to repeat: the job id names it, and the lease guards what follows."""

    def __init__(
        self,
        bus: Bus,
        legacy: LegacyNodes,
        accounts: Accounts,
        *,
        poll_seconds: float,
        allow_private: bool,
    ) -> None:
        super().__init__()
        self._bus = bus
        self._legacy = legacy
        self._accounts = accounts
        self._poll = poll_seconds
        self._allow_private = allow_private
        self._tasks = Tasks()
        self._pending: set[int] = set()

    async def run(self) -> None:
        subscription = self._bus.subscribe(TOPIC)
        try:
            self.ready()
            while not self.stopping.is_set():
                try:
                    for entry_id, push in await self._legacy.due(100):
                        if entry_id not in self._pending:
                            self._pending.add(entry_id)
                            spawn(self._work_off(entry_id, push), name=f"push {entry_id}", group=self._tasks)
                except CyxError as error:
                    if error.code is not Code.UNAVAILABLE:
                        raise
                    log.warning("pushing is held up: %s", error.message)
                await subscription.changed(self._poll)
        finally:
            subscription.close()
            await self._tasks.aclose()

    async def stop(self, grace: float = 5.0) -> None:
        self.stopping.set()
        self._bus.publish([TOPIC])
        await super().stop(grace)

    async def _work_off(self, entry_id: int, push: Push | None) -> None:
        try:
            refused = await self._attempt(push) if push is not None else None
            await self._legacy.pushed(entry_id, push, refused)
        finally:
            self._pending.discard(entry_id)

    async def _attempt(self, push: Push) -> str | None:
        """As `_push`; an error nobody foresaw refuses too, or the lease stays offered for as long as the node beats."""
        try:
            return await self._push(push)
        except Exception as error:
            return internal(error, f"the push of job {push.job.id} to node {push.node.id}").message

    async def _push(self, push: Push) -> str | None:
        """None if the node took the job, else why not."""
        node = push.node
        request = pb.AssignJobRequest(node_id=node.id, job=config_to(push.job, push.model))
        request.authorization_token, _ = self._accounts.p2p_token(push.job.owner_id, push.job.id, node.id, legacy=True)
        reasons: list[str] = []
        for offset in PORT_OFFSETS:
            port = node.port + offset
            if not 0 < port < 65536:
                continue
            try:
                target = await self._target(node.host, port)
                response = await _assign(target, request)
            except CyxError as error:
                return error.message
            except grpc.aio.AioRpcError as error:
                reasons.append(f"{port}: {error.code().name}")
                continue
            if response.accepted:
                return None
            return response.error.message or "the node refused the job"
        return f"the node answers AssignJob on none of its ports ({', '.join(reasons)})"

    async def _target(self, host: str, port: int) -> str:
        """The address to dial, resolved once, so that what was checked is what is dialled."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:  # ValueError: no host name at all, such as one with an empty label
            raise CyxError(Code.UNAVAILABLE, f"the node's address {host!r} can't be resolved: {error}") from None
        address = ipaddress.ip_address(found[0][4][0])
        if not self._allow_private and not address.is_global:
            raise CyxError(Code.FORBIDDEN, f"the node's address {address} is private: scheduler.push_private allows it")
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


async def _assign(target: str, request: pb.AssignJobRequest) -> pb.AssignJobResponse:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        return await stub.AssignJob(request, timeout=CALL_SECONDS)
