"""What a node must not forget: the leases it took and the reports that central has not acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cyxwiz.domain.ids import Token
from cyxwiz.ext.v1 import link_pb2 as pb


@dataclass(frozen=True, slots=True)
class JournalLease:
    assign: pb.Assign
    boot_id: str  # the run of the node that took it
    last_seq: int
    acked_seq: int
    ended: bool


class NodeJournal(Protocol):
    """Written before it returns, in order: the process may be killed at any time. What ends a run is durable (fsynced).

    `append` gives each report the lease's next seq and keeps it until `acknowledge` reaches it; with `ends` the run is
    marked as over. `take` is idempotent. `forget` drops a lease with everything it kept. EXHAUSTED when the disk is
    full.
    """

    async def take(self, assign: pb.Assign, boot_id: str) -> None: ...

    async def append(self, reports: Sequence[pb.Report], *, ends: bool = False) -> Sequence[pb.Report]: ...

    async def acknowledge(self, job_id: str, token: Token, seq: int) -> None: ...

    async def unacknowledged(self, job_id: str, token: Token, after: int) -> Sequence[pb.Report]: ...

    async def leases(self) -> Sequence[JournalLease]: ...

    async def forget(self, job_id: str, token: Token) -> None: ...

    async def aclose(self) -> None: ...
