"""Preemption: jobs that nodes have give way to one of higher priority that waits. Pure, as the rest of the policy.

Nothing is done for a job that would not get the room: not for one that fits no node even then, and not where another
one, which is served before it, would take what gets free. Room that is being made is kept for whom it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cyxwiz.config import Scheduler
from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.job import GAVE_WAY, REMOTE, Intent, Job, JobType, Phase, Priority, Tenure
from cyxwiz.scheduler.feasible import Candidate, why_not
from cyxwiz.scheduler.gangs import networks

SAVING = frozenset({JobType.TRAINING, JobType.INFERENCE})  # types that save a checkpoint when they are asked to
ENDING = frozenset({Phase.UPLOADING, Phase.VERIFYING})
MOST_CLAIMS = 32  # in one plan: the next pass goes on
MAKING_ROOM = "jobs of lower priority make room for it"


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings scheduler.preempt…."""

    own: bool = True  # whether only jobs of the same owner give way
    after_seconds: float = 30.0  # how long a job waits before others give way to it
    least_seconds: float = 60.0  # how long a job runs before it gives way
    most: int = 3  # how often a job gives way

    @staticmethod
    def of(config: Scheduler) -> Rules | None:
        """None: no job gives way."""
        if config.preemption == "off":
            return None
        own = config.preemption == "own"
        return Rules(own, config.preempt_after_seconds, config.preempt_least_seconds, config.preempt_most)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A job that nodes have, and what it would cost to take it from them."""

    job: Job
    node_ids: tuple[NodeId, ...]
    ran_seconds: float  # since its lease was issued
    unsaved_seconds: float  # of that, since its last checkpoint
    gave_way: int
    saved: bool  # has a checkpoint
    legacy: bool  # on a node of the earlier kind

    @property
    def leaving(self) -> bool:
        """Whether it was asked to save itself and go."""
        return self.job.intent is not Intent.RUN

    @property
    def rank(self) -> int:
        return self.job.spec.priority.rank

    @property
    def cost(self) -> tuple[object, ...]:
        """The lowest priority first, then who loses least, then who has done least; of equals, the newest."""
        nodes = len(self.node_ids)
        return (
            self.rank,
            self.unsaved_seconds * nodes,
            self.ran_seconds * nodes,
            -self.job.created_at.timestamp(),
            self.job.id,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """The nodes that a waiting job will get, and who has to leave them. None, where it is enough to wait."""

    node_ids: tuple[NodeId, ...]
    victims: tuple[Tenant, ...] = ()


@dataclass(frozen=True, slots=True)
class Eviction:
    """A job to be taken from its nodes, if it still has this lease, for one that still waits."""

    job_id: JobId
    token: Token
    for_id: JobId
    reason: str


def tenants(candidates: Iterable[Candidate], tenures: Mapping[JobId, Tenure], now: datetime) -> list[Tenant]:
    """The jobs whose tenure is given, and those that leave."""
    found: dict[JobId, tuple[Job, list[Candidate]]] = {}
    for each in candidates:
        for job in each.holds:
            found.setdefault(job.id, (job, []))[1].append(each)
    made: list[Tenant] = []
    for job_id, (job, places) in found.items():
        if (tenure := tenures.get(job_id)) is None:
            if job.intent is Intent.RUN:
                continue
            tenure = Tenure(now, None, 0)
        saved_at = tenure.since if tenure.saved_at is None else max(tenure.since, tenure.saved_at)
        made.append(
            Tenant(
                job,
                tuple(each.id for each in places),
                max(0.0, (now - tenure.since).total_seconds()),
                max(0.0, (now - saved_at).total_seconds()),
                tenure.gave_way,
                tenure.saved_at is not None,
                any(each.node.legacy for each in places),
            )
        )
    return made


def spared(tenant: Tenant, rules: Rules) -> str | None:
    """Why a job that nodes have gives way to none, or None."""
    spec = tenant.job.spec
    if tenant.leaving:
        return "leaves already"
    if spec.reservation_id:
        return "has reserved its node"
    if spec.check is not None:
        return "checks another one's work"
    if tenant.legacy:
        return "is on a node of the earlier kind"
    if spec.type not in SAVING:
        return f"{spec.type} saves no checkpoints"
    if spec.script is not None and not tenant.saved:
        return "its script has saved no checkpoint yet"
    if spec.dataset_uri.startswith(REMOTE):
        return "its client streams its data to the node"
    if tenant.job.phase in ENDING:
        return "is about to end"
    if tenant.gave_way >= rules.most:
        return f"gave way {rules.most} times"
    if tenant.ran_seconds < rules.least_seconds:
        return f"has run for less than {rules.least_seconds:g} s"
    return None


def urgent(jobs: Iterable[Job], candidates: Iterable[Candidate]) -> list[Job]:
    """Those of a higher priority than some job that nodes hold."""
    held = {job.spec.priority for each in candidates for job in each.holds}
    if not held:
        return []
    lowest = min(priority.rank for priority in held)
    above = {priority for priority in Priority if priority.rank > lowest}
    return [job for job in jobs if job.spec.priority in above]


def evictions(job: Job, claim: Claim) -> list[Eviction]:
    """What to do for a claim."""
    found: list[Eviction] = []
    for each in claim.victims:
        name = f"job {job.id}" if each.job.owner_id == job.owner_id else "a job"
        reason = f"{GAVE_WAY}{name} of {job.spec.priority} priority"
        assert each.job.token is not None, "nodes have it"
        found.append(Eviction(each.job.id, each.job.token, job.id, reason))
    return found


class Room:
    """Who could leave which node, while one plan is made. `candidates` is the plan's own, and is looked at anew each
    time; what a claim is to get has to be taken off it."""

    def __init__(self, candidates: Mapping[NodeId, Candidate], given: Sequence[Tenant], rules: Rules) -> None:
        self._candidates = candidates
        self._rules = rules
        self._usable = sorted((each for each in given if spared(each, rules) is None), key=lambda each: each.cost)
        self._leaving: dict[NodeId, list[Tenant]] = {}
        for each in given:
            if each.leaving:
                self._leave(each)
        self._ahead: dict[object, Job] = {}  # by what they ask for: those that are served before, and got nothing
        self._vain: set[object] = set()  # of what was tried, without any change since
        self._claims = 0

    def claim(
        self, job: Job, need: object, waited: float, avoided: frozenset[NodeId], barred: frozenset[NodeId]
    ) -> Claim | None:
        """What a job gets that found no node; asked of every such job, in the order in which they are served.

        Args:
            need: the same for jobs that fit the same nodes.
            waited: seconds.
            avoided: taken only if there is no other way.
            barred: never taken.
        """
        claim = self._coming(job, avoided, barred)
        if claim is None and waited >= self._rules.after_seconds and self._claims < MOST_CLAIMS:
            claim = self._made(job, need, avoided, barred)
        if claim is None:
            if job.spec.resources.nodes == 1 or self._ever(job):
                self._ahead.setdefault(need, job)
            return None
        if claim.victims:
            self._claims += 1
            self._vain.clear()
            for each in claim.victims:
                self._leave(each)
                self._usable.remove(each)
        return claim

    def _leave(self, tenant: Tenant) -> None:
        for node_id in tenant.node_ids:
            self._leaving.setdefault(node_id, []).append(tenant)

    def _coming(self, job: Job, avoided: frozenset[NodeId], barred: frozenset[NodeId]) -> Claim | None:
        """The room that gets free without anybody else's leaving."""
        if not self._leaving:
            return None
        count = job.spec.resources.nodes
        asked = self._candidates if count > 1 else self._leaving
        fitting = [each for each in asked if each not in barred and self._fits(job, each, ())]
        for group in self._groups(job, fitting):
            if len(group) >= count:
                return Claim(tuple(sorted(group, key=lambda each: (each in avoided, each))[:count]))
        return None

    def _made(self, job: Job, need: object, avoided: frozenset[NodeId], barred: frozenset[NodeId]) -> Claim | None:
        """The cheapest way to make room for it, if there is one."""
        rank, owner = job.spec.priority.rank, job.owner_id
        key = (need, rank, owner)
        if key in self._vain or job.spec.check is not None:
            return None
        below = [each for each in self._usable if each.rank < rank and (not self._rules.own or self._owns(job, each))]
        for level in sorted({each.rank for each in below}):
            usable = [each for each in below if each.rank <= level]
            claim = self._one(job, [each for each in usable if each.rank == level], avoided, barred)
            if claim := claim or self._several(job, usable, avoided, barred):
                return claim
        self._vain.add(key)
        return None

    @staticmethod
    def _owns(job: Job, tenant: Tenant) -> bool:
        return tenant.job.owner_id == job.owner_id

    def _one(
        self, job: Job, usable: Sequence[Tenant], avoided: frozenset[NodeId], barred: frozenset[NodeId]
    ) -> Claim | None:
        """The cheapest one that makes room for a job of one node by itself."""
        if job.spec.resources.nodes > 1:
            return None
        ways = [(node_id, each) for each in usable for node_id in each.node_ids if node_id not in barred]
        for node_id, each in sorted(ways, key=lambda way: way[0] in avoided) if avoided else ways:
            if self._fits(job, node_id, (each,)):
                return Claim((node_id,), (each,))
        return None

    def _several(
        self, job: Job, usable: Sequence[Tenant], avoided: frozenset[NodeId], barred: frozenset[NodeId]
    ) -> Claim | None:
        """The cheapest set of which none could stay, among the sets that were found node by node."""
        count = job.spec.resources.nodes
        here: dict[NodeId, list[Tenant]] = {}
        for each in usable:
            for node_id in each.node_ids:
                here.setdefault(node_id, []).append(each)
        asked = self._candidates if count > 1 else here
        needed: dict[NodeId, Sequence[Tenant]] = {}
        for node_id in asked:
            if node_id not in barred and (fewest := self._fewest(job, node_id, here.get(node_id, ()))) is not None:
                needed[node_id] = fewest
        best: tuple[tuple[object, ...], Claim] | None = None
        for group in self._groups(job, needed):
            if len(group) < count:
                continue
            order = {node_id: (node_id in avoided, *_worth(needed[node_id]), node_id) for node_id in group}
            chosen = sorted(group, key=order.__getitem__)[:count]
            victims = list({each.job.id: each for node_id in chosen for each in needed[node_id]}.values())
            for each in sorted(victims, key=lambda each: each.cost, reverse=True):
                rest = [other for other in victims if other is not each]
                fitting = [node_id for node_id in group if self._fits(job, node_id, rest)]
                if len(fitting) >= count:
                    victims, chosen = rest, sorted(fitting, key=order.__getitem__)[:count]
            worth = (sum(node_id in avoided for node_id in chosen), *_worth(victims), *sorted(chosen))
            if best is None or worth < best[0]:
                best = (worth, Claim(tuple(chosen), tuple(victims)))
        return best[1] if best else None

    def _fewest(self, job: Job, node_id: NodeId, here: Sequence[Tenant]) -> Sequence[Tenant] | None:
        """Who has to leave the node, the dear ones staying if they can; None if it would not be enough that all do.

        Args:
            here: who could, the cheapest first.
        """
        if self._fits(job, node_id, ()):
            return ()
        if not self._fits(job, node_id, here):
            return None
        for each in here:
            if self._fits(job, node_id, (each,)):
                return (each,)
        fewest = list(here)
        for each in reversed(here):
            rest = [other for other in fewest if other is not each]
            if self._fits(job, node_id, rest):
                fewest = rest
        return fewest

    def _fits(self, job: Job, node_id: NodeId, gone: Collection[Tenant]) -> bool:
        """Whether the job fits the node once those have left it as well that leave already, and would get it."""
        now = self._candidates[node_id]
        going = [each for each in gone if node_id in each.node_ids]
        if now.kept:
            return False
        staying = list(now.used)
        for each in (*self._leaving.get(node_id, ()), *going):
            staying.remove(each.job.spec)
        then = now.using(staying) if len(staying) < len(now.used) else now
        if why_not(job.spec, then, job.owner_id) is not None:
            return False
        return not going or all(why_not(each.spec, then, each.owner_id) for each in self._ahead.values())

    def _ever(self, job: Job) -> bool:
        """Whether the gang would fit a fleet that has nothing else to do."""
        fitting = [c.id for c in self._candidates.values() if why_not(job.spec, c.emptied(), job.owner_id) is None]
        return any(len(group) >= job.spec.resources.nodes for group in self._groups(job, fitting))

    def _groups(self, job: Job, node_ids: Collection[NodeId]) -> Iterable[Sequence[NodeId]]:
        """The nodes that can work together at the job: a gang's, those of one network."""
        if job.spec.resources.nodes == 1:
            return [list(node_ids)]
        return [[each.id for each in group] for group in networks([self._candidates[i] for i in node_ids]).values()]


def _worth(victims: Sequence[Tenant]) -> tuple[object, ...]:
    """Of two sets of victims, the one that sorts first is rather taken."""
    highest = max((each.rank for each in victims), default=-1)
    lost = sum(each.unsaved_seconds * len(each.node_ids) for each in victims)
    return highest, len(victims), lost
