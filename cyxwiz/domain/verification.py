"""Whether the work of a node is believed: who is checked, what two results count as equal, and what follows. Pure.

A check does a part of a job again on another node. Adaptive replication follows BOINC ("Adaptive Replication",
https://github.com/BOINC/boinc/wiki/AdaptiveReplication): a node with at least 10 consecutive valid results is checked
with the probability of one in that number.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.proof import Link

PROVEN = 10  # consecutive valid results from which on a node is not always checked
MAX_COPIES = 5
LOSS_REL, LOSS_ABS = 0.5, 0.1  # how far the loss of one batch may be apart between two classes of hardware


class Mode(StrEnum):
    NONE = "none"
    SPOT = "spot"  # one interval is done again on another node
    QUORUM = "quorum"  # the whole job is done by several nodes


class Outcome(StrEnum):
    """What a verification came to; OPEN until it has."""

    OPEN = ""
    VERIFIED = "verified"
    TRUSTED = "trusted"  # its node is proven, and was not drawn
    UNVERIFIED = "unverified"  # nobody could check it in time
    REJECTED = "rejected"


class Verdict(StrEnum):
    OPEN = ""
    MATCH = "match"
    MISMATCH = "mismatch"
    UNCLEAR = "unclear"  # another class of hardware, and nothing to compare with
    FAILED = "failed"  # the check itself did not come to an end


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """Of the hidden job that does a check: which part of which job, and who may not do it."""

    parent: JobId
    token: str  # of the lease whose work is checked
    start: int  # number of the checkpoint that it goes on from; 0: from the start
    end: int  # number of the checkpoint that it ends at; 0: the result
    stop_step: int
    threads: int
    resume: str  # SHA-256 of the blob that it goes on from; empty: from the start
    claim: str  # SHA-256 of the file whose weights it is compared with
    result: str
    result_weights: str
    machine: str  # of the node whose work is checked: on the same one the digests must be equal, so none is shown
    start_digest: str = ""  # of the state that it goes on from; empty: from the start
    show_claim: bool = False  # whether it is shown the claim on every machine
    not_nodes: tuple[str, ...] = ()
    not_owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link as central keeps it; numbers count from 1 a job."""

    number: int
    token: Token
    node_id: NodeId
    at: datetime
    data: str
    environment: str
    signature: bytes
    link: Link


@dataclass(frozen=True, slots=True)
class JobProof:
    """What is kept with an accepted result."""

    job_id: JobId
    node_id: NodeId
    head: str  # empty: the run had no chain
    statement: bytes
    signature: bytes  # empty: its node signs nothing
    public_key: bytes
    environment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CheckRun:
    job_id: JobId
    node_id: str = ""
    verdict: Verdict = Verdict.OPEN
    weights: str = ""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Verification:
    """Of one job. `held` is the result that waits for it, as JSON; empty once it was accepted or refused."""

    job_id: JobId
    mode: Mode
    since: datetime
    node_id: NodeId  # whose work it is
    token: Token
    start: int
    end: int
    wanted: int  # checks that must agree
    held: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checks: tuple[CheckRun, ...] = ()
    rejected: int = 0  # results of this job that were refused
    refused: tuple[str, ...] = ()  # the nodes that gave them
    outcome: Outcome = Outcome.OPEN
    reason: str = ""

    def with_check(self, run: CheckRun) -> Verification:
        """With this run in place of the one of the same job, or added."""
        if any(each.job_id == run.job_id for each in self.checks):
            return replace(self, checks=tuple(run if each.job_id == run.job_id else each for each in self.checks))
        return replace(self, checks=(*self.checks, run))

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict is verdict for each in self.checks)


@dataclass(frozen=True, slots=True)
class Validity:
    """A node's record: results found valid and invalid, and how many valid ones in a row."""

    node_id: NodeId
    streak: int = 0
    valid: int = 0
    invalid: int = 0

    def after(self, *, valid: bool) -> Validity:
        if valid:
            return replace(self, streak=self.streak + 1, valid=self.valid + 1)
        return replace(self, streak=0, invalid=self.invalid + 1)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far weights may be apart: either bound will do."""

    max_abs: float
    max_rel: float


def check_probability(streak: int) -> float:
    """How likely the next result of a node is checked that has had so many valid ones in a row."""
    return 1.0 if streak < PROVEN else 1.0 / streak


def is_checked(streak: int, drawn: float) -> bool:
    """`drawn` is uniform in [0, 1)."""
    return drawn < check_probability(streak)


def drawn(secret: bytes, *what: str) -> float:
    """A number in [0, 1) that only who has the secret can foretell, the same for the same words."""
    message = json.dumps(what, separators=(",", ":")).encode()
    return int.from_bytes(hmac.new(secret, message, hashlib.sha256).digest()[:6], "big") / 2**48


def interval(points: Sequence[int], number: float) -> tuple[int, int]:
    """The interval (start, end) that `number` in [0, 1) falls on. `points` are the numbers of the checkpoints that are
    kept, in order; 0 stands for the start and for the result."""
    ends = [0, *points, 0]
    index = min(int(number * (len(ends) - 1)), len(ends) - 2)
    return ends[index], ends[index + 1]


def same_class(one: str, other: str) -> bool:
    """Whether two environments (JSON) must give the same bits."""
    return bool(one) and _bits(one) == _bits(other)


def _bits(environment: str) -> Mapping[str, object]:
    facts = cast("dict[str, object]", json.loads(environment))
    return {name: facts.get(name) for name in ("torch", "threads", "device", "machine", "instructions")}


def same_loss(claim: StoredLink, own: StoredLink) -> bool:
    """Whether two links tell of the same loss: equal bits on one class of hardware, elsewhere near enough that no
    rounding is blamed: one batch swings more than the weights do."""
    if same_class(claim.environment, own.environment):
        return claim.link.loss_bits == own.link.loss_bits
    told, found = claim.link.loss, own.link.loss
    if math.isnan(told) or math.isnan(found):
        return math.isnan(told) and math.isnan(found)
    return math.isclose(told, found, rel_tol=LOSS_REL, abs_tol=LOSS_ABS)


def wrong_start(figures: Mapping[str, float]) -> bool:
    """Whether the check could not begin, as the state to go on from is not what its link says, or is none at all."""
    return figures.get("start_matches", 1.0) != 1.0


def compare(claimed: str, own: str, figures: Mapping[str, float], *, same: bool, tolerance: Tolerance) -> Verdict:
    """What a check found: digests that are equal match; on one class of hardware they must be, elsewhere the weights
    may be apart as far as `tolerance` says. `figures` are the check's own: distances, `result_matches` and
    `start_matches`."""
    if figures.get("result_matches", 1.0) != 1.0 or wrong_start(figures):
        return Verdict.MISMATCH
    if claimed == own:
        return Verdict.MATCH
    if same or "incomparable" in figures:
        return Verdict.MISMATCH
    if "max_abs" not in figures or "max_rel" not in figures:
        return Verdict.UNCLEAR
    near = figures["max_abs"] <= tolerance.max_abs or figures["max_rel"] <= tolerance.max_rel
    return Verdict.MATCH if near else Verdict.MISMATCH


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from the checks so far."""

    outcome: Outcome = Outcome.OPEN
    more: int = 0  # checks to begin
    wrong: tuple[str, ...] = ()  # nodes whose work, or whose check, was found wrong


def decide(wanted: int, verdicts: Sequence[tuple[str, Verdict]], open_checks: int) -> Step:
    """`verdicts` are (node, what it found). All agree: verified. One disagrees: others are asked until one side has two
    more votes than it can lose by, that is the claim two with a match, or two without."""
    match = [node for node, verdict in verdicts if verdict is Verdict.MATCH]
    mismatch = [node for node, verdict in verdicts if verdict is Verdict.MISMATCH]
    if not mismatch:
        if len(match) >= wanted:
            return Step(Outcome.VERIFIED)
        return Step(more=max(0, wanted - len(match) - open_checks))
    if len(mismatch) >= 2 and len(mismatch) > len(match):
        return Step(Outcome.REJECTED, wrong=tuple(match))
    if match and len(match) >= len(mismatch) and len(match) >= wanted:
        return Step(Outcome.VERIFIED, wrong=tuple(mismatch))
    return Step(more=max(0, 1 - open_checks))
