"""Reservations by REST."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api, Extension, NewReservation, Reason, ReservationList
from cyxwiz.transports.rest.request import Operation


def operations(api: Api) -> list[Operation]:
    path = "/api/reservations/{id}"
    own = (Code.FORBIDDEN, Code.NOT_FOUND)
    return [
        Operation(
            "GET",
            "/api/reservations",
            "Your reservations, newest first",
            "Reservations",
            api.list_reservations,
            query=ReservationList,
        ),
        Operation(
            "POST",
            "/api/reservations",
            "Keep a node for yourself, and run a first job there",
            "Reservation",
            api.create_reservation,
            body=NewReservation,
            status=201,
            headers={"Idempotency-Key": "the same key and content get the first answer again; other content: CONFLICT"},
            refuses=(Code.NOT_FOUND, Code.CONFLICT, Code.UNSUPPORTED, Code.EXHAUSTED, Code.FUNDS, Code.STALE),
        ),
        Operation("GET", path, "A reservation", "Reservation", api.get_reservation, refuses=own),
        Operation(
            "POST",
            f"{path}/extend",
            "Keep the node longer, at the same price",
            "Reservation",
            api.extend_reservation,
            body=Extension,
            refuses=(*own, Code.CONFLICT, Code.FUNDS, Code.STALE),
        ),
        Operation(
            "POST",
            f"{path}/release",
            "Give the node back; what was used is paid, the rest goes back",
            "Reservation",
            api.release_reservation,
            body=Reason,
            body_optional=True,
            refuses=(*own, Code.CONFLICT, Code.STALE),
        ),
    ]
