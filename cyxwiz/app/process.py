"""A process from start to exit status: roles, signals, the ready line, the order of stopping."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cyxwiz.app.central import start_central
from cyxwiz.app.core import Core
from cyxwiz.app.node import start_node
from cyxwiz.app.parts import Running
from cyxwiz.config import ConfigError, Loaded, check_role
from cyxwiz.domain.errors import CyxError
from cyxwiz.runtime import collecting, ready
from cyxwiz.runtime import log as logs
from cyxwiz.runtime.lifecycle import Service, first_death
from cyxwiz.scheduler.loops.placer import Placer

log = logging.getLogger(__name__)


async def run(
    loaded: Loaded,
    role: str,
    data_dir: Path,
    *,
    ready_file: Path | None = None,
    on_ready: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    allow_unsafe: bool = False,
) -> int:
    """Runs one role until SIGTERM or SIGINT; returns the exit status.

    Raises:
        ConfigError, CyxError: it can't start, with what to do about it.
    """
    config = loaded.config
    data_dir = data_dir.resolve()  # children of the node run elsewhere
    logs.configure(config.logging.level, config.logging.format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    check_role(loaded, role, data_dir, allow_unsafe=allow_unsafe)
    if config.redis.url:
        log.warning("redis.url is set, and Redis is not used yet: centrals learn of each other by polling")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    _prepare(data_dir)
    ready.prepare(ready_file)
    async with AsyncExitStack() as stack:
        running = Running([], {"pid": os.getpid(), "role": role}, stop)
        core = blobs = None
        if role in ("central", "both"):
            core, blobs = await start_central(stack, config, data_dir, running, local=role == "both")
        if role in ("node", "both"):
            await start_node(stack, loaded, data_dir, running, core, blobs, allow_unsafe=allow_unsafe)
        ready.announce(ready_file, running.ready)  # first: whoever waits for the line may read it
        _announce(running.ready)
        collecting.as_usual()
        if on_ready is not None:
            await on_ready(running.ready)
        try:
            status = await _until_stopped(stop, running.services)
        finally:
            ready.withdraw(ready_file)
        stop.set()
        if core is not None:
            await _take_nothing_new(core, running.services)
        return status


def _prepare(data_dir: Path) -> None:
    """Raises ConfigError for a data directory that will not do."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"the data directory {data_dir} can't be used: {error.strerror}; name another one with --data-dir"
        ) from None


async def _take_nothing_new(core: Core, services: Sequence[Service]) -> None:
    """Before the node drains: what it gives back must not be offered to it again."""
    core.jobs.close()
    for service in services:
        if isinstance(service, Placer):
            await service.stop()


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)  # asked twice: now
    stop.set()


async def _until_stopped(stop: asyncio.Event, services: Sequence[Service]) -> int:
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait(), name="signal")
        death = group.create_task(first_death(*services), name="deaths")
        await asyncio.wait({stopped, death}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not death.done():
            death.cancel()
            log.info("stopping")
            return 0
    error = death.result()
    if isinstance(error, CyxError):
        raise error
    log.critical("a part of the program died: stopping", exc_info=error)
    return 1


def _announce(places: dict[str, Any]) -> None:
    for name, value in places.items():
        if name not in ("pid", "role"):
            print(f"{name} {value}", flush=True)  # noqa: T201  the contract of `run`
    print("ready", flush=True)  # noqa: T201


def main(
    loaded: Loaded, role: str, data_dir: Path, ready_file: Path | None = None, *, allow_unsafe: bool = False
) -> int:
    """Runs a role on the fastest loop there is. Errors that keep it from starting are one line on standard error."""
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run  # type: ignore[assignment]
    try:
        return runner(run(loaded, role, data_dir, ready_file=ready_file, allow_unsafe=allow_unsafe))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except CyxError as error:
        from cyxwiz.wire import CODES

        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        return CODES[error.code].exit
