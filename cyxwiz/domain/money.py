"""Amounts are integers of the smallest unit inside and decimal strings of CYXWIZ outside."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

from cyxwiz.domain.errors import invalid

UNITS_PER_CYXWIZ = 10**9
LAMPORTS_PER_SOL = 10**9
MAX_UNITS = 2**63 - 1
DUST_UNITS = 1000  # less than this is not worth a transaction, wherever money is locked or sent
AMOUNT = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
MAX_DIGITS = 1100  # what AMOUNT allows, written out: arithmetic on it is exact


def parse_cyxwiz(text: str, field: str = "amount") -> int:
    """Units for a decimal string of CYXWIZ, exactly.

    Raises:
        CyxError: INVALID for what is no number, negative, finer than one unit or past 2^63-1 units.
    """
    if not AMOUNT.fullmatch(text):
        raise invalid(f"{field}: {text[:40]!r} is not an amount of CYXWIZ such as '1.5'", field=field)
    with localcontext(prec=MAX_DIGITS):
        units = Decimal(text) * UNITS_PER_CYXWIZ
        if units < 0 or units > MAX_UNITS:
            raise invalid(f"{field}: {text[:40]!r} is out of bounds (0 to {format_cyxwiz(MAX_UNITS)})", field=field)
        if units != units.to_integral_value():
            raise invalid(f"{field}: {text[:40]!r} is finer than the smallest unit, 0.000000001 CYXWIZ", field=field)
        return int(units)


def check_amount(units: int, field: str = "amount", least: int = 1) -> int:
    """The units. Raises INVALID for less than `least`, and for what no account can hold."""
    if units > MAX_UNITS or units < 1:
        raise invalid(f"{field}: must be more than 0 CYXWIZ and less than 2^63 units", field=field)
    if units < least:
        shown = f"{format_cyxwiz(units)} CYXWIZ is dust"
        raise invalid(f"{field}: {shown}: must be at least {format_cyxwiz(least)}", field=field)
    return units


def format_cyxwiz(units: int) -> str:
    """The shortest exact decimal string, without an exponent."""
    whole, rest = divmod(abs(units), UNITS_PER_CYXWIZ)
    text = f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
    return f"-{text}" if units < 0 else text
