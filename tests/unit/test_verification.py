"""Who is checked, what counts as the same, and what follows: the pure part."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.domain.ids import NodeId, Token
from cyxwiz.domain.proof import Kind, Link, loss_bits
from cyxwiz.domain.verification import (
    PROVEN,
    Outcome,
    StoredLink,
    Tolerance,
    Validity,
    Verdict,
    check_probability,
    compare,
    decide,
    drawn,
    interval,
    is_checked,
    same_class,
    same_loss,
)

MATCH, MISMATCH, FAILED, UNCLEAR = Verdict.MATCH, Verdict.MISMATCH, Verdict.FAILED, Verdict.UNCLEAR
NEAR = Tolerance(1e-4, 1e-3)
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("streak", "share"), [(0, 1.0), (9, 1.0), (10, 0.1), (40, 0.025), (1000, 0.001)])
def test_the_proven_are_checked_less(streak: int, share: float) -> None:
    assert check_probability(streak) == pytest.approx(share)
    rng = random.Random(streak)
    times = sum(is_checked(streak, rng.random()) for _ in range(20_000))
    assert times == pytest.approx(20_000 * share, abs=4 * (20_000 * share * (1 - share)) ** 0.5 + 1e-9)


def test_one_invalid_result_begins_the_count_anew() -> None:
    record = Validity(NodeId("node"))
    for _ in range(PROVEN):
        record = record.after(valid=True)
    assert not is_checked(record.streak, 0.5)
    record = record.after(valid=False)
    assert (record.streak, record.valid, record.invalid) == (0, PROVEN, 1)
    assert is_checked(record.streak, 0.999)


def test_draws_are_even_repeatable_and_need_the_secret() -> None:
    numbers = [drawn(b"secret", "which", str(each)) for each in range(4000)]
    assert numbers == [drawn(b"secret", "which", str(each)) for each in range(4000)]
    assert all(0 <= each < 1 for each in numbers)
    for part in range(4):
        assert sum(part / 4 <= each < (part + 1) / 4 for each in numbers) == pytest.approx(1000, abs=120)
    assert drawn(b"other", "which", "1") != numbers[1]
    assert drawn(b"secret", "whi", "ch1") != drawn(b"secret", "which", "1")


@given(st.lists(st.integers(1, 10**6), unique=True).map(sorted), st.floats(0, 1, exclude_max=True))
def test_an_interval_lies_between_neighbours(points: Sequence[int], number: float) -> None:
    start, end = interval(points, number)
    ends = [0, *points, 0]
    assert (start, end) in list(pairwise(ends))


def test_every_interval_can_be_drawn() -> None:
    found = {interval([3, 5], each / 100) for each in range(100)}
    assert found == {(0, 3), (3, 5), (5, 0)}
    assert interval([], 0.7) == (0, 0)


@pytest.mark.parametrize(
    ("own", "figures", "same", "verdict"),
    [
        ("a", {}, True, MATCH),
        ("a", {}, False, MATCH),
        ("b", {}, True, MISMATCH),
        ("b", {"max_abs": 0.0, "max_rel": 0.0}, True, MISMATCH),  # on one class there is nothing to tolerate
        ("b", {}, False, UNCLEAR),
        ("b", {"max_abs": 1e-4, "max_rel": 1.0}, False, MATCH),
        ("b", {"max_abs": 1.0, "max_rel": 1e-3}, False, MATCH),
        ("b", {"max_abs": 1.1e-4, "max_rel": 1.1e-3}, False, MISMATCH),
        ("b", {"incomparable": 1.0}, False, MISMATCH),
        ("a", {"result_matches": 0.0}, True, MISMATCH),
        ("a", {"result_matches": 1.0}, True, MATCH),
    ],
)
def test_what_counts_as_the_same(own: str, figures: dict[str, float], same: bool, verdict: Verdict) -> None:
    assert compare("a", own, figures, same=same, tolerance=NEAR) is verdict


def test_a_class_is_what_the_bits_depend_on() -> None:
    facts = {"torch": "2", "threads": 1, "device": "cpu", "machine": "X", "instructions": "AVX2", "python": "3.11"}
    text = json.dumps(facts)
    assert same_class(text, json.dumps({**facts, "python": "3.12"}))
    for name in ("torch", "threads", "device", "machine", "instructions"):
        assert not same_class(text, json.dumps({**facts, name: "another"})), name
    assert not same_class("", "")


def test_votes() -> None:
    def found(wanted: int, *verdicts: Verdict, still_open: int = 0) -> tuple[Outcome, int, tuple[str, ...]]:
        step = decide(wanted, [(f"n{number}", each) for number, each in enumerate(verdicts)], still_open)
        return step.outcome, step.more, step.wrong

    assert found(1) == (Outcome.OPEN, 1, ())
    assert found(1, still_open=1) == (Outcome.OPEN, 0, ())
    assert found(1, MATCH) == (Outcome.VERIFIED, 0, ())
    assert found(1, FAILED) == (Outcome.OPEN, 1, ())
    assert found(1, MISMATCH) == (Outcome.OPEN, 1, ())
    assert found(1, MISMATCH, still_open=1) == (Outcome.OPEN, 0, ())
    assert found(1, MISMATCH, MATCH) == (Outcome.VERIFIED, 0, ("n0",))
    assert found(1, MISMATCH, MISMATCH) == (Outcome.REJECTED, 0, ())
    assert found(2, MATCH) == (Outcome.OPEN, 1, ())
    assert found(2, MATCH, MATCH) == (Outcome.VERIFIED, 0, ())
    assert found(2, MATCH, MISMATCH) == (Outcome.OPEN, 1, ())
    assert found(2, MATCH, MISMATCH, MISMATCH) == (Outcome.REJECTED, 0, ("n0",))
    assert found(2, MATCH, MISMATCH, MATCH) == (Outcome.VERIFIED, 0, ("n1",))


@given(st.integers(1, 4), st.lists(st.sampled_from([MATCH, MISMATCH]), max_size=8))
def test_nobody_is_rejected_by_one_word(wanted: int, verdicts: list[Verdict]) -> None:
    step = decide(wanted, [(str(number), each) for number, each in enumerate(verdicts)], 0)
    if step.outcome is Outcome.REJECTED:
        assert verdicts.count(MISMATCH) >= 2
        assert verdicts.count(MISMATCH) > verdicts.count(MATCH)
    elif step.outcome is Outcome.VERIFIED:
        assert verdicts.count(MATCH) >= max(wanted, verdicts.count(MISMATCH))
    else:
        assert step.more == 1 or (MISMATCH not in verdicts and step.more == wanted - verdicts.count(MATCH))


@pytest.mark.parametrize(
    ("loss", "same", "other"),
    [(1.0, True, True), (1.0 + 1e-12, False, True), (1.9, False, True), (2.1, False, False), (0.4, False, False)],
)
def test_a_loss_is_the_same_bit_by_bit_or_near_it(loss: float, same: bool, other: bool) -> None:
    assert same_loss(told(loss, "A"), told(1.0, "A")) is same
    assert same_loss(told(loss, "A"), told(1.0, "B")) is other
    assert same_loss(told(1e-9, "A"), told(3e-9, "B")), "next to nothing, both"


@pytest.mark.parametrize("machine", ["A", "B"])
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_the_same_on_any_hardware(loss: float, machine: str) -> None:
    assert same_loss(told(loss, "A"), told(loss, machine))
    assert not same_loss(told(loss, "A"), told(1.0, machine))


def told(loss: float, machine: str) -> StoredLink:
    link = Link(Kind.RESULT, 1, loss_bits(loss), "", "")
    return StoredLink(1, Token(1, 1), NodeId("node"), AT, "", json.dumps({"machine": machine}), b"", link)
