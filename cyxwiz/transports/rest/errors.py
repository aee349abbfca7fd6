"""How an error leaves by HTTP: the status of the one table, and the one body.

Promised: whatever goes wrong, the body is `{"error": {code, message, details, retryable, request_id}}` and never has a
traceback. Two statuses stand beside the table because HTTP clients act on them: 405 and 416.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from cyxwiz import wire
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.transports.auth import internal

REQUEST_ID = "cyxwiz.request_id"  # where the gate leaves it in the scope
_EXTRA_HEADERS: Mapping[Code, Mapping[str, str]] = {
    Code.UNAUTHENTICATED: {"WWW-Authenticate": "Bearer"},
    Code.EXHAUSTED: {"Retry-After": "1"},
    Code.UNAVAILABLE: {"Retry-After": "1"},
}


class RangeError(CyxError):
    """A range outside a blob: INVALID, and 416 by HTTP with the blob's size."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(Code.INVALID, message, {"size": size, "field": "Range"})
        self.size = size


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str, allow_nan=False).encode()


def document(error: CyxError, request_id: str) -> dict[str, Any]:
    return {
        "error": {
            "code": str(error.code),
            "message": error.message,
            "details": error.details,
            "retryable": error.retryable,
            "request_id": request_id,
        }
    }


def answer(error: BaseException, scope: Scope) -> Response:
    """The response for whatever was raised while `scope` was served."""
    request_id = scope.get(REQUEST_ID, "")
    status, headers = None, {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        error = _of_http(error, scope)
        status = status if status == 405 else None
    elif isinstance(error, ClientDisconnect):
        error = CyxError(Code.UNAVAILABLE, "The client went away before the end of its request")
    elif isinstance(error, TimeoutError):
        error = CyxError(Code.TIMEOUT, "The request's body did not arrive in time")
    elif not isinstance(error, CyxError):
        error = internal(error, f"{scope.get('method', scope['type'])} {scope.get('path')} (request {request_id})")
    if isinstance(error, RangeError):
        status, headers = 416, {"Content-Range": f"bytes */{error.size}"}
    return Response(
        encode(document(error, request_id)),
        status or wire.CODES[error.code].http,
        {**_EXTRA_HEADERS.get(error.code, {}), **headers},
        "application/json",
    )


def _of_http(error: HTTPException, scope: Scope) -> CyxError:
    """What the framework itself refuses: no such route, no such verb."""
    path = str(scope.get("path", ""))[:200]
    if error.status_code == 404:
        return CyxError(Code.NOT_FOUND, f"No such route: {path}; /docs lists them all", {"path": path})
    if error.status_code == 405:
        return CyxError(
            Code.INVALID,
            f"{scope.get('method')} is not allowed on {path}",
            {"path": path, "method": scope.get("method")},
        )
    code = Code.INVALID if error.status_code < 500 else Code.INTERNAL
    return CyxError(code, str(error.detail)[:500])
