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
PICTURE = (-1, -1, -1)  # as the target of a reshape: whatever picture the numbers are

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


def no_json(error: Exception) -> str:
    """Why a text could not be read as JSON. Python's words for a whole number that is too long advise programmers."""
    said = clean(str(error))
    return "a number has thousands of digits" if said.startswith("Exceeds the limit") else said


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


def integers(where: str, value: object, low: int, high: int, most: int = MAX_RANK) -> tuple[int, ...]:
    """One to `most` whole numbers from `3`, `[3, 3]`, `"[3, 3]"` or `"3,3"`."""
    sizes = _sizes(value)
    if sizes is None or not 1 <= len(sizes) <= most:
        raise _refused(where, value, f"1 to {most} whole numbers from {low} to {high}")
    return tuple(integer(where, size, low, high) for size in sizes)


def target(where: str, value: object) -> tuple[int, ...]:
    """The shape that a reshape makes: sizes of at least 1, one of them -1 for what is left. [-1, -1, -1]: a picture."""
    read = integers(where, value, -1, MAX_ELEMENTS)
    if tuple(read) == PICTURE:
        return PICTURE
    if 0 in read or read.count(-1) > 1 or math.prod(abs(size) for size in read) > MAX_ELEMENTS:
        kinds = "at most one of them -1; or [-1, -1, -1] for a picture"
        raise _refused(where, value, f"1 to {MAX_RANK} sizes of at least 1, {kinds}")
    return read


def numbers(where: str, value: object, most: int = 65_536) -> tuple[float, ...]:
    """Finite numbers from a number, a text or a list of lists, in row-major order."""
    if isinstance(value, str) and len(value) <= most * 30:
        try:
            value = cast("object", json.loads(value if value.strip().startswith("[") else f"[{value}]"))
        except (ValueError, RecursionError):
            raise _refused(where, value, "a number or a list of numbers") from None
    found: list[float] = []
    todo: list[object] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, list | tuple):
            if len(found) + len(todo) + len(cast("list[object]", item)) > most:
                raise _refused(where, value, f"at most {most} numbers")
            todo.extend(reversed(cast("list[object]", item)))
        else:
            found.append(decimal(where, item, -1e30, 1e30))
    if not found:
        raise _refused(where, value, "at least one number")
    return tuple(found)


def choice(where: str, value: object, choices: tuple[str, ...]) -> str:
    """One of some words, whatever the case, with `-` and spaces read as `_`."""
    word = re.sub(r"[-\s]", "_", value.strip().lower()) if isinstance(value, str) and len(value) <= 60 else ""
    if word not in choices:
        raise _refused(where, value, f"one of {', '.join(choices)}")
    return word


def word(where: str, value: object) -> str:
    """The name of something: letters, digits, `_`, `-` and `.`."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", value.strip(), re.ASCII):
        raise _refused(where, value, "a name of at most 80 letters, digits, '_', '-' and '.'")
    return value.strip()


def columns(where: str, value: object) -> tuple[int, int]:
    """The half-open range of columns that `"8:32"` or `[8, 32]` names."""
    parts: object = value.split(":") if isinstance(value, str) and ":" in value and len(value) < 60 else value
    sizes = _sizes(parts)
    bound = "a range such as 0:32, its end above its start"
    if sizes is None or len(sizes) != 2:
        raise _refused(where, value, bound)
    start, end = (integer(where, size, 0, MAX_ELEMENTS) for size in sizes)
    if start >= end:
        raise _refused(where, value, bound)
    return start, end
