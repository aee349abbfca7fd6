"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

from tests.missing import pytest_terminal_summary
from tests.soak import SOAKING, examples

__all__ = ["pytest_terminal_summary"]

settings.register_profile("default", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=examples(100))
settings.load_profile("soak" if SOAKING else "default")
