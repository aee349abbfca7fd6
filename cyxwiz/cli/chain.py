"""What a command does on a chain itself, with a key of the user's. Needs solders and solana."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from cyxwiz.config import Blockchain, ConfigError
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.ledger.keys import load_key
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.reclaim import reclaim
from cyxwiz.ledger.rpc import Connection, JsonRpc
from cyxwiz.runtime.clock import SystemClock


async def take_back(chain: Blockchain, keypair: Path, job: bytes) -> dict[str, Any]:
    """The document of what came back. Raises ConfigError for an address that is none, CyxError as `reclaim`."""
    local = chain.network == "localnet" and chain.program_id is None
    try:
        program = local_id(Program.ESCROW) if local else Pubkey.from_string(chain.program_id or "")
    except ValueError:
        raise ConfigError(f"blockchain.program_id = {chain.program_id!r}: must be 32 bytes in base58") from None
    key, connection = load_key(keypair), Connection(chain.solana_rpc_url)
    try:
        rpc = JsonRpc(connection.call, mint=Pubkey.default(), programs=[program])
        done = await reclaim(rpc, SystemClock(), program, key, job)
    finally:
        await connection.aclose()
    return {
        "escrow": str(done.escrow),
        "signature": str(done.signature),
        "taken_back": format_cyxwiz(done.units),
        "taken_back_units": done.units,
        "paid": format_cyxwiz(done.paid),
        "paid_units": done.paid,
    }
