"""Wallet, payments and transactions by REST."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api
from cyxwiz.services.call import Paging
from cyxwiz.services.money_api import Amount, Grant, PaymentList
from cyxwiz.transports.rest.request import Operation


def operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "GET", "/api/wallet", "Your account on the ledger", "Wallet", api.get_wallet, refuses=(Code.UNSUPPORTED,)
        ),
        Operation(
            "GET",
            "/api/wallet/history",
            "What moved on it",
            "Transactions",
            api.list_transactions,
            query=Paging,
            refuses=(Code.UNSUPPORTED,),
        ),
        Operation(
            "GET",
            "/api/payments",
            "The money of your jobs",
            "JobPayments",
            api.list_payments,
            query=PaymentList,
            refuses=(Code.UNSUPPORTED,),
        ),
        Operation(
            "POST",
            "/api/jobs/{id}/topup",
            "Lock more money for a job",
            "Job",
            api.top_up_job,
            body=Amount,
            refuses=(Code.FUNDS, Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            "/api/admin/grants",
            "Give a user money that the platform makes (admin)",
            "Granted",
            api.grant_funds,
            body=Grant,
            status=201,
            refuses=(Code.UNSUPPORTED,),
        ),
    ]
