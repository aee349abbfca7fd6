"""The part of the `Api` that is about receipts, the platform's key and sign-in by a wallet."""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from pydantic import Field

from cyxwiz.domain.account import UserWallet
from cyxwiz.domain.base58 import decode
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.states import JobState
from cyxwiz.domain.wallet_proof import Purpose
from cyxwiz.ports.store import Page
from cyxwiz.services import views
from cyxwiz.services.call import Args, Call, Paging, takes_nothing
from cyxwiz.services.receipts import Receipts
from cyxwiz.services.views import Json
from cyxwiz.services.wallets import SIGNATURE_BYTES, Proof, Wallets


class WalletNonce(Args):
    wallet_address: str = Field(max_length=64)
    purpose: Literal["login", "link"] = "login"


class WalletProof(Args):
    wallet_address: str = Field(max_length=64)
    signature: str = Field(max_length=200)
    nonce: str = Field(max_length=200)


class ReceiptList(Paging):
    status: Literal["completed", "failed", "cancelled"] | None = None


class WalletApi:
    receipts: Receipts
    wallets: Wallets

    # receipts

    @takes_nothing
    async def get_platform(self, call: Call) -> Json:
        """Needs no caller."""
        return self.receipts.platform()

    @takes_nothing
    async def get_job_receipt(self, call: Call) -> Json:
        return await self.receipts.of_job(call.caller, call.id)

    async def list_receipts(self, call: Call) -> Json:
        args = call.read(ReceiptList)
        state = JobState(args.status) if args.status else None
        found = await self.receipts.list(call.caller, args.offset, args.limit, state)
        return views.page("receipts", found, lambda line: line, args.page, args.limit)

    # wallets

    async def wallet_nonce(self, call: Call) -> Json:
        """Needs no caller."""
        args = call.read(WalletNonce)
        made = self.wallets.challenge(args.wallet_address, Purpose(args.purpose))
        return {"nonce": made.nonce, "message": made.message, "expires_at": views.instant(made.expires_at)}

    async def wallet_login(self, call: Call) -> Json:
        """Needs no caller."""
        return views.tokens(await self.wallets.login(_proof(call)))

    async def link_wallet(self, call: Call) -> Json:
        return _linked(await self.wallets.link(call.caller, _proof(call)))

    @takes_nothing
    async def unlink_wallet(self, call: Call) -> Json:
        await self.wallets.unlink(call.caller, call.id)
        return {"wallet_address": call.id, "unlinked": True}

    async def list_wallets(self, call: Call) -> Json:
        args = call.read(Paging)
        found = await self.wallets.of(call.caller.id)
        shown = Page(found[args.offset : args.offset + args.limit], len(found))
        return views.page("wallets", shown, _linked, args.page, args.limit)


def _proof(call: Call) -> Proof:
    args = call.read(WalletProof)
    return Proof(args.wallet_address, args.nonce, parse_signature(args.signature))


def parse_signature(text: str) -> bytes:
    """64 bytes in hex, base64 or base58, as wallets give them. Raises INVALID."""
    for read in (bytes.fromhex, _base64, decode):
        try:
            found = read(text)
        except (ValueError, binascii.Error):
            continue
        if len(found) == SIGNATURE_BYTES:
            return found
    raise invalid(f"signature: must be {SIGNATURE_BYTES} bytes in hex, base64 or base58", field="signature")


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _linked(wallet: UserWallet) -> Json:
    return {"wallet_address": wallet.address, "linked_at": views.instant(wallet.linked_at)}
