"""One thing wrong with an instruction that would be taken: what is changed, and the refusal it must meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from solders.instruction import AccountMeta, Instruction

from cyxwiz.ledger.instructions.errors import ProgramError
from tests.integration.programs.chain import with_data

World = TypeVar("World")


@dataclass(frozen=True)
class Fault(Generic[World]):
    name: str
    error: ProgramError
    change: Callable[[World, Instruction], Instruction]


def longer(instruction: Instruction) -> Instruction:
    return with_data(instruction, bytes(instruction.data) + bytes(8))


def odd_length(instruction: Instruction) -> Instruction:
    return with_data(instruction, bytes(instruction.data) + b"\0")


def shorter(instruction: Instruction) -> Instruction:
    return with_data(instruction, bytes(instruction.data)[:-8])


def fewer(instruction: Instruction) -> Instruction:
    return Instruction(instruction.program_id, bytes(instruction.data), list(instruction.accounts)[:-1])


def more(instruction: Instruction) -> Instruction:
    """The last account once more: a duplicate that no instruction takes."""
    metas = list(instruction.accounts)
    return Instruction(instruction.program_id, bytes(instruction.data), [*metas, metas[-1]])


def too_many(instruction: Instruction) -> Instruction:
    metas: list[AccountMeta] = list(instruction.accounts)
    return Instruction(instruction.program_id, bytes(instruction.data), metas + metas[-1:] * 12)


def shape_faults() -> list[Fault[object]]:
    """What is wrong with data and number of accounts, for every instruction."""
    return [
        Fault("data too long", ProgramError.INSTRUCTION, lambda _, each: longer(each)),
        Fault("data of an odd length", ProgramError.INSTRUCTION, lambda _, each: odd_length(each)),
        Fault("data too short", ProgramError.INSTRUCTION, lambda _, each: shorter(each)),
        Fault(
            "unknown instruction",
            ProgramError.INSTRUCTION,
            lambda _, each: with_data(each, b"\xff" * 8 + bytes(each.data)[8:]),
        ),
        Fault("an account too few", ProgramError.ACCOUNT_COUNT, lambda _, each: fewer(each)),
        Fault("an account too many", ProgramError.ACCOUNT_COUNT, lambda _, each: more(each)),
        Fault("more accounts than any", ProgramError.ACCOUNT_COUNT, lambda _, each: too_many(each)),
    ]
