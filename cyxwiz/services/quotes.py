"""Quotes: what a job costs at most, for whom, until when; and the escrow that its client locks with a key of its own.

A quote is signed by the platform, for its holder to show; central keeps it as well, for the submit that names it. The
job takes the quote's id, from which with the wallet the escrow's address follows, so that nobody else's escrow, and
none of another job, fits.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from datetime import datetime, timedelta

from cyxwiz.domain.account import Principal
from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, unsupported
from cyxwiz.domain.ids import JobId, new_id, parse_uuid
from cyxwiz.domain.job import JobSpec
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.domain.payment import Funding, Funds, Movement, Payment
from cyxwiz.domain.receipt import sealed
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services import views
from cyxwiz.services.dearer import to_lock
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.payments import Payments, SignedLock
from cyxwiz.services.platform import PlatformKey
from cyxwiz.services.views import Json

VALID = timedelta(minutes=10)
MAX_TRANSACTION = 1232  # bytes


class Quotes:
    def __init__(self, store: Store, clock: Clock, jobs: Jobs, payments: Payments, key: PlatformKey) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._payments = payments
        self._key = key

    async def quote(self, actor: Principal, spec: JobSpec, wallet: str) -> Json:
        """What the wallet's owner is asked to lock for a job, with the transaction to sign. Nothing is reserved.

        Raises:
            CyxError: what a submit of the job refuses; UNSUPPORTED for a gang or a reservation, and on a ledger without
                keys; INVALID for no wallet, or a job that costs nothing.
        """
        self._jobs.check(actor, spec)
        parse_wallet(wallet)
        payment = self._payment(actor, spec, wallet, await self._amount(actor, spec, wallet))
        offer = await self._payments.ledger.offer(payment)
        document = {
            "id": payment.id,
            "owner_id": actor.id,
            "wallet_address": wallet,
            **views.money("amount", payment.amount_units),
            "fee_bps": payment.fee_bps,
            "rate_units_per_second": payment.rate,
            "most_rate_units_per_second": payment.most_rate,
            "interval_seconds": payment.interval_seconds,
            "deadline": views.instant(payment.deadline),
            "created_at": views.instant(payment.created_at),
            "expires_at": views.instant(payment.created_at + VALID),
            "network": self._payments.ledger.info.network,
            "escrow": dict(offer.escrow),
            "message": base64.b64encode(offer.message).decode(),
            "last_valid_block_height": offer.last_height,
        }

        def unit(tx: Tx) -> None:
            tx.remember(_scope(actor), payment.id, "", json.dumps(document))

        await self._store.write(unit)
        return sealed(document, self._key.public, self._key.sign)

    async def lock(self, actor: Principal, spec: JobSpec, funds: Funds) -> SignedLock:
        """The payment of a job that is about to be submitted, once its client's transaction is found right.

        Raises:
            CyxError: INVALID for a quote that is not the caller's, and as `Ledger.signed` and `check_signed`; CONFLICT
                for one that has expired or is of another job; FUNDS for a wallet with too little.
        """
        ident = JobId(parse_uuid("quote", funds.quote, "payment.quote"))
        kept = await self._store.read(lambda tx: tx.remembered(_scope(actor), ident))
        if kept is None:
            raise invalid(f"payment.quote: you have no quote {ident}: ask for one", field="payment")
        document = json.loads(kept[1])
        drafted = self._payment(actor, spec, document["wallet_address"], self._jobs.price(spec))
        if drafted.amount_units > document["amount_units"] or drafted.rate != document["rate_units_per_second"]:
            dearer = f"this one costs up to {format_cyxwiz(drafted.amount_units)} CYXWIZ"
            raise conflict(f"Quote {ident} of {document['amount']} CYXWIZ is of another job: {dearer}")
        if drafted.streams != (document["interval_seconds"] > 0):
            raise conflict(f"Quote {ident} is of another job: this one differs in whether its result is verified")
        if spec.max_price_units and spec.max_price_units < document["amount_units"]:
            raise conflict(f"Quote {ident} locks {document['amount']} CYXWIZ, more than this job's payment.max_price")
        payment = replace(
            drafted,
            id=ident,
            job_id=ident,
            amount_units=document["amount_units"],
            fee_bps=document["fee_bps"],
            most_rate=document.get("most_rate_units_per_second", 0.0),  # of a quote from before there were any: none
            interval_seconds=document["interval_seconds"],
            created_at=datetime.fromisoformat(document["created_at"]),
            deadline=datetime.fromisoformat(document["deadline"]),
        )
        if self._clock.now() >= payment.created_at + VALID:
            raise conflict(f"Quote {ident} expired at {document['expires_at']}: ask for a new one")
        if bool(funds.transaction) == bool(funds.reference):
            raise invalid("payment: give transaction or escrow_tx_hash, one of both", field="payment")
        ledger = self._payments.ledger
        if funds.transaction:
            raw = _decoded(funds.transaction)
            await self._afford(payment)
            offered, last_height = base64.b64decode(document["message"]), document["last_valid_block_height"]
            return SignedLock(payment, await ledger.signed(payment, raw, offered, last_height))
        await ledger.check_signed(payment, funds.reference)
        return SignedLock(payment, self._sent(payment, funds.reference, document["escrow"]["account"]))

    async def _afford(self, payment: Payment) -> None:
        """Raises FUNDS when the wallet has too little for what it signed."""
        have = await self._payments.ledger.balance(payment.client)
        if have < payment.amount_units:
            raise CyxError(
                Code.FUNDS,
                f"The wallet {payment.client} has {format_cyxwiz(have)} CYXWIZ, and this job locks "
                f"{format_cyxwiz(payment.amount_units)}: send it some, or submit the job without a wallet",
                {"needed_units": payment.amount_units, "available_units": have},
            )

    def _payment(self, actor: Principal, spec: JobSpec, wallet: str, amount: int) -> Payment:
        if spec.resources.nodes > 1 or spec.reservation_id:
            raise unsupported(
                "A gang, and a job of a reservation, is paid out of your balance: submit it without a wallet"
            )
        if not amount:
            raise invalid("This job costs nothing: submit it without a wallet", field="payment")
        ident = JobId(new_id())
        made = self._payments.draft(ident, actor.id, spec, amount, self._jobs.rate(spec), self._clock.now())
        return replace(made, client=wallet, funding=Funding.SIGNED)

    async def _amount(self, actor: Principal, spec: JobSpec, wallet: str) -> int:
        """What a job costs by the tariff, or at nodes that ask more, as far as its limit, the wallet and the budget
        reach."""
        by_tariff, asked = self._jobs.price(spec), await self._jobs.asked_above(spec, actor.id)
        if not asked:
            return by_tariff
        free = await self._payments.ledger.balance(wallet)
        return await self._store.read(lambda tx: to_lock(tx, actor.id, by_tariff, free, asked))

    def _sent(self, payment: Payment, reference: str, account: str) -> Movement:
        now = self._clock.now()
        return Movement(
            reference,
            "lock",
            payment.amount_units,
            payment.client,
            account,
            now,
            payment_id=payment.id,
            job_id=payment.job_id,
            owner_id=payment.owner_id,
            confirmed_at=now,
        )


def _scope(actor: Principal) -> str:
    return f"quote:{actor.id}"


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not 0 < len(raw) <= MAX_TRANSACTION:
        raise invalid(f"payment.transaction: must be 1 to {MAX_TRANSACTION} bytes in base64", field="payment")
    return raw
