"""How a node, and a client that streams its own data, read tables of text and files of arrays: by the same rules."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence

NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # how a missing value is written
# What NumPy and zipfile raise for a damaged file, each from the layer that first trips over it.
DAMAGED = (
    ValueError, TypeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError,
    NotImplementedError, RuntimeError, EOFError, KeyError,
)  # fmt: skip


def is_number(text: str) -> bool:
    """As NumPy's parser of tables has it: Python alone would take 1_000, and digits of other scripts, too."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def titles(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The words of a table's first row that stand above numbers: with any, it names the columns."""
    pairs = ((word.strip(), below) for word, below in zip(first, second, strict=False))
    return [word for word, below in pairs if word.lower() not in NOTHING and not is_number(word) and is_number(below)]
