"""When Python looks for garbage: seldom while a program starts, as what it loads then stays."""

from __future__ import annotations

import gc

SELDOM = 50_000  # objects more than were let go of, between two looks at the newest
_USUAL = gc.get_threshold()


def seldom() -> None:
    """To be called first of all."""
    gc.set_threshold(SELDOM)


def as_usual() -> None:
    """Once the program is ready: no look goes through what is there by now any more."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
