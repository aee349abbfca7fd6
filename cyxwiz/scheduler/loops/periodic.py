"""The shape of loops that do the same thing again and again."""

from __future__ import annotations

import logging

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.runtime.lifecycle import Service

log = logging.getLogger(__name__)
_PASSING = frozenset({Code.UNAVAILABLE, Code.EXHAUSTED, Code.STALE})


class Periodic(Service):
    """Calls `once` every `period` seconds. A store that is away or full holds it up; any other error ends it."""

    def __init__(self, period: float) -> None:
        super().__init__()
        self._period = period

    async def once(self) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        self.ready()
        while not self.stopping.is_set():
            await self.idle(self._period)
            if self.stopping.is_set():
                return
            try:
                await self.once()
            except CyxError as error:
                if error.code not in _PASSING:
                    raise
                log.warning("%s is held up: %s", self.name, error.message)
