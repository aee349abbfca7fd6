"""What both roles are put together with: the list of what runs, locks, private files, addresses."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyxwiz.domain.errors import conflict
from cyxwiz.runtime.lifecycle import Service

LOCAL_TOKEN = "join.token"  # noqa: S105  the name of a file, for a node of the same data directory


@dataclass
class Running:
    """What a process runs, for the ready line and for stopping."""

    services: list[Service]
    ready: dict[str, Any]
    stop: asyncio.Event  # set once the process was told to stop


async def enter(stack: AsyncExitStack, running: Running, service: Service, grace: float = 5.0) -> None:
    stack.push_async_callback(service.stop, grace)
    await service.start()
    running.services.append(service)


def lock(stack: AsyncExitStack, directory: Path, what: str) -> None:
    """Holds the kernel's lock on a directory as long as the process lives."""
    directory.mkdir(mode=0o700, exist_ok=True)
    file = stack.enter_context((directory / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise conflict(
            f"Another {what} runs on {directory}: stop it, or give this one a --data-dir of its own"
        ) from None


def bound(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"
