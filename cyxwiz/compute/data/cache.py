"""What a node keeps of data that it fetched, on disk, named by content.

    objects/<key>/<name>     the data: a file or a folder; key is the SHA-256 of what was fetched
    sources/<sha256>.json    which object a URI's data are, and their version; its time is that of the last use
    incoming/<sha256>/       what is being fetched, or was when it was cut
    trash/                   what is being removed

Promises: an object is there whole or not at all; what is kept and what is being fetched stay within the limit; the
least recently used goes first; what somebody holds stays. One process works on a folder at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from cyxwiz.compute.archive import FOLDER_BYTES
from cyxwiz.compute.data.download import write_durably
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id
from cyxwiz.domain.job import data_key
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)
MAX_KEYS = 256


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object came from. `version` is the source's own word for what it is, where there is one."""

    uri: str  # without options
    key: str
    name: str
    size: int
    sha256: str = ""  # of the one file that was fetched; empty for several
    version: str = ""
    etag: str = ""
    modified: str = ""
    note: str = ""


@dataclass(slots=True)
class _Object:
    size: int
    users: int = 0


class Held:
    """A use of an object: it is not removed before `release`."""

    def __init__(self, path: Path, source: Source, let_go: Callable[[str], None]) -> None:
        self.path = path
        self.source = source
        self._let_go: Callable[[str], None] | None = let_go

    def release(self) -> None:
        if self._let_go is not None:
            self._let_go(self.source.key)
            self._let_go = None


class Cache:
    """Objects and their sources. Reads its folder when it is made: some milliseconds for a thousand sources."""

    def __init__(self, directory: Path, limit_bytes: int, clock: Clock) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._sources: dict[str, Source] = {}  # by URI, the least recently used first
        self._reserved: dict[str, int] = {}  # by URI that is being fetched
        self._remains: dict[str, int] = {}  # of fetches that nobody is at, by the name of their folder
        self._dropped = False  # whether there is something in trash/
        self._entering = asyncio.Lock()
        self._recall()

    # what is there

    def find(self, uri: str) -> Source | None:
        return self._sources.get(uri)

    def holds(self, uri: str) -> bool:
        return data_key(uri) in self.inventory()

    def inventory(self) -> list[str]:
        """`data_key` of at most MAX_KEYS sources, the most recently used first."""
        keys = dict.fromkeys(data_key(uri) for uri in reversed(self._sources))
        return list(keys)[:MAX_KEYS]

    @property
    def used_bytes(self) -> int:
        held = sum(each.size for each in self._objects.values())
        return held + sum(self._reserved.values()) + sum(self._remains.values())

    def use(self, uri: str) -> Held:
        """Holds a source that `find` knows, and makes it the most recently used."""
        source = self._sources.pop(uri)
        self._sources[uri] = source
        kept = self._objects[source.key]
        kept.users += 1
        now = self._clock.now().timestamp()
        with contextlib.suppress(OSError):  # only the order after a restart depends on it
            os.utime(self._note(uri), (now, now))
        return Held(self.directory / "objects" / source.key / source.name, source, self._let_go)

    def _let_go(self, key: str) -> None:
        """One use less. Data that a newer version has replaced meanwhile are removed by the next fetch."""
        self._objects[key].users -= 1
        self._drop_orphan(key)

    # what is coming

    def incoming(self, uri: str) -> Path:
        """Where a source is fetched to. Stays after a failure, so that the next attempt goes on."""
        return self.directory / "incoming" / _digest(uri)

    def begin(self, uri: str) -> None:
        """A fetch of the source starts: what an earlier attempt left is its own again."""
        self._reserved[uri] = self._remains.pop(_digest(uri), 0)

    def end(self, uri: str) -> None:
        """The fetch is over. What it reserved and did not enter is taken to lie in its folder still."""
        size = self._reserved.pop(uri, 0)
        if self.incoming(uri).exists():
            self._remains[_digest(uri)] = size

    async def reserve(self, uri: str, size: int) -> None:
        """Makes room for all that a fetch has on disk; it counts from the largest size that was asked for.

        Raises:
            CyxError: EXHAUSTED when the limit does not allow it beside what is held.
        """
        earlier = self._reserved.get(uri, 0)
        self._reserved[uri] = max(earlier, size)
        while self._remains and self.used_bytes > self.limit_bytes:
            name, _ = self._remains.popitem()
            self._drop(self.directory / "incoming" / name)
        for source in sorted(self._sources.values(), key=lambda each: each.uri == uri):
            if self.used_bytes <= self.limit_bytes:
                break
            if self._objects[source.key].users == 0:
                del self._sources[source.uri]
                self._drop(self._note(source.uri))
                self._drop_orphan(source.key)
        await self._empty_trash()
        if self.used_bytes > self.limit_bytes:
            self._reserved[uri] = earlier
            raise CyxError(
                Code.EXHAUSTED,
                f"The dataset {uri} needs {size} bytes; the node's cache holds {self.limit_bytes} "
                "(node.data_cache_bytes), and other jobs may use what is there.",
                {"uri": uri, "bound": self.limit_bytes},
            )

    async def enter(self, source: Source, fetched: Path) -> None:
        """Takes over what was fetched, a file or a folder, as the source's data, in place of its earlier ones."""
        async with self._entering:
            kept = self._objects.get(source.key)
            fresh = kept is None
            kept = kept or _Object(source.size)
            kept.users += 1  # it must not go while its note is written
            try:
                await asyncio.to_thread(self._publish, source, fetched if fresh else None)
                self._objects[source.key] = kept
                earlier = self._sources.pop(source.uri, None)
                self._sources[source.uri] = source
                self._reserved[source.uri] = 0
                if earlier is not None:
                    self._drop_orphan(earlier.key)
            finally:
                kept.users -= 1
        await self._empty_trash()

    # inside

    def _note(self, uri: str) -> Path:
        return self.directory / "sources" / f"{_digest(uri)}.json"

    def _publish(self, source: Source, fetched: Path | None) -> None:
        """The object under its name, then its note; `fetched` is None where the object is there already."""
        target = self.directory / "objects" / source.key
        if fetched is None and not (target / source.name).exists():  # as another source calls it
            os.link(next(target.iterdir()), target / source.name)
        if fetched is not None:
            shutil.rmtree(target, ignore_errors=True)
            staged = fetched.parent / "object"
            staged.mkdir()
            os.replace(fetched, staged / source.name)
            _settle(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, target)
            _fsync_folder(target.parent)
        self._note(source.uri).parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._note(source.uri), json.dumps(asdict(source)).encode())

    def _drop_orphan(self, key: str) -> None:
        """Removes an object that nobody uses and no source names."""
        if not self._objects[key].users and not any(source.key == key for source in self._sources.values()):
            del self._objects[key]
            self._drop(self.directory / "objects" / key)

    def _drop(self, path: Path) -> None:
        """Takes a path out of the way at once: the same name may come again. What it holds is removed later."""
        trash = self.directory / "trash"
        trash.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, trash / new_id())
        self._dropped = True

    async def _empty_trash(self) -> None:
        if self._dropped:
            self._dropped = False
            await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for path in (self.directory / "trash").iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _recall(self) -> None:
        """What an earlier life of the node left. Objects that no source names are removed."""
        found: list[tuple[float, Source]] = []
        for path in self._notes():
            try:
                source = Source(**json.loads(path.read_text()))
                if (self.directory / "objects" / source.key / source.name).exists() and path == self._note(source.uri):
                    found.append((path.stat().st_mtime, source))
            except (OSError, ValueError, TypeError) as error:
                log.warning("the note %s of a fetched data set can't be read and is left out: %s", path.name, error)
        for _, source in sorted(found, key=lambda entry: entry[0]):
            self._sources[source.uri] = source
            self._objects.setdefault(source.key, _Object(source.size))
        objects = self.directory / "objects"
        if objects.is_dir():
            for path in [path for path in objects.iterdir() if path.name not in self._objects]:
                self._drop(path)
        shutil.rmtree(self.directory / "trash", ignore_errors=True)
        self._dropped = False
        incoming = self.directory / "incoming"
        if incoming.is_dir():
            self._remains = {path.name: size_of(path) for path in incoming.iterdir()}

    def _notes(self) -> Iterator[Path]:
        folder = self.directory / "sources"
        return folder.glob("*.json") if folder.is_dir() else iter(())


def _digest(uri: str) -> str:
    return sha256(uri.encode(errors="replace")).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files and folders below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(FOLDER_BYTES if each.is_dir() else each.lstat().st_size for each in path.rglob("*"))


def _settle(folder: Path) -> None:
    """Read-only files that a child of another user id may read, all of them on disk."""
    for root, _, files in os.walk(folder):
        os.chmod(root, 0o755)  # noqa: S103
        for name in files:
            path = Path(root, name)
            path.chmod(0o444)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        _fsync_folder(Path(root))


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
