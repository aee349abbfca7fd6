"""When a node's owner lets it work: `always`, or spans of the week in the owner's local time, or an idle machine.

    always
    22:00-07:00
    Mon-Fri 19:00-07:00, Sat-Sun
    idle
    Mon-Fri 09:00-17:00 idle, 17:00-09:00

Spans are parted by commas; one that holds is enough. A span is days, hours, and `idle`, each of which may be left out.
Days are Mon to Sun, single or as a range that may run over Sunday. Hours are HH:MM-HH:MM, from the first minute on and
up to the second one; where the second is not later, the span ends on the next day and belongs to the day on which it
begins. `idle` holds while the processes of others leave the processor free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
EXAMPLE = "such as always, 22:00-07:00 or Mon-Fri 19:00-07:00, Sat-Sun idle"


@dataclass(frozen=True, slots=True)
class Span:
    """Days as numbers from 0 (Monday); minutes of the day, the end not included."""

    days: frozenset[int] = frozenset(range(7))
    start: int = 0
    end: int = DAY_MINUTES
    idle: bool = False

    def holds(self, at: datetime) -> bool:
        """Whether an instant, which carries its local time, lies in the span; `idle` is not looked at."""
        day, minute = at.weekday(), at.hour * 60 + at.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Schedule:
    text: str
    spans: tuple[Span, ...]

    @property
    def asks_idle(self) -> bool:
        return any(span.idle for span in self.spans)

    def closed(self, at: datetime, busy: bool) -> str:
        """Why the node is not to work at an instant in local time, or nothing. `busy`: others use the machine."""
        holding = [span for span in self.spans if span.holds(at)]
        if not holding:
            return f"its owner's schedule is {self.text}"
        if busy and all(span.idle for span in holding):
            return "its owner uses the machine"
        return ""


def parse_schedule(text: str) -> Schedule:
    """Raises ValueError with what is wrong, for a person."""
    shown = " ".join(text.split())
    if shown.lower() == "always":
        return Schedule("always", (Span(),))
    return Schedule(shown, tuple(_span(part.strip()) for part in shown.split(",")))


def _span(text: str) -> Span:
    if not text:
        raise ValueError(f"a span between commas is empty; write one {EXAMPLE}")
    days, hours, idle = None, None, False
    for word in text.lower().split():
        if word == "idle" and not idle:
            idle = True
        elif days is None and hours is None and not idle and re.fullmatch(r"[a-z]{3}(-[a-z]{3})?", word):
            days = _days(word)
        elif hours is None and not idle and re.fullmatch(r"\d\d?:\d\d-\d\d?:\d\d", word):
            hours = _hours(word)
        else:
            raise ValueError(f"{word!r} in {text!r} is not understood: days, then hours, then idle, {EXAMPLE}")
    start, end = hours or (0, DAY_MINUTES)
    return Span(days if days is not None else frozenset(range(7)), start, end, idle)


def _days(word: str) -> frozenset[int]:
    names = word.split("-")
    for name in names:
        if name not in DAYS:
            raise ValueError(f"{name!r} is no day: take Mon, Tue, Wed, Thu, Fri, Sat or Sun")
    first, last = DAYS.index(names[0]), DAYS.index(names[-1])
    return frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))


def _hours(word: str) -> tuple[int, int]:
    start, end = (_minute(part, word) for part in word.split("-"))
    if start == DAY_MINUTES:
        raise ValueError(f"{word!r} begins at 24:00: write 00:00, on the day after")
    if start == end:
        raise ValueError(f"{word!r} begins and ends at the same minute: leave the hours out for the whole day")
    return start, end


def _minute(text: str, word: str) -> int:
    hour, minute = (int(part) for part in text.split(":"))
    if minute > 59 or hour > 24 or (hour == 24 and minute):
        raise ValueError(f"{text!r} in {word!r} is no time of the day: 00:00 to 24:00")
    return hour * 60 + minute
