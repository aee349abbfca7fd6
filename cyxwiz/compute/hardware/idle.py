"""How much of the processor others use: every process but this one and those below it."""

from __future__ import annotations

import psutil

from cyxwiz.ports.clock import Clock


class OthersLoad:
    """Shares of all cores, 0 to 1, as means since the call before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = self._read()

    def measure(self) -> float:
        """Walks all processes: milliseconds, so not on the event loop."""
        (at, all_before, own_before), self._last = self._last, self._read()
        now, all_now, own_now = self._last
        span = max(1e-3, now - at) * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, ((all_now - all_before) - max(0.0, own_now - own_before)) / span))

    def _read(self) -> tuple[float, float, float]:
        """(monotonic second, busy core seconds of the machine, of this family of processes)"""
        times = psutil.cpu_times()
        # Time stolen is another machine's. A guest's time is in that of users as well.
        idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return self._clock.monotonic(), sum(times) - idle - guest, _family_seconds()


def _family_seconds() -> float:
    """User and system seconds of this process and its descendants, the dead ones included where they were reaped."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended meanwhile, and is in its parent's sum
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
