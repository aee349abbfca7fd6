"""Which ledger holds the money."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cyxwiz.config import Config, ConfigError
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.stake import StakeRules
from cyxwiz.ledger.book import CREDITS, book_of, elsewhere, keep_to
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import MovementQuery, Store
from cyxwiz.services.secrets import Secrets, load_secrets

if TYPE_CHECKING:
    from cyxwiz.ledger.solana import SolanaLedger

log = logging.getLogger(__name__)
CHECK_SECONDS = 10.0  # that a start waits for a cluster
LOCALNET = "localnet"  # the chain's directory, within the data directory


async def open_ledger(
    stack: AsyncExitStack, config: Config, store: Store, clock: Clock, data_dir: Path, *, local: bool
) -> Ledger | None:
    """The ledger that the settings name, closed with `stack`; None charges nothing.

    Args:
        local: whether central and node are this one process, for which "auto" takes a chain of its own where
            solders is installed and the database is new.

    Raises:
        ConfigError: for settings of a chain that don't fit, or of another ledger than the database's money is in.
        CyxError: CONFLICT when the local chain's directory is in use.
    """
    backend = config.ledger.backend
    known = await book_of(store)
    if backend == "auto":
        backend = _usual(local and find_spec("solders") is not None, known)
    if backend == "none":
        return None
    welcome = parse_cyxwiz(config.ledger.welcome)
    if backend == "credits":
        from cyxwiz.ledger.credits import CreditsLedger

        await _keep_to(store, CREDITS, 'ledger.backend = "credits"')
        return CreditsLedger(store, welcome_units=welcome, stakes=stake_rules(config))
    if find_spec("solders") is None:
        raise ConfigError(
            f"ledger.backend = {backend!r} needs solders and solana: pip install 'cyxwiz[ledger]', or set \"credits\""
        )
    secrets = await load_secrets(store, config.auth)
    if backend == "solana":
        ledger = _cluster(config, store, clock, secrets)
        stack.push_async_callback(ledger.aclose)
        await _check(ledger)
        return ledger
    from solders.signature import Signature

    from cyxwiz.ledger.localnet.chain import open_chain
    from cyxwiz.ledger.localnet.genesis import holds_chain
    from cyxwiz.ledger.localnet.ledger import local_ledger

    place = data_dir / LOCALNET
    if known is not None and not holds_chain(place):  # not begun beside the money of another one
        raise ConfigError(elsewhere(known, f"There is no chain in {place}").message)
    chain = await open_chain(place, clock)
    ledger = local_ledger(chain, store, clock, custody=secrets.custody.encode(), welcome_units=welcome)
    stack.push_async_callback(ledger.aclose)
    genesis = str(chain.genesis.hash)
    await _keep_to(store, genesis, f"The chain in {place} has genesis {genesis}")
    latest = (await store.read(lambda tx: tx.movements(MovementQuery(state="confirmed", limit=1)))).items
    if latest and await chain.status(Signature.from_string(latest[0].reference)) is None:
        raise ConfigError(
            f"The chain in {place} is older than the database, which has transaction {latest[0].reference} of "
            f"{latest[0].at:%Y-%m-%d %H:%M:%S} UTC: restore both of one time"
        )
    return ledger


async def _keep_to(store: Store, book: str, what: str) -> None:
    try:
        await keep_to(store, book, what)
    except CyxError as error:
        if error.code is not Code.CONFLICT:
            raise
        raise ConfigError(error.message) from None


def _usual(chain_at_hand: bool, known: str | None) -> str:
    """What "auto" takes: the ledger that the database's money is in, whatever the role; of a new one, by the role."""
    if known is None:
        return "localnet" if chain_at_hand else "credits"
    return "credits" if known == CREDITS else "localnet"


def stake_rules(config: Config) -> StakeRules:
    """Of the platform's own books; a chain's are in its staking config."""
    return StakeRules(
        max(1, parse_cyxwiz(config.blockchain.minimum_stake)),
        timedelta(seconds=config.ledger.stake_cooldown_seconds),
        timedelta(seconds=config.ledger.stake_appeal_seconds),
        config.ledger.stake_reward_bps,
    )


async def _check(ledger: SolanaLedger) -> None:
    """Settings that can never work end the start; what may pass, such as a cluster that is away, is a warning."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await ledger.check()
    except TimeoutError:
        log.warning("blockchain.solana_rpc_url: no answer within %g s: money waits until there is one", CHECK_SECONDS)
    except CyxError as error:
        if error.code is not Code.UNAVAILABLE:
            raise ConfigError(error.message) from None
        log.warning("money waits: %s", error.message)


def _cluster(config: Config, store: Store, clock: Clock, secrets: Secrets) -> SolanaLedger:
    from solders.pubkey import Pubkey

    from cyxwiz.ledger.cluster import Cluster
    from cyxwiz.ledger.deployment import Deployment
    from cyxwiz.ledger.keys import load_key
    from cyxwiz.ledger.programs import Program, local_id
    from cyxwiz.ledger.rpc import Connection
    from cyxwiz.ledger.sender import SendPolicy
    from cyxwiz.ledger.sending import Send
    from cyxwiz.ledger.sharing import SharingRpc
    from cyxwiz.ledger.solana import SolanaLedger

    chain = config.blockchain

    def address(key: str, value: str | None, default: Pubkey | None = None) -> Pubkey:
        if value is None and default is not None:
            return default
        try:
            return Pubkey.from_string(value or "")
        except ValueError:
            raise ConfigError(f"blockchain.{key} = {value!r}: must be an address, 32 bytes in base58") from None

    local, scheme = chain.network == "localnet", chain.solana_rpc_url.partition(":")[0]
    try:
        platform = load_key(chain.payer_keypair_path.expanduser())
    except CyxError as error:
        raise ConfigError(f"blockchain.payer_keypair_path: {error.message}") from None
    mint = address("token_mint", chain.token_mint)
    program = address("program_id", chain.program_id, local_id(Program.ESCROW) if local else None)
    staking = address("staking_program_id", chain.staking_program_id, local_id(Program.STAKING))
    judge = chain.judge_keypair_path
    try:
        connection = Connection(chain.solana_rpc_url)
    except CyxError as error:
        raise ConfigError(f"blockchain.solana_rpc_url: {error.message}") from None
    rpc = SharingRpc(connection.call, clock, mint=mint, programs=[program, staking])

    async def close() -> None:
        await rpc.aclose()
        await connection.aclose()

    deployment = Deployment(
        network=chain.network,
        endpoint=f"{scheme}://{connection.name}",
        program=program,
        mint=mint,
        platform=platform,
        arbiter=address("arbiter", chain.arbiter, platform.pubkey),
        custody=secrets.custody.encode(),
        staking=staking,
        judge=load_key(judge.expanduser()) if judge else None,
    )
    cluster = Cluster(rpc, store, chain.network, connection.name, mint, program, platform.pubkey)
    send = Send(store, clock, rpc, SendPolicy())
    return SolanaLedger(store, clock, rpc, send, deployment, close, cluster)
