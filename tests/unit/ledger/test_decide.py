"""The sender's judgement, without a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.signature import Signature

from cyxwiz.domain.errors import Code, invalid
from cyxwiz.ledger.rpc import Height, Status, Statuses
from cyxwiz.ledger.sender import Broadcast, Failed, Landed, SendPolicy, SignAnew, Signed, View, Wait, decide

POLICY = SendPolicy(max_signings=3)
OK = Status(90, None, True, True)
BAD = Status(90, {"InstructionError": [0, {"Custom": 1}]}, True, True)
PROCESSED = Status(90, None, False, False)
CONFIRMED = Status(90, None, True, False)


def one(number: int, last: int) -> Signed:
    return Signed(Signature(bytes([number]) * 64), bytes([number]), last)


A, B = one(1, 100), one(2, 200)


def view(height: int | None, *found: Status | None, slot: int = 1000, seen: int = 1000, **more: object) -> View:
    at = Height(height, slot) if height is not None else None
    return View(50.0, at, Statuses(seen, found) if found else None, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signed", "seen", "expected"),
    [
        ([], view(None), SignAnew()),
        ([A], view(None), Broadcast(A)),
        ([A], view(100, None), Broadcast(A)),
        ([A], view(100, None, sent_at=48.0), Broadcast(A)),
        ([A], view(100, None, sent_at=48.9), Wait(0.5)),
        ([A], view(100, None, sent_at=48.1), Wait(pytest.approx(0.1))),  # type: ignore[arg-type]
        ([A], view(101, None), SignAnew()),
        ([A], view(101, None, seen=999), Wait(0.5)),  # from a node that is behind
        ([A], view(101), Wait(0.5)),
        ([A], view(101, PROCESSED), Wait(0.5)),  # it may still be undone, or become final
        ([A], view(101, CONFIRMED), Wait(0.5)),
        ([A], view(50, PROCESSED), Wait(0.5)),
        ([A], view(None, OK), Landed(A.signature, 90)),
        ([A, B], view(101, OK, None), Landed(A.signature, 90)),
        ([A, B], view(150, None, None), Broadcast(B)),
        ([A, B], view(201, None, None), SignAnew()),
        ([A, B], view(201, PROCESSED, None), Wait(0.5)),
        ([A, B], view(201, BAD, OK), Landed(B.signature, 90)),
    ],
)
def test_what_is_done(signed: list[Signed], seen: View, expected: object) -> None:
    assert decide(signed, seen, POLICY) == expected


def test_a_landed_failure_is_the_end_once_nothing_else_can_land() -> None:
    action = decide([A], view(50, BAD), POLICY)
    assert isinstance(action, Failed)
    assert action.signature == A.signature
    assert action.error.details["number"] == 1
    assert decide([A, B], view(150, BAD, None), POLICY) == Broadcast(B)
    assert isinstance(decide([A, B], view(201, BAD, None), POLICY), Failed)


def test_it_ends_after_its_signings_and_with_a_refusal() -> None:
    gone = [one(number, number) for number in range(3)]
    action = decide(gone, view(300, None, None, None), POLICY)
    assert isinstance(action, Failed)
    assert action.error.code is Code.TIMEOUT
    refused = invalid("no")
    assert decide([A], view(101, None, refused=refused), POLICY) == Failed(refused)
    assert decide([A], view(100, None, refused=refused), POLICY) == Broadcast(A)


def test_confirmed_is_enough_where_the_policy_says_so() -> None:
    assert decide([A], view(50, CONFIRMED), SendPolicy(finalized=False)) == Landed(A.signature, 90)
    assert isinstance(decide([A], view(50, PROCESSED), SendPolicy(finalized=False)), Wait)


statuses = st.sampled_from([None, OK, BAD, PROCESSED, CONFIRMED])


@given(
    st.lists(st.tuples(st.integers(0, 30), statuses), min_size=1, max_size=4),
    st.none() | st.integers(0, 40),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_nothing_is_signed_anew_while_anything_may_land(
    rows: list[tuple[int, Status | None]], height: int | None, slot: int, seen: int
) -> None:
    signed = [one(number, last) for number, (last, _) in enumerate(rows)]
    action = decide(signed, view(height, *(status for _, status in rows), slot=slot, seen=seen), SendPolicy())
    may_land = [
        (status is not None and status is not BAD) or height is None or height <= last or seen < slot
        for last, status in rows
    ]
    if isinstance(action, SignAnew):
        assert not any(may_land)
        assert all(status is None for _, status in rows)
    if isinstance(action, Failed):
        assert BAD in [status for _, status in rows]


@pytest.mark.parametrize(
    ("signings", "recent", "price"),
    [(0, 0, 1000), (0, 5000, 5000), (1, 0, 2000), (3, 5000, 40_000), (9, 5000, 1_000_000), (10**6, 1, 1_000_000)],
)
def test_the_fee_rises_to_its_cap(signings: int, recent: int, price: int) -> None:
    assert SendPolicy().price(signings, recent) == price
