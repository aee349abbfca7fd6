"""Whether a cluster is the one that the settings describe, and what an operator has to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ledger.book import keep_to
from cyxwiz.ledger.rpc import JsonRpc
from cyxwiz.ports.store import Store

MINT_BYTES, DECIMALS_AT, DECIMALS = 82, 44, 9
LEAST_LAMPORTS = 20_000_000  # 0.02 SOL: the rents and fees of a few payments
KNOWN = {  # genesis hashes
    "mainnet-beta": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    "devnet": "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the settings say of a cluster.

    Args:
        name: how people know it, without an access key.
        platform: who pays fees and rents.
    """

    rpc: JsonRpc
    store: Store
    network: str
    name: str
    mint: Pubkey
    program: Pubkey
    platform: Pubkey

    async def check(self) -> None:
        """Raises INVALID or CONFLICT, with the setting that is wrong; UNAVAILABLE when the cluster does not answer."""
        await self._is_the_one()
        await self._has_mint()
        await self._has_program()

    async def check_payer(self) -> None:
        """Raises UNAVAILABLE when the platform can't pay fees and rents."""
        account = await self.rpc.account(self.platform)
        have = account.lamports if account is not None else 0
        if have < LEAST_LAMPORTS:
            raise CyxError(
                Code.UNAVAILABLE,
                f"the platform's key {self.platform} has {have / 1e9:.4f} SOL on {self.name} and needs at least "
                f"{LEAST_LAMPORTS / 1e9} for fees and rents: send it some (blockchain.payer_keypair_path)",
            )

    async def check_it_is_the_one(self) -> None:
        """Raises UNAVAILABLE while another chain answers: what is not there says nothing of what is on this one."""
        try:
            await self._is_the_one()
        except CyxError as error:
            raise CyxError(Code.UNAVAILABLE, error.message) from error

    async def _is_the_one(self) -> None:
        genesis = await self.rpc.genesis()
        other = next((network for network, known in KNOWN.items() if known == genesis), None)
        if other != (self.network if self.network in KNOWN else None):
            raise invalid(
                f"blockchain.solana_rpc_url: {self.name} is {other or 'another cluster'} (genesis {genesis}), and "
                f"blockchain.network is {self.network!r}: make the two agree"
            )
        await keep_to(self.store, genesis, f"blockchain.solana_rpc_url: {self.name} is a chain with genesis {genesis}")

    async def _has_mint(self) -> None:
        account = await self.rpc.account(self.mint)
        setting = f"blockchain.token_mint = {self.mint}"
        if account is None:
            raise invalid(f"{setting}: nothing is at this address on {self.name}: set the CYXWIZ mint of that cluster")
        if account.owner != TOKEN_PROGRAM or len(account.data) != MINT_BYTES:
            raise invalid(f"{setting}: is no mint of SPL Token on {self.name}: set the CYXWIZ mint of that cluster")
        decimals = bytes(account.data)[DECIMALS_AT]
        if decimals != DECIMALS:
            raise invalid(f"{setting}: has {decimals} decimals, CYXWIZ has {DECIMALS}: it is another token's mint")

    async def _has_program(self) -> None:
        account = await self.rpc.account(self.program)
        setting = f"blockchain.program_id = {self.program}"
        if account is None:
            raise invalid(
                f"{setting}: nothing is at this address on {self.name}: deploy the escrow program there "
                "(cyxwiz/ledger/programs/escrow.so), and set its address"
            )
        if not account.executable:
            raise invalid(f"{setting}: is no program on {self.name}: set the address that the escrow is deployed at")
