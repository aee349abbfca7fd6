"""Stakes of nodes: added and withdrawn by their owners, slashed for wrong work, gating who gets jobs of others.

Whatever is to be done is a row first (`StakeStep`), written in the unit that decides it, and a ledger does each row
once: a crash at any point neither loses a slash nor does one twice. What owners ask for fails for good when the ledger
refuses it; a slash and its end are tried until they are done. `Node.stake_units` is the active stake as it was last
seen: what the scheduler and people are shown.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cyxwiz.config import Config
from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, not_found
from cyxwiz.domain.events import NodeSlashed
from cyxwiz.domain.ids import NodeId, new_id, parse_node_id
from cyxwiz.domain.money import DUST_UNITS, check_amount, format_cyxwiz, parse_cyxwiz
from cyxwiz.domain.node import Node
from cyxwiz.domain.reputation import Kind, ReputationEvent
from cyxwiz.domain.stake import (
    OWNERS,
    Contest,
    RewardsVault,
    Stake,
    StakeDone,
    StakeKind,
    StakeRules,
    StakeStep,
    StepState,
    share_of,
)
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.stakes import Stakes
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services.audit import WRONG, record
from cyxwiz.services.leases import QUEUE
from cyxwiz.services.repeats import Repeats
from cyxwiz.services.reputation import Reputation

log = logging.getLogger(__name__)
CLAIM = timedelta(minutes=2)  # how long whoever took a step has it for itself
RETRY, RETRY_MOST = timedelta(seconds=1), timedelta(minutes=1)
BATCH = 100
SHOWN = 20  # latest steps
_NAMES = uuid.UUID("5d0f6a52-6f0c-4d8e-9a6e-2f0f6f3f7c11")
_ACTIONS = {
    StakeKind.ADD: "stake.add",
    StakeKind.COOL: "stake.cooldown",
    StakeKind.WITHDRAW: "stake.withdraw",
    StakeKind.SLASH: "node.slash",
    StakeKind.APPEAL: "stake.appeal",
    StakeKind.JUDGE: "stake.judge",
    StakeKind.CONCLUDE: "stake.conclude",
    StakeKind.CLAIM: "stake.rewards",
}
_BACK = frozenset({StakeKind.COOL, StakeKind.WITHDRAW})


@dataclass(frozen=True, slots=True)
class StakeSeen:
    """A node's stake with what it is held to, what its rewards are paid out of, and what was done with it. `did` is
    what the caller just asked for."""

    node: Node
    stake: Stake
    rules: StakeRules
    vault: RewardsVault
    required_units: int
    steps: Sequence[StakeStep]
    now: datetime
    did: StakeStep | None = None
    evidence: str = ""  # of the slash that is open, or else of the latest: the text that its SHA-256 is of


class Staking:
    """Also the `services.verification.Slasher`.

    Args:
        slash_share: of what is staked and cooling down, for one wrong result.
        required_units: what a node has staked to get jobs of others.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        stakes: Stakes,
        reputation: Reputation,
        *,
        slash_share: float,
        required_units: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._stakes = stakes
        self._reputation = reputation
        self._share = slash_share
        self._required = required_units
        self._locks: dict[NodeId, asyncio.Lock] = {}

    # what people ask for

    async def show(self, actor: Principal, node_id: str) -> StakeSeen:
        return await self._seen(await self._owned(actor, node_id), None)

    async def add(self, actor: Principal, node_id: str, units: int, key: str = "") -> StakeSeen:
        """Stakes units out of the owner's account. Raises FUNDS when it has too little, INVALID for no amount."""
        check_amount(units, least=DUST_UNITS)
        return await self._ask(actor, node_id, StakeKind.ADD, units, _asked(actor, node_id, f"add {units}", key))

    async def withdraw(self, actor: Principal, node_id: str, units: int | None, key: str = "") -> StakeSeen:
        """Takes out all that has cooled down, if anything has; else begins the cool-down of `units`, or of all.

        Raises:
            CyxError: INVALID for no amount; FUNDS for more than is staked; CONFLICT when there is nothing to do yet.
        """
        if units is not None:
            check_amount(units, least=DUST_UNITS)
        node = await self._owned(actor, node_id)
        asked = _asked(actor, node.id, f"withdraw {'all' if units is None else units}", key)
        if await self._store.read(asked.answered) is not None:
            return await self._ask(actor, node.id, StakeKind.COOL, 0, asked)
        stake = await self._stakes.stake(node)
        free = stake.free_units(self._clock.now())
        if free:
            return await self._ask(actor, node.id, StakeKind.WITHDRAW, free, asked)
        if units is None and stake.cooling_units:
            until = stake.cooling_until.isoformat() if stake.cooling_until else ""
            more = "; name an amount to begin with more, which begins its time anew" if stake.active_units else ""
            raise conflict(
                f"{format_cyxwiz(stake.cooling_units)} CYXWIZ cool down until {until}: withdraw them then{more}",
                until=until,
            )
        if units is None and not stake.active_units:
            raise conflict(f"Node {node.id} has nothing staked")
        return await self._ask(actor, node.id, StakeKind.COOL, stake.active_units if units is None else units, asked)

    async def appeal(self, actor: Principal, node_id: str, key: str = "") -> StakeSeen:
        """Appeals against the slash that is open. Raises CONFLICT when there is none or it is too late."""
        return await self._ask(actor, node_id, StakeKind.APPEAL, 0, _asked(actor, node_id, "appeal", key))

    async def claim(self, actor: Principal, node_id: str, key: str = "") -> StakeSeen:
        """Pays the rewards due to the owner, as far as the vault has them. Raises CONFLICT when there are none."""
        return await self._ask(actor, node_id, StakeKind.CLAIM, 0, _asked(actor, node_id, "claim", key))

    async def fund(self, actor: Principal, units: int, key: str = "") -> tuple[RewardsVault, str]:
        """Gives of the caller's balance for rewards: (the vault after it, the reference). Raises FUNDS."""
        actor.require(Role.USER, Role.OPERATOR)
        reference = await self._stakes.fund(actor.id, check_amount(units, least=DUST_UNITS), key or new_id())
        vault = await self._stakes.vault()

        def unit(tx: Tx) -> None:
            record(tx, actor.name, "stake.fund", f"vault:{vault.account}", units=units, reference=reference)

        await self._store.write(unit)
        return vault, reference

    async def judge(self, actor: Principal, node_id: str, *, upheld: bool, key: str = "") -> StakeSeen:
        """Decides an appeal; for admins. Raises CONFLICT when there is none or it is too late."""
        actor.require(Role.ADMIN)
        asked = _asked(actor, node_id, f"judge {upheld}", key)
        return await self._ask(actor, node_id, StakeKind.JUDGE, 0, asked, upheld=upheld)

    async def _owned(self, actor: Principal, node_id: str) -> Node:
        parsed = parse_node_id(node_id)
        return await self._store.read(lambda tx: _owned(tx, actor, parsed))

    async def _seen(self, node: Node, did: StakeStep | None) -> StakeSeen:
        stake, rules = await self._stakes.stake(node), await self._stakes.rules()
        if stake.active_units != node.stake_units:
            node = await self._store.write(lambda tx: _cache(tx, node.id, stake)) or node
        steps, evidence = await self._store.read(lambda tx: _told(tx, node.id, stake))
        vault = await self._stakes.vault()
        return StakeSeen(node, stake, rules, vault, self._required, steps, self._clock.now(), did, evidence)

    async def _ask(
        self, actor: Principal, node_id: str, kind: StakeKind, units: int, asked: Repeats, *, upheld: bool = False
    ) -> StakeSeen:
        """Has a step done, or tells of the one that was when the same was asked before."""
        parsed = parse_node_id(node_id)

        def unit(tx: Tx) -> tuple[Node, StakeStep, bool]:
            node = _owned(tx, actor, parsed)
            if (before := asked.answered(tx)) is not None:
                known = tx.stake_step(before)
                assert known is not None, "steps are never deleted"
                return node, known, False
            _refuse_meanwhile(tx.pending_stake_steps(node.id), kind)
            step = StakeStep(
                new_id(),
                node.id,
                node.owner_id,
                kind,
                tx.now,
                tx.now + CLAIM,  # the caller itself has it done
                units=units,
                upheld=upheld,
                by=actor.name,
            )
            tx.add_stake_step(step)
            asked.keep(tx, step.id)
            return node, step, True

        node, step, fresh = await self._store.write(unit)
        if fresh:
            try:
                step = await self._do(step)
            except CyxError as error:
                if not error.retryable:
                    raise
                said = f"{error.message}. It is written down and goes on by itself: `cyxwiz stake show` has it"
                raise CyxError(error.code, said, error.details) from None
        elif step.state is StepState.PENDING:
            raise CyxError(Code.UNAVAILABLE, f"This is under way: look again ({step.error or 'it was just begun'})")
        elif step.state is StepState.FAILED:
            raise conflict(f"This was refused: {step.error}")
        node = await self._store.read(lambda tx: tx.node(node.id)) or node
        return await self._seen(node, step)

    # slashing

    def slash(self, tx: Tx, node_id: NodeId, evidence_hash: str) -> None:
        """Writes down, within the unit that found a node's work wrong, that its stake is to be slashed; once each."""
        node = tx.node(node_id)
        staked = node.stake_units if node is not None else 0
        record(tx, "central", "node.slash_owed", f"node:{node_id}", evidence_hash=evidence_hash, staked=staked)
        if node is None or not self._share:
            return
        step_id = str(uuid.uuid5(_NAMES, f"slash {node_id} {evidence_hash}"))
        tx.add_stake_step(
            StakeStep(
                step_id, node_id, node.owner_id, StakeKind.SLASH, tx.now, tx.now, evidence=evidence_hash, by="central"
            )
        )

    # steps

    async def tend(self) -> int:
        """Does every step that is due; returns how many were tried. One that fails is put off and holds up no other."""
        due = await self._store.read(lambda tx: tx.due_stake_steps(BATCH))
        for seen in due:
            claimed = await self._store.write(lambda tx: _claim(tx, seen))  # noqa: B023
            if claimed is None:
                continue
            try:
                await self._do(claimed)
            except CyxError as error:
                log.warning("step %s of the stake of node %s: %s", claimed.id, claimed.node_id, error.message)
        return len(due)

    async def refresh(self) -> None:
        """Looks what the nodes that had a stake have now: the ledger may be another one since."""
        for node in await self._store.read(lambda tx: [each for each in tx.fleet() if each.stake_units]):
            stake = await self._stakes.stake(node)
            await self._store.write(lambda tx: _cache(tx, node.id, stake))  # noqa: B023

    async def _do(self, step: StakeStep) -> StakeStep:
        """Has the ledger do a step that is claimed, and writes down how it ended."""
        lock = self._locks.setdefault(step.node_id, asyncio.Lock())
        async with lock:
            node = await self._store.read(lambda tx: tx.node(step.node_id))
            if node is None:
                raise not_found("node", step.node_id)
            try:
                if step.kind is StakeKind.SLASH and not step.units:
                    sized = await self._sized(node, step)
                    if sized is None:
                        return await self._store.write(lambda tx: self._nothing_staked(tx, step))
                    step = sized
                done = await self._stakes.perform(node, step)
            except CyxError as error:
                ended = await self._refused(node, step, error)
                if ended is not None:
                    return ended
                raise
            return await self._store.write(lambda tx: self._done(tx, step, done))

    async def _sized(self, node: Node, step: StakeStep) -> StakeStep | None:
        """The slash with its amount, written down before it is asked for; None where nothing is staked."""
        stake = await self._stakes.stake(node)
        if stake.contest is not Contest.NONE:
            raise conflict("A slash of this stake is not settled yet: the next one has to wait")
        units = share_of(stake, self._share)
        if not units:
            return None
        return await self._store.write(lambda tx: tx.save_stake_step(replace(step, units=units)))

    def _nothing_staked(self, tx: Tx, step: StakeStep) -> StakeStep:
        record(tx, "central", "node.slash", f"node:{step.node_id}", evidence_hash=step.evidence, units=0)
        return tx.save_stake_step(replace(step, state=StepState.DONE, error="nothing was staked"))

    async def _refused(self, node: Node, step: StakeStep, error: CyxError) -> StakeStep | None:
        """Puts a step off, or ends it; the step if it needed nothing any more."""
        due, state = None, StepState.PENDING
        if not error.retryable and step.kind in OWNERS:
            state = StepState.FAILED
        elif error.code is Code.CONFLICT:
            stake = await self._stakes.stake(node)
            if step.kind is StakeKind.CONCLUDE and (
                stake.contest is Contest.NONE or stake.evidence != step.evidence
            ):  # it was judged
                state = StepState.DONE
            due = stake.contested_until if stake.contest is not Contest.NONE else None
        # What was refused was not sent: a slash is computed anew from what is staked then.
        units = 0 if step.kind is StakeKind.SLASH and not error.retryable else step.units
        attempts = step.attempts + 1
        wait = min(RETRY * 2 ** min(attempts - 1, 10), RETRY_MOST)

        def unit(tx: Tx) -> StakeStep:
            at = tx.now + wait if due is None or due <= tx.now else due
            said = "" if state is StepState.DONE else error.message[:500]
            return tx.save_stake_step(replace(step, state=state, units=units, attempts=attempts, error=said, due_at=at))

        saved = await self._store.write(unit)
        return saved if state is StepState.DONE else None

    def _done(self, tx: Tx, step: StakeStep, done: StakeDone) -> StakeStep:
        saved = tx.save_stake_step(
            replace(step, state=StepState.DONE, units=done.units, reference=done.reference, error="")
        )
        _cache(tx, step.node_id, done.stake)
        details = {"units": done.units, "reference": done.reference}
        if step.evidence:
            details["evidence_hash"] = step.evidence
        if step.kind is StakeKind.JUDGE:
            details["upheld"] = step.upheld
        record(tx, step.by, _ACTIONS[step.kind], f"node:{step.node_id}", **details)
        if step.kind is StakeKind.SLASH:
            self._settle_later(tx, step, done.stake)
        said = _said(step, done)
        if said:
            self._tell(tx, step, done, *said)
        return saved

    def _settle_later(self, tx: Tx, slash: StakeStep, stake: Stake) -> None:
        tx.add_stake_step(
            replace(
                slash,
                id=str(uuid.uuid5(_NAMES, f"conclude {slash.id}")),
                kind=StakeKind.CONCLUDE,
                created_at=tx.now,
                due_at=stake.contested_until or tx.now,
                units=0,
                attempts=0,
                version=0,
            )
        )

    def _tell(self, tx: Tx, step: StakeStep, done: StakeDone, what: str, note: str) -> None:
        """Its owner, and whoever asks why the node's reputation is what it is."""
        node = tx.node(step.node_id)
        if node is None:
            return
        amount, until = format_cyxwiz(done.units), done.stake.contested_until
        open_until = until.isoformat() if until is not None and done.stake.contest is not Contest.NONE else ""
        event = NodeSlashed(node.id, node.name, what, amount, done.stake.evidence, open_until, done.reference)
        tx.emit(event, private_to=node.owner_id)
        text = f"{amount} CYXWIZ of its stake {note}, evidence {done.stake.evidence[:16]}"
        self._reputation.record(tx, node.id, ReputationEvent(Kind.SLASHED, note=text))


def _asked(actor: Principal, node_id: str, what: str, key: str) -> Repeats:
    return Repeats(f"stake:{actor.id}", key, f"{parse_node_id(node_id)} {what}")


def _said(step: StakeStep, done: StakeDone) -> tuple[str, str] | None:
    """(what a step did to a slash, in a word and as people read it)"""
    match step.kind:
        case StakeKind.SLASH:
            return "set_aside", "set aside for a wrong result"
        case StakeKind.APPEAL:
            return "appealed", "are appealed for"
        case StakeKind.JUDGE:
            return ("lost", "lost: the appeal was dismissed") if step.upheld else ("returned", "given back on appeal")
        case StakeKind.CONCLUDE if done.lost:
            return "lost", "lost: nobody appealed in time"
        case StakeKind.CONCLUDE:
            return "returned", "given back: nobody judged the appeal in time"
        case _:
            return None


def _claim(tx: Tx, seen: StakeStep) -> StakeStep | None:
    step = tx.stake_step(seen.id)
    if step is None or step.state is not StepState.PENDING or step.due_at > tx.now:
        return None
    return tx.save_stake_step(replace(step, due_at=tx.now + CLAIM))


def _told(tx: Tx, node_id: NodeId, stake: Stake) -> tuple[Sequence[StakeStep], str]:
    """The latest steps, and what the open slash, or else the latest, is based on."""
    steps = tx.stake_steps(node_id, SHOWN)
    digest = stake.evidence or next((each.evidence for each in steps if each.evidence), "")
    wrong = tx.audit_of(WRONG, f"node:{node_id}", SHOWN) if digest else ()
    return steps, next((each.details["evidence"] for each in wrong if each.details["evidence_hash"] == digest), "")


def _cache(tx: Tx, node_id: NodeId, stake: Stake) -> Node | None:
    """Writes down what is staked; the scheduler looks again when it changed."""
    node = tx.node(node_id)
    if node is None or node.stake_units == stake.active_units:
        return node
    tx.hint(QUEUE)
    return tx.save_node(replace(node, stake_units=stake.active_units))


def _refuse_meanwhile(pending: Sequence[StakeStep], kind: StakeKind) -> None:
    """Raises CONFLICT for what has to wait: a node's owner asks for one thing at a time, and nothing leaves a stake
    that is to be slashed."""
    for step in pending:
        if step.kind in OWNERS:
            raise conflict(f"The step before is not done yet ({step.kind} {step.id}): wait for it", id=step.id)
        if step.kind is StakeKind.SLASH and kind in _BACK:
            raise conflict("This stake is about to be slashed: nothing can be withdrawn until that is done", id=step.id)


def _owned(tx: Tx, actor: Principal, node_id: NodeId) -> Node:
    node = tx.node(node_id)
    if node is None:
        raise not_found("node", node_id)
    if not actor.owns(node.owner_id):
        raise forbidden(f"Node {node_id} is not yours: its stake is its owner's")
    return node


def staking_of(config: Config, store: Store, clock: Clock, stakes: Stakes, reputation: Reputation) -> Staking:
    """As the settings say."""
    required = parse_cyxwiz(config.blockchain.minimum_stake)
    return Staking(store, clock, stakes, reputation, slash_share=config.ledger.slash_share, required_units=required)
