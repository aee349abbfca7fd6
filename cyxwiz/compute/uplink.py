"""How fast this node sends to central, measured now and then while it has nothing to do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from cyxwiz.compute.agent import Agent
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.lifecycle import Service

log = logging.getLogger(__name__)

AGAIN_SECONDS = 6 * 3600.0
RETRY_SECONDS = 600.0
LOOK_SECONDS = 1.0  # between two looks whether the node is connected and idle


class Uplink(Service):
    """`measure` gives bytes a second, or None when central could not be reached that way."""

    def __init__(self, agent: Agent, clock: Clock, measure: Callable[[], Awaitable[float | None]]) -> None:
        super().__init__()
        self._agent, self._clock, self._measure = agent, clock, measure

    async def run(self) -> None:
        self.ready()
        while not self.stopping.is_set():
            if self._agent.active or not self._agent.connected.is_set():
                await self.idle(LOOK_SECONDS)
                continue
            rate = await self._measure()
            if rate is not None:
                log.info("central is reached with %.1f MB/s", rate / 1e6)
                self._agent.network_rate = rate
            await self.idle(RETRY_SECONDS if rate is None else AGAIN_SECONDS)
