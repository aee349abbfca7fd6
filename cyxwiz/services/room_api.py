"""The part of the `Api` that is about what users keep."""

from __future__ import annotations

from cyxwiz.domain.errors import unsupported
from cyxwiz.services import views
from cyxwiz.services.call import Call, Paging, takes_nothing
from cyxwiz.services.room import Room
from cyxwiz.services.views import Json


class RoomApi:
    """`room` is None where no blobs are kept: every method then is UNSUPPORTED."""

    room: Room | None

    async def list_blobs(self, call: Call) -> Json:
        args = call.read(Paging)
        result = await self.keeping.mine(call.caller, args.offset, args.limit)
        return views.page("blobs", result, views.blob, args.page, args.limit)

    @takes_nothing
    async def delete_blob(self, call: Call) -> Json:
        await self.keeping.give_up(call.caller, call.id)
        return {"sha256": call.id, "deleted": True}

    @property
    def keeping(self) -> Room:
        if self.room is None:
            raise unsupported("No blobs are kept here")
        return self.room
