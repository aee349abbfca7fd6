"""The scheduler's decision: an immutable snapshot in, a plan out. No await, no clock, no randomness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cyxwiz.domain.ids import JobId, NodeId, UserId
from cyxwiz.domain.job import Job, JobSpec
from cyxwiz.domain.link import Link, Links, Pair
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.pricing import Quote
from cyxwiz.scheduler import gangs
from cyxwiz.scheduler.feasible import FREE, Candidate, why_not
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.preemption import MAKING_ROOM, Eviction, Room, Rules, Tenant, evictions
from cyxwiz.scheduler.rank import Weights, score, terms

DEFAULT_WEIGHTS = Weights()
DEFAULT_PATIENCE = Patience()
EQUAL = 0.01  # scores that differ by no more are as good


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment. Jobs come in the order in which they should be served."""

    jobs: Sequence[Job]
    candidates: Sequence[Candidate]
    weights: Weights = DEFAULT_WEIGHTS
    # Nodes on which a job already failed, was refused or was lost: taken only if no other node fits.
    avoid: Mapping[JobId, frozenset[NodeId]] = field(default_factory=dict[JobId, frozenset[NodeId]])
    # Nodes that may not have the job again.
    barred: Mapping[JobId, frozenset[NodeId]] = field(default_factory=dict[JobId, frozenset[NodeId]])
    # Seconds that each gang has waited, and each job for which others may have to give way.
    waited: Mapping[JobId, float] = field(default_factory=dict[JobId, float])
    patience: Patience = DEFAULT_PATIENCE
    links: Links = field(default_factory=dict[Pair, Link])  # between nodes; looked at for gangs
    tenants: Sequence[Tenant] = ()  # jobs that nodes have, and that may have to give way
    rules: Rules | None = None  # of giving way; None: nobody does


@dataclass(frozen=True, slots=True)
class Placement:
    job_id: JobId
    node_id: NodeId
    score: float
    others: tuple[NodeId, ...] = ()  # of the further members of a gang
    cost_units: int = 0  # what it is expected to cost there

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        return (self.node_id, *self.others)


@dataclass(frozen=True, slots=True)
class Plan:
    placements: Sequence[Placement]
    waiting: Mapping[JobId, str]  # why each other job stays pending
    left: Sequence[Candidate] = ()  # the candidates, less what the placements use
    evictions: Sequence[Eviction] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One node's answer to one job, for `explain`."""

    node_id: NodeId
    name: str
    reason: str | None
    score: float
    terms: Mapping[str, float]
    quote: Quote
    round_trip_seconds: float | None = None  # to central
    network_rate: float | None = None  # bytes a second to central


def candidate(
    node: Node,
    held: Iterable[JobSpec],
    uptime: float,
    connected: bool = True,
    closed: str = "",
    data_keys: frozenset[str] = frozenset(),
    round_trip_seconds: float | None = None,
    tariff: Tariff = FREE,
    minimum_stake: int = 0,
    network_rate: float | None = None,
    holds: Iterable[Job] = (),
) -> Candidate:
    """A node less what the jobs it holds use: a slot and RAM each, and a GPU each that needs one."""
    jobs = tuple(holds)
    whole = Candidate(
        node=node,
        free_slots=node.max_concurrent_jobs,
        free_ram_bytes=node.hardware.ram_total_bytes,
        free_gpus=node.hardware.gpus,
        uptime=uptime,
        connected=connected,
        closed=closed,
        data_keys=data_keys,
        round_trip_seconds=round_trip_seconds,
        tariff=tariff,
        minimum_stake=minimum_stake,
        network_rate=network_rate,
        holds=jobs,
    )
    return whole.using([*held, *(job.spec for job in jobs)])


def plan(snapshot: Snapshot) -> Plan:
    """Serves the jobs in order, each on the best of the feasible nodes.

    Jobs that ask for the same thing get the same answer, so a class of jobs that found no node is not tried again until
    the candidates change (they only shrink within a plan).
    """
    candidates = {c.id: c for c in sorted(snapshot.candidates, key=lambda c: c.id)}
    placements: list[Placement] = []
    waiting: dict[JobId, str] = {}
    given_way: list[Eviction] = []
    hopeless: dict[tuple[object, ...], str] = {}
    kept = False  # whether nodes are kept for a gang
    gated = any(c.short_of_stake(None) for c in candidates.values())  # then it matters whose a job is
    room = Room(candidates, snapshot.tenants, snapshot.rules) if snapshot.rules and snapshot.tenants else None
    for job in snapshot.jobs:
        barred = snapshot.barred.get(job.id, frozenset())
        need = (*_need(job.spec), barred, job.owner_id if gated else None)
        gang = job.spec.resources.nodes > 1
        placed = None if need in hopeless else (_team if gang else _one)(job, candidates, snapshot)
        if placed is not None:
            placements.append(placed)
            for node_id in placed.node_ids:
                candidates[node_id] = candidates[node_id].less(job.spec)
            continue
        waited, avoided = snapshot.waited.get(job.id, 0.0), snapshot.avoid.get(job.id, frozenset())
        if room is not None and (claim := room.claim(job, need, waited, avoided, barred)):
            waiting[job.id] = MAKING_ROOM
            given_way += evictions(job, claim)
            for node_id in claim.node_ids:
                candidates[node_id] = candidates[node_id].less(job.spec)
        elif gang:
            keeps = not kept and waited >= snapshot.patience.reserve
            for each in gangs.reserved(job, candidates.values()) if keeps else ():
                kept = True
                fits = why_not(job.spec, each, job.owner_id) is None
                candidates[each.id] = each.less(job.spec) if fits else replace(each, free_slots=0, kept=True)
            waiting[job.id] = gangs.reason(job, snapshot.candidates, kept and keeps)
        else:
            waiting[job.id] = hopeless.get(need) or hopeless.setdefault(need, _reason(job, candidates.values(), barred))
    return Plan(placements, waiting, tuple(candidates.values()), given_way)


def _team(job: Job, candidates: Mapping[NodeId, Candidate], snapshot: Snapshot) -> Placement | None:
    """Nodes for all members of a gang, or None."""
    waited, avoided = snapshot.waited.get(job.id, 0.0), snapshot.avoid.get(job.id, frozenset())
    team = gangs.choose(job, candidates.values(), avoided, snapshot.weights, waited, snapshot.patience, snapshot.links)
    if not team:
        return None
    first, *others = team
    worth = score(job.spec, first, snapshot.weights)
    dearest = max(each.quote(job.spec).units for each in team)
    return Placement(job.id, first.id, worth, tuple(each.id for each in others), dearest)


def _one(job: Job, candidates: Mapping[NodeId, Candidate], snapshot: Snapshot) -> Placement | None:
    """The best node for a job, or None."""
    barred, avoided = snapshot.barred.get(job.id, frozenset()), snapshot.avoid.get(job.id, frozenset())
    fitting = [c for c in candidates.values() if c.id not in barred and why_not(job.spec, c, job.owner_id) is None]
    if not fitting:
        return None
    choice = best(job.spec, [c for c in fitting if c.id not in avoided] or fitting, snapshot.weights)
    cost, worth = choice.quote(job.spec).units, score(job.spec, choice, snapshot.weights)
    return Placement(job.id, choice.id, worth, cost_units=cost)


def best(spec: JobSpec, candidates: Sequence[Candidate], weights: Weights) -> Candidate:
    """The one with the highest score; of equals, which are within EQUAL of it, the cheapest.

    Ties go to the higher score, then to the lower id.
    """
    scored = [(score(spec, each, weights), each) for each in candidates]
    highest = max(value for value, _ in scored)
    equals = [(value, each) for value, each in scored if value >= highest - EQUAL]
    # Nodes that ask the same are quoted once: mostly, nobody has set prices.
    asked = {each.node.pricing: each for _, each in equals}
    costs = {pricing: each.quote(spec).units if len(asked) > 1 else 0 for pricing, each in asked.items()}
    return min(equals, key=lambda found: (costs[found[1].node.pricing], -found[0], found[1].id))[1]


def explain(
    spec: JobSpec,
    candidates: Iterable[Candidate],
    weights: Weights,
    owner_id: UserId | None = None,
    barred: frozenset[NodeId] = frozenset(),
) -> Sequence[Verdict]:
    """Every node's answer to a job of that owner, the best first, then those that can't and why."""
    given = list(candidates)
    verdicts = [
        Verdict(
            c.id,
            c.node.name,
            why_not(spec, c, owner_id) or (why_barred(spec) if c.id in barred else None),
            score(spec, c, weights),
            terms(spec, c),
            c.quote(spec),
            c.round_trip_seconds,
            c.network_rate,
        )
        for c in given
    ]
    fitting = {v.node_id for v in verdicts if v.reason is None}
    first = best(spec, [c for c in given if c.id in fitting], weights).id if fitting else None
    return sorted(verdicts, key=lambda v: (v.node_id != first, v.reason is not None, -v.score, v.node_id))


def _need(spec: JobSpec) -> tuple[object, ...]:
    r = spec.resources
    # What a price depends on matters only to a job that has a limit.
    limit = spec.max_price_units
    cap = (limit, spec.epochs, spec.expected_seconds, r.max_duration_seconds) if limit else ()
    asks = (spec.type, spec.script is not None, bool(spec.requirements), spec.network, spec.reservation_id, *cap)
    check = (spec.check.not_nodes, spec.check.not_owners) if spec.check is not None else None
    return (r.device, r.vram_bytes, r.ram_bytes, r.regions, r.nodes, *asks, spec.verify, check)


def why_barred(spec: JobSpec) -> str:
    return "disagreed with another about its result" if spec.check is None else "has a word by another check"


def _reason(job: Job, candidates: Iterable[Candidate], barred: frozenset[NodeId]) -> str:
    reasons = Counter(
        why_not(job.spec, c, job.owner_id) or (why_barred(job.spec) if c.id in barred else "") for c in candidates
    )
    if not reasons:
        return "no node has joined yet"
    most_first = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{reason} ({count} node{'s' if count > 1 else ''})" for reason, count in most_first]
    return "no node can take it: " + ", ".join(parts)
