"""What goes wrong and when: a schedule of steps, all drawn from one seed before anything runs.

A step is one action on the world, by a user or by fate. A gentle history has only faults that are over before a node
could be missed, so that every job must stay where it is; a rough one has them all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

TIMEOUT_SECONDS = 8.0  # the heartbeat time-out of a simulated central
GENTLE_SECONDS = 1.5  # no gentle fault takes longer
GENTLE_GAP_SECONDS = 4.0
STEP_SECONDS = 1.2
LATE_SECONDS = 20.0  # the latest that a side learns of the end of its stream


class Kind(StrEnum):
    SUBMIT = "submit"
    CANCEL = "cancel"
    CORDON = "cordon"
    BAN = "ban"
    NODE_CRASH = "node crash"
    NODE_LEAVES = "node leaves"
    NODE_VANISHES = "node vanishes"
    CENTRAL_CRASH = "central crash"
    CUT = "cut"
    STALL = "stall"
    SLOW = "slow"
    NOISE = "noise"
    UPLOADS = "uploads lost"
    NODE_DISK = "node's disk full"
    CENTRAL_DISK = "central's disk full"
    STORE_AWAY = "central's store away"


# Shares of the drawn faults: (gentle, rough).
SHARES: dict[Kind, tuple[int, int]] = {
    Kind.CANCEL: (1, 2),
    Kind.CORDON: (1, 1),
    Kind.BAN: (0, 1),
    Kind.NODE_CRASH: (0, 6),
    Kind.NODE_LEAVES: (0, 1),
    Kind.NODE_VANISHES: (0, 1),
    Kind.CENTRAL_CRASH: (3, 4),
    Kind.CUT: (6, 10),
    Kind.STALL: (4, 4),
    Kind.SLOW: (3, 3),
    Kind.NOISE: (0, 3),
    Kind.UPLOADS: (2, 3),
    Kind.NODE_DISK: (0, 3),
    Kind.CENTRAL_DISK: (1, 2),
    Kind.STORE_AWAY: (1, 2),
}
AT_CENTRAL = frozenset({Kind.SUBMIT, Kind.CANCEL, Kind.CENTRAL_CRASH, Kind.CENTRAL_DISK, Kind.STORE_AWAY})


@dataclass(frozen=True, slots=True)
class Step:
    """One action: what, where (a node's number, or a job's for a submit), for how long, and how hard."""

    number: int
    at: float
    kind: Kind
    target: int = 0
    seconds: float = 0.0
    up: bool = True  # which directions a cut loses
    down: bool = True
    node_learns: float = 0.0
    central_learns: float = 0.0
    share: float = 0.0

    def __str__(self) -> str:
        parts = [f"step {self.number}: {self.kind}"]
        if self.kind is Kind.SUBMIT or self.kind is Kind.CANCEL:
            parts.append(f"j{self.target}")
        elif self.kind not in AT_CENTRAL:
            parts.append(f"n{self.target}")
        if self.kind is Kind.CUT:
            parts.append("both ways" if self.up and self.down else "up" if self.up else "down")
        if self.kind in (Kind.CUT, Kind.NODE_CRASH, Kind.NODE_VANISHES, Kind.CENTRAL_CRASH):
            parts.append(f"(the node learns after {self.node_learns:.2f} s, central after {self.central_learns:.2f} s)")
        if self.seconds:
            parts.append(f"for {self.seconds:.2f} s")
        if self.share:
            parts.append(f"share {self.share:.2f}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole history's steps, in the order of their time."""

    gentle: bool
    lost_hints: float  # the share of the hints on central's bus that nobody gets
    steps: tuple[Step, ...]


def draw(rng: random.Random, *, jobs: int, nodes: int, steps: int) -> Schedule:
    """`jobs` submits, the rest faults, over about a second a step; the last node never goes for good.

    Gentle faults come one after the other, each when what the one before did is over.
    """
    gentle = rng.random() < 0.25
    count = max(0, steps - jobs)
    length = count * GENTLE_GAP_SECONDS if gentle else STEP_SECONDS * steps
    submits = [(rng.random() * length * 0.6, Kind.SUBMIT) for _ in range(jobs)]
    kinds = rng.choices(list(SHARES), [share[not gentle] for share in SHARES.values()], k=count)
    times = [number * GENTLE_GAP_SECONDS if gentle else rng.random() * length for number in range(1, count + 1)]
    planned = sorted([*submits, *zip(times, kinds, strict=True)])
    drawn: list[Step] = []
    submitted, may_go = 0, list(range(1, nodes))
    for number, (at, kind) in enumerate(planned, 1):
        if kind is Kind.SUBMIT:
            submitted += 1
            drawn.append(Step(number, at, kind, submitted, share=0.3 if rng.random() < 0.3 else 0.0))
            continue
        if kind is Kind.CANCEL:
            if submitted:
                drawn.append(Step(number, at, kind, rng.randint(1, submitted)))
            continue
        target = rng.randint(1, nodes)
        if kind in (Kind.NODE_LEAVES, Kind.NODE_VANISHES):
            if not may_go:
                continue
            target = may_go.pop(rng.randrange(len(may_go)))
        drawn.append(_fault(rng, number, at, kind, target, gentle=gentle))
    return Schedule(gentle, rng.choice([0.0, 0.0, 0.3]), tuple(drawn))


def _fault(rng: random.Random, number: int, at: float, kind: Kind, target: int, *, gentle: bool) -> Step:
    up, down = rng.choice([(True, True), (True, True), (True, False), (False, True)])
    return Step(
        number,
        at,
        kind,
        target,
        seconds=rng.random() * GENTLE_SECONDS if gentle else _long(rng),
        up=up,
        down=down,
        node_learns=_learns(rng, gentle=gentle),
        central_learns=_learns(rng, gentle=gentle),
        share=rng.uniform(0.05, 0.5),
    )


def _long(rng: random.Random) -> float:
    """Short blips, and outages on either side of the time-out."""
    return rng.choice([0.1, 1.0, TIMEOUT_SECONDS, 1.5 * TIMEOUT_SECONDS]) * rng.uniform(0.5, 1.5)


def _learns(rng: random.Random, *, gentle: bool) -> float:
    if gentle or rng.random() < 0.6:
        return rng.random() * 0.3
    return rng.random() * LATE_SECONDS
