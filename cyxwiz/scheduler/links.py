"""How near nodes are to each other, in classes: each is twice as far as the one before. Pure.

What two nodes measured between them counts; else it is estimated from what each measured to central: the round trips
add up, and neither sends faster than the slower one does. That is a bound of the time on the way, and a guess of the
rate. What is not known is FAR.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Strategy
from cyxwiz.domain.link import Links, Pair, pair
from cyxwiz.scheduler.feasible import Candidate

FAR = 64  # the class of what nobody has measured
EXCHANGED = 4e6  # bytes that stand for a step's exchange: the gradients of a million weights
SEEDS = 8  # nodes that a group is tried to be grown from
SHORTLIST = 64  # nodes of a network that are looked at pair by pair, or twice as many as are wanted
EACH_STEP = (Strategy.DDP, Strategy.FSDP)  # strategies for which the rate of a link counts

Near = tuple[int, int]  # the class of an exchange, then that of the round trip: lower is nearer


def doublings(seconds: float | None) -> int:
    """0 up to a millisecond, and one more for each doubling."""
    if seconds is None:
        return FAR
    return min(FAR - 1, max(0, math.ceil(math.log2(max(seconds, 1e-9) / 1e-3))))


def distance(candidate: Candidate) -> int:
    """The class of its round trip to central."""
    return doublings(candidate.round_trip_seconds)


def near(trip: float | None, rate: float | None, strategy: Strategy) -> Near:
    """With ddp and fsdp, which exchange all gradients in each step, the time that EXCHANGED takes comes before the
    round trip alone; with the strategies for slow links the rate does not count."""
    if strategy not in EACH_STEP:
        return 0, doublings(trip)
    whole = None if trip is None or rate is None else trip + EXCHANGED / rate
    return doublings(whole), doublings(trip)


def between(one: Candidate, other: Candidate, links: Links, strategy: Strategy) -> Near:
    if (measured := links.get(pair(one.id, other.id))) is not None:
        return near(measured.round_trip_seconds, measured.bytes_per_second, strategy)
    trips, rates = (one.round_trip_seconds, other.round_trip_seconds), (one.network_rate, other.network_rate)
    return near(_both(sum, trips), _both(min, rates), strategy)


def nearest(
    candidates: Sequence[Candidate],
    count: int,
    links: Links,
    strategy: Strategy,
    rest: Callable[[Candidate], tuple[Any, ...]],
) -> tuple[tuple[Any, ...], tuple[Candidate, ...]]:
    """A group of `count` whose slowest link is as good as can be found, and its worth (lower is better).

    Finding the very best is a clique problem; here groups are grown from the SEEDS best nodes and the ends of the SEEDS
    best links, taking in turn the node whose slowest link to the group is the best one. `rest(candidate)` decides
    between equals; its first item, whether the node is avoided, comes before all.
    """
    present = {each.id: each for each in candidates}
    merits = {each.id: rest(each) for each in candidates}

    def alone(each: Candidate) -> tuple[Any, ...]:
        avoided, *others = merits[each.id]
        return avoided, near(each.round_trip_seconds, each.network_rate, strategy), *others

    def apart(key: Pair) -> tuple[Any, ...]:
        one, other = merits[key[0]], merits[key[1]]
        return max(one[0], other[0]), between(present[key[0]], present[key[1]], links, strategy), key

    known = [key for key in links if key[0] in present and key[1] in present]
    ends = [node_id for key in heapq.nsmallest(SHORTLIST, known, key=apart) for node_id in key]
    first = [each.id for each in heapq.nsmallest(max(SHORTLIST, 2 * count), candidates, key=alone)]
    short = [present[node_id] for node_id in dict.fromkeys([*first, *ends])]
    groups: list[tuple[tuple[Any, ...], tuple[Candidate, ...]]] = []
    for seed in dict.fromkeys([*first[:SEEDS], *ends[: 2 * SEEDS]]):
        chosen, worst = _grown(present[seed], short, count, lambda a, b: between(a, b, links, strategy), merits)
        worth = (max(merits[each.id][0] for each in chosen), worst, max(merits[each.id][1:] for each in chosen))
        groups.append((worth, tuple(sorted(chosen, key=lambda each: merits[each.id]))))
    return min(groups, key=lambda group: group[0])


def _grown(
    seed: Candidate,
    short: Sequence[Candidate],
    count: int,
    link: Callable[[Candidate, Candidate], Near],
    merits: Mapping[NodeId, tuple[Any, ...]],
) -> tuple[list[Candidate], Near]:
    """A group around a node, and its slowest link."""
    chosen = [seed]
    worst: Near = (0, 0)
    free = {each.id: each for each in short if each.id != seed.id}
    slowest: dict[NodeId, Near] = dict.fromkeys(free, (0, 0))  # of each one's links to the group
    while len(chosen) < count:
        for node_id, each in free.items():
            slowest[node_id] = max(slowest[node_id], link(chosen[-1], each))
        added = min(free, key=lambda node_id: (merits[node_id][0], slowest[node_id], merits[node_id][1:]))
        worst = max(worst, slowest[added])
        chosen.append(free.pop(added))
    return chosen, worst


def _both(of: Callable[[tuple[float, float]], float], values: tuple[float | None, float | None]) -> float | None:
    one, other = values
    return None if one is None or other is None else of((one, other))
