"""Wallets of users: who holds a wallet's key can link it to a user, and sign in by it.

A proof is a signature (Ed25519, by the wallet) over a message that central writes. The message has a nonce that central
knows again by a code of its own (HMAC), so that nothing is kept for whoever only asks; what is kept is that a nonce was
used. Refuses: a nonce for another wallet or purpose, one that is older than `NONCE`, and one that was used.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cyxwiz.domain.account import Principal, Role, User, UserWallet
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid, not_found
from cyxwiz.domain.ids import UserId, new_id
from cyxwiz.domain.wallet_proof import Purpose, proof_message
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services.accounts import OPEN_USER, Accounts, TokenPair
from cyxwiz.services.audit import record
from cyxwiz.services.platform import PlatformKey, verified
from cyxwiz.services.secrets import Secrets

NONCE = timedelta(minutes=5)
MAX_WALLETS = 10  # of a user
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Challenge:
    nonce: str
    message: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """`signature` is in hex or base64."""

    address: str
    nonce: str
    signature: bytes


class Wallets:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        accounts: Accounts,
        keys: Secrets,
        platform: PlatformKey,
        *,
        allow_signup: bool,
    ) -> None:
        self._store = store
        self._clock = clock
        self._accounts = accounts
        self._secret = keys.jwt.encode()
        self._platform = platform
        self._allow_signup = allow_signup

    def challenge(self, address: str, purpose: Purpose) -> Challenge:
        """What a wallet has to sign. Raises INVALID for what is no wallet address."""
        parse_wallet(address)
        expires = int((self._clock.now() + NONCE).timestamp())
        ident = random.token_hex(12)
        nonce = f"{ident}.{expires}.{self._code(ident, expires, address, purpose)}"
        message = proof_message(purpose, address, self._platform.public, nonce)
        return Challenge(nonce, message, datetime.fromtimestamp(expires, UTC))

    def _code(self, ident: str, expires: int, address: str, purpose: Purpose) -> str:
        text = f"cyxwiz-wallet-nonce|{purpose}|{address}|{ident}|{expires}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]

    def _check(self, proof: Proof, purpose: Purpose) -> tuple[str, datetime]:
        """(what names the nonce, when it ends). Raises UNAUTHENTICATED."""
        key = parse_wallet(proof.address)
        ident, _, rest = proof.nonce.partition(".")
        ends, _, code = rest.partition(".")
        expires = int(ends) if ends.isascii() and ends.isdigit() and len(ends) < 12 else 0
        if not hmac.compare_digest(code.encode(), self._code(ident, expires, proof.address, purpose).encode()):
            raise _refused("This nonce was not given out for this wallet and purpose: ask for one")
        if expires <= self._clock.now().timestamp():
            raise _refused("This nonce has expired: ask for a new one")
        message = proof_message(purpose, proof.address, self._platform.public, proof.nonce)
        if not verified(key, proof.signature, message.encode()):
            raise _refused("The signature is not this wallet's over the message that came with the nonce")
        return f"wallet-nonce:{ident}", datetime.fromtimestamp(expires, UTC)

    async def login(self, proof: Proof) -> TokenPair:
        """Tokens for the user that the wallet is linked to; where sign-up is open, an unknown one gets a user.

        Raises:
            CyxError: UNAUTHENTICATED for what proves nothing; FORBIDDEN for an unknown wallet or a disabled user.
        """
        ident, ends = self._check(proof, Purpose.LOGIN)

        def unit(tx: Tx) -> User:
            _burn(tx, ident, ends)
            wallet = tx.wallet(proof.address)
            user = tx.user(wallet.user_id) if wallet else None
            if wallet is None or user is None:
                user = self._sign_up(tx, proof.address)
            if user.disabled:
                raise forbidden("The user of this wallet is disabled: ask an admin")
            record(tx, user.name, "login", f"user:{user.id}", wallet=proof.address)
            return user

        return self._accounts.pair(await self._store.write(unit))

    def _sign_up(self, tx: Tx, address: str) -> User:
        if not self._allow_signup:
            raise forbidden(
                "This wallet is linked to no user, and sign-up is closed here: log in and run "
                "`cyxwiz wallet link KEYPAIR.json`"
            )
        user_id = UserId(new_id())
        name = address if tx.user_by_name(address) is None else f"{address}-{user_id[:8]}"
        user = User(user_id, name, Role.USER, tx.now, "")
        tx.add_user(user)
        tx.add_wallet(UserWallet(address, user.id, tx.now))
        record(tx, "sign-up", "user.create", f"user:{user.id}", name=name, role=str(user.role), wallet=address)
        return user

    async def link(self, actor: Principal, proof: Proof) -> UserWallet:
        """The wallet is the caller's from now on. Raises EXISTS when it is another user's."""
        actor.require(Role.USER, Role.OPERATOR)
        if actor.id == OPEN_USER.id:
            raise forbidden('Open mode has no users, so no wallets; set auth.mode = "required"')
        ident, ends = self._check(proof, Purpose.LINK)

        def unit(tx: Tx) -> UserWallet:
            _burn(tx, ident, ends)
            known = tx.wallet(proof.address)
            if known is not None and known.user_id != actor.id:
                raise CyxError(Code.EXISTS, "This wallet is linked to another user: unlink it there first")
            if known is not None:
                return known
            if len(tx.wallets_of(actor.id)) >= MAX_WALLETS:
                raise invalid(f"A user has at most {MAX_WALLETS} wallets: unlink one first")
            wallet = UserWallet(proof.address, actor.id, tx.now)
            tx.add_wallet(wallet)
            record(tx, actor.name, "wallet.link", f"user:{actor.id}", wallet=wallet.address)
            return wallet

        return await self._store.write(unit)

    async def unlink(self, actor: Principal, address: str) -> None:
        parse_wallet(address)

        def unit(tx: Tx) -> None:
            wallet = tx.wallet(address)
            if wallet is None or not actor.owns(wallet.user_id):
                raise not_found("wallet", address)
            user = tx.user(wallet.user_id)
            if user is not None and not user.password_hash and len(tx.wallets_of(user.id)) == 1:
                raise forbidden("Nobody could log in as its user then, who has no password: link another wallet first")
            tx.drop_wallet(address)
            record(tx, actor.name, "wallet.unlink", f"user:{wallet.user_id}", wallet=address)

        await self._store.write(unit)

    async def of(self, user_id: UserId) -> list[UserWallet]:
        return list(await self._store.read(lambda tx: tx.wallets_of(user_id)))


def _burn(tx: Tx, ident: str, ends: datetime) -> None:
    if not tx.revoke(ident, ends):
        raise _refused("This nonce was used already: ask for a new one")


def _refused(message: str) -> CyxError:
    return CyxError(Code.UNAUTHENTICATED, message)
