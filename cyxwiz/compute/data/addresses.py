"""Which hosts a node may dial for a stranger: public addresses alone, checked after resolution.

The address that was checked is the one that is dialled, so that a name can't change between the two.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from cyxwiz.domain.errors import Code, CyxError, forbidden

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_GLOBAL = (ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("fec0::/10"))


async def resolve(host: str, port: int) -> Sequence[str]:
    """The host's addresses by the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def public_addresses(uri: str, host: str, port: int, *, private: bool, resolver: Resolve) -> Sequence[str]:
    """The addresses to dial, in order.

    Raises:
        CyxError: UNAVAILABLE for a name that can't be resolved; FORBIDDEN when any address is not public, as the host
            could answer with another one next time.
    """
    try:
        found = await resolver(host, port)
    except (OSError, UnicodeError) as error:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri}: the host {host} can't be resolved: {error}.") from None
    for address in found:
        if not private and not is_public(address):
            raise forbidden(
                f"The dataset {uri}: the host {host} has the address {address}, which is not public. The node's owner "
                "may allow such hosts with node.allow_private_data_hosts.",
                uri=uri,
                host=host,
            )
    return found


def is_public(address: str) -> bool:
    """False for loopback, private, link-local, shared, reserved and multicast addresses, also those inside IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is None and int(ip) >> 32 == 0:  # the former IPv4-compatible form
            return False
        if inner is not None:
            return is_public(str(inner))
        if any(ip in network for network in _NOT_GLOBAL):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
