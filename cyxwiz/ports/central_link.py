"""A node's way to central: the messages of `cyxwiz.ext.v1` NodeLink, and blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from cyxwiz.ext.v1 import link_pb2 as pb


class LinkSession(Protocol):
    """One open stream. Messages arrive in the order sent, each at most once; the stream may end at any point.

    `send` raises UNAVAILABLE once the stream is gone. Iterating `receive` ends when central closed the stream and
    raises the CyxError that central ended it with (UNAUTHENTICATED, FORBIDDEN, …), or UNAVAILABLE when it was cut.
    """

    async def send(self, message: pb.NodeMessage) -> None: ...

    def receive(self) -> AsyncIterator[pb.CentralMessage]: ...

    async def aclose(self) -> None: ...


class CentralLink(Protocol):
    """How a node reaches central; the node dials, always.

    `open` raises UNAVAILABLE when central can't be reached. `push_blob` returns when central has the whole content,
    resuming what is there, with its SHA-256 and its size in bytes; `sha256` is what the file is said to be (INVALID if
    it is something else), None if nobody has said. `fetch_blob` writes a blob that a live lease of this node names,
    checked by its hash. `session_token` is set from Welcome and authenticates the blob calls.
    """

    session_token: str

    async def open(self) -> LinkSession: ...

    async def push_blob(self, path: Path, sha256: str | None = None) -> tuple[str, int]: ...

    async def fetch_blob(self, sha256: str, path: Path) -> None: ...

    async def aclose(self) -> None: ...
