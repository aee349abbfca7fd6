"""Whose account a wallet address names, and who may look into it."""

from __future__ import annotations

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import forbidden
from cyxwiz.services.payments import Payments
from cyxwiz.services.wallets import Wallets


async def account_of(payments: Payments, wallets: Wallets, actor: Principal, address: str, *, history: bool) -> str:
    """The account on the ledger: "", the caller's own. A linked wallet has an account of its own on a chain alone.

    On a chain everybody may read every balance; what jobs moved, their owner only, and admins.

    Raises:
        CyxError: INVALID for what is no wallet address; FORBIDDEN for somebody else's.
    """
    actor.require(Role.USER, Role.OPERATOR)
    own = payments.ledger.client_account(actor.id)
    if address in ("", own):
        return own
    if actor.is_admin and address == payments.ledger.info.platform:
        return address
    parse_wallet(address)
    on_chain = bool(payments.ledger.info.network)
    if address in {wallet.address for wallet in await wallets.of(actor.id)}:
        return address if on_chain else own
    if actor.is_admin or (on_chain and not history):
        return address
    raise forbidden(f"The wallet {address} is not yours: `cyxwiz wallet link KEYPAIR.json` links one that is")
