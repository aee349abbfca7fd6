"""Wallet, payments and transactions by REST."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api
from cyxwiz.services.call import Paging
from cyxwiz.services.money_api import Account, Amount, Grant, PaymentList, TransactionList, Withdrawal
from cyxwiz.services.wallet_api import ReceiptList, WalletNonce, WalletProof
from cyxwiz.transports.rest.request import Access, Operation


def operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "GET",
            "/api/wallet",
            "Your account on the ledger, or another one that you may look at",
            "Wallet",
            api.get_wallet,
            query=Account,
            refuses=(Code.UNSUPPORTED, Code.FORBIDDEN),
        ),
        Operation(
            "GET",
            "/api/wallet/history",
            "What moved on it",
            "Transactions",
            api.list_transactions,
            query=TransactionList,
            refuses=(Code.UNSUPPORTED,),
        ),
        Operation(
            "POST",
            "/api/wallet/withdrawals",
            "Send of your balance to a wallet",
            "Withdrawn",
            api.withdraw_funds,
            body=Withdrawal,
            status=201,
            refuses=(Code.FUNDS, Code.UNSUPPORTED),
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
        Operation(
            "GET",
            "/api/receipts",
            "Your ended jobs with what they cost",
            "Receipts",
            api.list_receipts,
            query=ReceiptList,
        ),
        Operation(
            "GET",
            "/api/platform",
            "The platform's public key, by which receipts are checked",
            "Platform",
            api.get_platform,
            access=Access.ANYBODY,
        ),
        Operation(
            "POST",
            "/api/auth/wallet/nonce",
            "A message for a wallet to sign, good for 5 minutes",
            "WalletNonceMade",
            api.wallet_nonce,
            body=WalletNonce,
            access=Access.LOGIN,
        ),
        Operation(
            "POST",
            "/api/auth/wallet/login",
            "Tokens for a signed message",
            "Tokens",
            api.wallet_login,
            body=WalletProof,
            access=Access.LOGIN,
        ),
        Operation(
            "GET",
            "/api/wallet/links",
            "The wallets that are linked to you",
            "LinkedWallets",
            api.list_wallets,
            query=Paging,
        ),
        Operation(
            "POST",
            "/api/wallet/links",
            "Link a wallet to you, by a signed message",
            "LinkedWallet",
            api.link_wallet,
            body=WalletProof,
            status=201,
            refuses=(Code.EXISTS,),
        ),
        Operation("DELETE", "/api/wallet/links/{id}", "Unlink a wallet", "UnlinkedWallet", api.unlink_wallet),
    ]
