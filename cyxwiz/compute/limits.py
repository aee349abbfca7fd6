"""The owner's limits: whether the node may work now, from the schedule, the temperature and what others use.

Both measures have a band in which nothing changes, so that the node does not flutter at a bound.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psutil

from cyxwiz.compute.hardware import OthersLoad
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.domain.schedule import Schedule
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)

COOL_BY_C = 5.0  # it opens again this much below the limit
BUSY_SHARE = 0.25  # of all cores used by others: the machine is in use
IDLE_SHARE = 0.10  # and free again below this


@dataclass(frozen=True, slots=True)
class Limits:
    schedule: Schedule
    max_temperature_c: float | None = None

    @property
    def any(self) -> bool:
        return self.schedule.text != "always" or self.max_temperature_c is not None


@dataclass(frozen=True, slots=True)
class State:
    """What the last look left behind. `closed` is why the node must not work; empty: it may."""

    closed: str = ""
    hot: bool = False
    busy: bool = False


def judge(
    limits: Limits, before: State, clock: Clock, temperature_c: float | None, others_share: float | None
) -> State:
    """The state now. What could not be measured closes nothing: the temperature limit needs a sensor."""
    hot, most = False, limits.max_temperature_c
    if most is not None and temperature_c is not None:
        hot = temperature_c > most - COOL_BY_C if before.hot else temperature_c >= most
    busy = False
    if limits.schedule.asks_idle and others_share is not None:
        busy = others_share >= IDLE_SHARE if before.busy else others_share >= BUSY_SHARE
    if hot:
        # The text stays the same while it is hot, so that each change of the reason is news.
        return State(f"hotter than its owner allows ({most:g} °C)", hot, busy)
    return State(limits.schedule.closed(clock.now().astimezone(), busy), hot, busy)


class Watchman:
    """Measures what the limits ask for, and judges. `look` may take milliseconds: not for the event loop."""

    def __init__(self, limits: Limits, clock: Clock, sensors: Sensors) -> None:
        self._limits = limits
        self._clock = clock
        self._sensors = sensors
        self._others = OthersLoad(clock) if limits.schedule.asks_idle else None
        self.state = State()

    @property
    def senses_heat(self) -> bool:
        return self._sensors.temperature() is not None

    def _heat(self) -> float | None:
        try:
            return self._sensors.temperature()
        except (psutil.Error, OSError) as error:
            log.warning("the temperature can't be read: %s", error)
            return None

    def _share(self) -> float | None:
        try:
            return self._others.measure() if self._others is not None else None
        except (psutil.Error, OSError) as error:
            log.warning("how much others use this machine can't be measured: %s", error)
            return None

    def look(self) -> str:
        """Why the node must not work now, or nothing."""
        limits = self._limits
        heat = self._heat() if limits.max_temperature_c is not None else None
        share = self._share()
        self.state = judge(limits, self.state, self._clock, heat, share)
        return self.state.closed
