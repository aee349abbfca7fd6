"""node.schedule: what it may say and what it means."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.config import ConfigError, load
from cyxwiz.domain.schedule import DAYS, Span, parse_schedule

MONDAY = datetime(2030, 1, 7)  # noqa: DTZ001  the schedule reads the local time that an instant carries


def at(text: str) -> datetime:
    """'tue 06:59'"""
    day, time = text.split()
    hour, minute = time.split(":")
    return MONDAY + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


def open_(schedule: str, when: str, *, busy: bool = False) -> bool:
    return parse_schedule(schedule).closed(at(when), busy) == ""


@pytest.mark.parametrize(
    ("schedule", "opens", "closes"),
    [
        ("always", ["mon 00:00", "sun 23:59"], []),
        ("22:00-07:00", ["mon 22:00", "tue 06:59", "mon 00:00"], ["tue 07:00", "tue 21:59", "sun 12:00"]),
        ("09:00-17:00", ["sat 09:00", "sat 16:59"], ["sat 08:59", "sat 17:00"]),
        ("18:00-24:00", ["sat 18:00", "sat 23:59"], ["sun 00:00", "sat 17:59"]),
        (
            "Mon-Fri 19:00-07:00, Sat-Sun",
            ["mon 19:00", "tue 06:59", "fri 23:00", "sat 00:00", "sat 12:00", "sun 23:59"],
            ["mon 06:59", "mon 12:00", "fri 18:59", "tue 07:00"],
        ),
        # A night belongs to the day on which it begins: Friday's runs into Saturday, no night begins on Saturday.
        ("Fri 19:00-07:00", ["fri 19:00", "sat 06:59"], ["fri 06:59", "sat 07:00", "sat 19:00", "sun 03:00"]),
        ("Sun 23:00-01:00", ["sun 23:30", "mon 00:30"], ["sun 00:30", "mon 23:30"]),
        ("sat-mon", ["sat 10:00", "sun 10:00", "mon 10:00"], ["tue 10:00", "fri 10:00"]),
        ("WED", ["wed 00:00", "wed 23:59"], ["thu 00:00", "tue 23:59"]),
    ],
)
def test_when_it_holds(schedule: str, opens: list[str], closes: list[str]) -> None:
    assert [when for when in opens if not open_(schedule, when)] == []
    assert [when for when in closes if open_(schedule, when)] == []


def test_idle_asks_for_a_machine_that_nobody_uses() -> None:
    assert open_("idle", "mon 10:00")
    assert not open_("idle", "mon 10:00", busy=True)
    mixed = "Mon-Fri 09:00-17:00 idle, 17:00-09:00"
    assert open_(mixed, "mon 10:00")
    assert not open_(mixed, "mon 10:00", busy=True)
    assert open_(mixed, "mon 20:00", busy=True)
    assert not open_(mixed, "sat 10:00")
    assert open_("09:00-17:00 idle, 16:00-18:00", "mon 16:30", busy=True), "one span that holds is enough"
    assert parse_schedule(mixed).asks_idle
    assert not parse_schedule("22:00-07:00").asks_idle


def test_the_reason_names_the_schedule_as_it_was_written() -> None:
    closed = parse_schedule("  Mon-Fri   19:00-07:00,Sat ").closed(at("mon 12:00"), False)
    assert closed == "its owner's schedule is Mon-Fri 19:00-07:00,Sat"
    assert parse_schedule("idle").closed(at("mon 12:00"), True) == "its owner uses the machine"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        ("Mon,", "is empty"),
        ("never", "'never' in 'never' is not understood"),
        ("Mon-Fry", "'fry' is no day"),
        ("Montag", "not understood"),
        ("25:00-07:00", "'25:00' in '25:00-07:00' is no time"),
        ("10:60-11:00", "is no time"),
        ("24:30-11:00", "is no time"),
        ("24:00-11:00", "begins at 24:00"),
        ("10:00-10:00", "begins and ends"),
        ("10:00", "not understood"),
        ("10:00-11:00 Mon", "not understood"),
        ("idle 10:00-11:00", "not understood"),
        ("idle idle", "not understood"),
        ("always, Mon", "'always' in 'always' is not understood"),
        ("Mon 10:00-11:00 12:00-13:00", "not understood"),
    ],
)
def test_what_is_wrong_is_said_by_the_configuration(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, flags=[f"node.schedule={text}"])
    assert str(caught.value).startswith(f"node.schedule = {text!r}: ")
    assert wrong in str(caught.value)


def test_the_limits_of_the_temperature() -> None:
    assert load(environ={}, flags=["node.max_temperature_c=83"]).config.node.max_temperature_c == 83
    with pytest.raises(ConfigError, match="greater than or equal to 30"):
        load(environ={}, flags=["node.max_temperature_c=8"])


minutes = st.integers(0, 24 * 60 - 1)


@given(st.sets(st.integers(0, 6), min_size=1), minutes, minutes, st.integers(0, 7 * 24 * 60 - 1))
def test_a_span_holds_just_the_minutes_after_its_beginnings(days: set[int], start: int, end: int, minute: int) -> None:
    """Against the plain definition: some beginning within the last day, less than the length ago."""
    if start == end:
        return
    length = (end - start) % (24 * 60)
    begins = [(day * 24 * 60 + start) for day in days]
    expected = any((minute - begin) % (7 * 24 * 60) < length for begin in begins)
    assert Span(frozenset(days), start, end).holds(MONDAY + timedelta(minutes=minute)) == expected
