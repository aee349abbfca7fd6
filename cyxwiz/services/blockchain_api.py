"""The part of the `Api` that answers the earlier system's `/api/v1/blockchain/…`: the platform's own money, for admins.

Names are the earlier system's. `…_lamports` and `amount` are integer units of CYXWIZ, the one token that moves here;
`…_cyxwiz` beside them are decimal strings. `sol_balance` is what the platform has left for a chain's fees; what else
is about SOL is null, as no SOL is held or moved for anybody, and so is what is in USD, unless the operator has set a
price.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from cyxwiz.domain.account import Role
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.money import LAMPORTS_PER_SOL, UNITS_PER_CYXWIZ, format_cyxwiz
from cyxwiz.domain.payment import Movement, Payment
from cyxwiz.domain.reservation import Reservation
from cyxwiz.domain.states import PaymentState
from cyxwiz.ports.ledger import LedgerInfo
from cyxwiz.ports.store import MoneyStats, Page, PaymentQuery, ReservationQuery, Tx
from cyxwiz.services import views
from cyxwiz.services.call import Call, Paging, takes_nothing
from cyxwiz.services.payments import Payments
from cyxwiz.services.settlement import HELD
from cyxwiz.services.views import Json

DAY = timedelta(days=1)
ENDS = frozenset({"settle", "refund"})


class Window(Paging):
    """By page, as all lists, or from `offset` on, as the earlier system's clients ask."""

    start: int | None = Field(None, alias="offset", ge=0, le=10**9)
    status: Literal["pending", "locked", "streaming", "completed", "refunded", "failed"] | None = None

    def place(self) -> tuple[int, int]:
        """(offset, page): where it begins, and which page that is in.

        Raises:
            CyxError: INVALID for both an offset and a page.
        """
        if self.start is None:
            return self.offset, self.page
        if "page" in self.model_fields_set:
            raise invalid("offset: give it or page, not both", field="offset")
        return self.start, self.start // self.limit + 1


class BlockchainApi:
    """`price_usd` is of one CYXWIZ; None where the operator has set none."""

    price_usd: float | None

    @property
    def money(self) -> Payments:
        raise NotImplementedError

    @takes_nothing
    async def blockchain_wallet(self, call: Call) -> Json:
        info = self._admitted(call).ledger.info
        units, lamports = await self._balances(info)
        return {
            "address": info.platform,
            "network": info.network or info.backend,
            "sol_balance": None if lamports is None else lamports / LAMPORTS_PER_SOL,
            "sol_balance_usd": None,
            "cyxwiz_balance": None if units is None else units / UNITS_PER_CYXWIZ,
            "cyxwiz_balance_units": units,
            "cyxwiz_balance_usd": self._usd(units),
            "token_mint": info.token_mint or None,
            "sol_price_usd": None,
            "cyxwiz_price_usd": self.price_usd,
            "is_connected": units is not None,
            "rpc_endpoint": info.rpc_endpoint or None,
            "program_id": info.program_id or None,
        }

    async def _balances(self, info: LedgerInfo) -> tuple[int | None, int | None]:
        """Units and lamports of the platform; None while the ledger can't be reached."""
        ledger = self.money.ledger
        try:
            return await ledger.balance(info.platform), await ledger.lamports(info.platform)
        except CyxError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            return None, None

    async def blockchain_transactions(self, call: Call) -> Json:
        payments, args = self._admitted(call), call.read(Window)
        offset, page = args.place()
        states = frozenset({PaymentState(args.status)}) if args.status else frozenset[PaymentState]()
        found = await payments.with_movements(PaymentQuery(states=states, offset=offset, limit=args.limit))
        return views.page("transactions", found, _transaction, page, args.limit)

    async def blockchain_escrows(self, call: Call) -> Json:
        payments, args = self._admitted(call), call.read(Window)
        offset, page = args.place()
        states = frozenset({PaymentState(args.status)}) & HELD if args.status else HELD
        query = PaymentQuery(states=states, offset=offset, limit=args.limit)
        nothing: Page[tuple[Payment, list[Movement]]] = Page([], 0)
        found = await payments.with_movements(query) if states else nothing
        # Reservations come after the jobs.
        room, start = args.limit - len(found.items), max(0, offset - found.total)
        looked = ReservationQuery(locked=True, offset=start, limit=max(1, room))
        kept: Page[Reservation] = Page([], 0)
        if PaymentState.LOCKED in states:
            kept = await payments.read(lambda tx: tx.reservations(looked))
        shown = [*map(_escrow, found.items), *(self._reserved(each) for each in kept.items[:room])]
        both = Page(shown, found.total + kept.total, found.capped or kept.capped)
        locked = (await payments.stats()).locked_units
        return {
            **views.page("escrows", both, dict, page, args.limit),
            "total_locked_lamports": locked,
            "total_locked_sol": None,
            "total_locked_cyxwiz": format_cyxwiz(locked),
        }

    @takes_nothing
    async def blockchain_stats(self, call: Call) -> Json:
        payments = self._admitted(call)

        def unit(tx: Tx) -> tuple[MoneyStats, int, tuple[int, int], tuple[int, int]]:
            kept = tx.reservations(ReservationQuery(locked=True, limit=1)).total
            return tx.money(), kept, tx.moved(), tx.moved(tx.now - DAY)

        stats, kept, (count, volume), (count_24h, volume_24h) = await payments.read(unit)
        fees, payouts = stats.fee_units, stats.paid_units - stats.fee_units
        active = kept + sum(stats.payments_by_state[state] for state in HELD)
        return {
            "total_transactions": count,
            **self._sum("total_volume", volume),
            "platform_fees_collected": fees,
            **self._parts("platform_fees_collected", fees),
            "node_payouts_total": payouts,
            **self._parts("node_payouts_total", payouts),
            "active_escrows_count": active,
            "active_escrows_value": stats.locked_units,
            **self._parts("active_escrows", stats.locked_units),
            "transactions_24h": count_24h,
            **self._sum("volume_24h", volume_24h),
            **self._prices(),
        }

    @takes_nothing
    async def blockchain_prices(self, call: Call) -> Json:
        call.caller.require(Role.ADMIN)
        return {**self._prices(), "last_updated": None}

    def _reserved(self, item: Reservation) -> Json:
        client = self.money.ledger.client_account(item.owner_id)
        shown = _held(item.id, None, client, item.node_wallet, item.escrow_units, PaymentState.LOCKED)
        return {**shown, "escrow_account": item.escrow_account, "created_at": views.instant(item.started_at)}

    def _admitted(self, call: Call) -> Payments:
        call.caller.require(Role.ADMIN)
        return self.money

    def _prices(self) -> Json:
        return {"sol_price_usd": None, "cyxwiz_price_usd": self.price_usd}

    def _usd(self, units: int | None) -> float | None:
        known = units is not None and self.price_usd is not None
        return round(units / UNITS_PER_CYXWIZ * self.price_usd, 6) if known else None  # type: ignore[operator]

    def _sum(self, name: str, units: int) -> Json:
        return {f"{name}_lamports": units, **self._parts(name, units)}

    def _parts(self, name: str, units: int) -> Json:
        return {f"{name}_sol": None, f"{name}_cyxwiz": format_cyxwiz(units), f"{name}_usd": self._usd(units)}


def _transaction(item: tuple[Payment, list[Movement]]) -> Json:
    payment, movements = item
    locks = [each.reference for each in movements if each.kind == "lock"]
    ends = [each.reference for each in movements if each.kind in ENDS]
    return {
        "id": payment.id,
        "tx_type": "job_payment",
        "job_id": payment.job_id,
        "amount": payment.amount_units,
        "amount_sol": None,
        "amount_cyxwiz": format_cyxwiz(payment.amount_units),
        "platform_fee": payment.fee_units,
        "node_reward": payment.reward_units,
        "status": str(payment.state),
        "escrow_tx_hash": locks[0] if locks else None,
        "completion_tx_hash": ends[-1] if ends else None,
        "user_wallet": payment.client,
        "node_wallet": payment.node or None,
        "created_at": views.instant(payment.created_at),
        "completed_at": views.instant(payment.ended_at),
    }


def _escrow(item: tuple[Payment, list[Movement]]) -> Json:
    payment, movements = item
    account = next((each.destination for each in movements if each.kind == "lock"), None)
    shown = _held(payment.id, payment.job_id, payment.client, payment.node, payment.amount_units, payment.state)
    return {**shown, "escrow_account": account, "created_at": views.instant(payment.created_at)}


def _held(ident: str, job_id: str | None, client: str, node: str, units: int, state: PaymentState) -> Json:
    return {
        "id": ident,
        "job_id": job_id,
        "user_wallet": client,
        "node_wallet": node or None,
        "amount": units,
        "amount_sol": None,
        "amount_cyxwiz": format_cyxwiz(units),
        "status": str(state),
    }
