"""What an escrow's account says of how much its stream may still earn."""

from __future__ import annotations

import struct

import pytest
from solders.pubkey import Pubkey

from cyxwiz.domain.errors import CyxError
from cyxwiz.ledger.escrows import allowance
from cyxwiz.ledger.instructions.escrow import FORMER_SIZE, STATE_SIZE, TAG, Escrow, Flag

NOW, AMOUNT, CAP, INTERVAL = 1_800_000_000, 10_000, 600, 60
ADDRESS = Pubkey.new_unique()


def account(accrued: int, accrued_at: int, *earned: int, flags: int = Flag.STREAM) -> bytes:
    head = TAG + bytes((255, 255, flags, 0)) + struct.pack("<HH", 1000, 0) + bytes(16 + 9 * 32)
    body = struct.pack("<4Q4qQ2I", AMOUNT, 0, 0, accrued, NOW, NOW + 86_400, 0, accrued_at, CAP, INTERVAL, 60)
    return head + body + struct.pack(f"<{len(earned)}Q", *earned)


def test_both_sizes_are_read() -> None:
    assert (len(account(0, NOW)), len(account(0, NOW, 1, 2, 3, 4, 5))) == (FORMER_SIZE, STATE_SIZE)
    assert Escrow.decode(ADDRESS, account(0, NOW)).earned == ()
    assert Escrow.decode(ADDRESS, account(0, NOW, 1, 2, 3, 4, 5)).earned == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("data", [b"", account(0, NOW, 1), account(0, NOW, 1, 2, 3, 4, 5, 6), bytes(STATE_SIZE)])
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CyxError, match="is no escrow: expected 440 bytes"):
        Escrow.decode(ADDRESS, data)


def test_an_escrow_of_the_former_size_earns_by_the_time_alone() -> None:
    held = Escrow.decode(ADDRESS, account(CAP, NOW))
    assert [allowance(held, NOW + seconds) for seconds in (-5, 0, 30, 60, 600)] == [0, 0, 300, 600, 600]


def test_what_was_earned_lately_is_taken_off_the_cap() -> None:
    """Parts of 15 seconds: `NOW` begins one whose number is 0 modulo 5."""
    assert NOW % 75 == 0
    held = Escrow.decode(ADDRESS, account(CAP, NOW, CAP, 0, 0, 0, 0))
    assert [allowance(held, NOW + seconds) for seconds in (0, 60, 74, 75, 600)] == [0, 0, 0, 600, 600]
    held = Escrow.decode(ADDRESS, account(500, NOW, 100, 50, 50, 200, 100))  # this part, and those 60, 45, 30, 15 ago
    assert [allowance(held, NOW + seconds) for seconds in (1, 10, 14, 15, 30, 75)] == [10, 100, 100, 150, 200, 600]


def test_a_stopped_stream_earns_nothing() -> None:
    held = Escrow.decode(ADDRESS, account(0, NOW, 0, 0, 0, 0, 0, flags=Flag.STREAM | Flag.STOPPED))
    assert allowance(held, NOW + INTERVAL) == 0
