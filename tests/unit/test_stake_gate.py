"""A node below the minimum stake gets its owner's jobs alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.job import Job
from cyxwiz.domain.node import GANG
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.policy import Snapshot, candidate, explain, plan
from cyxwiz.scheduler.rank import Weights
from tests.unit.test_policy import OWNER, a_job, a_node

MINIMUM = 100 * 10**9
OTHER = UserId("99999999-9999-4999-8999-999999999999")
SHORT = "stake below 100 CYXWIZ"


def seen(number: int, stake: int, *, minimum: int = MINIMUM) -> Candidate:
    node = a_node(number, stake_units=stake, extras={"features": [f"{GANG}lan"]})
    return candidate(node, (), 1.0, minimum_stake=minimum)


def job_of(owner: UserId, number: int = 1, **resources: object) -> Job:
    return replace(a_job(number, **resources), owner_id=owner)


@pytest.mark.parametrize(
    ("stake", "minimum", "owner", "reason"),
    [
        (MINIMUM - 5 * 10**8, MINIMUM, OTHER, SHORT),
        (MINIMUM - 5 * 10**8, MINIMUM, None, SHORT),
        (MINIMUM - 5 * 10**8, MINIMUM, OWNER, None),
        (MINIMUM, MINIMUM, OTHER, None),
        (0, 0, OTHER, None),
    ],
)
def test_the_stake_counts_for_jobs_of_others(
    stake: int, minimum: int, owner: UserId | None, reason: str | None
) -> None:
    assert why_not(a_job().spec, seen(1, stake, minimum=minimum), owner) == reason


def test_jobs_that_ask_for_the_same_differ_by_whose_they_are() -> None:
    """The first finds no node; that says nothing of the second."""
    foreign, own = job_of(OTHER, 1), job_of(OWNER, 2)
    decided = plan(Snapshot([foreign, own, job_of(OTHER, 3)], [seen(1, 0)]))
    assert [each.job_id for each in decided.placements] == [own.id]
    assert decided.waiting[foreign.id] == ("no node can take it: stake below 100 CYXWIZ (1 node)")


def test_a_gang_takes_only_nodes_with_the_stake() -> None:
    nodes = [seen(1, 0), seen(2, MINIMUM), seen(3, MINIMUM)]
    gang = job_of(OTHER, 1, nodes=2)
    (placed,) = plan(Snapshot([gang], nodes)).placements
    assert set(placed.node_ids) == {nodes[1].id, nodes[2].id}
    waits = plan(Snapshot([gang], nodes[:2], waited={gang.id: 1e9}, patience=Patience()))
    assert not waits.placements
    assert (plan(Snapshot([job_of(OWNER, 1, nodes=2)], nodes[:2]))).placements


def test_explain_says_it_to_others_and_not_to_its_owner() -> None:
    for owner, reason in ((OTHER, "stake below 100 CYXWIZ"), (OWNER, None)):
        (verdict,) = explain(a_job().spec, [seen(1, 0)], Weights(), owner)
        assert verdict.reason == reason
