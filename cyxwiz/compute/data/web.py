"""GET over HTTP for strangers: pinned public addresses, bounded redirects, nothing unpacked on the way.

Connections are not kept: two names at one address must not share a connection whose certificate is of the other.
The system's proxies are not used, as a proxy would resolve names by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from cyxwiz.compute.data.addresses import Resolve, public_addresses, resolve
from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)


class Cut(Exception):
    """The connection failed or the server is busy: the same request may succeed later."""


class Web:
    """`allow_private` and `allow_http` are the owner's permissions for what strangers name.

    A request that is `trusted` goes to a host that the owner configured: for that host and port both are permitted.
    """

    def __init__(self, *, allow_private: bool, allow_http: bool, resolver: Resolve = resolve) -> None:
        self._allow_private = allow_private
        self._allow_http = allow_http
        self._resolver = resolver
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    @contextlib.asynccontextmanager
    async def get(
        self, uri: str, url: str, headers: Mapping[str, str], *, trusted: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a GET with its body unread, after redirects; its status is 2xx, 304 or 416.

        Raises:
            Cut: try again.
            CyxError: NOT_FOUND, FORBIDDEN or INVALID, naming `uri` and what the server said.
        """
        import httpx

        origin = _origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            own = trusted and _origin(url) == origin
            try:
                response = await self._send(uri, url, headers, own)
            except httpx.TransportError as error:
                raise Cut(f"{type(error).__name__}: {error}") from None
            try:
                if response.status_code not in _REDIRECTS:
                    _check(uri, response)
                    try:
                        yield response
                    except httpx.TransportError as error:
                        raise Cut(f"{type(error).__name__}: {error}") from None
                    return
                url = _moved(uri, url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise invalid(f"The dataset {uri}: more than {MAX_REDIRECTS} redirects.", uri=uri)

    async def _send(self, uri: str, url: str, headers: Mapping[str, str], trusted: bool) -> httpx.Response:
        import httpx

        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http" and not (trusted or self._allow_http):
            raise forbidden(
                f"The dataset {uri}: plain http is not allowed on this node; use https, or have its owner set "
                "node.allow_http_data.",
                uri=uri,
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        private = trusted or self._allow_private
        addresses = await public_addresses(uri, host, port, private=private, resolver=self._resolver)
        failure: httpx.TransportError = httpx.ConnectError("the name has no address")
        for address in addresses:
            shown = f"[{address}]" if ":" in address else address
            pinned = httpx.URL(url).copy_with(host=shown.strip("[]"))
            request = self._open().build_request(
                "GET",
                pinned,
                headers={"Accept-Encoding": "identity", "Host": parts.netloc.rpartition("@")[2], **headers},
                extensions={"sni_hostname": host},
            )
            try:
                return await self._open().send(request, stream=True)
            except httpx.ConnectError as error:
                failure = error
        raise failure

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                verify=httpx.create_ssl_context(),  # honours SSL_CERT_FILE
                trust_env=False,
                timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        return self._client


def _moved(uri: str, url: str, location: str) -> str:
    """Where a redirect leads; INVALID if that is no web address."""
    import httpx

    try:
        moved = urljoin(url, location)
        parts = urlsplit(moved)
        good = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0 and moved.isascii()
        httpx.URL(moved)
    except (ValueError, httpx.InvalidURL):
        good, moved = False, location
    if not good:
        raise invalid(f"The dataset {uri}: redirected to {moved[:200]!r}, which is no web address.", uri=uri)
    return moved


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _check(uri: str, response: Any) -> None:
    status = response.status_code
    if status in (404, 410):
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} is not there: its server answers {status}.", {"uri": uri})
    if status in (401, 403):
        raise forbidden(f"The dataset {uri} is not public: its server answers {status}.", uri=uri)
    if status == 429 or status >= 500:
        raise Cut(f"the server answers {status}")
    if status not in (200, 206, 304, 416):
        raise invalid(f"The dataset {uri}: its server answers {status}.", uri=uri)
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise invalid(f"The dataset {uri}: its server insists on an encoded answer; serve the plain file.", uri=uri)


async def read_small(web: Web, uri: str, url: str, limit: int, *, trusted: bool) -> bytes:
    """A whole answer of at most `limit` bytes."""
    body = bytearray()
    async with web.get(uri, url, {}, trusted=trusted) as response:
        async for data in response.aiter_raw():
            body += data
            if len(body) > limit:
                raise invalid(f"The dataset {uri}: its server's listing has more than {limit} bytes.", uri=uri)
    return bytes(body)
