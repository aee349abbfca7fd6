"""`WalletService` of the wire contract."""

from __future__ import annotations

import uuid
from typing import Any

from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.estimate import estimate_cost
from cyxwiz.domain.money import LAMPORTS_PER_SOL, UNITS_PER_CYXWIZ, format_cyxwiz
from cyxwiz.domain.payment import Movement
from cyxwiz.ports.store import MovementQuery
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import wallet_pb2 as pb
from cyxwiz.protocol import wallet_pb2_grpc
from cyxwiz.services.api import Api
from cyxwiz.services.lookup import account_of
from cyxwiz.transports.grpc.door import caller
from cyxwiz.transports.grpc.mapping import seconds_to

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
STATUSES = {"pending": pb.PENDING, "confirmed": pb.CONFIRMED, "failed": pb.FAILED}
TYPES = {
    "lock": pb.JOB_PAYMENT,
    "assign": pb.JOB_PAYMENT,
    "pay": pb.JOB_PAYMENT,
    "settle": pb.JOB_PAYMENT,
    "refund": pb.REFUND,
    "stake": pb.STAKE,
    "unstake": pb.UNSTAKE,
    "rewards": pb.REWARD_CLAIM,
}
REWARDS = frozenset({"pay", "settle"})


class WalletServicer(wallet_pb2_grpc.WalletServiceServicer):
    """Amounts are doubles of CYXWIZ, as the contract has them; exact ones are in `ClientService` and REST."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def ConnectWallet(self, request: pb.ConnectWalletRequest, context: Any) -> pb.ConnectWalletResponse:
        _ = caller().required
        try:
            parse_wallet(request.wallet_address)
        except CyxError as error:
            return pb.ConnectWalletResponse(
                status=common.STATUS_ERROR, message=error.message, wallet_address=request.wallet_address
            )
        return pb.ConnectWalletResponse(
            status=common.STATUS_SUCCESS,
            message="A valid wallet address",
            is_valid=True,
            wallet_address=request.wallet_address,
        )

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Any) -> pb.GetBalanceResponse:
        """`sol_balance` is that of the address on a chain; 0 where the ledger is none."""
        ledger = self._api.money.ledger
        account = await self._account(request.wallet_address, history=False)
        units, lamports = await ledger.balance(account), await ledger.lamports(account)
        return pb.GetBalanceResponse(
            status=common.STATUS_SUCCESS,
            sol_balance=(lamports or 0) / LAMPORTS_PER_SOL,
            cyxwiz_balance=units / UNITS_PER_CYXWIZ,
            token_mint=ledger.info.token_mint,
        )

    async def GetTransactionHistory(
        self, request: pb.GetTransactionHistoryRequest, context: Any
    ) -> pb.GetTransactionHistoryResponse:
        if not 0 <= request.limit <= MAX_LIMIT:
            raise invalid(f"limit: must be from 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}", field="limit")
        if request.offset < 0:
            raise invalid(f"offset: must be at least 0, not {request.offset}", field="offset")
        account = await self._account(request.wallet_address, history=True)
        actor, ledger = caller().required, self._api.money.ledger
        owner = actor.id if account == ledger.client_account(actor.id) else None
        query = MovementQuery(
            owner_id=owner, account=account, offset=request.offset, limit=request.limit or DEFAULT_LIMIT
        )
        found = await self._api.money.movements(query)
        return pb.GetTransactionHistoryResponse(
            status=common.STATUS_SUCCESS,
            transactions=[_transaction(each, account) for each in found.items],
            total_count=found.total,
        )

    async def EstimateJobCost(self, request: pb.EstimateJobCostRequest, context: Any) -> pb.EstimateJobCostResponse:
        _ = caller().required
        found = estimate_cost(request.model_type, request.epochs, request.dataset_size, request.node_tier)
        return pb.EstimateJobCostResponse(
            status=common.STATUS_SUCCESS,
            estimated_cost=found.cost,
            estimated_time_minutes=found.minutes,
            breakdown=found.breakdown,
        )

    async def _account(self, address: str, *, history: bool) -> str:
        return await account_of(self._api.money, self._api.wallets, caller().required, address, history=history)


def _transaction(item: Movement, account: str) -> pb.Transaction:
    """`job_id` is the number that the earlier system made of a job's id; the description has all of it. The amount of a
    refund is what came back, of a reward what reached the account; what else a payment's end gave back is in the
    description."""
    kind = TYPES.get(item.kind, pb.UNKNOWN)
    units, back = item.units, item.back_units / UNITS_PER_CYXWIZ
    what = f"{item.kind} for job {item.job_id}" if item.job_id else item.kind
    if item.kind in REWARDS and item.destination == account:
        kind, units = pb.REWARD_CLAIM, item.units - item.fee_units
    return pb.Transaction(
        signature=item.reference,
        type=kind,
        status=STATUSES[item.state],
        amount=back if kind == pb.REFUND else units / UNITS_PER_CYXWIZ,
        timestamp=seconds_to(item.at),
        description=f"{what}, {format_cyxwiz(item.back_units)} CYXWIZ given back" if back and item.units else what,
        job_id=_number(item.job_id),
    )


def _number(job_id: str) -> int:
    """What names a job on the earlier system's chain: the first 8 bytes of its id, little-endian; 0 for no job."""
    return int.from_bytes(uuid.UUID(job_id).bytes[:8], "little") if job_id else 0
