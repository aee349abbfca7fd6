"""What could not be tested on this machine is said at the end of the run, never passed over in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any, NoReturn

import pytest

PREFIX = "not run here: "


def missing(reason: str) -> NoReturn:
    """Skips the test for want of something that this machine lacks; `reason` names it and how to get it."""
    pytest.skip(PREFIX + reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # From the reports, not from a list kept here: with several workers the tests ran in other processes.
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        if isinstance(report.longrepr, tuple) and PREFIX in report.longrepr[2]:
            reasons[report.longrepr[2].partition(PREFIX)[2]] += 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{PREFIX}{reason} ({count} tests)", yellow=True)
