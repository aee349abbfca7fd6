"""The platform's money on a local chain in this process: real programs and signatures, no network."""

from __future__ import annotations

from cyxwiz.ledger.deployment import Deployment
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.sender import SendPolicy
from cyxwiz.ledger.sending import Send
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store

# One machine, and what it took is final: nothing has to be outbid, waited for or tried out first.
POLICY = SendPolicy(poll_seconds=0.02, floor=0, cap=0, simulate=False, finalized=False)


def local_ledger(chain: Chain, store: Store, clock: Clock, *, custody: bytes, welcome_units: int) -> SolanaLedger:
    """A ledger on `chain`, which it closes at its end. Its platform key is the genesis's."""
    keys = chain.genesis.keys
    deployment = Deployment(
        network="localnet",
        endpoint="in process",
        program=local_id(Program.ESCROW),
        mint=chain.genesis.mint,
        platform=keys.platform,
        arbiter=keys.judge.pubkey,
        custody=custody,
        staking=local_id(Program.STAKING),
        judge=keys.judge,
        faucet=chain.genesis.issue,
        welcome_units=welcome_units,
    )
    rpc = direct_rpc(chain)
    return SolanaLedger(store, clock, rpc, Send(store, clock, rpc, POLICY), deployment, chain.aclose)
