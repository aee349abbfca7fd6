"""`install`: the packages of a lock file, as one archive. Runs in a child of its own, with the network, before a job.

pip fetches and unpacks exactly the wheels that the lock names, each checked against its hashes: no other package, no
source to be built, so that no code of a package runs. pip itself is the node's.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cyxwiz.compute.archive import tar
from cyxwiz.compute.artefacts import artefact
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Finished, Logged, Report, Work

LOCK = "requirements.lock"
WHEELS = "wheels"  # the folder beside it, where the index is one of the node's
AUTHORITIES = "authorities.pem"  # beside it, where the node is told whom to trust
_TOLD_LINES = 20
_UNREACHED = re.compile(
    r"connection broken|Connection refused|Max retries exceeded|Read timed out|SSLError|ssl certificate"
    r"|HTTP error 5\d\d|5\d\d Server Error"
)
_ANSWERED = re.compile(r"from versions: (?!none)|DO NOT MATCH THE HASHES")  # which no index does that is away


def install(work: Work, send: Callable[[Report], None]) -> Finished:
    """`out/packages.tar`, of what lies below `work.source`.

    Raises:
        CyxError: UNSUPPORTED (retryable) on a node without pip; UNAVAILABLE when the index can't be reached; INVALID,
            also retryable, when pip fails otherwise, both with its words.
    """
    began = time.perf_counter()
    assert work.source is not None
    if importlib.util.find_spec("pip") is None:
        raise CyxError(Code.UNSUPPORTED, "This node has no pip to install packages with.", retryable=True)
    target = work.work_dir / "packages"
    done = subprocess.run(  # noqa: S603 - our own interpreter, and arguments that the node checked
        [*_command(work.model, work.source), "--target", str(target)],
        cwd=work.work_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    for line in lines[-_TOLD_LINES:]:
        send(Logged("info", line, "pip"))
    if done.returncode != 0:
        raise failure(lines)
    folder = work.work_dir / "out"
    folder.mkdir(exist_ok=True)
    return Finished((artefact(tar(target, folder / "packages.tar")),), {}, 1, time.perf_counter() - began)


def failure(lines: Sequence[str]) -> CyxError:
    """What pip's lines say went wrong: with the lock file or, what its owner can't mend, with the way to the index."""
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
    unreached = [line for line in lines if _UNREACHED.search(line)]
    if unreached and not any(map(_ANSWERED.search, errors)):
        return CyxError(Code.UNAVAILABLE, f"This node does not reach its index of packages: {unreached[-1][:800]}")
    why = " ".join(errors)[:800]
    return CyxError(Code.INVALID, f"The packages of requirements can't be installed: {why}", retryable=True)


def _command(index: str, source: Path) -> list[str]:
    line = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input", "install"]
    line += ["--no-cache-dir", "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    line += ["--progress-bar", "off", "--no-warn-script-location", "--root-user-action", "ignore"]
    wheels = source / WHEELS
    line += ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else ["--index-url", index]
    authorities = source / AUTHORITIES
    line += ["--cert", str(authorities)] if authorities.is_file() else []
    return [*line, "--requirement", str(source / LOCK)]
