"""What the generators of a documentation page share: write the page, or say that it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def settle(target: Path, made: str, arguments: list[str], script: str) -> int:
    """Writes `made` to `target`; with --check only compares. Returns the exit status."""
    if "--check" not in arguments:
        target.write_text(made, encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == made:
        return 0
    print(f"{target.relative_to(ROOT)} is out of date: run {Path(script).resolve().relative_to(ROOT)}", file=sys.stderr)
    return 1
