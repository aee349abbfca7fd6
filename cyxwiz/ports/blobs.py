"""Content-addressed bytes. A blob is named by the SHA-256 of its content, in hex."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol


class Upload(Protocol):
    """One upload in progress; it can be left at any point and gone on with later from `offset`.

    `write` appends. `commit` checks length and digest and makes the blob readable, durable and permanent; on a mismatch
    it forgets the bytes and raises INVALID. Leaving the context without a commit keeps the bytes for a later resume.
    """

    offset: int

    async def write(self, data: bytes) -> None: ...

    async def commit(self) -> None: ...

    async def aclose(self) -> None: ...


class BlobStore(Protocol):
    """Stores each content once.

    `size` is None for what is not (wholly) stored; `partial` tells how much of an upload is there. `begin` resumes at
    `offset`, which must be at most `partial` (CONFLICT otherwise); two uploads of one content by one `owner` at a time:
    CONFLICT; what is wholly stored: EXISTS. Owners don't see each other's uploads: an owner is an id, or empty. A name
    that is no SHA-256 in hex is INVALID.
    `read` yields chunks of at most 1 MiB; an unknown blob is NOT_FOUND, a range outside it INVALID.
    EXHAUSTED when the disk is full; nothing half-written is ever readable.
    """

    async def size(self, sha256: str) -> int | None: ...

    async def partial(self, sha256: str, owner: str = "") -> int: ...

    async def begin(self, sha256: str, size: int, offset: int, owner: str = "") -> Upload: ...

    def read(self, sha256: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]: ...

    async def add_file(self, path: Path, sha256: str | None = None) -> tuple[str, int]:
        """Stores a local file; returns (sha256, size). Raises INVALID, storing nothing, when it is not `sha256`."""
        ...

    async def delete(self, sha256: str) -> None: ...

    async def unfinished(self, owner: str) -> Sequence[int]:
        """The bytes that are there of each upload that the owner has begun and not ended."""
        ...

    async def sweep(self) -> None:
        """Forgets the uploads that nobody has gone on with for a day."""
        ...
