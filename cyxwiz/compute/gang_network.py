"""In which network a node's gangs meet, by its settings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cyxwiz.config import ConfigError, NodeSection
from cyxwiz.domain.addresses import is_loopback


def gang_network(node: NodeSection) -> str:
    """The name of the network, the same for nodes that reach each other; empty: the node takes no part in gangs.

    Raises:
        ConfigError: the address is beyond loopback and its network has no name: what members of a gang say to each
            other is neither encrypted nor authenticated, so that the network must be a private one.
    """
    wanted = node.gangs == "on" or (node.gangs == "auto" and is_loopback(node.central.rpartition(":")[0]))
    if not wanted:
        return ""
    if is_loopback(node.gang_address):
        return f"loopback-{_this_machine()}"
    if not node.gang_network:
        raise ConfigError(
            f"node.gang_address = {node.gang_address!r}: members of a gang speak without encryption; name the private "
            'network of that address with node.gang_network, or set node.gangs = "off"'
        )
    return node.gang_network


def _this_machine() -> str:
    """16 hex digits: the same for all processes that share this loopback interface, and for no others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    system = boot.read_text() if boot.exists() else os.uname().nodename
    namespace = Path("/proc/self/ns/net")
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return hashlib.sha256(f"{system}{inode}".encode()).hexdigest()[:16]
