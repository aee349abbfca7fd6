"""What an address says by itself."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it; of names, `localhost` and `unix` alone are taken for such."""
    if host in ("localhost", "unix"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
