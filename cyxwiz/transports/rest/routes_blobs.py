"""Bulk bytes by REST.

`POST /api/blobs` takes a whole blob in one request, or with `X-Content-SHA256`, `Upload-Length` and `Upload-Offset` a
part of one: 201 when it is whole, 202 with the offset when it is not. `HEAD` on a blob that is not whole is 404 with
`Upload-Offset`. Owning a blob needs its bytes: its name alone, which others may know, makes nobody its owner.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, not_found
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.services.api import Api
from cyxwiz.services.call import Call, Paging
from cyxwiz.services.room import Coming
from cyxwiz.transports.rest.errors import RangeError
from cyxwiz.transports.rest.request import BODY_SECONDS, Operation, reply

UPLOAD_PATH = "/api/blobs"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_SPOOLED = ".upload"
PIECE_BYTES = 1 << 20


class BlobDoor:
    def __init__(self, api: Api, blobs: BlobStore, *, spool: Path, max_bytes: int) -> None:
        """`spool` is a folder of this process alone; what an earlier one left there goes."""
        self._blobs = blobs
        self._api = api
        self._jobs = api.jobs
        self._room = api.keeping
        self._spool = spool
        self._max_bytes = max_bytes
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in spool.glob(f"*{_SPOOLED}"):
            left.unlink(missing_ok=True)

    def operations(self) -> list[Operation]:
        path = UPLOAD_PATH + "/{sha256}"
        reading = {"Range": "one range of bytes", "If-Range": "an ETag", "If-None-Match": "an ETag"}
        also = {206: "The range of it that was asked for", 304: "You have it"}
        return [
            Operation(
                "POST",
                UPLOAD_PATH,
                "Store a blob, whole or in parts",
                "Blob",
                serve=self.upload,
                raw_body=True,
                lasting=True,
                headers={
                    "X-Content-SHA256": "of the whole blob; with it the upload can be gone on with later",
                    "Upload-Length": "size of the whole blob in bytes",
                    "Upload-Offset": "where this part begins; 0 when missing",
                },
                status=201,
                also={202: "So far so good: send the rest from `offset` on"},
                refuses=(Code.CONFLICT, Code.EXISTS, Code.EXHAUSTED, Code.TIMEOUT),
            ),
            Operation("GET", UPLOAD_PATH, "Your blobs, by their hashes", "Blobs", self._api.list_blobs, query=Paging),
            Operation(
                "DELETE",
                path,
                "Give up a blob: a job of yours that has not ended must not need it",
                "DeletedBlob",
                self._api.delete_blob,
                refuses=(Code.CONFLICT,),
            ),
            Operation(
                "GET",
                path,
                "A blob's bytes",
                "application/octet-stream",
                serve=self.download,
                headers=reading,
                also=also,
                lasting=True,
            ),
            Operation(
                "HEAD",
                path,
                "A blob's size, or how much of it is there",
                "application/octet-stream",
                serve=self.download,
                headers=reading,
                also=also,
            ),
        ]

    # in

    async def upload(self, request: Request, call: Call) -> Response:
        actor = _anybody(call)
        if call.args:
            name = next(iter(call.args))[:100]
            raise invalid(f"{name}: unknown query parameter", field=name)
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/octet-stream":
            raise invalid(f"Content-Type: must be application/octet-stream, not {media[:100]!r}", field="Content-Type")
        sha256, length = request.headers.get("x-content-sha256"), _whole(request, "upload-length")
        offset, announced = _whole(request, "upload-offset"), _whole(request, "content-length")
        for size in (length, announced):
            if size is not None and size > self._max_bytes:
                raise invalid(f"A blob has at most {self._max_bytes} bytes, not {size}", limit=self._max_bytes)
        if sha256 is None:
            if length is not None or offset is not None:
                raise invalid("X-Content-SHA256: needed with Upload-Length and Upload-Offset", field="X-Content-SHA256")
            async with self._room.hold(actor, announced or 0) as coming:
                sha256, size = await self._spooled(request, coming if announced is None else None)
                return await self._stored(actor, sha256, size)
        if length is None:
            length = announced if offset in (None, 0) else None
        if length is None:
            raise invalid("Upload-Length: needed with X-Content-SHA256", field="Upload-Length")
        return await self._part(request, actor, _named(sha256), length, offset or 0)

    async def _spooled(self, request: Request, coming: Coming | None) -> tuple[str, int]:
        """Stores a body. `coming` counts one whose length was not announced."""
        path, size = self._spool / f"{uuid.uuid4()}{_SPOOLED}", 0
        try:
            with await asyncio.to_thread(path.open, "xb") as file:
                async for data in _chunks(request):
                    size += len(data)
                    if size > self._max_bytes:
                        raise invalid(f"A blob has at most {self._max_bytes} bytes", limit=self._max_bytes)
                    if coming is not None:
                        coming.expect(len(data))
                    await asyncio.to_thread(file.write, data)
            return await self._blobs.add_file(path)
        except OSError as error:
            raise CyxError(Code.EXHAUSTED, f"The upload can't be kept: {os.strerror(error.errno or 0)}") from error
        finally:
            path.unlink(missing_ok=True)

    async def _part(self, request: Request, actor: Principal, sha256: str, length: int, offset: int) -> Response:
        if await self._blobs.size(sha256) is not None:
            return await self._proved(request, actor, sha256, length, offset)
        async with self._room.hold(actor, max(0, length - offset), sha256) as coming:
            upload = await self._blobs.begin(sha256, length, offset, actor.node_id or actor.id)
            try:
                async for data in _chunks(request):
                    await upload.write(data)
                    coming.written(len(data))
                if upload.offset < length:
                    answer = {"sha256": sha256, "size": length, "offset": upload.offset}
                    return reply(answer, 202, {"Upload-Offset": str(upload.offset)})
                await upload.commit()
            finally:
                await upload.aclose()
            return await self._stored(actor, sha256, length)

    async def _proved(self, request: Request, actor: Principal, sha256: str, length: int, offset: int) -> Response:
        """It is stored already: its owner need not send it again, anybody else must show that they have it."""
        size = await self._blobs.size(sha256)
        try:
            await self._jobs.may_read_blob(actor, sha256)
        except CyxError as error:
            if error.code is not Code.NOT_FOUND:
                raise
        else:
            return await self._stored(actor, sha256, size or 0)
        async with self._room.hold(actor, length, sha256):
            digest, seen = hashlib.sha256(), 0
            async for data in _chunks(request):
                digest.update(data)
                seen += len(data)
                if seen > length:
                    break
            if offset != 0 or digest.hexdigest() != sha256 or seen != length:
                raise conflict("Others have stored this blob: send all of it in one request", sha256=sha256)
            return await self._stored(actor, sha256, seen)

    async def _stored(self, actor: Principal, sha256: str, size: int) -> Response:
        # A node's upload belongs to nobody until a result names it.
        await self._jobs.record_blob(sha256, size, owner=None if actor.node_id else actor.id, sender=actor.node_id)
        answer = {"sha256": sha256, "size": size, "uri": f"blob://sha256/{sha256}"}
        return reply(answer, 201, {"Location": f"{UPLOAD_PATH}/{sha256}", "Upload-Offset": str(size)})

    # out

    async def download(self, request: Request, call: Call) -> Response:
        sha256 = _named(call.id)
        actor = _anybody(call)
        try:
            await self._jobs.may_read_blob(actor, sha256)
        except CyxError as error:
            if request.method != "HEAD" or error.code is not Code.NOT_FOUND:
                raise
            partial = await self._blobs.partial(sha256, actor.node_id or actor.id)
            return Response(None, 404, {"Upload-Offset": str(partial)})
        size = await self._blobs.size(sha256)
        if size is None:
            raise not_found("blob", sha256)
        etag = f'"{sha256}"'
        headers = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, immutable, max-age=31536000",
            "Content-Disposition": f'attachment; filename="{sha256[:16]}.bin"',
        }
        if etag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
            return Response(None, 304, headers)
        span = _span(request, etag, size)
        status, (start, end) = (206, span) if span else (200, (0, size))
        if span:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        media = "application/octet-stream"
        if request.method == "HEAD":
            return Response(None, status, headers, media)
        return StreamingResponse(self._blobs.read(sha256, start, end - start), status, headers, media)


def _anybody(call: Call) -> Principal:
    """Nodes too: `may_read_blob` knows what each may read."""
    if call.actor is None:
        return call.caller
    return call.actor


def _named(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise invalid(f"{sha256[:80]!r} is no SHA-256 in hex (64 digits 0-9a-f)", field="sha256")
    return sha256


def _whole(request: Request, name: str) -> int | None:
    text = request.headers.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise invalid(f"{name.title()}: must be a whole number of bytes, not {text[:40]!r}", field=name.title())
    return int(text)


def _span(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """(start, end) of the one range asked for; None for all of it, as for units and lists that are not served."""
    text = request.headers.get("range", "").replace(" ", "")
    if not text.startswith("bytes=") or "," in text or request.headers.get("if-range", etag) != etag:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise RangeError(f"Range: {text[:60]!r} is no range of bytes", size)
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    if start >= end:
        raise RangeError(f"Range: {text[:60]!r} is not within the blob's {size} bytes", size)
    return start, end


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces large enough to be worth a disk access; what came before a break comes out first."""
    stream, pending = aiter(request.stream()), bytearray()
    try:
        while True:
            async with asyncio.timeout(BODY_SECONDS):
                pending += await anext(stream)
            if len(pending) >= PIECE_BYTES:
                yield bytes(pending)
                pending.clear()
    except StopAsyncIteration:
        if pending:
            yield bytes(pending)
    except (ClientDisconnect, TimeoutError):
        if pending:
            yield bytes(pending)
        raise
