"""Digests of data sets that are read where they lie, for receipts of runs that make no chain over what they read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from cyxwiz.compute.artefacts import files_sha256
from cyxwiz.compute.data.builtin import builtin_files
from cyxwiz.compute.data.files import walk
from cyxwiz.compute.data.load import locate
from cyxwiz.domain.errors import CyxError
from cyxwiz.graph.dataset_uri import check_dataset_uri
from cyxwiz.runtime.files import file_sha256

KEPT = 64  # digests in memory: of files that did not change since


class InPlace:
    """Hashes each set once, as long as its files keep their sizes and times."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._known: dict[str, str] = {}  # by what the files' names, sizes and times come to

    async def digest(self, uri: str, data_roots: Sequence[Path]) -> str:
        """As `fetch.Data.digest` has it. Empty for data that are no files, for more bytes than a node would fetch (that
        takes too long), and for what can't be read: the job's child says why."""
        try:
            return await asyncio.to_thread(self._digest, uri, data_roots)
        except (CyxError, OSError):
            return ""

    def _digest(self, uri: str, data_roots: Sequence[Path]) -> str:
        parsed = check_dataset_uri(uri)
        if parsed.scheme == "builtin":
            files = builtin_files(uri, parsed.kind)
            folder = files[0].parent if len(files) > 1 else None
        elif parsed.scheme == "file":
            path, _ = locate(uri, parsed, data_roots, None)
            folder = path if path.is_dir() else None
            files = list(walk(uri, path)) if folder is not None else [path] if path.is_file() else []
        else:
            return ""
        stats = [each.stat() for each in files]
        if not files or sum(each.st_size for each in stats) > self._max_bytes:
            return ""
        facts = [f"{file} {each.st_size} {each.st_mtime_ns}" for file, each in zip(files, stats, strict=True)]
        key = hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()
        if key not in self._known:
            self._known[key] = file_sha256(files[0]) if folder is None else files_sha256(folder, files)
            if len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        return self._known[key]
