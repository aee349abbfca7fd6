"""Files to and from central, named by the SHA-256 of what they hold.

Promised: a transfer that was cut goes on where it stopped; a file appears under its name only whole and checked, by an
atomic rename. Refused: a result file whose name leads out of the folder that it is to lie in.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cyxwiz.domain.errors import Code, CyxError, invalid, not_found
from cyxwiz.ext.v1 import blobs_pb2 as pb

if TYPE_CHECKING:
    from cyxwiz.client.client import Client

CHUNK_BYTES = 256 * 1024
Progress = Callable[[str, int, int], None]
"""(name, bytes so far, bytes in all)"""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses (rights, room, a file where a folder should be) becomes INVALID with the path."""
    try:
        yield
    except (TimeoutError, ConnectionError):
        raise  # of whoever sends it
    except OSError as error:
        raise invalid(f"{path} can't be written: {error.strerror or error}", field="path") from None


def make_folder(directory: Path) -> None:
    """Makes a folder where it is missing, and tries it: before what is to lie there is paid for. Raises INVALID."""
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()


async def push(client: Client, stub: Any, path: Path, progress: Progress | None) -> dict[str, Any]:
    """A file; or a folder as the tar of its files, the same bytes whenever and wherever it is made."""
    if path.is_dir():
        with tempfile.TemporaryDirectory(prefix="cyxwiz-push-") as folder:
            archive = Path(folder, f"{path.resolve().name or 'data'}.tar")
            await asyncio.to_thread(pack, path, archive)
            return await _push_file(client, stub, archive, progress)
    return await _push_file(client, stub, path, progress)


def pack(folder: Path, archive: Path) -> None:
    """Writes the regular files below a folder as an uncompressed tar, sorted by path, without owners or times.

    Hidden files and symbolic links are left out. Raises INVALID for a folder without files.
    """
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not any(each.is_symlink() for each in (path, *path.parents[: len(path.relative_to(folder).parts) - 1]))
    )
    if not files:
        raise invalid(f"{folder} holds no files to upload", field="path")
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files:
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)


async def _push_file(client: Client, stub: Any, path: Path, progress: Progress | None) -> dict[str, Any]:
    sha256, size = await asyncio.to_thread(_hash_file, path)
    sent, fresh = 0, False

    async def stat() -> Any:
        return await stub.Stat(pb.BlobStatRequest(sha256=sha256), metadata=client.metadata())

    async def put() -> Any:
        nonlocal sent
        state = await stat()
        if state.complete:
            return state
        offset = 0 if fresh else min(state.offset, size)
        sent = size - offset
        return await stub.Put(_parts(path, sha256, size, offset, progress), metadata=client.metadata())

    try:
        await client.guarded(put, long=True)
    except CyxError as error:
        if error.code is Code.EXISTS:  # somebody else was faster with the same content
            sent = 0
        elif error.code is Code.INVALID and sent < size:
            fresh = True  # what the server had of it was not of this file
            await client.guarded(put, long=True)
        else:
            raise
    return {"sha256": sha256, "size": size, "uri": f"blob://sha256/{sha256}", "sent": sent}


async def _parts(
    path: Path, sha256: str, size: int, offset: int, progress: Progress | None
) -> AsyncIterator[pb.BlobPutRequest]:
    yield pb.BlobPutRequest(header=pb.BlobPutHeader(sha256=sha256, size=size, offset=offset))
    with path.open("rb") as file:
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            offset += len(data)
            yield pb.BlobPutRequest(data=data)
            if progress:
                progress(path.name, offset, size)


async def pull(client: Client, stub: Any, sha256: str, path: Path, progress: Progress | None) -> Path:
    sha256 = sha256.removeprefix("blob://sha256/").removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise invalid(f"{sha256[:80]!r} is no SHA-256 in hex (64 digits 0-9a-f)", field="sha256")
    if path.is_dir():
        raise invalid(f"{path} is a folder; name a file", field="path")
    if path.is_file() and (await asyncio.to_thread(_hash_file, path))[0] == sha256:
        return path
    with writing(path):
        return await _pull(client, stub, sha256, path, progress)


async def _pull(client: Client, stub: Any, sha256: str, path: Path, progress: Progress | None) -> Path:
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{sha256[:12]}.part")
    resumed = await client.guarded(lambda: _fetch(client, stub, sha256, path.name, partial, progress), long=True)
    if not await asyncio.to_thread(_publish, partial, path, sha256):
        if resumed:  # what lay there was not of this blob: once more, from its first byte
            await client.guarded(lambda: _fetch(client, stub, sha256, path.name, partial, progress), long=True)
        if not resumed or not await asyncio.to_thread(_publish, partial, path, sha256):
            raise CyxError(Code.INTERNAL, f"{path}: what arrived is not what {sha256} names; it was dropped, try again")
    return path


async def _fetch(client: Client, stub: Any, sha256: str, name: str, partial: Path, progress: Progress | None) -> bool:
    """Writes the rest of a blob to `partial`; whether some of it lay there before."""
    state = await stub.Stat(pb.BlobStatRequest(sha256=sha256), metadata=client.metadata())
    if not state.complete:
        raise not_found("blob", sha256)
    with partial.open("ab") as file:
        offset = file.tell()
        if offset > state.size:
            file.truncate(0)
            offset = 0
        resumed = offset > 0
        if resumed and offset == state.size:
            return True
        async for chunk in stub.Get(pb.BlobGetRequest(sha256=sha256, offset=offset), metadata=client.metadata()):
            await asyncio.to_thread(file.write, chunk.data)
            offset += len(chunk.data)
            if progress:
                progress(name, offset, chunk.size)
        file.flush()
        os.fsync(file.fileno())
    return resumed


def place(directory: Path, name: str) -> Path:
    """Where a result file of that name goes. Raises INVALID for a name that is not a plain relative one."""
    pure = PurePosixPath(name)
    if not name or "\\" in name or "\0" in name or pure.is_absolute() or not pure.parts or ".." in pure.parts:
        raise invalid(f"The result names a file {name!r}, which does not belong into {directory}: nothing was written")
    return directory.joinpath(*pure.parts)


def _publish(partial: Path, path: Path, sha256: str) -> bool:
    if _hash_file(partial)[0] != sha256:
        partial.unlink()
        return False
    os.replace(partial, path)
    return True


def _hash_file(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise invalid(f"{path} can't be read: {error.strerror}", field="path") from None
    return digest.hexdigest(), size
