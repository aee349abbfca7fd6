"""Amounts are integers of the smallest unit inside and decimal strings of CYXWIZ outside."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

from cyxwiz.domain.errors import invalid

UNITS_PER_CYXWIZ = 10**9
MAX_UNITS = 2**63 - 1
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


def format_cyxwiz(units: int) -> str:
    """The shortest exact decimal string, without an exponent."""
    whole, rest = divmod(units, UNITS_PER_CYXWIZ)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)
