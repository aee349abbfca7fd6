"""What is locked for a job whose owner allows more than the tariff comes to: enough for nodes that ask more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import JobSpec
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.services.budgets import left_of


def asked_for(spec: JobSpec, owner_id: UserId, candidates: Iterable[Candidate]) -> Sequence[int]:
    """What each node asks that could take the job if it were idle, within the job's limit."""
    return [each.quote(spec).units for each in candidates if why_not(spec, each.emptied(), owner_id) is None]


def to_lock(tx: Tx, owner_id: UserId, by_tariff: int, free: int, asked: Sequence[int]) -> int:
    """The most that is asked and that the owner's free balance and budget cover; at least what the job costs by the
    tariff. Where all ask more than there is, the least of it."""
    dearer = [units for units in asked if units > by_tariff]
    if not dearer:
        return by_tariff
    left = left_of(tx, owner_id)
    covered = [units for units in dearer if units <= free and (left is None or units <= left)]
    if covered:
        return max(covered)
    return min(dearer) if len(dearer) == len(asked) else by_tariff
