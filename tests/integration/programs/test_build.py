"""The programs' build: reproducible, up to date, and clear about what it cannot link."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import TransactionMetadata

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger import programs as installed
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.programs import Program, binary, local_id
from programs import build as builder
from programs.linker import LinkError, link
from tests.soak import examples

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
U64 = 2**64 - 1


def test_the_binaries_are_those_of_the_sources_in_any_folder(tmp_path: Path) -> None:
    """Compiled in two folders with names of different lengths, byte for byte what is installed."""
    other = tmp_path / "somewhere else"
    shutil.copytree(builder.SOURCES, other)
    there = {path.name: path.read_bytes() for path in builder.TARGET.iterdir() if path.suffix in (".so", ".json")}
    assert builder.build() == there
    assert builder.build(other) == there


def test_every_program_is_built_and_its_manifest_is_true() -> None:
    assert {str(program) for program in Program} == set(builder.PROGRAMS)
    manifest = json.loads((builder.TARGET / "manifest.json").read_text())
    for program in Program:
        assert hashlib.sha256(binary(program)).hexdigest() == manifest[program]["binary_sha256"]
        assert builder.source_digest(program) == manifest[program]["source_sha256"]
    assert len({local_id(program) for program in Program}) == len(Program)


def test_a_changed_header_changes_the_digest_of_the_sources(tmp_path: Path) -> None:
    shutil.copytree(builder.SOURCES, tmp_path / "programs")
    header = tmp_path / "programs" / "include" / "arithmetic.h"
    header.write_text(header.read_text() + "\n")
    for program in Program:
        assert builder.source_digest(program, tmp_path / "programs") != builder.source_digest(program)


def test_a_damaged_binary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in builder.TARGET.iterdir():
        if path.suffix in (".so", ".json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(installed, "files", lambda _: tmp_path)
    assert binary(Program.ESCROW)[:4] == b"\x7fELF"
    body = bytearray((tmp_path / "escrow.so").read_bytes())
    body[300] ^= 1
    (tmp_path / "escrow.so").write_bytes(body)
    with pytest.raises(CyxError, match=r"escrow\.so has SHA-256") as caught:
        binary(Program.ESCROW)
    assert caught.value.code is Code.UNAVAILABLE
    (tmp_path / "escrow.so").unlink()
    with pytest.raises(CyxError, match="not in this installation"):
        binary(Program.ESCROW)


def test_the_error_numbers_are_those_of_the_header() -> None:
    header = (builder.SOURCES / "include" / "errors.h").read_text()
    numbers = {name: int(number) for name, number in re.findall(r"ERR_(\w+) = (\d+)", header)}
    assert numbers == {error.name: error.value for error in ProgramError}


# the page


def test_the_measured_compute_units_are_the_documented_ones() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gen_program_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_threat_names_tests_that_are_there() -> None:
    there = set()
    for path in HERE.glob("test_*.py"):
        there |= set(re.findall(r"^def (test_\w+)|^(Test\w+) = ", path.read_text(), re.MULTILINE))
    names = {name for pair in there for name in pair if name}
    rows = (ROOT / "docs" / "programs.md").read_text().split("## Threats")[1].split("##")[0].splitlines()
    threats = [row for row in rows if row.startswith("| ")][1:]
    assert len(threats) > 20
    for row in threats:
        named = re.findall(r"`(\w+)`", row.split("|")[3])
        assert named, row
        assert set(named) <= names, row


# the linker


def compiled(folder: Path, source: str) -> bytes:
    (folder / "program.c").write_text(source)
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *builder.FLAGS,
        "-Wno-error",
        "-c",
        "program.c",
        "-o",
        "program.o",
    ]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    subprocess.run(
        [*command, "-I", str(builder.SOURCES / "include")], cwd=folder, env={**os.environ, **caches}, check=True
    )
    return (folder / "program.o").read_bytes()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int counter = 3; int entrypoint(void) { return ++counter; }", r"\.data: 4 bytes of writable data"),
        ("int counter; int entrypoint(void) { return ++counter; }", r"\.bss: 4 bytes of writable data"),
        ("int helper(void) { return 0; }", "no function named entrypoint"),
        ("int abort(void); int entrypoint(void) { return abort(); }", "abort is neither defined nor a known syscall"),
        (
            (
                "static int one(void) { return 1; } static int two(void) { return 2; }"
                "int (*const all[])(void) = {one, two}; int entrypoint(int *at) { return all[*at](); }"
            ),
            "addresses in constant data|writable data",
        ),
        ("static int one(void) { return 1; } void *entrypoint(void) { return one; }", "is not one of constant data"),
    ],
    ids=["data", "bss", "no entry", "unknown syscall", "table of functions", "address of a function"],
)
def test_what_the_loader_has_no_place_for_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        link(compiled(tmp_path, source))


@pytest.mark.parametrize("body", [b"", b"\x7fELF", b"not an object at all" * 10, bytes(200)])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(LinkError, match="no ELF-64"):
        link(body)


def test_an_object_for_another_machine_is_refused(tmp_path: Path) -> None:
    body = bytearray(compiled(tmp_path, "int entrypoint(void) { return 0; }"))
    body[18:20] = (62).to_bytes(2, "little")
    with pytest.raises(LinkError, match="machine 62"):
        link(bytes(body))


def test_a_program_that_does_not_compile_says_why(tmp_path: Path) -> None:
    shutil.copytree(builder.SOURCES, tmp_path / "programs")
    (tmp_path / "programs" / "escrow" / "escrow.c").write_text("this is no C\n")
    with pytest.raises(LinkError, match=r"escrow/escrow\.c does not compile:\n.*error"):
        builder.compile_program("escrow", tmp_path / "programs")


# the arithmetic, on the machine


@pytest.fixture(scope="module")
def calculate(tmp_path_factory: pytest.TempPathFactory) -> object:
    program, payer = Pubkey(bytes([3]) * 32), Keypair.from_seed(bytes([4]) * 32)
    svm = LiteSVM()
    svm.add_program(program, link(compiled(tmp_path_factory.mktemp("arithmetic"), (HERE / "arithmetic.c").read_text())))
    svm.airdrop(payer.pubkey(), 10**12)

    def run(a: int, b: int, c: int) -> list[int | None]:
        """Results of a + b, a - b, floor(a * b / c) and a + b in 63 bits; None for an overflow."""
        svm.expire_blockhash()
        blockhash = svm.latest_blockhash()
        message = Message.new_with_blockhash(
            [Instruction(program, struct.pack("<3Q", a, b, c), [])], payer.pubkey(), blockhash
        )
        done = svm.send_transaction(Transaction([payer], message, blockhash))
        assert isinstance(done, TransactionMetadata)
        lines = [line.split(": ")[1].split(", ") for line in done.logs() if line.startswith("Program log: 0x")]
        rows = [[int(cell, 16) for cell in line] for line in lines]
        assert [row[0] for row in rows] == [0, 1, 2, 3]
        assert all(row[1] in (0, ProgramError.OVERFLOW) for row in rows)
        return [None if row[1] else row[2] for row in rows]

    return run


NUMBERS = st.one_of(st.integers(0, U64), st.integers(0, 20_000), st.integers(2**63 - 5, 2**63 + 5), st.just(U64))


@settings(max_examples=examples(150), derandomize=True)
@given(NUMBERS, NUMBERS, NUMBERS)
@example(U64, U64, U64)
@example(U64, U64, U64 - 1)
@example(U64, 2, 1)
@example(2**63, 2**63, 2**62)
@example(2**32 - 1, 2**32 + 1, 1)
@example(5, 7, 0)
def test_the_programs_arithmetic_is_exact_or_an_error(calculate, a: int, b: int, c: int) -> None:  # type: ignore[no-untyped-def]
    product = a * b // c if c else None
    expected = [
        a + b if a + b <= U64 else None,
        a - b if b <= a else None,
        product if product is not None and product <= U64 else None,
        a + b if a < 2**63 and a + b < 2**63 else None,
    ]
    assert calculate(a, b, c) == expected
