"""What a client asks about reservations: a part of `Client`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class ReservationCalls:
    """Mixed into `Client`, whose calls it makes."""

    _met: bool

    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        raise NotImplementedError

    async def prepare(self, job: Mapping[str, Any] | Path | str) -> Mapping[str, Any]:
        raise NotImplementedError

    async def reservations(self, **filters: Any) -> Json:
        """A page of reservations: active, user_id, page, limit."""
        return await self._ask("ListReservations", "", filters, safe=self._met)

    async def reservation(self, reservation_id: str) -> Json:
        return await self._ask("GetReservation", reservation_id, safe=self._met)

    async def reserve(self, node_id: str, minutes: int, job: Mapping[str, Any] | Path | str | None = None) -> Json:
        """Keeps a node for this caller; `p2p` of the answer says how to reach it. `job` is the first one to run there;
        further ones name the reservation in their job files."""
        given: dict[str, Any] = {"node_id": node_id, "duration_minutes": minutes}
        if job is not None:
            given["job"] = await self.prepare(job)
        return await self._ask("CreateReservation", "", given, key=str(uuid.uuid4()), safe=True)

    async def extend_reservation(self, reservation_id: str, minutes: int) -> Json:
        """More time at the same price, paid once however often it has to be asked for."""
        args = {"additional_minutes": minutes}
        return await self._ask("ExtendReservation", reservation_id, args, key=str(uuid.uuid4()), safe=True)

    async def release_reservation(self, reservation_id: str, reason: str = "") -> Json:
        """Gives the node back; what was used is paid, the rest goes back."""
        return await self._ask("ReleaseReservation", reservation_id, {"reason": reason}, safe=self._met)
