"""With the default settings a gang goes on within a minute, however a member was lost: the time-outs on the way, added.

What the machines themselves take is not in a time-out: `START` stands for a child's start with its imports, the
checkpoint's way to it and the first step.
"""

from __future__ import annotations

import inspect

import pytest

from cyxwiz.compute.agent import ENDING_SECONDS
from cyxwiz.compute.gang.meeting import EXCHANGE_SECONDS, SILENCE_SECONDS
from cyxwiz.compute.process import ASK_SECONDS, KILL_SECONDS, LAST_SECONDS
from cyxwiz.compute.train import LOSS_SECONDS
from cyxwiz.config import Config
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.loops.reaper import LeaseReaper
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.nodes import Nodes

PROMISE = 60.0
START = 8.0
SCHEDULER = Config().scheduler


def noticed() -> float:
    """From a machine's last word to the end of its leases: the time-out, and the reaper's next look."""
    seconds = SCHEDULER.node_heartbeat_timeout_ms / 1000
    nodes = Nodes.__new__(Nodes)
    nodes.liveness = Liveness(SystemClock(), seconds)
    return seconds + LeaseReaper(None, SystemClock(), nodes)._period  # type: ignore[arg-type]


ENDED = ASK_SECONDS + KILL_SECONDS + LAST_SECONDS  # what the others run of the older group
PLACED = SCHEDULER.job_poll_interval_ms / 1000
SHRUNK = SCHEDULER.gang_replace_seconds
WAYS = {
    "silent, replaced": noticed() + PLACED + ENDED + START,
    "silent, shrunk": noticed() + SHRUNK + PLACED + START,  # the others have ended long before
    "members cut off from each other": SILENCE_SECONDS + LOSS_SECONDS + PLACED + START,
    "a child that hangs": EXCHANGE_SECONDS + LOSS_SECONDS + PLACED + START,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_gang_goes_on_within_a_minute(way: str) -> None:
    assert WAYS[way] <= PROMISE, f"{way}: {WAYS[way]:.1f} s"


def test_who_knows_more_speaks_first() -> None:
    """Central ends a group for a silent machine before its members give each other up: else the next group would be
    formed with that machine."""
    assert noticed() < SILENCE_SECONDS < EXCHANGE_SECONDS


def test_a_slot_is_waited_for_as_long_as_its_run_may_take_to_end() -> None:
    assert ENDED < ENDING_SECONDS


def test_the_settings_are_what_the_scheduler_goes_by() -> None:
    assert inspect.signature(Patience).parameters["replace"].default == SHRUNK
