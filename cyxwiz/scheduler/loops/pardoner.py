"""Ends the bans of nodes whose time is over."""

from __future__ import annotations

import logging

from cyxwiz.scheduler.loops.periodic import Periodic
from cyxwiz.services.nodes import Nodes

log = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0


class Pardoner(Periodic):
    def __init__(self, nodes: Nodes) -> None:
        super().__init__(PERIOD_SECONDS)
        self._nodes = nodes

    async def once(self) -> None:
        ended = await self._nodes.end_bans()
        if ended:
            log.info("ended the bans of %d nodes", ended)
