"""Room for what users keep on central: how much of it each one takes, and how it is given up.

Counted are a user's blobs, which are uploads and the files of results, what is there of uploads that were not ended,
and what is announced of those on their way. Uploads beyond the bound are refused before their bytes are written; a
result is never refused, but with it the next job is. What nodes send is nobody's until a result names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, not_found
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.proof import is_digest
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.store import BlobInfo, Page, Store, Tx

MAX_UNFINISHED = 1000  # uploads of one user


class Coming:
    """One upload on its way. `expect` and `written` move what is counted of it."""

    def __init__(self, room: Room, user_id: UserId | None, kept: int) -> None:
        self._room, self._user_id, self._kept = room, user_id, kept
        self._bytes = 0

    def expect(self, size: int) -> None:
        """So many bytes more are to come. Raises EXHAUSTED."""
        if self._user_id is not None:
            self._room.refuse_beyond(self._kept + self._room.coming[self._user_id] + size)
            self._count(size)

    def written(self, size: int) -> None:
        """So many of them have come to where the store counts them."""
        self._count(-min(size, self._bytes))

    def _count(self, size: int) -> None:
        if self._user_id is not None:
            self._bytes += size
            self._room.coming[self._user_id] += size
            if not self._room.coming[self._user_id]:
                del self._room.coming[self._user_id]


class Room:
    def __init__(self, store: Store, blobs: BlobStore, *, most: int) -> None:
        """`most` bytes for each user; 0: no limit."""
        self._store = store
        self._blobs = blobs
        self._most = most
        self.coming: Counter[UserId] = Counter()

    @asynccontextmanager
    async def hold(self, actor: Principal, size: int, sha256: str = "") -> AsyncGenerator[Coming]:
        """Keeps room for an upload of `size` bytes, as far as that is known: none for what is the caller's already.
        Raises EXHAUSTED."""
        user_id, kept = (None if actor.node_id is not None or not self._most else actor.id), 0
        if user_id is not None:
            unfinished = await self._blobs.unfinished(user_id)
            if len(unfinished) >= MAX_UNFINISHED:
                message = f"{MAX_UNFINISHED} of your uploads are not ended: go on with them, or come back in a day"
                raise CyxError(Code.EXHAUSTED, message, retryable=False)
            taken, info = await self._store.read(lambda tx: (tx.kept_bytes(user_id), tx.blob(sha256)))
            kept = sum(unfinished) + taken
            size = 0 if info is not None and user_id in info.owners else size
        coming = Coming(self, user_id, kept)
        if size:
            coming.expect(size)
        try:
            yield coming
        finally:
            coming.written(1 << 62)

    def refuse_beyond(self, size: int) -> None:
        if size > self._most:
            raise no_room(self._most)

    async def mine(self, actor: Principal, offset: int, limit: int) -> Page[BlobInfo]:
        actor.require(Role.USER, Role.OPERATOR)
        return await self._store.read(lambda tx: tx.blobs_of(actor.id, offset, limit))

    async def give_up(self, actor: Principal, sha256: str) -> None:
        """The caller owns it no more; its bytes go unless somebody else owns or needs them.

        Raises:
            CyxError: INVALID for what is no hash; NOT_FOUND for what is not theirs; CONFLICT while a job of theirs
                needs it.
        """
        actor.require(Role.USER, Role.OPERATOR)
        if not is_digest(sha256):
            raise invalid(f"{sha256[:80]!r} is no SHA-256 in hex (64 digits 0-9a-f)", field="sha256")
        needs = await self._store.read(lambda tx: tx.job_with_blob(actor.id, sha256))
        if needs is not None:
            raise conflict(f"Job {needs} needs this blob: cancel it, or wait for its end", job_id=needs)

        def unit(tx: Tx) -> bool:
            if not tx.disown_blob(sha256, actor.id):
                raise not_found("blob", sha256[:64])
            return tx.drop_blob(sha256)

        if await self._store.write(unit):
            await self._blobs.delete(sha256)


def refuse_without_room(tx: Tx, owner_id: UserId, most: int) -> None:
    """Raises EXHAUSTED for a user who keeps as much as they may; `most` 0: no limit."""
    if most and tx.kept_bytes(owner_id) >= most:
        raise no_room(most)


def no_room(most: int) -> CyxError:
    message = (
        f"You may keep {most} bytes here, uploads and results together: delete what you need no more "
        "(`cyxwiz blobs list` and `cyxwiz blobs delete SHA256`, or DELETE /api/blobs/SHA256)"
    )
    return CyxError(Code.EXHAUSTED, message, {"limit": most}, retryable=False)
