"""Amounts: integers inside, decimal strings outside, and never a rounding between the two."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.money import MAX_UNITS, UNITS_PER_CYXWIZ, format_cyxwiz, parse_cyxwiz
from cyxwiz.domain.payment import Tariff

units = st.integers(0, MAX_UNITS)


@given(units)
@settings(deadline=None)
def test_every_amount_comes_back(amount: int) -> None:
    assert parse_cyxwiz(format_cyxwiz(amount)) == amount


@given(units)
@settings(deadline=None)
def test_the_text_is_exact_short_and_plain(amount: int) -> None:
    text = format_cyxwiz(amount)
    assert Decimal(text) * UNITS_PER_CYXWIZ == amount
    assert set(text) <= set("0123456789.")
    assert not text.endswith(".")
    assert "." not in text or not text.endswith("0")


@given(units, units)
@settings(deadline=None)
def test_order_is_kept(one: int, other: int) -> None:
    assert (Decimal(format_cyxwiz(one)) < Decimal(format_cyxwiz(other))) == (one < other)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("1", 10**9),
        ("0.000000001", 1),
        ("1.5", 1_500_000_000),
        ("1.500", 1_500_000_000),
        ("5e-9", 5),
        ("2E3", 2000 * 10**9),
        ("9223372036.854775807", MAX_UNITS),
    ],
)
def test_amounts_as_people_write_them(text: str, amount: int) -> None:
    assert parse_cyxwiz(text) == amount


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an amount"),
        ("ten", "not an amount"),
        ("1,5", "not an amount"),
        ("0x10", "not an amount"),
        ("NaN", "not an amount"),
        ("sNaN", "not an amount"),
        ("Infinity", "not an amount"),
        ("-1", "out of bounds"),
        ("-0.000000001", "out of bounds"),
        ("9223372036.854775808", "out of bounds"),
        ("1e300", "out of bounds"),
        ("0.0000000001", "finer than the smallest unit"),
        ("1.0000000001", "finer than the smallest unit"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_field(text: str, why: str) -> None:
    with pytest.raises(CyxError) as caught:
        parse_cyxwiz(text, "payment.max_price")
    assert caught.value.code is Code.INVALID
    assert caught.value.message.startswith("payment.max_price: ")
    assert why in caught.value.message
    assert caught.value.details == {"field": "payment.max_price"}


def test_the_examples_of_the_format() -> None:
    assert [format_cyxwiz(n) for n in (0, 1, 10, 10**9, 1_500_000_000, 123_456_789_012)] == [
        "0",
        "0.000000001",
        "0.00000001",
        "1",
        "1.5",
        "123.456789012",
    ]


def test_a_tariff_counts_the_gpu_only_with_one_and_ram_by_the_gib() -> None:
    tariff = Tariff(base_rate=10_000, gpu_multiplier=10.0, ram_factor_per_gb=0.01)
    assert tariff.cost_units(1, gpu=False, ram_bytes=0) == 10_000
    assert tariff.cost_units(1, gpu=True, ram_bytes=0) == 100_000
    assert tariff.cost_units(60, gpu=False, ram_bytes=8 << 30) == 648_000
    assert tariff.cost_units(0, gpu=True, ram_bytes=8 << 30) == 0


def test_a_cost_is_an_amount_that_can_be_stored() -> None:
    tariff = Tariff(10**15, 10**6, 1000)
    for seconds in (2.0**62, 1e300, 1e308):
        assert tariff.cost_units(seconds, gpu=True, ram_bytes=2**62) == MAX_UNITS
    assert Tariff(10, 1.0, 0.0).cost_units(1e18, gpu=False, ram_bytes=0) == MAX_UNITS
    assert Tariff(9, 1.0, 0.0).cost_units(1e18, gpu=False, ram_bytes=0) == 9 * 10**18


def test_what_is_less_than_nothing_is_shown_as_it_is() -> None:
    assert [format_cyxwiz(n) for n in (-1, -75_000_000, -(10**9), -1_500_000_000)] == [
        "-0.000000001",
        "-0.075",
        "-1",
        "-1.5",
    ]
