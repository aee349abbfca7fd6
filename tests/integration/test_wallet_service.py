"""`WalletService` of the wire contract, and the earlier system's `/api/v1/blockchain/…`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from solders.pubkey import Pubkey

from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.account import UserWallet
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.estimate import estimate_cost
from cyxwiz.domain.payment import Movement
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ports.store import Tx
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import wallet_pb2 as pb
from cyxwiz.protocol import wallet_pb2_grpc
from cyxwiz.runtime.clock import SystemClock
from tests import wiring
from tests.central import DIGITS, Central, central
from tests.integration.conftest import client, refused, submit
from tests.integration.test_receipts import settle
from tests.integration.test_rest import run_to_end

ADDRESS, FOREIGN = Keypair(b"\1" * 32).address, Keypair(b"\2" * 32).address


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "ledger.backend=credits", charged=True) as made:
        yield made


class Wallet:
    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._stub: Any = wallet_pb2_grpc.WalletServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def ask(self, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self._stub, method)(request, metadata=self._metadata)

    async def refused(self, method: str, **fields: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(method, **fields)
        return error.value.code()


async def test_connect_wallet_answers_in_band(house: Central) -> None:
    async with house.channel() as channel:
        wallet = Wallet(channel, house.key)
        good = await wallet.ask("ConnectWallet", wallet_address=ADDRESS)
        assert (good.status, good.is_valid, good.wallet_address) == (common.STATUS_SUCCESS, True, ADDRESS)
        for bad in ("", "0OIl", "1" * 20, ADDRESS + "1"):
            answer = await wallet.ask("ConnectWallet", wallet_address=bad)
            assert (answer.status, answer.is_valid) == (common.STATUS_ERROR, False)
            assert "wallet_address" in answer.message
        assert await Wallet(channel, "cyx_none").refused("ConnectWallet") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_balance_and_its_history_are_ones_own(house: Central) -> None:
    alice, key = await house.user("alice")
    await house.core.store.write(lambda tx: tx.add_wallet(UserWallet(ADDRESS, alice.id, tx.now)))
    job, _ = await house.core.api.submit(wiring_call(alice))
    async with house.channel() as channel:
        wallet, bob = Wallet(channel, key), Wallet(channel, (await house.user("bob"))[1])
        locked = job["estimated_cost_units"] / 10**9
        for address in ("", ADDRESS, f"user:{alice.id}"):
            balance = await wallet.ask("GetBalance", wallet_address=address)
            assert balance.cyxwiz_balance == pytest.approx(1000 - locked)
            assert (balance.sol_balance, balance.token_mint) == (0, "")
        found = await wallet.ask("GetTransactionHistory", wallet_address=ADDRESS)
        assert found.total_count == 2
        types = {each.type: each for each in found.transactions}
        assert set(types) == {pb.JOB_PAYMENT, pb.UNKNOWN}
        lock = types[pb.JOB_PAYMENT]
        assert (lock.status, lock.amount) == (pb.CONFIRMED, pytest.approx(locked))
        assert job["id"] in lock.description
        assert lock.job_id == int.from_bytes(uuid.UUID(job["id"]).bytes[:8], "little")
        assert len((await wallet.ask("GetTransactionHistory", limit=1, offset=1)).transactions) == 1
        payments = house.core.payments
        assert payments is not None
        await house.core.jobs.cancel(alice, job["id"])
        while await payments.drive(job["id"]):
            pass
        (back,) = [each for each in (await wallet.ask("GetTransactionHistory")).transactions if each.type == pb.REFUND]
        assert (back.amount, back.description) == (pytest.approx(locked), f"refund for job {job['id']}")
        for method in ("GetBalance", "GetTransactionHistory"):
            assert await wallet.refused(method, wallet_address="nonsense!") is grpc.StatusCode.INVALID_ARGUMENT
            assert await wallet.refused(method, wallet_address=FOREIGN) is grpc.StatusCode.PERMISSION_DENIED
            assert await bob.refused(method, wallet_address=ADDRESS) is grpc.StatusCode.PERMISSION_DENIED
        for bad in ({"limit": -1}, {"limit": 101}, {"offset": -1}):
            assert await wallet.refused("GetTransactionHistory", **bad) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_reward_is_what_reached_the_node(house: Central) -> None:
    """Whoever is paid for a node sees by what the balance grew: the fee went to the platform."""
    owner, key = await house.user("owner")

    def settled(tx: Tx) -> None:
        movement = Movement("settle:1", "settle", 999, "client", f"user:{owner.id}", tx.now, fee_units=99)
        tx.add_movement(movement)

    await house.core.store.write(settled)
    async with house.channel() as channel:
        history = await Wallet(channel, key).ask("GetTransactionHistory")
    (reward,) = [each for each in history.transactions if each.type == pb.REWARD_CLAIM]
    assert round(reward.amount * 10**9) == 900


def wiring_call(actor: Any) -> Any:
    from cyxwiz.services.call import Call

    return Call(actor, args=DIGITS)


HUGE = {"epochs": 2**31 - 1, "dataset_size": 2**31 - 1, "node_tier": "enterprise"}  # past 2^63 units


async def test_an_estimate_is_the_earlier_systems(house: Central) -> None:
    async with house.channel() as channel:
        wallet = Wallet(channel, house.key)
        known: dict[str, Any] = {"model_type": "MNIST", "epochs": 10, "dataset_size": 60000, "node_tier": "basic"}
        found = await wallet.ask("EstimateJobCost", **known)
        assert (found.estimated_cost, found.estimated_time_minutes) == (6.0, 60.0)
        assert "CYXWIZ" in found.breakdown
        for bad in ({"epochs": 0}, {"epochs": -1}, {"dataset_size": -1}, {"node_tier": "golden"}, HUGE):
            assert await wallet.refused("EstimateJobCost", **{**known, **bad}) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("model", "size", "tier", "cost"),
    [
        ("ResNet-18", 10_000, "premium", 1.5),
        ("gpt-2", 0, "enterprise", 2.0),
        ("BERT-Large", 20_000, "", 100.0),
        ("something", 10_000, "basic", 0.5),
    ],
)
def test_estimates(model: str, size: int, tier: str, cost: float) -> None:
    assert estimate_cost(model, 1, size, tier).cost == cost
    with pytest.raises(CyxError):
        estimate_cost(model, 0, size, tier)


async def test_without_a_ledger_there_is_no_balance(tmp_path: Path) -> None:
    async with central(tmp_path) as made, made.channel() as channel:
        assert await Wallet(channel, made.key).refused("GetBalance") is grpc.StatusCode.UNIMPLEMENTED


async def test_on_a_chain_a_balance_has_its_sol(tmp_path: Path) -> None:
    async with central(tmp_path, "ledger.backend=localnet", charged=True) as made, made.channel() as channel:
        wallet = Wallet(channel, (await made.user("alice"))[1])
        platform = made.core.api.money.ledger.info.platform
        assert (await wallet.ask("GetBalance", wallet_address=platform)).sol_balance > 0
        assert (await wallet.ask("GetBalance", wallet_address=FOREIGN)).sol_balance == 0


async def test_on_a_chain_the_platform_sees_what_it_pays_fees_with(tmp_path: Path) -> None:
    chain = await open_chain(None, SystemClock())
    made = await wiring.central(tmp_path, chain=chain)
    async with client(made, made.admin) as admin:
        wallet = (await admin.get("/api/v1/blockchain/wallet")).json()
    platform = chain.account(Pubkey.from_string(wallet["address"]))
    assert platform is not None
    assert wallet["sol_balance"] * 10**9 == pytest.approx(platform.lamports)
    assert wallet["sol_balance"] > 0
    await made.aclose()


async def test_the_platforms_money_is_shown_to_admins_as_it_is(tmp_path: Path) -> None:
    made = await wiring.central(tmp_path, charged=True)
    async with client(made, made.alice) as alice, client(made, made.admin) as admin:
        first, second = await submit(alice), await submit(alice)
        await run_to_end(made, first["id"])
        await settle(made)
        receipt = (await alice.get(f"/api/jobs/{first['id']}/receipt")).json()

        async def read(path: str) -> Any:
            refused(await alice.get(f"/api/v1/blockchain/{path}"), "FORBIDDEN")
            answer = await admin.get(f"/api/v1/blockchain/{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert await read("prices") == {"sol_price_usd": None, "cyxwiz_price_usd": None, "last_updated": None}
        wallet = await read("wallet")
        assert (wallet["cyxwiz_balance_units"], wallet["is_connected"]) == (receipt["platform_fee_units"], True)
        assert (wallet["cyxwiz_balance_usd"], wallet["sol_balance"]) == (None, None)
        ended = (await read("transactions?status=completed"))["transactions"]
        assert [(each["job_id"], each["node_reward"]) for each in ended] == [
            (first["id"], receipt["node_reward_units"])
        ]
        references = [each["reference"] for each in receipt["payments"][0]["transactions"]]
        assert [ended[0]["escrow_tx_hash"], ended[0]["completion_tx_hash"]] == references
        assert (await read("transactions?limit=1&offset=1"))["page"] == 2
        over = await read("escrows?status=completed")
        assert (over["escrows"], over["total"]) == ([], 0), "what has ended is no escrow any more"
        assert (await read("transactions?limit=1&page=2"))["transactions"] == (await read("transactions"))[
            "transactions"
        ][1:]
        for path in ("transactions", "escrows"):
            both = await admin.get(f"/api/v1/blockchain/{path}?page=1&offset=0")
            assert refused(both, "INVALID")["details"]["field"] == "offset"
        held = await read("escrows?limit=1&page=1")
        assert [held[name] for name in ("total", "page", "limit", "total_pages")] == [1, 1, 1, 1]
        assert (await read("escrows?limit=1&page=2"))["escrows"] == []
        assert [each["job_id"] for each in held["escrows"]] == [second["id"]]
        assert held["total_locked_lamports"] == second["estimated_cost_units"]
        stats = await read("stats")
        assert stats["total_volume_lamports"] == stats["volume_24h_lamports"] == receipt["paid_units"]
        assert stats["node_payouts_total"] + stats["platform_fees_collected"] == receipt["paid_units"]
        assert (stats["active_escrows_count"], stats["total_volume_usd"]) == (1, None)
        made.api.price_usd = 0.5
        assert (await read("stats"))["active_escrows_usd"] == round(second["estimated_cost_units"] / 2e9, 6)
    await made.aclose()
