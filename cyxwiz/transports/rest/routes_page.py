"""The page at `/`, its files, the description at `/docs`, and the event stream that keeps the page current.

No asset comes from elsewhere and no script is inline, so that the content policy can forbid both.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field
from starlette.responses import Response

from cyxwiz import __version__
from cyxwiz.domain.errors import Code, invalid
from cyxwiz.services import views
from cyxwiz.services.api import Api, Args, Call
from cyxwiz.services.views import Json
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.rest.request import Access, Operation, reply
from cyxwiz.transports.rest.streams import Source, Streams, open_stream

FOLDER = Path(__file__).parent
SCRIPTS = ("page.js", "base.js", "chart.js", "escrow.js", "signing.js", "submit.js", "words.js")
ASSETS = ("page.css", *SCRIPTS, "icon.svg")
MAX_TOPICS = 100


class Topics(Args):
    topics: str = Field(min_length=1, max_length=8000, description="comma-separated: jobs, nodes, stats, job:<id>, …")
    after: int | None = Field(None, ge=0, lt=2**63, description="replays from behind this seq")


def operations(api: Api, guard: Guard, streams: Streams) -> list[Operation]:
    async def events(request: Request, call: Call) -> Response:
        actor, args = call.caller, call.read(Topics)
        topics = frozenset(part.strip() for part in args.topics.split(",") if part.strip())
        if len(topics) > MAX_TOPICS:
            raise invalid(f"topics: at most {MAX_TOPICS}", field="topics")
        after = args.after
        if last := request.headers.get("last-event-id"):
            if not (last.isascii() and last.isdigit() and len(last) < 19):
                raise invalid(f"Last-Event-ID: {last[:60]!r} is no seq of this stream", field="Last-Event-ID")
            after = int(last)

        async def notes() -> Source:
            async for note in api.watch.topics(actor, topics, after):
                yield views.note(note)

        return await open_stream(
            notes(), lambda note: str(note["seq"]), streams=streams, guard=guard, key=f"rest:{actor.id}"
        )

    return [
        Operation(
            "GET",
            "/api/events",
            "Follow whole topics: Server-Sent Events, each a Note; `id` is its seq",
            "text/event-stream",
            serve=events,
            query=Topics,
            headers={"Last-Event-ID": "the seq of the last event seen: goes on behind it"},
            access=Access.STREAM,
            refuses=(Code.NOT_FOUND,),
        )
    ]


def router(describe: Callable[[], Json], *, open_mode: bool) -> APIRouter:
    """The page, its files and the description: for anybody, without secrets in them."""
    pages = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made: dict[str, Any] = {}
    found = APIRouter(redirect_slashes=False)

    def serve(path: str, name: str, make: Callable[[], bytes], media: str) -> None:
        async def endpoint(request: Request) -> Response:
            if name not in made:
                body = make()
                made[name] = (body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            body, etag = made[name]
            headers = {"ETag": etag, "Cache-Control": "no-cache"}
            if request.headers.get("if-none-match") == etag:
                return Response(None, 304, headers)
            return Response(body, 200, headers, media)

        found.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)

    def page() -> bytes:
        return pages.get_template("page.html").render(open_mode=open_mode, version=__version__).encode()

    def docs() -> bytes:
        return pages.get_template("docs.html").render(api=describe(), version=__version__).encode()

    serve("/", "page", page, "text/html")
    serve("/docs", "docs", docs, "text/html")
    serve("/openapi.json", "openapi", lambda: bytes(reply(describe()).body), "application/json")
    for asset in ASSETS:
        media = mimetypes.guess_type(asset)[0] or "application/octet-stream"
        serve(f"/static/{asset}", asset, (FOLDER / asset).read_bytes, media)
    return found
