"""The files of runs that are over: kept for a while, then removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from cyxwiz.ports.clock import Clock

STALE_SECONDS = 3600.0  # at the least, for files that may yet turn out to be the last there are


class Leftovers:
    """Folders `<job id>/<token>` below `root`. `swept` is told of each that was kept and is removed."""

    def __init__(self, root: Path, keep_seconds: float, clock: Clock, swept: Callable[[Path], None]) -> None:
        self._root = root
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._swept = swept
        self._until: dict[Path, float] = {}

    def __contains__(self, directory: Path) -> bool:
        return directory in self._until

    def keep(self, directory: Path, *, stale: bool) -> None:
        """Keeps it from now on for its time, unless it is kept already. `stale`: nobody has taken its result yet."""
        seconds = max(STALE_SECONDS, self._keep_seconds) if stale else self._keep_seconds
        self._until.setdefault(directory, self._clock.monotonic() + seconds)

    def sweep(self) -> None:
        """Removes those whose time is over."""
        now = self._clock.monotonic()
        for directory in [each for each, until in self._until.items() if now > until]:
            del self._until[directory]
            self._swept(directory)
            self.remove(directory)

    def remove(self, directory: Path) -> None:
        """Removes a run's folder at once, and its job's if that is empty then."""
        if re.fullmatch(r"[0-9a-f-]{36}", directory.parent.name) and self._root in directory.parents:
            shutil.rmtree(directory, ignore_errors=True)
            if directory.parent.is_dir() and not any(directory.parent.iterdir()):
                directory.parent.rmdir()
