"""Builds the programs: `python -m programs.build` writes cyxwiz/ledger/programs/, `--check` only compares.

Each program is one C file that includes the others. clang comes in the PyPI package `ziglang`; the link is ours. The
same sources give the same bytes in any folder, which `manifest.json` records: the SHA-256 of the sources that go into
a program, and of its binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from programs.linker import LinkError, link

SOURCES = Path(__file__).resolve().parent
TARGET = SOURCES.parent / "cyxwiz" / "ledger" / "programs"
PROGRAMS = {"escrow": "escrow/escrow.c", "staking": "staking/staking.c"}
FLAGS = (
    *("-target", "bpfel-freestanding", "-mcpu=v2", "-std=c11", "-O2", "-fno-builtin", "-fno-jump-tables"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-ident", "-fno-sanitize=all"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-mllvm", "-bpf-stack-size=4096"),
)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def compile_program(name: str, sources: Path = SOURCES) -> bytes:
    """The shared object of program `name` from the C files under `sources`.

    Raises:
        LinkError: the compiler or the linker refused it; the message has the compiler's words.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "program.o"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-I", "include", "-c", PROGRAMS[name], "-o", str(out)]
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        done = subprocess.run(
            command, cwd=sources, env={**os.environ, **caches}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LinkError(f"{PROGRAMS[name]} does not compile:\n{done.stderr}")
        return link(out.read_bytes())


def source_digest(name: str, sources: Path = SOURCES) -> str:
    """SHA-256 of the C files that program `name` includes, each with its name and length, in order of name."""
    found: set[Path] = set()
    todo = [sources / PROGRAMS[name]]
    while todo:
        path = todo.pop().resolve()
        if path in found:
            continue
        found.add(path)
        for included in INCLUDE.findall(path.read_text(encoding="utf-8")):
            beside = path.parent / included
            todo.append(beside if beside.exists() else sources / "include" / included)
    digest = hashlib.sha256()
    root = sources.resolve()
    for path in sorted(found):
        body = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(body)}\n".encode() + body)
    return digest.hexdigest()


def build(sources: Path = SOURCES) -> dict[str, bytes]:
    """Every file of the target folder by its name: the shared objects and their manifest."""
    made: dict[str, bytes] = {}
    manifest = {}
    for name in PROGRAMS:
        binary = compile_program(name, sources)
        made[f"{name}.so"] = binary
        manifest[name] = {
            "source_sha256": source_digest(name, sources),
            "binary_sha256": hashlib.sha256(binary).hexdigest(),
        }
    made["manifest.json"] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    return made


def main(arguments: list[str]) -> int:
    made = build()
    if "--check" not in arguments:
        TARGET.mkdir(parents=True, exist_ok=True)
        for name, body in made.items():
            (TARGET / name).write_bytes(body)
            print(f"{name}: {len(body)} bytes")
        return 0
    there = {path.name: path.read_bytes() for path in TARGET.iterdir()}
    stale = [name for name, body in made.items() if there.get(name) != body]
    for name in stale:
        print(f"cyxwiz/ledger/programs/{name} is out of date: run make programs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
