"""The earlier system's `/api/v1/blockchain/…`, from real data."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api
from cyxwiz.services.blockchain_api import Window
from cyxwiz.transports.rest.request import Operation

PREFIX = "/api/v1/blockchain"


def operations(api: Api) -> list[Operation]:
    refuses = (Code.UNSUPPORTED,)
    return [
        Operation(
            "GET",
            f"{PREFIX}/wallet",
            "The platform's account (admin)",
            "BlockchainWallet",
            api.blockchain_wallet,
            refuses=refuses,
        ),
        Operation(
            "GET",
            f"{PREFIX}/transactions",
            "Everybody's payments (admin)",
            "BlockchainTransactions",
            api.blockchain_transactions,
            query=Window,
            refuses=refuses,
        ),
        Operation(
            "GET",
            f"{PREFIX}/escrows",
            "What is locked for jobs, then for reservations (admin)",
            "BlockchainEscrows",
            api.blockchain_escrows,
            query=Window,
            refuses=refuses,
        ),
        Operation(
            "GET",
            f"{PREFIX}/stats",
            "Sums over all payments (admin)",
            "BlockchainStats",
            api.blockchain_stats,
            refuses=refuses,
        ),
        Operation(
            "GET", f"{PREFIX}/prices", "Prices in USD, where known (admin)", "BlockchainPrices", api.blockchain_prices
        ),
    ]
