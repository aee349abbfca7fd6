"""The one table from error codes to the numbers of each door. Plain numbers: no transport is imported here."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    grpc_name: str
    grpc: int
    http: int
    websocket: int
    exit: int


CODES: dict[str, Row] = {
    "INVALID": Row("INVALID_ARGUMENT", 3, 400, 4400, 2),
    "UNAUTHENTICATED": Row("UNAUTHENTICATED", 16, 401, 4401, 4),
    "FORBIDDEN": Row("PERMISSION_DENIED", 7, 403, 4403, 4),
    "NOT_FOUND": Row("NOT_FOUND", 5, 404, 4404, 3),
    "EXISTS": Row("ALREADY_EXISTS", 6, 409, 4409, 1),
    "CONFLICT": Row("FAILED_PRECONDITION", 9, 409, 4409, 1),
    "STALE": Row("ABORTED", 10, 409, 4409, 1),
    "FUNDS": Row("FAILED_PRECONDITION", 9, 402, 4402, 6),
    "EXHAUSTED": Row("RESOURCE_EXHAUSTED", 8, 429, 4429, 1),
    "UNSUPPORTED": Row("UNIMPLEMENTED", 12, 501, 4501, 1),
    "UNAVAILABLE": Row("UNAVAILABLE", 14, 503, 4503, 5),
    "TIMEOUT": Row("DEADLINE_EXCEEDED", 4, 504, 4504, 5),
    "INTERNAL": Row("INTERNAL", 13, 500, 4500, 1),
}

# Which code a bare gRPC status means when the server sent none of ours (a proxy, an earlier kind of server).
FROM_GRPC: dict[int, str] = {row.grpc: code for code, row in reversed(CODES.items())}

# gRPC trailing metadata that carries the error itself, as the JSON object of the REST error body.
ERROR_METADATA = "cyxwiz-error-bin"
