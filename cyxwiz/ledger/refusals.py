"""Why a transaction was refused, from the JSON of its error: as a sentence, and as an error of ours.

A program's custom number means something only together with the program: the first program that the logs say failed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ledger.instructions.errors import ProgramError

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"  # noqa: S105  an address
SYSTEM_PROGRAM = "11111111111111111111111111111111"
_TOKEN_ERRORS = [
    "NotRentExempt",
    "InsufficientFunds",
    "InvalidMint",
    "MintMismatch",
    "OwnerMismatch",
    "FixedSupply",
    "AlreadyInUse",
    "InvalidNumberOfProvidedSigners",
    "InvalidNumberOfRequiredSigners",
    "UninitializedState",
    "NativeNotSupported",
    "NonNativeHasBalance",
    "InvalidInstruction",
    "InvalidState",
    "Overflow",
    "AuthorityTypeNotSupported",
    "MintCannotFreeze",
    "AccountFrozen",
    "MintDecimalsMismatch",
    "NonNativeNotSupported",
]
_SYSTEM_ERRORS = [
    "AccountAlreadyInUse",
    "ResultWithNegativeLamports",
    "InvalidProgramId",
    "InvalidAccountDataLength",
    "MaxSeedLengthExceeded",
    "AddressWithSeedMismatch",
    "NonceNoRecentBlockhashes",
    "NonceBlockhashNotExpired",
    "NonceUnexpectedBlockhashValue",
]
_FAILED = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) failed: ")
_SENTENCES = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
}
MAX_LOGS = 20


def describe(error: Any) -> str:
    """Solana's sentence for a transaction's error."""
    if isinstance(error, str):
        return _SENTENCES.get(error, _words(error))
    if isinstance(error, dict) and len(error) == 1:
        ((kind, inner),) = error.items()
        if kind == "InstructionError" and isinstance(inner, list) and len(inner) == 2:
            return f"Error processing Instruction {inner[0]}: {_instruction(inner[1])}"
        return f"{_words(kind)}: {inner}"
    return str(error)


def _instruction(error: Any) -> str:
    if isinstance(error, dict) and type(error.get("Custom")) is int:
        return f"custom program error: {error['Custom']:#x}"
    return _words(error) if isinstance(error, str) else str(error)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).lower()


def custom_error(error: Any) -> tuple[int, int] | None:
    """(instruction, number) of a program's own refusal."""
    inner = error.get("InstructionError") if isinstance(error, dict) else None
    if isinstance(inner, list) and len(inner) == 2 and isinstance(inner[1], dict):
        number = inner[1].get("Custom")
        return (inner[0], number) if type(number) is int else None
    return None


def refusal(error: Any, logs: Sequence[str] | None, programs: Collection[str]) -> CyxError:
    """The error for a transaction that was refused or failed.

    Args:
        error: as Solana writes it in JSON.
        logs: of its execution, if they are known.
        programs: ids of our programs, whose numbers are `ProgramError`.

    Returns:
        INVALID, with `program_error` in its details where a program refused; FUNDS when the payer or a source of
        tokens has too little, EXISTS when it was processed before, STALE when its blockhash is no longer good.
    """
    details: dict[str, Any] = {"error": error, "logs": list(logs or ())[-MAX_LOGS:]}
    if error == "AlreadyProcessed":
        return CyxError(Code.EXISTS, "the transaction was processed before: look its status up", details)
    if error == "BlockhashNotFound":
        return CyxError(Code.STALE, "the transaction's blockhash is no longer good: sign it anew", details)
    if error in ("AccountNotFound", "InsufficientFundsForFee") or _rent(error):
        return CyxError(Code.FUNDS, f"the transaction was refused: {describe(error)} Fund its payer with SOL", details)
    custom = custom_error(error)
    if custom is None:
        return invalid(f"the transaction was refused: {describe(error)}", **details)
    index, number = custom
    program = _failed_program(logs or ())
    name = _name(program, number, programs)
    details |= {"instruction": index, "number": number, "program": program, "program_error": name}
    known = {TOKEN_PROGRAM: "SPL Token", SYSTEM_PROGRAM: "the System program", None: "its program"}
    by = known.get(program, f"program {program}")
    said = f"instruction {index} was refused by {by}: {name or 'its error'} ({number})"
    if name in ("InsufficientFunds", "FUNDS"):
        return CyxError(Code.FUNDS, f"The balance is too low: {said}", details)
    return CyxError(Code.FUNDS if name == "ResultWithNegativeLamports" else Code.INVALID, said, details)


def _rent(error: Any) -> bool:
    return isinstance(error, dict) and "InsufficientFundsForRent" in error


def _failed_program(logs: Sequence[str]) -> str | None:
    """The innermost program that failed: it says so before those that called it."""
    for line in logs:
        if (match := _FAILED.match(line)) is not None:
            return match[1]
    return None


def _name(program: str | None, number: int, programs: Collection[str]) -> str | None:
    if program in programs:
        return ProgramError(number).name if number in set(ProgramError) else None
    table = {TOKEN_PROGRAM: _TOKEN_ERRORS, SYSTEM_PROGRAM: _SYSTEM_ERRORS}.get(program or "", [])
    return table[number] if 0 <= number < len(table) else None
