"""Which ledger holds the money."""

from __future__ import annotations

from pathlib import Path

from cyxwiz.config import Config
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import Store


async def open_ledger(config: Config, store: Store, clock: Clock, data_dir: Path, *, local: bool) -> Ledger | None:
    """The ledger that the settings name; None charges nothing."""
    from cyxwiz.ledger.credits import CreditsLedger

    if config.ledger.backend == "none":
        return None
    return CreditsLedger(store, welcome_units=parse_cyxwiz(config.ledger.welcome))
