"""Where the platform is on a chain."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from cyxwiz.ledger.grants import Faucet
from cyxwiz.ledger.keys import Key


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the platform's programs and keys are on a cluster.

    Args:
        platform: pays fees and rents, and speaks for the platform in escrows.
        custody: the secret that users' prepaid keys are derived from.
        staking: the program that holds nodes' stakes.
        judge: decides appeals against slashes, where the platform has its key.
        faucet: makes new tokens for an owner, where the platform may.
    """

    network: str
    endpoint: str
    program: Pubkey
    mint: Pubkey
    platform: Key
    arbiter: Pubkey
    custody: bytes
    staking: Pubkey
    judge: Key | None = None
    faucet: Faucet | None = None
    welcome_units: int = 0
