"""Files that a job made, by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cyxwiz.ports.executor import Artefact


def artefact(path: Path) -> Artefact:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Artefact(path.name, path, digest, path.stat().st_size)
