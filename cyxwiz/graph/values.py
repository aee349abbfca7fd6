"""Reading one untrusted value: text or number in, a bounded number, flag or shape out.

Promises that every refusal is a CyxError INVALID naming where the value stands, the value and the bound. Refuses NaN,
infinities, booleans posing as numbers and digits that would take long to convert.
"""

from __future__ import annotations

import json
import math
import re
from typing import cast

from cyxwiz.domain.errors import CyxError, invalid

MAX_RANK = 8
MAX_ELEMENTS = 2**31

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(\.0{0,18})?", re.ASCII)
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def quote(value: object) -> str:
    """The value as it may stand in an error message: escaped and short."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    if isinstance(value, str | int | float | bool) or value is None:
        text = repr(value[:80] if isinstance(value, str) else value)
        return text if len(text) <= 100 else text[:100] + "…"
    return f"a {type(value).__name__}"


def clean(text: str, limit: int = 200) -> str:
    """Text that can be encoded and printed: JSON escapes can smuggle in half of a surrogate pair."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def integer(where: str, value: object, low: int, high: int) -> int:
    number: int | None = None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        number = int(value.strip().split(".")[0])
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is None or not low <= number <= high:
        raise _refused(where, value, f"a whole number from {low} to {high}")
    return number


def decimal(where: str, value: object, low: float, high: float, *, above: bool = False, below: bool = False) -> float:
    """A finite number in [low, high]; `above` and `below` exclude the bounds themselves."""
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool) and not _is_long(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    fits_low = number > low if above else number >= low
    fits_high = number < high if below else number <= high
    if not (math.isfinite(number) and fits_low and fits_high):
        raise _refused(where, value, f"a number in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}")
    return number


def flag(where: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) and not _is_long(value) else ""
    if word not in _TRUE | _FALSE:
        raise _refused(where, value, "true or false")
    return word in _TRUE


def shape(where: str, value: object) -> tuple[int, ...]:
    """A shape from `[28, 28]`, `"[28, 28]"`, `"28,28"` or `784`."""
    bound = f"1 to {MAX_RANK} sizes of at least 1, together at most {MAX_ELEMENTS} elements"
    sizes = _sizes(value)
    if sizes is None or not 1 <= len(sizes) <= MAX_RANK:
        raise _refused(where, value, bound)
    read = tuple(integer(where, size, 1, MAX_ELEMENTS) for size in sizes)
    if math.prod(read) > MAX_ELEMENTS:
        raise _refused(where, value, bound)
    return read


def _sizes(value: object) -> list[object] | None:
    if isinstance(value, list | tuple):
        return list(cast("list[object]", value))
    if not isinstance(value, str):
        return [value]
    if len(value) > 200:
        return None
    text = value.strip().strip("()[]").strip().rstrip(",")
    try:
        return cast("list[object]", json.loads(f"[{text}]"))
    except ValueError:
        return None


def _is_long(value: str | int | float) -> bool:
    return len(value) > 60 if isinstance(value, str) else isinstance(value, int) and abs(value) >= 10**40


def _refused(where: str, value: object, bound: str) -> CyxError:
    return invalid(f"{where} is {quote(value)}; it must be {bound}.", where=where, value=quote(value), bound=bound)
