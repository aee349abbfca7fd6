"""What tests of fetched data share: a cache in a folder, and what it gives or refuses."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.data.fetch import Data, DataCache
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.runtime.clock import SystemClock

CSV = b"a,b,kind\n1,2,0\n3,4,1\n5,6,0\n"
BIG = hashlib.sha256(b"seed").digest() * (1 << 16)  # 2 MiB
OPEN = FetchSettings(allow_private_hosts=True, allow_http=True)


async def no_blobs(digest: str, path: Path) -> None:
    raise AssertionError("no blob is asked for")


class FastClock(SystemClock):
    """Waits between attempts are a fiftieth of what they say."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@contextlib.asynccontextmanager
async def cache(folder: Path, settings: FetchSettings = OPEN, **options: Any) -> AsyncIterator[DataCache]:
    made = DataCache(folder / "cache", settings, FastClock(), options.pop("fetch_blob", no_blobs), **options)
    try:
        yield made
    finally:
        await made.aclose()


async def got(data: DataCache, uri: str, **options: Any) -> Data:
    held = await data.hold(uri, **options)
    assert held is not None
    return held


async def refused(data: DataCache, uri: str, code: Code, *words: str) -> str:
    with pytest.raises(CyxError) as caught:
        await data.hold(uri)
    assert caught.value.code is code, caught.value
    assert all(word in caught.value.message for word in words), caught.value.message
    return caught.value.message
