"""A node's stake, purely: what the NodeStaking program holds and allows (docs/programs.md), for every ledger.

A stake is active, or cooling down on its way back to the owner. A slash sets part of it aside, of what is active first;
it is lost when nobody appeals in time or the judge upholds it, and back where it was otherwise. What is active earns
rewards, which are paid as far as the rewards vault has them; what is lost goes there. Units are of CYXWIZ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.money import MAX_UNITS, check_amount, format_cyxwiz
from cyxwiz.domain.proof import is_digest

BASIS_POINTS, YEAR_SECONDS = 10_000, 365 * 86_400


@dataclass(frozen=True, slots=True)
class StakeRules:
    """What a ledger holds stakes to.

    Args:
        minimum_units: what is active is nothing, or at least so much.
        cooldown: from the request to the withdrawal.
        appeal: to appeal against a slash, and as long again to judge the appeal.
        rate_bps: rewards a year, in basis points of what is active.
    """

    minimum_units: int = 1
    cooldown: timedelta = timedelta(days=7)
    appeal: timedelta = timedelta(days=2)
    rate_bps: int = 0


@dataclass(frozen=True, slots=True)
class RewardsVault:
    """What rewards are paid out of. Whoever sends tokens there funds them, and what slashes take goes there."""

    account: str
    units: int


class Contest(StrEnum):
    """Whether part of a stake is set aside by a slash."""

    NONE = "none"
    PENDING = "pending"
    APPEALED = "appealed"


@dataclass(frozen=True, slots=True)
class Stake:
    """What a node has staked.

    Args:
        account: where it is held.
        contested_cooling_units: how much of what is set aside was cooling down.
        contested_until: end of the time to appeal; once appealed, of the time to judge.
        evidence: SHA-256 (hex) of what the last slash stands on.
        slashed_units: lost so far.
        rewards_units: earned up to `accrued_at`, and not claimed.
    """

    account: str
    active_units: int = 0
    cooling_units: int = 0
    cooling_until: datetime | None = None
    contest: Contest = Contest.NONE
    contested_units: int = 0
    contested_cooling_units: int = 0
    contested_until: datetime | None = None
    evidence: str = ""
    slashed_units: int = 0
    rewards_units: int = 0
    accrued_at: datetime | None = None

    @property
    def pledged_units(self) -> int:
        """What a slash can take."""
        return self.active_units + self.cooling_units

    def free_units(self, now: datetime) -> int:
        """What can be withdrawn."""
        cooled = self.cooling_until is not None and now >= self.cooling_until
        return self.cooling_units if cooled else 0

    def due_units(self, rules: StakeRules, now: datetime) -> int:
        """Rewards earned so far: floor(active · rate · seconds / (10000 · 31536000)) for each span in which the active
        stake was the same, in whole seconds."""
        if self.accrued_at is None:
            return self.rewards_units
        seconds = max(0, int(now.timestamp()) - int(self.accrued_at.timestamp()))
        earned = self.active_units * rules.rate_bps * seconds // (BASIS_POINTS * YEAR_SECONDS)
        return min(self.rewards_units + earned, MAX_UNITS)


class StakeKind(StrEnum):
    """What can be done with a stake; also the kind of the movement on the ledger."""

    ADD = "stake"
    COOL = "cooldown"  # begins the way back
    WITHDRAW = "unstake"  # takes out what has cooled down
    SLASH = "slash"
    APPEAL = "appeal"
    JUDGE = "judge"
    CONCLUDE = "conclude"  # of a slash whose time is over
    CLAIM = "rewards"


OWNERS = frozenset(
    {StakeKind.ADD, StakeKind.COOL, StakeKind.WITHDRAW, StakeKind.APPEAL, StakeKind.JUDGE, StakeKind.CLAIM}
)
_STILL = frozenset({StakeKind.WITHDRAW, StakeKind.APPEAL})  # what changes nothing that earns


class StepState(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StakeStep:
    """One thing to be done with a node's stake: the intent, written before a ledger is asked.

    Args:
        id: a UUID's text; whatever happens, a ledger does a step of one id once.
        owner_id: whose account pays and is paid.
        units: to add, cool down or slash; of a slash 0 until it was computed.
        evidence: of a slash, SHA-256 (hex).
        upheld: of a judgment.
        by: who asked.
        due_at: when it is tried next.
    """

    id: str
    node_id: NodeId
    owner_id: UserId
    kind: StakeKind
    created_at: datetime
    due_at: datetime
    units: int = 0
    evidence: str = ""
    upheld: bool = False
    by: str = ""
    state: StepState = StepState.PENDING
    reference: str = ""
    error: str = ""
    attempts: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class StakeDone:
    """What a ledger did: the transaction, how much it moved or set aside, the stake after it, and whether a slash ended
    with the units lost."""

    reference: str
    units: int
    stake: Stake
    lost: bool = False


def applied(stake: Stake, step: StakeStep, rules: StakeRules, now: datetime, vault_units: int = 0) -> tuple[Stake, int]:
    """(the stake after a step, the units that it moved or set aside). `vault_units` are there to pay rewards.

    Raises:
        CyxError: INVALID for an amount that no stake may have; FUNDS for more than is there; CONFLICT when it is too
            early, too late, or there is nothing to do it to.
    """
    if step.kind not in _STILL:
        stake = replace(stake, rewards_units=stake.due_units(rules, now), accrued_at=now.replace(microsecond=0))
    match step.kind:
        case StakeKind.ADD:
            return _add(stake, step.units, rules), step.units
        case StakeKind.COOL:
            return _cool(stake, step.units, rules, now), step.units
        case StakeKind.WITHDRAW:
            return _withdraw(stake, now), stake.cooling_units
        case StakeKind.SLASH:
            return _slash(stake, step, rules, now), step.units
        case StakeKind.APPEAL:
            return _appeal(stake, rules, now), stake.contested_units
        case StakeKind.JUDGE:
            return _judge(stake, step.upheld, now), stake.contested_units
        case StakeKind.CONCLUDE:
            return _conclude(stake, now), stake.contested_units
        case StakeKind.CLAIM:
            return _claim(stake, vault_units)


def _add(stake: Stake, units: int, rules: StakeRules) -> Stake:
    active = stake.active_units + check_amount(units)
    if active < rules.minimum_units:
        raise invalid(
            f"amount: a stake is at least {format_cyxwiz(rules.minimum_units)} CYXWIZ, and this would make it "
            f"{format_cyxwiz(active)}",
            field="amount",
        )
    if active > MAX_UNITS:
        raise invalid("amount: the stake would be 2^63 units or more", field="amount")
    return replace(stake, active_units=active)


def _cool(stake: Stake, units: int, rules: StakeRules, now: datetime) -> Stake:
    left = stake.active_units - check_amount(units)
    if left < 0:
        raise CyxError(
            Code.FUNDS,
            f"The stake is too low: {format_cyxwiz(stake.active_units)} CYXWIZ are staked, "
            f"{format_cyxwiz(units)} were asked for",
            {"available_units": stake.active_units, "needed_units": units},
        )
    if 0 < left < rules.minimum_units:
        raise invalid(
            f"amount: what stays staked is nothing or at least {format_cyxwiz(rules.minimum_units)} CYXWIZ, and this "
            f"would leave {format_cyxwiz(left)}",
            field="amount",
        )
    cooling = stake.cooling_units + units
    return replace(stake, active_units=left, cooling_units=cooling, cooling_until=now + rules.cooldown)


def _withdraw(stake: Stake, now: datetime) -> Stake:
    if not stake.cooling_units:
        raise conflict("Nothing of the stake is cooling down: begin with `cyxwiz stake withdraw`")
    if not stake.free_units(now):
        until = stake.cooling_until.isoformat() if stake.cooling_until else ""
        raise conflict(f"The stake cools down until {until}: withdraw it then", until=until)
    return replace(stake, cooling_units=0)


def _slash(stake: Stake, step: StakeStep, rules: StakeRules, now: datetime) -> Stake:
    if stake.contest is not Contest.NONE:
        raise conflict("A slash of this stake is not settled yet: the next one has to wait")
    if not is_digest(step.evidence) or step.evidence == "0" * 64:
        raise invalid("evidence: must be a SHA-256 in hex, and not 0", field="evidence")
    if check_amount(step.units) > stake.pledged_units:
        raise CyxError(Code.FUNDS, f"Only {format_cyxwiz(stake.pledged_units)} CYXWIZ are staked")
    of_active = min(step.units, stake.active_units)
    return replace(
        stake,
        active_units=stake.active_units - of_active,
        cooling_units=stake.cooling_units - (step.units - of_active),
        contest=Contest.PENDING,
        contested_units=step.units,
        contested_cooling_units=step.units - of_active,
        contested_until=now + rules.appeal,
        evidence=step.evidence,
    )


def _appeal(stake: Stake, rules: StakeRules, now: datetime) -> Stake:
    if stake.contest is Contest.APPEALED:
        raise conflict("The slash is appealed against already: an admin decides")
    if stake.contest is not Contest.PENDING:
        raise conflict("There is no slash to appeal against")
    if _over(stake, now):
        raise conflict("The time to appeal is over")
    return replace(stake, contest=Contest.APPEALED, contested_until=now + rules.appeal)


def _judge(stake: Stake, upheld: bool, now: datetime) -> Stake:
    if stake.contest is not Contest.APPEALED:
        raise conflict("There is no appeal to judge")
    if _over(stake, now):
        raise conflict("The time to judge the appeal is over: it is granted")
    return _ended(stake, upheld=upheld)


def _conclude(stake: Stake, now: datetime) -> Stake:
    if stake.contest is Contest.NONE:
        raise conflict("No slash is open")
    if not _over(stake, now):
        raise conflict("The time of the slash is not over yet")
    return _ended(stake, upheld=stake.contest is Contest.PENDING)


def _claim(stake: Stake, vault_units: int) -> tuple[Stake, int]:
    if not stake.rewards_units:
        raise conflict("No rewards are due: they grow with what is staked, by the ledger's rate")
    if not vault_units:
        raise conflict(
            f"{format_cyxwiz(stake.rewards_units)} CYXWIZ are due, and the rewards vault is empty: claim them when "
            "somebody has funded it (`cyxwiz stake rewards` shows its address)"
        )
    paid = min(stake.rewards_units, vault_units)
    return replace(stake, rewards_units=stake.rewards_units - paid), paid


def _over(stake: Stake, now: datetime) -> bool:
    return stake.contested_until is not None and now >= stake.contested_until


def _ended(stake: Stake, *, upheld: bool) -> Stake:
    amount, of_cooling = stake.contested_units, stake.contested_cooling_units
    ended = replace(stake, contest=Contest.NONE, contested_units=0, contested_cooling_units=0)
    if upheld:
        return replace(ended, slashed_units=stake.slashed_units + amount)
    return replace(
        ended,
        active_units=stake.active_units + amount - of_cooling,
        cooling_units=stake.cooling_units + of_cooling,
    )


def share_of(stake: Stake, share: float) -> int:
    """Units of a slash of that share: rounded, at least 1; 0 where nothing is staked."""
    return max(1, min(round(stake.pledged_units * share), stake.pledged_units)) if stake.pledged_units else 0
