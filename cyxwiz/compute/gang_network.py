"""In which network a node's gangs meet, by its settings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cyxwiz.config import NodeSection, wants_gangs
from cyxwiz.domain.addresses import is_loopback


def gang_network(node: NodeSection) -> str:
    """The name of the network, the same for nodes that reach each other; empty: the node takes no part in gangs."""
    if not wants_gangs(node):
        return ""
    if is_loopback(node.gang_address):
        return f"loopback-{_this_machine()}"
    return node.gang_network


def _this_machine() -> str:
    """16 hex digits: the same for all processes that share this loopback interface, and for no others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    system = boot.read_text() if boot.exists() else os.uname().nodename
    namespace = Path("/proc/self/ns/net")
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return hashlib.sha256(f"{system}{inode}".encode()).hexdigest()[:16]
