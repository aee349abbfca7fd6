"""The part of the client that is about money."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.errors import conflict
from cyxwiz.domain.wallet_proof import Purpose, proof_message

Json = dict[str, Any]


class MoneyCalls:
    """Amounts are texts such as "1.5", in CYXWIZ. Without a ledger on the server every call is UNSUPPORTED."""

    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        raise NotImplementedError

    async def _read(self, method: str, ident: str = "", /, **args: Any) -> Json:
        raise NotImplementedError

    async def wallet(self, address: str = "") -> Json:
        """Your account on the ledger; on a chain, and for admins, any other."""
        return await self._read("GetWallet", address=address)

    async def quote(self, job: Mapping[str, Any], wallet_address: str) -> Json:
        """What a wallet's owner is asked to lock for a prepared job; `client.escrow.pay_with` signs it."""
        return await self._read("QuoteJob", job=dict(job), wallet_address=wallet_address)

    async def payments(
        self, job_id: str | None = None, status: str | None = None, page: int = 1, limit: int = 20
    ) -> Json:
        """The newest first; of all jobs of the caller's, or of one."""
        return await self._read("ListPayments", page=page, limit=limit, job_id=job_id, status=status)

    async def transactions(self, page: int = 1, limit: int = 20) -> Json:
        return await self._read("ListTransactions", page=page, limit=limit)

    async def top_up(self, job_id: str, amount: str) -> Json:
        """Locks more money for a job. Returns the job. Raises FUNDS when the balance is too low."""
        key = str(uuid.uuid4())
        return await self._ask("TopUpJob", job_id, {"amount": amount}, key=key, safe=True)

    async def grant(self, user: str, amount: str) -> Json:
        """Gives a user (name or id) money that the platform makes; for admins."""
        key = str(uuid.uuid4())
        return await self._ask("GrantFunds", "", {"user_id": user, "amount": amount}, key=key, safe=True)

    async def withdraw(self, to: str, amount: str) -> Json:
        """Sends of your balance to a wallet, on a chain. Raises FUNDS, UNSUPPORTED."""
        key = str(uuid.uuid4())
        return await self._ask("WithdrawFunds", "", {"to": to, "amount": amount}, key=key, safe=True)

    # receipts

    async def platform(self) -> Json:
        """The platform's public key, by which receipts are checked; no credentials are needed."""
        return await self._read("GetPlatform")

    async def receipts(self, page: int = 1, limit: int = 20) -> Json:
        """Your ended jobs with what they cost, the newest first."""
        return await self._read("ListReceipts", page=page, limit=limit)

    # wallets

    async def wallets(self, page: int = 1, limit: int = 20) -> Json:
        """The wallets that are linked to you."""
        return await self._read("ListWallets", page=page, limit=limit)

    async def link_wallet(self, keypair: Keypair) -> Json:
        """Links the wallet to you: it shows that it holds its key by signing a nonce. Raises CONFLICT, and signs
        nothing, when the server asks for another signature than that."""
        return await self._ask("LinkWallet", "", await self._proof(keypair, Purpose.LINK))

    async def unlink_wallet(self, address: str) -> Json:
        return await self._ask("UnlinkWallet", address)

    async def _proof(self, keypair: Keypair, purpose: Purpose) -> Json:
        asked = await self._ask("WalletNonce", "", {"wallet_address": keypair.address, "purpose": purpose.value})
        platform, nonce = str((await self.platform()).get("public_key")), str(asked.get("nonce"))
        message = proof_message(purpose, keypair.address, platform, nonce)
        if asked.get("message") != message:
            raise conflict(f"The server asked the wallet to sign something else than a {purpose}; nothing was signed")
        return {"wallet_address": keypair.address, "nonce": nonce, "signature": keypair.sign(message.encode()).hex()}
