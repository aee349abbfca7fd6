"""`JobHandle`: the calls of a client that are about one job."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyxwiz.client.client import Client

Json = dict[str, Any]


class JobHandle:
    """One job of a client."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.id = job_id

    async def get(self) -> Json:
        return await self._client.get(self.id)

    def watch(self, cursor: str | None = None) -> AsyncGenerator[Json, None]:
        return self._client.watch(self.id, cursor)

    async def wait(self, timeout: float | None = None) -> Json:
        return await self._client.wait(self.id, timeout)

    async def cancel(self, reason: str = "") -> Json:
        return await self._client.cancel(self.id, reason)

    async def pause(self) -> Json:
        return await self._client.pause(self.id)

    async def resume(self) -> Json:
        return await self._client.resume(self.id)

    async def explain(self) -> Json:
        return await self._client.explain(self.id)

    async def metrics(self, after: int = 0, limit: int = 1000) -> Json:
        return await self._client.metrics(self.id, after, limit)

    async def logs(self, after: int = 0, limit: int = 1000) -> Json:
        return await self._client.logs(self.id, after, limit)

    async def result(self) -> Json:
        return await self._client.result(self.id)

    async def receipt(self) -> Json:
        return await self._client.receipt(self.id)

    async def download(self, directory: Path | str) -> list[Path]:
        return await self._client.download(self.id, directory)

    async def delete(self) -> Json:
        return await self._client.delete(self.id)
