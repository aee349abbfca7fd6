"""Files by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cyxwiz.ports.executor import Artefact
from cyxwiz.runtime.files import file_sha256


def artefact(path: Path) -> Artefact:
    return Artefact(path.name, path, file_sha256(path), path.stat().st_size)


def files_sha256(base: Path, files: Iterable[Path]) -> str:
    """SHA-256 of the lines `SHA-256 path` of all, in their order; the paths are those below `base`."""
    lines = [f"{file_sha256(each)} {each.relative_to(base).as_posix()}" for each in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
