"""The client's requests about the stakes of nodes. A part of `Client`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


class StakeCalls:
    """Amounts are texts such as "1.5", in CYXWIZ. Without a ledger on the server every call is UNSUPPORTED."""

    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        raise NotImplementedError

    async def _read(self, method: str, ident: str = "", /, **args: Any) -> Json:
        raise NotImplementedError

    async def stake(self, node_id: str) -> Json:
        """What is staked, cooling down, withdrawable, contested and slashed, and the latest steps."""
        return await self._read("GetStake", node_id)

    async def add_stake(self, node_id: str, amount: str) -> Json:
        """Stakes out of the owner's account. Raises FUNDS when it has too little."""
        return await self._ask("AddStake", node_id, {"amount": amount}, key=str(uuid.uuid4()), safe=True)

    async def withdraw_stake(self, node_id: str, amount: str | None = None) -> Json:
        """Takes out what has cooled down; if nothing has, begins the cool-down of an amount, or of all."""
        args = {} if amount is None else {"amount": amount}
        return await self._ask("WithdrawStake", node_id, args, key=str(uuid.uuid4()), safe=True)

    async def appeal_slash(self, node_id: str) -> Json:
        return await self._ask("AppealSlash", node_id, key=str(uuid.uuid4()), safe=True)

    async def claim_rewards(self, node_id: str) -> Json:
        """Pays the rewards due to the owner, as far as the rewards vault has them. Raises CONFLICT for none."""
        return await self._ask("ClaimRewards", node_id, key=str(uuid.uuid4()), safe=True)

    async def fund_rewards(self, amount: str) -> Json:
        """Gives of the caller's balance for the rewards of all stakes."""
        return await self._ask("FundRewards", "", {"amount": amount}, key=str(uuid.uuid4()), safe=True)

    async def judge_slash(self, node_id: str, upheld: bool) -> Json:
        """Decides an appeal: whether the slash stands. For admins."""
        return await self._ask("JudgeSlash", node_id, {"upheld": upheld}, key=str(uuid.uuid4()), safe=True)
