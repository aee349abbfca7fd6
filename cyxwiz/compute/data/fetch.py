"""`DataCache`: a job's URI to a path on the node, fetched at most once.

Jobs that want the same data share one fetch, and it ends when none of them wants it any more. What a server may have
changed is asked for again; when it can't be asked, what the node has is taken, and the job's log says so.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cyxwiz.compute.archive import gunzip, is_gzip, is_tar, safe_parts, untar
from cyxwiz.compute.artefacts import files_sha256
from cyxwiz.compute.data.addresses import Resolve, resolve
from cyxwiz.compute.data.cache import Cache, Held, Source, size_of
from cyxwiz.compute.data.cid import verify
from cyxwiz.compute.data.download import Partial, Version, download
from cyxwiz.compute.data.in_place import InPlace
from cyxwiz.compute.data.room import Room, Rooms
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.data.sources import Plan, Sources
from cyxwiz.compute.data.web import Cut, Web
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.domain.job import data_source
from cyxwiz.graph.dataset_uri import DatasetUri, check_dataset_uri
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.files import file_sha256
from cyxwiz.runtime.tasks import Tasks, spawn

POLL_SECONDS = 0.5
BOUND = "node.max_dataset_bytes"
IMMUTABLE = "immutable"  # the version of what is named by its content

FetchBlob = Callable[[str, Path], Awaitable[None]]
"""Writes the blob of a SHA-256 to a path: `CentralLink.fetch_blob`."""


@dataclass(slots=True)
class _Flight:
    """One fetch and how many jobs wait for it. What it brought is held until the last of them has it."""

    task: asyncio.Task[Held | CyxError]
    waiting: int = 0
    fresh: bool = False  # something was fetched
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Data:
    """A job's data: `path` for the child, `notes` for the job's log. `release` when the run is over."""

    path: Path
    notes: tuple[str, ...]
    held: Held

    @property
    def digest(self) -> str:
        """SHA-256 of the file that was fetched; of several, of the lines `SHA-256 path` of all, by path."""
        return self.held.source.sha256 or self.held.source.key

    def release(self) -> None:
        self.held.release()


class DataCache:
    def __init__(
        self,
        directory: Path,
        settings: FetchSettings,
        clock: Clock,
        fetch_blob: FetchBlob,
        *,
        resolver: Resolve = resolve,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._fetch_blob = fetch_blob
        self._cache = Cache(directory, settings.cache_bytes, clock)
        self._rooms = Rooms(self._cache)
        self._web = Web(allow_private=settings.allow_private_hosts, allow_http=settings.allow_http, resolver=resolver)
        self._sources = Sources(self._web, settings)
        self._in_place = InPlace(settings.max_dataset_bytes)
        self._flights: dict[str, _Flight] = {}
        self._ending: dict[str, asyncio.Task[Held | CyxError]] = {}
        self._tasks = Tasks()

    def inventory(self) -> list[str]:
        """`data_key` of what is here, the most recently used first, at most 256."""
        return self._cache.inventory()

    def holds(self, uri: str) -> bool:
        return self._cache.holds(uri)

    async def digest(self, uri: str, data_roots: Sequence[Path]) -> str:
        """As `Data.digest`, of data that need no fetching (`InPlace.digest`)."""
        return await self._in_place.digest(uri, data_roots)

    async def room(self, source: str) -> Room:
        """A folder for data that are not fetched but brought by the caller."""
        return await self._rooms.enter(source)

    async def aclose(self) -> None:
        """Ends every fetch; what came so far stays for the next life."""
        await self._tasks.aclose()
        await self._web.aclose()

    async def hold(
        self, uri: str, wanted: Callable[[], bool] = lambda: True, seconds: float | None = None
    ) -> Data | None:
        """The data of a URI on this node, held; None for a URI whose data need no fetching.

        Raises:
            CyxError: as the source says; INVALID for another hash than the URI's; EXHAUSTED for want of room; TIMEOUT
                after `seconds`; CONFLICT once `wanted` says no.
        """
        parsed = check_dataset_uri(uri)
        if not parsed.fetched:
            return None
        source, pin = data_source(uri), parsed.options.get("sha256")
        known = self._cache.find(source)
        if known is not None and (known.version == IMMUTABLE or (pin and known.sha256 == pin)):
            held, notes, fresh = self._cache.use(source), (), False  # named by its content: it can't have changed
        else:
            held, notes, fresh = await self._wait(uri, source, parsed, wanted, seconds)
        if pin is not None and held.source.sha256 != pin:
            held.release()
            got = held.source.sha256 or "several files, not one"
            raise invalid(f"The dataset {uri} is not the one its hash names: it has {got}.", uri=uri, got=got)
        return Data(held.path, (_told(uri, held.source, fresh), *notes), held)

    async def _wait(
        self, uri: str, source: str, parsed: DatasetUri, wanted: Callable[[], bool], seconds: float | None
    ) -> tuple[Held, tuple[str, ...], bool]:
        """Takes part in the fetch of a source, which starts if there is none."""
        flight = self._flights.get(source)
        if flight is None:
            flight = self._flights[source] = self._start(source, parsed)
        flight.waiting += 1
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        try:
            while not flight.task.done():
                await asyncio.wait({flight.task}, timeout=POLL_SECONDS)
                if not wanted():
                    raise conflict(f"The dataset {uri} is not wanted any more: its job has ended", uri=uri)
                if deadline is not None and self._clock.monotonic() > deadline and not flight.task.done():
                    raise CyxError(Code.TIMEOUT, f"The dataset {uri} was not here in {seconds:.0f} s.", {"uri": uri})
            if flight.task.cancelled():
                raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} was not fetched: the node is stopping.")
            outcome = flight.task.result()
            if isinstance(outcome, CyxError):
                raise outcome
            return self._cache.use(source), tuple(flight.notes), flight.fresh
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._land(source, flight)

    def _start(self, source: str, parsed: DatasetUri) -> _Flight:
        made: list[_Flight] = []

        async def fly() -> Held | CyxError:
            before = self._ending.get(source)
            if before is not None:  # an earlier fetch that nobody wanted any more still writes its last bytes
                await asyncio.wait({before})
            self._cache.begin(source)
            try:
                await self._bring(source, parsed, made[0])
                return self._cache.use(source)
            except CyxError as error:
                return error
            except OSError as error:
                reason = error.strerror or str(error)
                return CyxError(Code.EXHAUSTED, f"The dataset {source} can't be stored on the node: {reason}.")
            finally:
                self._cache.end(source)

        made.append(_Flight(spawn(fly(), name=f"fetch {source[:200]}", group=self._tasks)))
        return made[0]

    def _land(self, source: str, flight: _Flight) -> None:
        if self._flights.get(source) is flight:
            del self._flights[source]
        if flight.task.done():
            if not flight.task.cancelled() and isinstance(held := flight.task.result(), Held):
                held.release()
            return
        flight.task.cancel()
        self._ending[source] = flight.task
        flight.task.add_done_callback(lambda _: self._ending.pop(source, None))

    # one fetch

    async def _bring(self, source: str, parsed: DatasetUri, flight: _Flight) -> None:
        """Sees to it that the cache has the source's data of now."""
        known = self._cache.find(source)
        try:
            blob = parsed.scheme == "blob"
            plan = Plan(version=IMMUTABLE) if blob else await self._sources.plan(source, parsed)
            if known is None or not plan.version or plan.version != known.version:
                flight.fresh = await self._fetch(source, parsed, plan, known)
        except (Cut, CyxError) as error:
            away = isinstance(error, Cut) or error.code is Code.UNAVAILABLE
            if not away or self._cache.find(source) is None:
                if isinstance(error, Cut):
                    raise CyxError(Code.UNAVAILABLE, f"The dataset {source} can't be fetched: {error}.") from None
                raise
            flight.notes.append(f"The source can't be asked for a newer version; what the node has is used: {error}")

    async def _fetch(self, source: str, parsed: DatasetUri, plan: Plan, known: Source | None) -> bool:
        """Fetches a plan's files and enters them; False if the server says that nothing has changed."""
        folder = self._cache.incoming(source)
        await asyncio.to_thread(_prepare, folder, plan.version)
        files = folder / "files"
        reserve = self._room(source)
        version: Version | None = Version()
        if parsed.scheme == "blob":
            await self._blob(source, parsed.rest, files / "data")
        elif plan.local is not None:
            paths = [item.path for item in plan.items]
            await reserve(sum(plan.local.joinpath(path).stat().st_size for path in paths))
            await asyncio.to_thread(_copy, plan.local, files, paths)
        else:
            version = await self._items(source, plan, folder, known)
        if version is None:
            await asyncio.to_thread(shutil.rmtree, folder)
            return False
        made = await asyncio.to_thread(self._assemble, source, parsed, plan, folder)
        made = replace(made, version=plan.version, etag=version.etag, modified=version.modified)
        unpacked = folder / "unpacked"
        fetched = unpacked if unpacked.exists() else files if plan.folder else next(files.iterdir())
        if unpacked.exists():
            await reserve(made.size + await asyncio.to_thread(size_of, files))
        await self._cache.enter(made, fetched)
        await asyncio.to_thread(shutil.rmtree, folder, True)
        return True

    def _room(self, source: str) -> Callable[[int], Awaitable[None]]:
        async def reserve(size: int) -> None:
            await self._cache.reserve(source, size)

        return reserve

    async def _blob(self, source: str, digest: str, target: Path) -> None:
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await self._fetch_blob(digest, target)
        size = target.stat().st_size
        if size > self._settings.max_dataset_bytes:
            await asyncio.to_thread(target.unlink)
            bound = self._settings.max_dataset_bytes
            raise invalid(f"The dataset {source} has {size} bytes; this node takes at most {bound}.", bound=bound)
        await self._cache.reserve(source, size)

    async def _items(self, source: str, plan: Plan, folder: Path, known: Source | None) -> Version | None:
        """All files of a plan, those that an earlier attempt brought left out. The version of the last one."""
        done, version = 0, Version()
        condition = Version(known.etag, known.modified) if known is not None and not plan.version else None
        for number, item in enumerate(plan.items):
            target = folder.joinpath("files", *safe_parts(f"The dataset {source}", item.path))
            if not target.exists():
                found = await download(
                    self._web,
                    self._clock,
                    source,
                    item.url,
                    target,
                    Partial(folder / f"{number}.part"),
                    limit=self._settings.max_dataset_bytes - done,
                    room=lambda size, done=done: self._cache.reserve(source, done + size),
                    known=condition,
                    trusted=plan.trusted,
                )
                if found is None:
                    return None
                version = found
            done += target.stat().st_size
        return version

    def _assemble(self, source: str, parsed: DatasetUri, plan: Plan, folder: Path) -> Source:
        """Hashes, checks and unpacks what was fetched; in a thread."""
        files, limit = folder / "files", self._settings.max_dataset_bytes
        if plan.folder:
            digest = files_sha256(files, (each for each in sorted(files.rglob("*")) if each.is_file()))
            return Source(source, digest, "data", size_of(files))
        file = next(files.iterdir())
        digest, note = file_sha256(file), ""
        if parsed.scheme == "blob" and digest != parsed.rest:
            shutil.rmtree(folder)
            raise CyxError(Code.UNAVAILABLE, f"The dataset {source} arrived damaged: it has the SHA-256 {digest}.")
        if parsed.scheme == "ipfs":
            verdict = verify(parsed.kind, file) if not parsed.rest else None
            if verdict is False:
                shutil.rmtree(folder)
                raise invalid(f"The dataset {source}: the gateway gave other content than the CID names.", uri=source)
            if verdict is None:
                note = "The gateway's answer could not be checked against the CID: it is not one plain block"
        name, unpacked = file.name, folder / "unpacked"
        for earlier in (unpacked, folder / "plain"):
            _discard(earlier)
        if is_gzip(file):
            gunzip(f"The dataset {source}", file, folder / "plain", limit, BOUND)
            file, name = folder / "plain", name.removesuffix(".gz")
        if is_tar(file):
            untar(f"The dataset {source}", file, unpacked, limit, BOUND)
            name = "data"
        elif file.name == "plain":
            os.replace(file, unpacked)
        size = size_of(unpacked if unpacked.exists() else file)
        return Source(source, digest, name, size, digest, note=note)


def _told(uri: str, source: Source, fresh: bool) -> str:
    what = f"sha256 {source.sha256}" if source.sha256 else f"content {source.key}"
    told = f"The dataset {uri} {'was fetched' if fresh else 'was on this node'}: {source.size} bytes, {what}"
    return f"{told}. {source.note}" if source.note else told


def _prepare(folder: Path, version: str) -> None:
    """A folder to fetch to; what lies there of another version is removed."""
    note = folder / "version"
    if folder.exists() and (not note.exists() or note.read_text() != version):
        shutil.rmtree(folder)
    if not version:  # a partial file tells its own version, a whole one does not
        _discard(folder / "files")
    folder.mkdir(parents=True, exist_ok=True)
    _discard(folder / "object")
    note.write_text(version)


def _copy(source: Path, files: Path, paths: Sequence[str]) -> None:
    _discard(files)
    for path in paths:
        target = files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target, follow_symlinks=False)


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
