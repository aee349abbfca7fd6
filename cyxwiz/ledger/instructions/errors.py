"""What a program answers when it refuses: programs/include/errors.h as an enum."""

from __future__ import annotations

from enum import IntEnum

from solders.transaction_status import (
    InstructionErrorCustom,
    TransactionErrorInstructionError,
)


class ProgramError(IntEnum):
    """The custom error numbers of all programs."""

    INSTRUCTION = 1
    ACCOUNT_COUNT = 2
    SIGNER = 3
    NOT_WRITABLE = 4
    OWNER = 5
    ADDRESS = 6
    MINT = 7
    TOKEN_ACCOUNT = 8
    PROGRAM = 9
    EXISTS = 10
    NOT_INITIALISED = 11
    DUPLICATE = 12
    ARGUMENT = 13
    OVERFLOW = 14
    STATE = 15
    TOO_EARLY = 16
    TOO_LATE = 17
    FROZEN = 18
    ALREADY = 19
    FUNDS = 20
    RATE = 21
    RENT = 22


def program_error(error: object) -> ProgramError | None:
    """The refusal in a transaction's error; None when it failed for another reason."""
    if isinstance(error, TransactionErrorInstructionError) and isinstance(error.err, InstructionErrorCustom):
        code = error.err.code
        return ProgramError(code) if code in set(ProgramError) else None
    return None
