"""What a command does on a chain itself, with a key of the user's. Needs solders and solana."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from solders.pubkey import Pubkey

from cyxwiz.config import Blockchain, ConfigError
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.ledger.keys import load_key
from cyxwiz.ledger.parties import Outcome, Party
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Connection, JsonRpc
from cyxwiz.runtime.clock import SystemClock

Deed = Literal["reclaim", "dispute", "claim", "resolve"]


async def act(
    chain: Blockchain, keypair: Path, job: bytes, deed: Deed, *, client: str = "", units: int = 0
) -> dict[str, Any]:
    """The document of what a key's owner did to an escrow.

    Args:
        client: the address of who locked it; "" for the key itself.
        units: of `resolve`.

    Raises:
        ConfigError: for a program's address that is none.
        CyxError: INVALID for a client's that is none, others as `Party`.
    """
    program = _program(chain)
    key = load_key(keypair)
    try:
        owner = Pubkey.from_string(client) if client else key.pubkey
    except ValueError:
        raise invalid(f"client: {client[:60]!r} is no address: expected 32 bytes in base58", field="client") from None
    connection = Connection(chain.solana_rpc_url)
    try:
        rpc = JsonRpc(connection.call, mint=Pubkey.default(), programs=[program])
        party = Party(rpc, SystemClock(), program, key)
        escrow = await party.escrow(owner, job)
        match deed:
            case "reclaim":
                done = await party.reclaim(escrow)
            case "dispute":
                done = await party.dispute(escrow)
            case "claim":
                done = await party.claim(escrow)
            case "resolve":
                done = await party.resolve(escrow, units)
    finally:
        await connection.aclose()
    return _document(done)


def _program(chain: Blockchain) -> Pubkey:
    if chain.program_id is None:
        if chain.network == "localnet":
            return local_id(Program.ESCROW)
        raise ConfigError(
            f"blockchain.program_id is not set: name the escrow program of {chain.network}, which a quote and "
            "`cyxwiz wallet show` have as program_id (or set blockchain.network = localnet)"
        )
    try:
        return Pubkey.from_string(chain.program_id)
    except ValueError:
        raise ConfigError(f"blockchain.program_id = {chain.program_id!r}: must be 32 bytes in base58") from None


def _document(done: Outcome) -> dict[str, Any]:
    frozen = datetime.fromtimestamp(done.frozen_until, UTC).isoformat() if done.frozen_until else None
    return {
        "escrow": str(done.escrow),
        "signature": str(done.signature),
        "taken_back": format_cyxwiz(done.back),
        "taken_back_units": done.back,
        "paid": format_cyxwiz(done.paid),
        "paid_units": done.paid,
        "frozen_until": frozen,
    }
