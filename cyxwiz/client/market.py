"""The client's requests about trust and budgets. A part of `Client`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


class Market:
    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        raise NotImplementedError

    async def unban_node(self, node_id: str) -> Json:
        """Ends a ban: the node may connect again, on probation."""
        return await self._ask("UnbanNode", node_id)

    async def complain_about_node(self, node_id: str, job_id: str, reason: str) -> Json:
        """Counts against a node that had your job; once a job."""
        return await self._ask("ComplainAboutNode", node_id, {"job_id": job_id, "reason": reason})

    async def set_user_budget(self, user: str, amount: str) -> Json:
        """What a user's jobs may cost a month, in CYXWIZ; "none": no limit. For admins."""
        return await self._ask("SetUserBudget", user, {"amount": amount}, safe=True)

    async def user_budget(self, user: str) -> Json:
        """A user's budget, with what is reserved, spent and left this month."""
        return await self._ask("GetUserBudget", user, safe=True)
