"""`Packages`: the environments of scripts on a node, by the content of their lock files.

An environment is a folder of installed wheels. It is made once for a lock and a Python version, in a sandboxed child of
its own (`install`), however many runs wait for it, and kept while there is room: the one that was used least lately
goes first, never one that a run has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cyxwiz.compute.archive import untar
from cyxwiz.compute.data.cache import size_of
from cyxwiz.compute.install import AUTHORITIES, LOCK, WHEELS
from cyxwiz.domain.errors import Code, CyxError, conflict
from cyxwiz.domain.lockfile import check_lock, lock_digest
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import Executor, Failed, Finished, Logged, Work
from cyxwiz.runtime.tasks import Tasks, spawn

log = logging.getLogger(__name__)

MAX_SECONDS = 1800.0
MEMORY_BYTES = 2 << 30  # pip holds a wheel in memory while it unpacks it
POLL_SECONDS = 0.5
Tell = Callable[[str], Awaitable[None]]
_INFO = "environment.json"
_MAKING = ".making"  # of the folder in which one is made


@dataclass(frozen=True, slots=True)
class PackageSettings:
    index: str  # a URL of an index, or file:/// and a folder of wheels
    cache_bytes: int


@dataclass(slots=True)
class Environment:
    """One that a run has; `release` when it is over."""

    path: Path
    fresh: bool  # it was made now
    size: int
    _release: Callable[[], None]

    def release(self) -> None:
        self._release()
        self._release = _nothing


def _nothing() -> None:
    """A second release changes nothing."""


@dataclass(slots=True)
class _Build:
    task: asyncio.Task[CyxError | None]
    lines: Sequence[str]  # what pip said
    waiting: int = 0


class Packages:
    """All paths lie below `folder`; `executor` runs the installing children."""

    def __init__(self, folder: Path, settings: PackageSettings, executor: Executor, clock: Clock) -> None:
        self._folder, self._settings, self._executor, self._clock = folder, settings, executor, clock
        self._builds: dict[str, _Build] = {}
        self._held: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._tasks = Tasks()
        for stale in folder.glob(f"*{_MAKING}"):
            shutil.rmtree(stale, ignore_errors=True)

    async def hold(
        self, lock: str, wanted: Callable[[], bool], seconds: float | None, tell: Tell | None = None
    ) -> Environment:
        """The environment of a lock, made now if it is not there; `tell` gets what pip says then.

        Raises:
            CyxError: INVALID for a lock that leaves something open, or that can't be installed; UNAVAILABLE when the
                index can't be reached; CONFLICT once it is not `wanted`; TIMEOUT after `seconds`; EXHAUSTED for one
                that is larger than all that the node keeps.
        """
        check_lock(lock)
        key = environment_key(lock)
        fresh = not self._ready(key)
        self._held[key] += 1  # from now on, so that no other build makes its room of it
        try:
            if fresh:
                await self._made(key, lock, wanted, min(seconds or MAX_SECONDS, MAX_SECONDS), tell)
        except BaseException:
            self._give_back(key)
            raise
        self._used[key] = self._clock.monotonic()
        size = int(json.loads((self._folder / key / _INFO).read_text())["size"])
        return Environment(self._folder / key / "packages", fresh, size, lambda: self._give_back(key))

    def _ready(self, key: str) -> bool:
        return (self._folder / key / _INFO).is_file()

    def _give_back(self, key: str) -> None:
        self._held[key] -= 1

    async def _made(self, key: str, lock: str, wanted: Callable[[], bool], seconds: float, tell: Tell | None) -> None:
        build = self._builds.get(key)
        if build is None:
            lines: list[str] = []
            task = spawn(self._make(key, lock, seconds, lines), name=f"packages {key}", group=self._tasks)
            build = self._builds[key] = _Build(task, lines)
            task.add_done_callback(lambda _: self._builds.pop(key, None))
        build.waiting += 1
        try:
            while not build.task.done():
                await asyncio.wait({build.task}, timeout=POLL_SECONDS)
                if not wanted():
                    raise conflict("The packages are not wanted any more: their job has ended")
            if tell is not None:
                for line in build.lines:
                    await tell(line)
            if build.task.cancelled():
                raise CyxError(Code.UNAVAILABLE, "The packages were not installed: the node is stopping.")
            if (error := build.task.result()) is not None:
                raise error
        finally:
            build.waiting -= 1
            if not build.waiting and not build.task.done():
                build.task.cancel()

    async def _make(self, key: str, lock: str, seconds: float, lines: list[str]) -> CyxError | None:
        """Makes one; what went wrong, if anything did."""
        making = self._folder / f"{key}{_MAKING}"
        try:
            await asyncio.to_thread(self._prepare, making, lock)
            archive = await self._install(key, making, seconds, lines)
            size = await asyncio.to_thread(self._unpack, making, archive)
            await self._make_room(size, making / "removed")
            await asyncio.to_thread(self._enter, key, making)
        except CyxError as error:
            return error
        except OSError as error:
            return CyxError(Code.EXHAUSTED, f"The packages can't be stored on this node: {error.strerror or error}.")
        finally:
            await asyncio.to_thread(shutil.rmtree, making, True)
        return None

    def _prepare(self, making: Path, lock: str) -> None:
        """What the installing child reads: the lock, and from a folder of wheels those that it may want."""
        shutil.rmtree(making, ignore_errors=True)
        source = making / "source"
        source.mkdir(parents=True)
        (source / LOCK).write_text(lock, encoding="utf-8")
        parts = urlsplit(self._settings.index)
        if parts.scheme != "file":
            trusted = os.environ.get("SSL_CERT_FILE", "")  # by which data are fetched, too
            if Path(trusted).is_file():
                shutil.copyfile(trusted, source / AUTHORITIES)
            return
        names = set(check_lock(lock))
        (source / WHEELS).mkdir()
        for wheel in sorted(Path(unquote(parts.path)).glob("*.whl")):
            if re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0].lower()) in names:
                shutil.copyfile(wheel, source / WHEELS / wheel.name)

    async def _install(self, key: str, making: Path, seconds: float, lines: list[str]) -> Path:
        log.info("packages %s are installed from %s", key, urlsplit(self._settings.index).hostname or "a folder")
        work = making / "work"
        run = await self._executor.start(
            Work(
                job_id=f"packages-{key}",
                job_type="",
                model=self._settings.index,
                dataset_uri="",
                hyperparameters={},
                epochs=1,
                batch_size=1,
                seed=0,
                device="cpu",
                threads=1,
                work_dir=work,
                max_duration_seconds=seconds,
                source=making / "source",
                memory_bytes=MEMORY_BYTES,
                network=True,
                install=True,
            )
        )
        ended = False
        try:
            async for report in run.reports():
                if isinstance(report, Logged):
                    lines.append(report.message)
                elif isinstance(report, Finished):
                    ended = True
                    return report.artefacts[0].path
                elif isinstance(report, Failed):
                    ended = True
                    code = Code(report.code) if report.code in Code.__members__ else Code.INTERNAL
                    raise CyxError(code, report.message, retryable=report.retryable)
        finally:
            if not ended:
                await run.cancel()
        raise CyxError(Code.UNAVAILABLE, "The packages were not installed: the node is stopping.")

    def _unpack(self, making: Path, archive: Path) -> int:
        """The archive's content as the folder `packages`; its size."""
        size = archive.stat().st_size
        if size > self._settings.cache_bytes:
            bound = self._settings.cache_bytes
            message = f"The packages of requirements have {size} bytes; this node keeps {bound} (package_cache_bytes)."
            raise CyxError(Code.EXHAUSTED, message)
        untar(
            "The archive of packages",
            archive,
            making / "packages",
            self._settings.cache_bytes,
            "node.package_cache_bytes",
        )
        archive.unlink()
        return size

    async def _make_room(self, size: int, trash: Path) -> None:
        """Removes what was used least lately until there is room, as far as nobody has it.

        Each goes out of the way at once, on the loop as `hold` looks: nobody is given what is being removed.
        """
        kept = await asyncio.to_thread(self._sizes)
        trash.mkdir()
        for key in sorted(kept, key=lambda each: self._used.get(each, 0.0)):
            if sum(kept.values()) + size <= self._settings.cache_bytes:
                break
            if not self._held[key]:
                with contextlib.suppress(FileNotFoundError):  # another build needed its room
                    os.replace(self._folder / key, trash / key)
                del kept[key]
        await asyncio.to_thread(shutil.rmtree, trash)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each environment that is there."""
        found: dict[str, int] = {}
        for info in self._folder.glob(f"*/{_INFO}"):
            if info.parent.suffix == _MAKING:
                continue
            with contextlib.suppress(FileNotFoundError):  # it is removed meanwhile
                found[info.parent.name] = int(json.loads(info.read_text())["size"])
        return found

    def _enter(self, key: str, making: Path) -> None:
        target = self._folder / key
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o755)
        os.replace(making / "packages", target / "packages")
        info = making / _INFO
        info.write_text(json.dumps({"size": size_of(target / "packages")}))
        os.replace(info, target / _INFO)  # the last step: without it there is no environment

    async def aclose(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks.aclose()


def environment_key(lock: str) -> str:
    """What an environment is called: by its lock, the Python, and the machine that its wheels are for."""
    python = f"{sys.implementation.cache_tag}-{platform.system()}-{platform.machine()}"
    return sha256(f"{python}\n{lock_digest(lock)}".encode()).hexdigest()[:32]
