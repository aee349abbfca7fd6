"""The part of the client that is about money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


class MoneyCalls:
    """Amounts are texts such as "1.5", in CYXWIZ. Without a ledger on the server every call is UNSUPPORTED."""

    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        raise NotImplementedError

    async def _read(self, method: str, ident: str = "", /, **args: Any) -> Json:
        raise NotImplementedError

    async def wallet(self) -> Json:
        return await self._read("GetWallet")

    async def payments(
        self, job_id: str | None = None, status: str | None = None, page: int = 1, limit: int = 20
    ) -> Json:
        """The newest first; of all jobs of the caller's, or of one."""
        return await self._read("ListPayments", page=page, limit=limit, job_id=job_id, status=status)

    async def transactions(self, page: int = 1, limit: int = 20) -> Json:
        return await self._read("ListTransactions", page=page, limit=limit)

    async def top_up(self, job_id: str, amount: str) -> Json:
        """Locks more money for a job. Returns the job. Raises FUNDS when the balance is too low."""
        return await self._ask("TopUpJob", job_id, {"amount": amount})

    async def grant(self, user_id: str, amount: str) -> Json:
        """Gives a user money that the platform makes; for admins."""
        return await self._ask("GrantFunds", "", {"user_id": user_id, "amount": amount})
