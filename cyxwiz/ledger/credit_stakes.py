"""Stakes in the platform's own books, by the rules of the on-chain program.

Accounts: `stake:<node>` holds a node's stake, also while it cools down or is contested; `slashed` has what was lost and
what was given for rewards, which are paid out of it.
"""

from __future__ import annotations

from collections.abc import Callable

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Movement, once_only
from cyxwiz.domain.stake import RewardsVault, Stake, StakeDone, StakeKind, StakeRules, StakeStep, applied
from cyxwiz.ports.store import Store, Tx

SLASHED = "slashed"
FUND = "fund"


class CreditStakes:
    """See `ports.stakes.Stakes`. A step, its entry and its record are one unit of the store.

    Args:
        greet: gives an account what it starts with, once.
    """

    def __init__(self, store: Store, rules: StakeRules, greet: Callable[[Tx, str], None]) -> None:
        self._store = store
        self._rules = rules
        self._greet = greet

    def account(self, node: Node) -> str:
        return f"stake:{node.id}"

    async def rules(self) -> StakeRules:
        return self._rules

    async def vault(self) -> RewardsVault:
        return RewardsVault(SLASHED, await self._store.read(lambda tx: tx.account_units(SLASHED)))

    async def fund(self, user_id: UserId, units: int, key: str) -> str:
        reference, account = f"credits:fund:{user_id}:{key}", f"user:{user_id}"

        def unit(tx: Tx) -> None:
            self._greet(tx, account)
            made = Movement(reference, FUND, units, account, SLASHED, tx.now, owner_id=user_id, confirmed_at=tx.now)
            enter_once(tx, made)

        await self._store.write(unit)
        return reference

    async def stake(self, node: Node) -> Stake:
        account = self.account(node)
        return await self._store.read(lambda tx: tx.stake_of(account))

    async def perform(self, node: Node, step: StakeStep) -> StakeDone:
        return await self._store.write(lambda tx: self._perform(tx, node, step))

    def _perform(self, tx: Tx, node: Node, step: StakeStep) -> StakeDone:
        account, owner = self.account(node), f"user:{step.owner_id}"
        reference = f"credits:stake:{step.id}"
        before = tx.stake_of(account)
        if (known := tx.movement(reference)) is not None:
            return StakeDone(reference, known.units, before, known.destination == SLASHED)
        stake, units = applied(before, step, self._rules, tx.now, tx.account_units(SLASHED))
        tx.save_stake(stake)
        source, destination = _ends(before, stake, step, account, owner)
        if source != destination:
            if step.kind is StakeKind.ADD:
                self._greet(tx, owner)
            tx.post(reference, {source: -units, destination: units})
        tx.add_movement(
            Movement(
                reference,
                step.kind.value,
                units,
                source,
                destination,
                tx.now,
                payment_id=step.id,
                owner_id=step.owner_id,
                node_id=node.id,
                confirmed_at=tx.now,
            )
        )
        return StakeDone(reference, units, stake, destination == SLASHED)


def _ends(before: Stake, after: Stake, step: StakeStep, account: str, owner: str) -> tuple[str, str]:
    """(source, destination) of what a step moves; the same where nothing leaves the stake."""
    if step.kind is StakeKind.ADD:
        return owner, account
    if step.kind is StakeKind.WITHDRAW:
        return account, owner
    if step.kind is StakeKind.CLAIM:
        return SLASHED, owner
    return account, SLASHED if after.slashed_units > before.slashed_units else account


def enter_once(tx: Tx, moved: Movement, overdraw: frozenset[str] = frozenset()) -> None:
    """Enters what moves from one account to another, once a reference. Raises CONFLICT as `once_only`, FUNDS."""
    if tx.add_movement(moved):
        tx.post(moved.reference, {moved.source: -moved.units, moved.destination: moved.units}, overdraw)
    elif (before := tx.movement(moved.reference)) is not None:
        once_only(before, moved)
