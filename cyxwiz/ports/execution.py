"""The calls of `JobExecutionService`, however they come: at the node's own door, or passed on by central."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Headers:
    """What travels beside a call: the metadata `authorization` and `x-job-id`, empty where there is none."""

    authorization: str = ""
    job_id: str = ""


class Execution(Protocol):
    """Serves one call: messages in and out as bytes of the wire, of a unary method one each way.

    Iterating ends with the call. It raises the CyxError that the call is to be ended with: UNAUTHENTICATED for a token
    that is none or another job's, INVALID for bytes that are no message, NOT_FOUND for a job that is not here.
    """

    def serve(self, method: str, requests: AsyncIterator[bytes], headers: Headers) -> AsyncIterator[bytes]: ...
