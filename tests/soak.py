"""How much the tests with counts do: a sample in `make test`, everything in `make soak`."""

from __future__ import annotations

import os

SOAKING = os.environ.get("HYPOTHESIS_PROFILE") == "soak"


def examples(sample: int) -> int:
    """`sample`, ten times as many in a soak."""
    return sample * 10 if SOAKING else sample
