"""Where nodes' stakes are held."""

from __future__ import annotations

from typing import Protocol

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.node import Node
from cyxwiz.domain.stake import RewardsVault, Stake, StakeDone, StakeRules, StakeStep


class Stakes(Protocol):
    """The stakes of nodes, each in an account of its node's own. The money comes out of the node's owner's account, and
    goes back there.

    Units are never made or lost. What the rules of `domain.stake` refuse is refused. A step of one id is done once,
    however often and in whatever state of a crash it is asked for; asked again, the reference is the same. Steps of one
    node are asked for one after another.
    Raises, in every method: UNAVAILABLE when the ledger can't be reached (nothing is known then: ask again);
    UNSUPPORTED where it can't hold stakes as it is set up.
    """

    def account(self, node: Node) -> str: ...

    async def rules(self) -> StakeRules: ...

    async def vault(self) -> RewardsVault:
        """What rewards are paid out of, and what is there now."""
        ...

    async def fund(self, user_id: UserId, units: int, key: str) -> str:
        """Sends of a user's balance to the rewards vault, once a key; returns the reference. FUNDS."""
        ...

    async def stake(self, node: Node) -> Stake:
        """What a node has staked now; an empty one if nothing ever was."""
        ...

    async def perform(self, node: Node, step: StakeStep) -> StakeDone:
        """Does one step, once.

        Raises:
            CyxError: what `domain.stake.applied` refuses; FUNDS when the owner's account has too little.
        """
        ...
