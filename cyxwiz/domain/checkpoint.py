"""How often a job saves itself: `auto`, `none`, or a number of epochs, steps or seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cyxwiz.domain.errors import invalid

AUTO_SECONDS = 30.0
_LIMITS = {"epoch": 1_000_000, "step": 10**12, "second": 30 * 86400}
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Unit(StrEnum):
    NEVER = "never"
    EPOCH = "epoch"
    STEP = "step"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Every:
    """A checkpoint each `count` units."""

    unit: Unit
    count: float = 1

    def __str__(self) -> str:
        return "none" if self.unit is Unit.NEVER else f"{self.count:g} {self.unit}"


def parse_every(text: str, field: str = "checkpoint.every") -> Every:
    """Reads `1 epoch`, `500 steps`, `10m`, `30 seconds`, `auto` (every 30 seconds) or `none`.

    Raises:
        CyxError: INVALID for anything else.
    """
    words = text.strip().lower()
    if words == "auto":
        return Every(Unit.SECOND, AUTO_SECONDS)
    if words == "none":
        return Every(Unit.NEVER)
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)?\s*(epoch|step|second|s|m|h|d)s?", words)
    if match is None:
        raise invalid(
            f"{field}: must be auto, none, or such as '1 epoch', '500 steps' or '10m', not {text[:40]!r}", field=field
        )
    count, name = float(match[1] or 1), match[2]
    if name in _SPANS:
        count, name = count * _SPANS[name], "second"
    if not 0 < count <= _LIMITS[name] or (name != "second" and count != int(count)):
        raise invalid(f"{field}: must be above 0 and at most {_LIMITS[name]} {name}s, whole but for time", field=field)
    return Every(Unit(name), count)
