"""Gangs: jobs of several nodes at once. Pure, as the rest of the policy.

A gang gets all of its nodes in one plan or none: nothing is held while it waits, so two gangs never wait for each
other. So that small jobs don't pass it for ever, the first gang in the queue that has waited long enough keeps nodes
free: what comes behind it may not use them. Members are nodes of one network, in which they reach each other directly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Job
from cyxwiz.domain.link import Links
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.scheduler.links import nearest
from cyxwiz.scheduler.rank import Weights, score

NOTHING_MEASURED: Links = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. Settings scheduler.gang_…."""

    reserve: float = 30.0  # how long a gang waits before nodes are kept free for it
    replace: float = 10.0  # how long one that lost a member waits for another, before it goes on with fewer


def members(
    job: Job,
    candidates: Collection[Candidate],
    avoided: frozenset[NodeId],
    weights: Weights,
    count: int,
    links: Links = NOTHING_MEASURED,
) -> tuple[Candidate, ...]:
    """The nodes for `count` members, the first member first; empty if no network has so many that fit."""
    spec = job.spec

    def rest(candidate: Candidate) -> tuple[object, ...]:
        merit = score(spec, candidate, weights)
        price = candidate.quote(spec).units  # decides between equals
        return candidate.id in avoided, -round(merit, 2), price, -merit, candidate.id

    groups = [
        nearest(group, count, links, spec.strategy, rest)
        for group in networks([each for each in candidates if why_not(spec, each, job.owner_id) is None]).values()
        if len(group) >= count
    ]
    return min(groups)[1] if groups else ()


def choose(
    job: Job,
    candidates: Collection[Candidate],
    avoided: frozenset[NodeId],
    weights: Weights,
    waited: float,
    patience: Patience,
    links: Links = NOTHING_MEASURED,
) -> tuple[Candidate, ...]:
    """All the nodes that it asks for; fewer, down to `min_nodes`, for one that lost a member and has waited enough."""
    wanted = job.spec.resources
    fewest = wanted.nodes
    if job.attempts and waited >= patience.replace:
        fewest = min(wanted.nodes, wanted.min_nodes)
    for count in range(wanted.nodes, fewest - 1, -1):
        if chosen := members(job, candidates, avoided, weights, count, links):
            return chosen
    return ()


def reserved(job: Job, candidates: Collection[Candidate]) -> Sequence[Candidate]:
    """The nodes to keep free for a gang: those that fit now first, then those that get free soonest, as far as a free
    slot tells; empty if no network will ever have enough."""

    def worth(candidate: Candidate) -> tuple[object, ...]:
        return why_not(job.spec, candidate, job.owner_id) is not None, -candidate.free_slots, candidate.id

    needed = job.spec.resources.nodes
    fitting = networks([each for each in candidates if why_not(job.spec, each.emptied(), job.owner_id) is None])
    groups = [sorted(group, key=worth)[:needed] for group in fitting.values() if len(group) >= needed]
    return min(groups, key=lambda group: [worth(each) for each in reversed(group)]) if groups else ()


def reason(job: Job, candidates: Collection[Candidate], kept: bool) -> str:
    """Why a gang waits, for people."""
    needed = job.spec.resources.nodes
    now = _largest([each for each in candidates if why_not(job.spec, each, job.owner_id) is None])
    ever = _largest([each for each in candidates if why_not(job.spec, each.emptied(), job.owner_id) is None])
    text = f"needs {needed} nodes at once, {now} free"
    if ever < needed:
        return f"{text}; only {ever} of one network could ever take it"
    return f"{text}; {needed} are kept for it as they get free" if kept else text


def networks(candidates: Sequence[Candidate]) -> Mapping[str, list[Candidate]]:
    """By the network in which their children reach each other."""
    found: dict[str, list[Candidate]] = {}
    for each in candidates:
        found.setdefault(each.node.gang_network, []).append(each)
    return found


def _largest(candidates: Sequence[Candidate]) -> int:
    return max((len(group) for group in networks(candidates).values()), default=0)
