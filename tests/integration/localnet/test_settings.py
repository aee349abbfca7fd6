"""A ledger on a cluster by settings: what does not fit is one line that names the setting and says what to do."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from cyxwiz.app.money import open_ledger
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Config, ConfigError
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id
from cyxwiz.domain.payment import Movement, Payment, Step, Work
from cyxwiz.ledger.cluster import Cluster
from cyxwiz.ledger.keys import Key, save_key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.direct import caller
from cyxwiz.ledger.localnet.server import LocalnetServer
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Caller, JsonRpc
from cyxwiz.ports.ledger import Ledger
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.memory import MemoryStore
from tests.ledger import ADA, SOL, chain_with

UNITS = 1_000_000
DEVNET = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"


async def opened(
    stack: AsyncExitStack, chain: Chain, server: LocalnetServer, folder: Path, **changed: str
) -> Ledger | None:
    clock = SystemClock()
    store = MemoryStore(clock, LocalBus())
    stack.push_async_callback(store.aclose)
    if not (folder / "payer.json").exists():
        save_key(ADA, folder / "payer.json")
    section = {
        "network": "localnet",
        "solana_rpc_url": server.url,
        "payer_keypair_path": str(folder / "payer.json"),
        "token_mint": str(chain.genesis.mint),
        "program_id": str(local_id(Program.ESCROW)),
        **changed,
    }
    config = Config.model_validate({"ledger": {"backend": "solana"}, "blockchain": section})
    return await open_ledger(stack, config, store, clock, folder, local=False)


async def test_a_cluster_that_fits_is_taken(chain: Chain, server: LocalnetServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ledger = await opened(stack, chain, server, tmp_path)
        assert ledger is not None
        assert ledger.info.rpc_endpoint == server.url
        assert ledger.info.platform == str(ADA.pubkey)
        assert await ledger.balance(str(ADA.pubkey)) == 0


SOMEBODY = "GvkVN1U9Aaspuno6CYm9mXkvPCLj6zmvNAjxAf7MxMkc"  # a key, of nobody


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("token_mint", SOMEBODY, "nothing is at this address"),
        ("token_mint", str(ADA.pubkey), "is no mint of SPL Token"),
        ("token_mint", "rubbish", "must be an address"),
        ("program_id", SOMEBODY, "deploy the escrow program there"),
        ("program_id", str(ADA.pubkey), "is no program"),
        ("arbiter", "rubbish", "must be an address"),
        ("network", "devnet", "make the two agree"),
        ("solana_rpc_url", "ftp://127.0.0.1", "expected the http or https address"),
        ("payer_keypair_path", "/nowhere/none.json", "No such file"),
    ],
    ids=lambda value: "ada" if value == str(ADA.pubkey) else None,
)
async def test_what_does_not_fit_ends_the_start(
    chain: Chain, server: LocalnetServer, tmp_path: Path, setting: str, value: str, words: str
) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=words) as caught:
            await opened(stack, chain, server, tmp_path, **{setting: value})
        assert "\n" not in str(caught.value)
        assert f"blockchain.{setting}" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"), [("payer_keypair_path", "has 0.0000 SOL"), ("solana_rpc_url", "could not be asked")]
)
async def test_what_may_pass_is_a_warning(
    chain: Chain,
    server: LocalnetServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    words: str,
) -> None:
    save_key(Key.new(), tmp_path / "poor.json")
    value = {"payer_keypair_path": str(tmp_path / "poor.json"), "solana_rpc_url": "http://127.0.0.1:9"}[setting]
    async with AsyncExitStack() as stack:
        assert await opened(stack, chain, server, tmp_path, **{setting: value}) is not None
        (line,) = [each.message for each in caplog.records if each.message.startswith("money waits")]
        assert words in line


@pytest.mark.parametrize(
    ("network", "genesis", "words"),
    [
        ("localnet", SOMEBODY, "the money of this central's database is on the chain with genesis"),
        ("mainnet-beta", DEVNET, r"rpc\.example is devnet .* blockchain\.network is 'mainnet-beta'"),
        ("localnet", DEVNET, r"rpc\.example is devnet .* blockchain\.network is 'localnet'"),
    ],
)
async def test_a_chain_of_another_genesis_is_refused(chain: Chain, network: str, genesis: str, words: str) -> None:
    store = MemoryStore(SystemClock(), LocalBus())

    def cluster(network: str, call: Caller) -> Cluster:
        rpc = JsonRpc(call, mint=chain.genesis.mint, programs=[])
        program = local_id(Program.ESCROW)
        return Cluster(rpc, store, network, "rpc.example", chain.genesis.mint, program, ADA.pubkey)

    async def other(method: str, params: list[object]) -> object:
        assert method == "getGenesisHash", "nothing more is asked of a chain that is another"
        return genesis

    await cluster("localnet", caller(chain)).check()
    await store.write(lambda tx: tx.add_movement(Movement("r", "grant", 1, "a", "b", tx.now)))
    await cluster("localnet", caller(chain)).check()
    with pytest.raises(CyxError, match=words):
        await cluster(network, other).check()
    await store.aclose()


async def test_what_another_chain_does_not_have_has_not_ended(
    chain: Chain, server: LocalnetServer, tmp_path: Path
) -> None:
    await chain.airdrop(ADA.pubkey, SOL)
    clock, user = SystemClock(), UserId(new_id())
    node = str(Key.new().pubkey)
    async with AsyncExitStack() as stack:
        ledger = await opened(stack, chain, server, tmp_path)
        assert ledger is not None
        client = ledger.client_account(user)
        await chain.token_airdrop(Pubkey.from_string(client), UNITS)
        end = clock.now() + timedelta(days=3)
        payment = Payment(new_id(), JobId(new_id()), user, UNITS, 1000, client, 1.0, 60, clock.now(), end)
        work = Work(node, NodeId(new_id()), ended=True, cost_units=None, progress=0, attempt=1, running=False)
        await ledger.perform(payment, Step.LOCK, work)
        await server.stop(5.0)
        other = await chain_with(ADA)
        stack.push_async_callback(other.aclose)
        await other.advance(3600)  # so that it has seen what the ledger has seen
        wrong = LocalnetServer(other, port=server.port)
        await wrong.start()
        for step in (Step.REFUND, Step.SETTLE, Step.ASSIGN):
            with pytest.raises(CyxError, match="with genesis") as refused:
                await ledger.perform(payment, step, work)
            assert refused.value.code is Code.UNAVAILABLE
        await wrong.stop(5.0)
        right = LocalnetServer(chain, port=server.port)
        await right.start()
        stack.push_async_callback(right.stop, 5.0)
        done = await ledger.perform(payment, Step.REFUND, work)
        assert (done.paid_units, done.refunded_units) == (0, UNITS)
        assert await ledger.balance(client) == UNITS
