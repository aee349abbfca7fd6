"""A network of machines in one: each in a network namespace of its own, all of them on a bridge. Cables can be pulled.

A cut machine hears nothing and is not heard; nobody is told so, as by a switch that has died. Needs root on Linux.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator, Sequence


class Lan:
    """Addresses are 10.213.X.1 for who made it, and from .2 on for its machines."""

    def __init__(self) -> None:
        self._tag = f"cx{os.getpid() % 1_000_000}"
        self._net = f"10.213.{os.getpid() % 250}"
        self._machines = 0
        self.address = f"{self._net}.1"

    def open(self) -> None:
        _ip("link", "add", self._tag, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self._tag)
        _ip("link", "set", self._tag, "up")

    def machine(self) -> Machine:
        self._machines += 1
        number = self._machines
        name, cable, far = f"{self._tag}-{number}", f"{self._tag}p{number}", f"{self._tag}q{number}"
        address = f"{self._net}.{number + 1}"
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", far)
        _ip("link", "set", far, "netns", name)
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", far)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", far, "up")
        _ip("link", "set", cable, "master", self._tag, "up")
        return Machine(name, address, cable, self._tag)

    def close(self) -> None:
        for number in range(1, self._machines + 1):
            _ip("netns", "del", f"{self._tag}-{number}")
        _ip("link", "del", self._tag)


class Machine:
    def __init__(self, name: str, address: str, cable: str, bridge: str) -> None:
        self.address = address
        self.within: Sequence[str] = ("ip", "netns", "exec", name)
        self._cable, self._bridge = cable, bridge

    def cut(self) -> None:
        """Every frame from and to it is lost from now on, in silence."""
        _ip("link", "set", self._cable, "nomaster")

    def heal(self) -> None:
        _ip("link", "set", self._cable, "master", self._bridge)


def why_not() -> str:
    """Why there can be no such network here, or nothing."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return "network namespaces need root and the command ip"
    probe = f"cx{os.getpid() % 1_000_000}t"
    tried = [("netns", "add", probe), ("link", "add", probe, "type", "bridge")]
    done = [subprocess.run(["ip", *each], capture_output=True, text=True, check=False) for each in tried]
    for (kind, *_), each in zip(tried, done, strict=True):
        if each.returncode == 0:
            _ip(kind, "del", probe)
    return "; ".join(each.stderr.strip() for each in done if each.returncode)


@contextlib.contextmanager
def lan() -> Generator[Lan]:
    made = Lan()
    made.open()
    try:
        yield made
    finally:
        made.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
