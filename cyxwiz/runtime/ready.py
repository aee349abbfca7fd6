"""The file that says where a process serves: there from the first moment that it does to the last."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyxwiz.config import ConfigError
from cyxwiz.runtime.files import write_private


def prepare(file: Path | None) -> None:
    """Before anything starts. Takes away the file of a process that was killed: whoever waits for this one's would take
    it for that.

    Raises:
        ConfigError: for a place that will not do.
    """
    if file is None:
        return
    try:
        if not file.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{file.parent} is no folder")
        _forget(file)
    except OSError as error:
        raise ConfigError(f"--ready-file {file}: {error.strerror}") from None


def _forget(file: Path) -> None:
    try:
        os.kill(int(json.loads(file.read_bytes())["pid"]), 0)
    except (ValueError, TypeError, KeyError, OverflowError, FileNotFoundError, PermissionError):
        return  # nothing is there, or nothing that such a process left
    except ProcessLookupError:
        file.unlink(missing_ok=True)


def announce(file: Path | None, document: Mapping[str, Any]) -> None:
    if file is not None:
        write_private(file, json.dumps(document))


def withdraw(file: Path | None) -> None:
    """Nobody finds doors by it that are shut."""
    if file is not None:
        file.unlink(missing_ok=True)
