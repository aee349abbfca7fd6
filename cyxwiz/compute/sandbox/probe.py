"""`python -m cyxwiz.compute.sandbox.probe FACTS`: runs in a cell, tries what a job must not be able to do, and says so.

Standard output gets one JSON object: for each protection whether it held, and what was seen. It harms nothing where a
protection is missing. FACTS is a JSON object of what there is to be found; `doctor` lays it out.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cyxwiz.compute.sandbox.confine import confine

_CLONE_NEWUSER, _PTRACE_TRACEME = 0x10000000, 0
Facts = Mapping[str, Any]
Answer = tuple[bool, str]


def _files(facts: Facts) -> Answer:
    try:
        Path(facts["secret"]).read_text()
    except OSError as error:
        return True, f"the owner's files: {error.strerror}"
    return False, "a file of the owner's was read"


def _system(facts: Facts) -> Answer:
    del facts
    for folder in (Path(__file__).parent, Path("/usr"), Path("/etc"), Path("/")):
        path = folder / f".cyxwiz-probe-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.touch(exist_ok=False)
            path.unlink()
            return False, f"a file was made in {folder}"
    return True, "nothing outside the work folder could be written"


def _temporary(facts: Facts) -> Answer:
    try:
        Path(facts["temporary"]).read_bytes()
    except OSError as error:
        return True, f"a file in the machine's /tmp: {error.strerror}"
    return False, "a file in the machine's /tmp was read"


def _environment(facts: Facts) -> Answer:
    there = facts["variable"] in os.environ
    return not there, "the node's variables are handed on" if there else f"{len(os.environ)} variables, all given"


def _seen(facts: Facts) -> Answer:
    try:
        there = str(facts["pid"]) in os.listdir("/proc")
    except OSError as error:
        return True, f"/proc: {error.strerror}"
    return not there, "other processes are listed in /proc" if there else "only the job's own processes are in sight"


def _signalled(facts: Facts) -> Answer:
    try:
        os.kill(int(facts["pid"]), 0)
    except OSError as error:
        return True, f"a signal to the node: {error.strerror}"
    return False, "the node's process can be signalled"


def _network(facts: Facts) -> Answer:
    try:
        with socket.socket(socket.AF_INET) as tried:
            tried.settimeout(1.0)
            tried.connect(("127.0.0.1", int(facts["port"])))
    except OSError as error:
        return True, f"the machine's loopback: {error.strerror or error}"
    return False, "a service on the machine's loopback was reached"


def _abstract(facts: Facts) -> Answer:
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.connect("\0" + facts["abstract"])
    except OSError as error:
        return True, f"abstract sockets: {error.strerror}"
    return False, "an abstract socket of the machine was reached"


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _capabilities(facts: Facts) -> Answer:
    del facts
    found = _status()
    held = [name for name in ("CapEff", "CapPrm", "CapInh", "CapAmb") if int(found[name], 16)]
    return not held, f"{', '.join(held)} not empty" if held else "none"


def _privileges(facts: Facts) -> Answer:
    del facts
    return _status()["NoNewPrivs"] == "1", "no_new_privs"


def _calls(facts: Facts) -> Answer:
    del facts
    libc = ctypes.CDLL(None, use_errno=True)
    tries = {
        "unshare": lambda: libc.unshare(_CLONE_NEWUSER),
        "mount": lambda: libc.mount(b"none", b"/", b"tmpfs", 0, None),
        "ptrace": lambda: libc.ptrace(_PTRACE_TRACEME, 0, None, None),
    }
    for name, call in tries.items():
        if os.fork() == 0:  # what goes through must not change this process
            os._exit(0 if call() == -1 and ctypes.get_errno() == errno.EPERM else 1)
        _, status = os.wait()
        if status:
            return False, f"{name} is let through"
    return True, f"{', '.join(tries)} refused"


def _forks(facts: Facts) -> Answer:
    children: list[int] = []
    bound = int(facts["processes"])
    read, write = os.pipe()
    try:
        for _ in range(2 * bound):
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(pid)
    except OSError:
        return True, f"it ends after {len(children)} of {bound}"
    finally:
        os.close(write)
        for pid in children:
            os.waitpid(pid, 0)
    return False, f"{len(children)} processes were started, more than {bound}"


def _disk(facts: Facts) -> Answer:
    path = Path(os.environ["HOME"]) / "probe"
    try:
        with path.open("wb") as file:
            file.truncate(int(facts["disk"]) + 1)
    except OSError as error:
        return True, f"a file past the bound: {error.strerror}"
    finally:
        path.unlink(missing_ok=True)
    return False, "a file past the bound was made"


def _dumps(facts: Facts) -> Answer:
    del facts
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), "core dumps"


PROBES: dict[str, Callable[[Facts], Answer]] = {
    "owner's files": _files,
    "system read-only": _system,
    "private /tmp": _temporary,
    "environment": _environment,
    "no sight of processes": _seen,
    "no signals to processes": _signalled,
    "no network": _network,
    "no abstract sockets": _abstract,
    "no capabilities": _capabilities,
    "no new privileges": _privileges,
    "system calls filtered": _calls,
    "processes bounded": _forks,
    "file size bounded": _disk,
    "no core dumps": _dumps,
}


def main(arguments: list[str]) -> None:
    confine()
    facts: Facts = json.loads(arguments[0])
    answers: dict[str, Answer] = {}
    for name, probe in PROBES.items():
        try:
            answers[name] = probe(facts)
        except Exception as error:
            # One that can't be tried is one that is not known to hold.
            answers[name] = (False, f"could not be tried: {type(error).__name__}: {error}")
    print(json.dumps(answers))  # noqa: T201  the answer


if __name__ == "__main__":
    main(sys.argv[1:])
