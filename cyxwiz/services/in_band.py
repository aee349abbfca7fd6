"""Errors inside an answer: what the wire contract has told with gRPC OK, by the node, by central and by its relay.

`error.code` is HTTP's number, as the earlier system's reservations and nodes have it; `error.details` is our own word.
"""

from __future__ import annotations

from cyxwiz import wire
from cyxwiz.domain.errors import CyxError
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import execution_pb2 as pb

GONE = 410  # a reservation's time ran out


def error_to(error: CyxError) -> common.Error:
    number = GONE if error.details.get("expired") else wire.CODES[error.code].http
    return common.Error(code=number, message=error.message, details=str(error.code))


def not_connected(error: CyxError, node_id: str = "") -> pb.ConnectResponse:
    """A ConnectToNode whose token won't do; which of its parts is wrong is told to nobody."""
    told = error_to(error)
    told.message = "Invalid or expired auth token"  # the earlier system's words
    return pb.ConnectResponse(status=common.STATUS_ERROR, node_id=node_id, error=told)


def not_sent(error: CyxError) -> pb.SendJobResponse:
    return pb.SendJobResponse(status=common.STATUS_ERROR, rejection_reason=error.message, error=error_to(error))


def disconnected(*, found: bool) -> pb.DisconnectResponse:
    message = "disconnected" if found else "there was no session of this token"
    return pb.DisconnectResponse(status=common.STATUS_SUCCESS, message=message)
