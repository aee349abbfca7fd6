"""Who did what: a row in the same unit as the act itself."""

from __future__ import annotations

from typing import Any

from cyxwiz.ports.store import AuditEntry, Tx

WRONG = "node.wrong"  # the entry with the evidence of wrong work


def record(tx: Tx, actor: str, action: str, target: str, **details: Any) -> None:
    tx.audit(AuditEntry(tx.now, actor, action, target, details))
