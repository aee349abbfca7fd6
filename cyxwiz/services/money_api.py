"""The part of the `Api` that is about money."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id, parse_job_id
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.payment import Movement, Payment, Step
from cyxwiz.domain.stake import StakeKind
from cyxwiz.domain.states import PaymentState
from cyxwiz.ports.store import MovementQuery, PaymentQuery
from cyxwiz.services import views
from cyxwiz.services.call import Args, Call, Paging
from cyxwiz.services.lookup import account_of
from cyxwiz.services.payments import Payments, Wallet
from cyxwiz.services.quotes import Quotes
from cyxwiz.services.views import Json
from cyxwiz.services.wallets import Wallets


class Account(Args):
    address: str = Field("", max_length=64, description='"": your own')


class Amount(Args):
    amount: str = Field(max_length=64)


class Grant(Amount):
    user_id: str = Field(max_length=64, description="or a name")


class Withdrawal(Amount):
    to: str = Field(max_length=64, description="a wallet's address")


class PaymentList(Paging):
    status: Literal["pending", "locked", "streaming", "completed", "refunded", "failed"] | None = None
    job_id: str | None = None


KINDS = frozenset({*map(str, Step), *map(str, StakeKind), "account", "grant", "withdraw", "fund"})


class TransactionList(Paging):
    kind: str = Field("", max_length=32, description=f"one of {', '.join(sorted(KINDS))}")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind and kind not in KINDS:
            raise ValueError(f"must be one of {', '.join(sorted(KINDS))}")
        return kind


class MoneyApi:
    """`payments` is None where no ledger is configured: every method then is UNSUPPORTED."""

    payments: Payments | None
    quotes: Quotes | None
    wallets: Wallets

    async def get_wallet(self, call: Call) -> Json:
        address = call.read(Account).address
        account = await account_of(self.money, self.wallets, call.caller, address, history=False)
        return wallet(await self.money.wallet(call.caller, account))

    async def list_payments(self, call: Call) -> Json:
        args = call.read(PaymentList)
        query = PaymentQuery(
            job_id=parse_job_id(args.job_id) if args.job_id else None,
            states=frozenset({PaymentState(args.status)}) if args.status else frozenset(),
            offset=args.offset,
            limit=args.limit,
        )
        return views.page("payments", await self.money.payments(call.caller, query), payment, args.page, args.limit)

    async def list_transactions(self, call: Call) -> Json:
        args = call.read(TransactionList)
        kinds = frozenset({args.kind}) if args.kind else frozenset[str]()
        found = await self.money.history(call.caller, MovementQuery(kinds=kinds, offset=args.offset, limit=args.limit))
        return views.page("transactions", found, movement, args.page, args.limit)

    async def top_up_job(self, call: Call) -> Json:
        units = parse_cyxwiz(call.read(Amount).amount)
        return views.job(await self.money.top_up(call.caller, call.id, units, call.idempotency_key))

    async def withdraw_funds(self, call: Call) -> Json:
        args = call.read(Withdrawal)
        units = parse_cyxwiz(args.amount)
        reference = await self.money.withdraw(call.caller, args.to, units, call.idempotency_key or new_id())
        return {"to": args.to, **views.money("amount", units), "reference": reference}

    async def grant_funds(self, call: Call) -> Json:
        args = call.read(Grant)
        units = parse_cyxwiz(args.amount)
        key = call.idempotency_key or new_id()
        user_id, reference = await self.money.grant(call.caller, args.user_id, units, key)
        return {"user_id": user_id, **views.money("amount", units), "reference": reference}

    @property
    def quoting(self) -> Quotes:
        if self.quotes is None:
            raise _not_charged()
        return self.quotes

    @property
    def money(self) -> Payments:
        if self.payments is None:
            raise _not_charged()
        return self.payments


def _not_charged() -> CyxError:
    return CyxError(Code.UNSUPPORTED, 'Nothing is charged here: ledger.backend is "none"; an operator sets another one')


def wallet(item: Wallet) -> Json:
    return {
        "address": item.account,
        "backend": item.info.backend,
        "network": item.info.network or None,
        **views.money("balance", item.balance_units),
        **views.money("locked", item.locked_units),
        "token_mint": item.info.token_mint or None,
        "program_id": item.info.program_id or None,
        "rpc_endpoint": item.info.rpc_endpoint or None,
    }


def payment(item: Payment) -> Json:
    return {
        "id": item.id,
        "job_id": item.job_id,
        "owner_id": item.owner_id,
        "status": str(item.state),
        "funding": str(item.funding),
        "client": item.client,
        "node": item.node or None,
        "node_id": item.node_id,
        "member": item.member,
        **views.money("amount", item.amount_units),
        **views.money("earned", item.earned_units),
        **views.money("paid", item.paid_units),
        **views.money("platform_fee", item.fee_units),
        **views.money("node_reward", item.reward_units),
        **views.money("refunded", item.refunded_units),
        "fee_bps": item.fee_bps,
        "error": item.error or None,
        "created_at": views.instant(item.created_at),
        "locked_at": views.instant(item.locked_at),
        "ended_at": views.instant(item.ended_at),
        "deadline": views.instant(item.deadline),
    }


def movement(item: Movement) -> Json:
    return {
        "reference": item.reference,
        "kind": item.kind,
        "status": item.state,
        **views.money("amount", item.units),
        **views.money("platform_fee", item.fee_units),
        **views.money("refunded", item.back_units),
        "source": item.source,
        "destination": item.destination,
        "payment_id": item.payment_id or None,
        "job_id": item.job_id or None,
        "node_id": item.node_id or None,
        "at": views.instant(item.at),
        "confirmed_at": views.instant(item.confirmed_at),
        "error": item.error or None,
    }
