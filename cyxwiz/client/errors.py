"""The error that the server raised, rebuilt from what travelled with the call.

Promised: whatever a call fails with becomes a `CyxError` with one of its codes; a failure without the server's own
words says which address was asked and what to do. Nothing is retried here.
"""

from __future__ import annotations

import json
from typing import Any

import grpc

from cyxwiz import wire
from cyxwiz.domain.errors import Code, CyxError

BROKEN_WRITE = "Internal error from Core"
"""What grpc.aio says when a message could not be written because the call had ended meanwhile (grpc/grpc#36066)."""
ANSWERED = (
    (
        ("http1.x server", "missing selected ALPN property"),
        Code.UNAVAILABLE,
        "speaks HTTP and no gRPC: take central's other address, which stands behind `grpc` where it was started",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed"),
        Code.UNAVAILABLE,
        "shows a certificate that is not trusted here, or of another name: --ca-file names its authority",
    ),
    (
        (": Socket closed",),
        Code.UNAVAILABLE,
        "hangs up, as what speaks TLS does: write grpcs:// before it, and name an authority of its own with --ca-file",
    ),
    (
        ("WRONG_VERSION_NUMBER",),
        Code.UNAVAILABLE,
        "speaks no TLS: write grpc:// before it, and leave --ca-file out",
    ),
    (
        ("Failed to create security handshaker",),
        Code.INVALID,
        "can't be called: what --ca-file, --cert-file or --key-file names holds no certificate or key in PEM",
    ),
)
"""What gRPC says of a door that answers, or of our own files: to start a server would not help."""


def rebuild(error: grpc.RpcError, address: str, timeout: float | None = None) -> CyxError:
    """The `CyxError` behind a failed call to `address`."""
    return _from_trailer(error) or _from_status(error, address, timeout)


def is_passing(error: CyxError) -> bool:
    """Whether the server is only away for now, so that the same call may be made again."""
    return error.code is Code.UNAVAILABLE and error.retryable


def _from_trailer(error: Any) -> CyxError | None:
    for key, value in error.trailing_metadata() or ():
        if key != wire.ERROR_METADATA:
            continue
        try:
            body: dict[str, Any] = json.loads(value)
            code = Code(body["code"])
            details = body.get("details")
            return CyxError(
                code,
                str(body["message"]),
                details if isinstance(details, dict) else None,
                retryable=bool(body.get("retryable", False)),
            )
        except (ValueError, KeyError, TypeError):
            # A newer server may know codes that this program does not: the gRPC status still says what it is.
            return None
    return None


def _from_status(error: Any, address: str, timeout: float | None) -> CyxError:
    status: grpc.StatusCode = error.code()
    said = str(error.details() or "")
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return unreachable(address, said)
    if status is grpc.StatusCode.INTERNAL and said == BROKEN_WRITE:
        return unreachable(address, "the connection broke while a message was being sent")
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        waited = f" within {timeout:g} s" if timeout else ""
        return CyxError(Code.TIMEOUT, f"{address} did not answer{waited}; try again, or allow it more time")
    code = wire.FROM_GRPC.get(status.value[0])
    if code is None:
        return CyxError(Code.INTERNAL, f"{address} failed without saying why ({status.name}: {said[:500]})")
    if code == Code.UNSUPPORTED and said in ("", "Method not found!"):
        said = f"{address} does not know this request: it is another kind of server, or an older one"
    return CyxError(Code(code), said[:4000] or f"{address} answered {status.name}")


def unreachable(address: str, said: str = "") -> CyxError:
    for signs, code, what in ANSWERED:
        if any(sign in said for sign in signs):
            return CyxError(code, f"{address} {what} ({_cause(said)})", {"address": address})
    because = f" ({_cause(said)})" if said else ""
    return CyxError(
        Code.UNAVAILABLE,
        f"No answer from {address}{because}: start a server with `cyxwiz run --role both`, "
        "or name another one with --server or CYXWIZ_SERVER",
        {"address": address},
    )


def _cause(said: str) -> str:
    """The last reason in gRPC's chain of them, which is the one that a person can act on."""
    last = said.replace("\n", " ").rpartition("; last error: ")[2].removesuffix(": OK")
    return (last.rpartition(": ")[2] or last)[:200].strip(" []")
