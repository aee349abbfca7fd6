"""A node's `CentralLink` to a central in the same process: no socket, the same messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.central_link import LinkSession
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.services.jobs import Jobs


class LocalLink:
    def __init__(
        self, gateway: NodeGateway, blobs: BlobStore, jobs: Jobs, accounts: Accounts, *, local: bool = True
    ) -> None:
        self.session_token = ""
        self._gateway = gateway
        self._blobs = blobs
        self._jobs = jobs
        self._accounts = accounts
        self._local = local
        self._tasks = Tasks()

    async def open(self) -> LinkSession:
        session = _LocalSession()
        serve = self._gateway.serve(session.outgoing(), session.deliver, peer_host="127.0.0.1", local=self._local)
        session.serving = spawn(session.run(serve), name="local link", group=self._tasks)
        return session

    async def push_blob(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        actor = await self._accounts.authenticate(self.session_token)
        sha256, size = await self._blobs.add_file(path, sha256)
        await self._jobs.record_blob(sha256, size, owner=None, sender=actor.node_id)
        return sha256, size

    async def fetch_blob(self, sha256: str, path: Path) -> None:
        await self._jobs.may_read_blob(await self._accounts.authenticate(self.session_token), sha256)
        with path.open("wb") as file:
            async for data in self._blobs.read(sha256):
                file.write(data)

    async def aclose(self) -> None:
        await self._tasks.aclose()


class _LocalSession:
    def __init__(self) -> None:
        self._up: asyncio.Queue[pb.NodeMessage | None] = asyncio.Queue(1000)
        self._down: asyncio.Queue[pb.CentralMessage | CyxError | None] = asyncio.Queue(1000)
        self._closed = False
        self.serving: asyncio.Task[None] | None = None

    async def run(self, serve: Awaitable[None]) -> None:
        ending: CyxError | None = None
        try:
            await serve
        except CyxError as error:
            ending = error
        except TimeoutError:
            ending = CyxError(Code.TIMEOUT, "The handshake took too long")
        finally:
            self._closed = True
            await self._down.put(ending)

    async def outgoing(self) -> AsyncIterator[pb.NodeMessage]:
        while (message := await self._up.get()) is not None:
            yield message

    async def deliver(self, message: pb.CentralMessage) -> None:
        await self._down.put(message)

    async def send(self, message: pb.NodeMessage) -> None:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "The stream to central has ended")
        await self._up.put(message)

    async def receive(self) -> AsyncIterator[pb.CentralMessage]:
        while (message := await self._down.get()) is not None:
            if isinstance(message, CyxError):
                raise message
            yield message

    async def aclose(self) -> None:
        self._closed = True
        if self.serving is not None:
            self.serving.cancel()
