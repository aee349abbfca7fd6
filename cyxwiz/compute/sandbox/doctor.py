"""What of the sandbox holds on this machine, tried with real children. Harmless beside a node that runs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cyxwiz.compute.sandbox import choose, landlock
from cyxwiz.compute.sandbox.probe import PROBES
from cyxwiz.compute.sandbox.sandbox import Bounds, Cell, Needs, Sandbox

PROCESSES, DISK_BYTES, MEMORY_BYTES = 64, 16 << 20, 64 << 20
GONE_SECONDS = 2.0
_VARIABLE = "CYXWIZ_DOCTOR_PROBE"
# Takes memory in a child that left its session and was orphaned, says so, and stays.
_HOG = f"""
import os, time
from cyxwiz.compute.sandbox.confine import confine
confine()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        held = bytearray(os.urandom(1)) * {MEMORY_BYTES}
        print("held", flush=True)
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(60)
"""
ADVICE = {
    "owner's files": "needs bubblewrap, or a kernel with Landlock (5.13)",
    "system read-only": "needs bubblewrap, or a kernel with Landlock (5.13)",
    "private /tmp": "needs bubblewrap, or a kernel with Landlock (5.13)",
    "no sight of processes": "needs bubblewrap",
    "no signals to processes": "needs bubblewrap, or Landlock of ABI 6 (Linux 6.12), or a user for each job",
    "no network": "needs bubblewrap, or the filter of system calls",
    "processes bounded": "needs bubblewrap, or control groups; root is bounded by nothing else",
}


@dataclass(frozen=True, slots=True)
class Protection:
    name: str
    holds: bool
    detail: str


def examine(sandbox: Sandbox) -> list[Protection]:
    """Every protection, tried. The sandbox must have been chosen with `BOUNDS`; it stays open."""
    found = _probed(sandbox)
    found.append(_user(sandbox))
    found += _watched(sandbox)
    found.append(_orphaned(sandbox))
    held = ", ".join(sorted(sandbox.groups.holds))
    found.append(Protection("control groups", bool(held), held or sandbox.groups.why))
    return found


BOUNDS = Bounds(processes=PROCESSES, disk_bytes=DISK_BYTES)


def report(setting: str, *, allow_unsafe: bool = True, **options: Any) -> dict[str, Any]:
    """The document of `cyxwiz node doctor`. Raises ConfigError when what is asked for does not work."""
    with tempfile.TemporaryDirectory(prefix="cyxwiz-doctor-") as folder:
        chosen = choose.choose(setting, Path(folder), allow_unsafe=allow_unsafe, bounds=BOUNDS, **options)
        try:
            protections = examine(chosen)
        finally:
            chosen.close()
    return {
        "asked": setting,
        "mode": chosen.mode,
        "program": str(chosen.program) if chosen.program else None,
        "landlock_abi": landlock.abi(),
        "gpus": [gpu.name for gpu in chosen.gpus],
        "protections": [asdict(protection) for protection in protections],
    }


def _probed(sandbox: Sandbox) -> list[Protection]:
    with _facts() as facts:
        arguments = ["-P", "-m", "cyxwiz.compute.sandbox.probe", json.dumps(facts)]
        status, out, error = choose.run(sandbox, arguments, Needs())
    try:
        answers: dict[str, tuple[bool, str]] = json.loads(out)
    except ValueError:
        why = (error.strip().splitlines() or [f"status {status}"])[-1]
        return [Protection(name, holds=False, detail=f"the probe did not answer: {why}") for name in PROBES]
    return [_advised(Protection(name, *answer)) for name, answer in answers.items()]


def _advised(protection: Protection) -> Protection:
    advice = ADVICE.get(protection.name)
    if protection.holds or advice is None:
        return protection
    return Protection(protection.name, holds=False, detail=f"{protection.detail}; {advice}")


@contextlib.contextmanager
def _facts() -> Generator[dict[str, Any]]:
    """What a probe looks for: a secret file, a file in /tmp, a variable, a process, a port and an abstract socket."""
    owner = Path.home() if os.access(Path.home(), os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="cyxwiz-owner-", dir=owner) as home,
        tempfile.NamedTemporaryFile(prefix="cyxwiz-seen-") as temporary,
        socket.socket(socket.AF_INET) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        secret, name = Path(home) / "secret", secrets.token_hex(8)
        secret.write_text(name)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        abstract.bind(f"\0{name}")
        abstract.listen()
        os.environ[_VARIABLE] = name
        try:
            yield {
                "secret": str(secret),
                "temporary": temporary.name,
                "variable": _VARIABLE,
                "pid": os.getpid(),
                "port": listener.getsockname()[1],
                "abstract": name,
                "processes": PROCESSES,
                "disk": DISK_BYTES,
            }
        finally:
            del os.environ[_VARIABLE]


def _user(sandbox: Sandbox) -> Protection:
    if sandbox.own_users:
        return Protection("user", holds=True, detail="each job has a user of its own on the machine")
    if os.geteuid() != 0:
        return Protection("user", holds=True, detail="the node's own, which is not root")
    why = "unconfined" if sandbox.mode == "none" else "the interpreter lies where only root can read it: move it"
    return Protection("user", holds=False, detail=f"root; {why}")


def _watched(sandbox: Sandbox) -> list[Protection]:
    """Whether memory that an orphan takes is counted, and whether a killed cell leaves nothing."""
    cell = sandbox.start(["-P", "-c", _HOG], Needs())
    try:
        cell.settle()
        _await_word(cell)
        used, pids = cell.memory_bytes(0), cell.pids()
        cell.kill()
        left = _left(pids)
    finally:
        _finish(sandbox, cell)
    counted = used >= MEMORY_BYTES
    return [
        Protection("memory counted", counted, f"{used >> 20} MiB seen of {MEMORY_BYTES >> 20} MiB that an orphan took"),
        Protection(
            "nothing survives its end", not left and len(pids) > 1, f"{len(left)} of {len(pids)} processes left"
        ),
    ]


def _orphaned(sandbox: Sandbox) -> Protection:
    """A child dies with the thread that started it, as it would with the node's process."""
    cells: list[Cell] = []
    pids: list[int] = []

    def node() -> None:
        cells.append(sandbox.start(["-P", "-c", _HOG], Needs()))
        cells[0].settle()
        _await_word(cells[0])
        pids.extend(cells[0].pids())

    thread = threading.Thread(target=node)
    thread.start()
    thread.join()
    try:
        left = _left(pids)
    finally:
        for cell in cells:
            _finish(sandbox, cell)
    name = "nothing outlives its node"
    return Protection(name, not left and len(pids) > 1, f"{len(left)} of {len(pids)} processes left")


def _await_word(cell: Cell) -> None:
    assert cell.process.stdout is not None
    select.select([cell.process.stdout], [], [], choose.TRY_SECONDS)


def _left(pids: list[int]) -> list[int]:
    """Those that are still there when they had their time."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline and any(map(_alive, pids)):
        time.sleep(0.005)  # noqa: TID251  a command's own thread, without a loop
    return [pid for pid in pids if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _finish(sandbox: Sandbox, cell: Cell) -> None:
    choose.finish(cell)
    sandbox.release(cell)
    cell.slot.remove()
