"""What is locked for a job whose owner allows more than the tariff comes to: enough for nodes that ask more."""

from __future__ import annotations

from collections.abc import Iterable

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import JobSpec
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.services.budgets import left_of


def to_lock(tx: Tx, spec: JobSpec, owner_id: UserId, by_tariff: int, free: int, candidates: Iterable[Candidate]) -> int:
    """The most that a node asks which could take the job if it were idle, and that the job's limit, its owner's free
    balance and budget cover; at least what it costs by the tariff. Where all ask more than there is, the least of it.
    """
    asked = [each.quote(spec).units for each in candidates if why_not(spec, each.emptied(), owner_id) is None]
    dearer = [units for units in asked if units > by_tariff]
    if not dearer:
        return by_tariff
    left = left_of(tx, owner_id)
    covered = [units for units in dearer if units <= free and (left is None or units <= left)]
    if covered:
        return max(covered)
    return min(dearer) if len(dearer) == len(asked) else by_tariff
