"""Lock files of a script's packages: pip's requirements, each line pinned to one version and its files' hashes.

Nothing is left to the machine that installs: no range, no URL, no option that names another index or file. What pip
itself reads again is only what was checked here, so a lock means the same on every node.
"""

from __future__ import annotations

import hashlib
import re

from cyxwiz.domain.errors import CyxError, invalid

MAX_BYTES = 1 << 20
MAX_PACKAGES = 1000
FIELD = "requirements"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_EXTRAS = r"(?:\s*\[[A-Za-z0-9._, -]{1,200}\])?"
_LINE = re.compile(
    rf"(?P<name>{_NAME}){_EXTRAS}\s*==\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]{{0,98}})"
    r"\s*(?:;(?P<marker>[^;]{1,500}?))?(?P<hashes>(?:\s+--hash=[^\s]+)*)"
)
_HASH = re.compile(r"--hash=sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
_HOW = "write the file with `pip-compile --generate-hashes` or `uv pip compile --generate-hashes`"


def check_lock(text: str) -> tuple[str, ...]:
    """The names of the packages in their order, in lower case.

    Raises:
        CyxError: INVALID naming the line, what is wrong there and what to do.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise invalid(f"{FIELD}: the file is larger than {MAX_BYTES} bytes", field=FIELD)
    names: list[str] = []
    for number, line in _lines(text):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _wrong(number, f"{line[:80]!r} is no NAME==VERSION with hashes")
        hashes = match["hashes"].split()
        if not hashes:
            raise _wrong(number, f"{match['name']} has no --hash")
        if not all(_HASH.fullmatch(each) for each in hashes):
            raise _wrong(number, f"{match['name']} has a --hash that is no sha256, sha384 or sha512 in hex")
        names.append(match["name"].lower().replace("_", "-").replace(".", "-"))
    if not names:
        raise invalid(f"{FIELD}: names no package; leave it out, or {_HOW}", field=FIELD)
    if len(names) > MAX_PACKAGES:
        raise invalid(f"{FIELD}: at most {MAX_PACKAGES} packages, not {len(names)}", field=FIELD)
    return tuple(names)


def lock_digest(text: str) -> str:
    """SHA-256 (hex) of the file's text: what its environment goes by, with the Python that it is made for."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _lines(text: str) -> list[tuple[int, str]]:
    """The logical lines with the number of their first one: joined at a backslash, without comments."""
    found: list[tuple[int, str]] = []
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if not parts:
            first = number
        joined = line.endswith("\\")
        parts.append(line.removesuffix("\\").strip())
        if not joined:
            if whole := " ".join(part for part in parts if part):
                found.append((first, whole))
            parts = []
    if whole := " ".join(part for part in parts if part):
        found.append((first, whole))
    return found


def _wrong(number: int, what: str) -> CyxError:
    return invalid(f"{FIELD}: line {number}: {what}; {_HOW}", field=FIELD, line=number)
