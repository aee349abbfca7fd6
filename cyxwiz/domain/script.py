"""A job's own code: files by content, and which of them to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from cyxwiz.domain.errors import invalid

MAX_FILES = 5000
MAX_PATH = 400
MAX_ARGS = 200
MAX_ARG = 4000


@dataclass(frozen=True, slots=True)
class Script:
    """`files` maps a relative path to the SHA-256 (hex) of its content; `entry` is one of them."""

    entry: str
    files: Mapping[str, str]
    args: tuple[str, ...] = ()


def check_script(script: Script) -> None:
    """Raises CyxError INVALID for what a node could not lay out and run."""
    if not script.files:
        raise invalid(
            "model.files: missing; it maps each path to the SHA-256 of a blob (`cyxwiz submit` fills it in)",
            field="model.files",
        )
    if len(script.files) > MAX_FILES:
        raise invalid(f"model.files: at most {MAX_FILES} files, not {len(script.files)}", field="model.files")
    for path, sha256 in script.files.items():
        if not is_plain_path(path):
            raise invalid(f"model.files: {path[:100]!r} is no plain relative path", field="model.files")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise invalid(f"model.files: {path}: {sha256[:80]!r} is no SHA-256 in hex", field="model.files")
    folders = {str(parent) for path in script.files for parent in PurePosixPath(path).parents}
    for path in script.files:
        if path in folders:
            raise invalid(f"model.files: {path} is a file and a folder", field="model.files")
    if script.entry not in script.files:
        raise invalid(f"model.script: {script.entry[:100]!r} is none of model.files", field="model.script")
    if not script.entry.endswith(".py"):
        raise invalid(f"model.script: {script.entry[:100]!r} must be a .py file", field="model.script")
    if len(script.args) > MAX_ARGS or any(len(arg) > MAX_ARG or "\0" in arg for arg in script.args):
        raise invalid(f"model.args: at most {MAX_ARGS} texts of at most {MAX_ARG} characters", field="model.args")


def is_plain_path(path: str) -> bool:
    """Whether it stays below the folder it is laid out in, on any system."""
    pure = PurePosixPath(path)
    plain = 0 < len(path) <= MAX_PATH and path.isprintable() and "\\" not in path and not pure.is_absolute()
    return plain and str(pure) == path and ".." not in pure.parts and path != "."
