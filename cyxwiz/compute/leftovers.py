"""The files of runs that are over: kept for a while, then removed.

What is to go is renamed into `trash` at once, and removed there by a thread: gigabytes take a second, in which the
node's loop would send no heartbeat. What a stop leaves there goes at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)

TRASH = "trash"
STALE_SECONDS = 3600.0  # at the least, for files that may yet turn out to be the last there are


class Leftovers:
    """Folders `<job id>/<token>` below `root`. `swept` is told of each that was kept and is removed."""

    def __init__(self, root: Path, keep_seconds: float, clock: Clock, swept: Callable[[Path], None]) -> None:
        self._root = root
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._swept = swept
        self._until: dict[Path, float] = {}
        self._thread = ThreadPoolExecutor(1, "leftovers")  # nobody waits for it, so that the loop need not know of it
        self._emptied = self._closed = False

    def __contains__(self, directory: Path) -> bool:
        return directory in self._until

    def found(self) -> list[Path]:
        """Every run's folder that is there, from whichever life of the node."""
        return [each for each in self._root.glob("*/*") if each.parent.name != TRASH]

    def keep(self, directory: Path, *, stale: bool) -> None:
        """Keeps it from now on for its time, unless it is kept already. `stale`: nobody has taken its result yet."""
        seconds = max(STALE_SECONDS, self._keep_seconds) if stale else self._keep_seconds
        self._until.setdefault(directory, self._clock.monotonic() + seconds)

    def sweep(self) -> None:
        """Removes those whose time is over. Returns at once, as `remove` does."""
        now = self._clock.monotonic()
        for directory in [each for each, until in self._until.items() if now > until]:
            del self._until[directory]
            self._swept(directory)
            self.remove(directory)
        if not self._emptied:
            self._empty_soon()  # of what an earlier life left

    def remove(self, directory: Path) -> None:
        """Takes a run's folder away at once, and its job's if that is empty then; a thread removes what it holds."""
        if not re.fullmatch(r"[0-9a-f-]{36}", directory.parent.name) or self._root not in directory.parents:
            return
        trash = self._root / TRASH
        try:
            trash.mkdir(exist_ok=True)
            os.replace(directory, trash / f"{directory.parent.name}.{directory.name}")
        except FileNotFoundError:  # it never began
            pass
        except OSError as error:
            log.warning("%s stays until the next start: %s", directory, error)
        with contextlib.suppress(OSError):  # another run of the job has its folder there
            directory.parent.rmdir()
        self._empty_soon()

    def _empty_soon(self) -> None:
        self._emptied = True
        if not self._closed:
            self._thread.submit(self._empty_trash)

    def _empty_trash(self) -> None:
        trash = self._root / TRASH
        for path in trash.iterdir() if trash.is_dir() else ():
            if self._closed:
                return
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Returns at once; the folder that the thread is removing still goes, and no other."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
