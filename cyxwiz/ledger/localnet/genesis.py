"""How a local chain begins: its keys, its programs, the CYXWIZ mint and the staking config.

A chain's directory (0700) holds genesis.json, the key files (0600), the programs that it runs and chain.log. The first
transactions are in the log like all others, and the programs are copies: a later version of this program replays the
chain as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.token import ID as TOKEN_PROGRAM
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.ledger.instructions import staking
from cyxwiz.ledger.keys import Key, load_or_make_key
from cyxwiz.ledger.programs import Program, binary, local_id
from cyxwiz.ledger.tokens import make_account, memo
from cyxwiz.runtime.files import make_private, sync_directory, write_private

log = logging.getLogger(__name__)

VERSION = 1
LAMPORTS_PER_SOL = 10**9
FAUCET_LAMPORTS = 500_000_000 * LAMPORTS_PER_SOL
PLATFORM_LAMPORTS = 10_000 * LAMPORTS_PER_SOL
DECIMALS = 9
MINT_SIZE = 82
STAKING_MINIMUM = 100 * UNITS_PER_CYXWIZ
STAKING_COOLDOWN_SECONDS = 3600
STAKING_APPEAL_SECONDS = 3600
STAKING_RATE_BPS = 500
_FILE = "genesis.json"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a local chain, each in a file of its name.

    Args:
        faucet: has the SOL that airdrops come from.
        mint: the address of the CYXWIZ mint.
        mint_authority: makes CYXWIZ.
        platform: the platform's; admin and slasher of the staking config.
        judge: decides appeals against slashes.
    """

    faucet: Key
    mint: Key
    mint_authority: Key
    platform: Key
    judge: Key


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a chain is made of.

    Args:
        created_ms: the instant of slot 0, in milliseconds of Unix time.
        programs: the binaries by name.
    """

    created_ms: int
    keys: Keys
    programs: dict[Program, bytes]

    @property
    def hash(self) -> Hash:
        parts = [self.created_ms.to_bytes(8, "little"), bytes(self.keys.faucet.pubkey), bytes(self.mint)]
        return Hash(hashlib.sha256(b"cyxwiz local chain" + b"".join(parts)).digest())

    @property
    def mint(self) -> Pubkey:
        return self.keys.mint.pubkey

    @property
    def staking_config(self) -> Pubkey:
        return staking.config_address(local_id(Program.STAKING), self.keys.platform.pubkey, self.mint)

    def first_transactions(self, blockhash: Hash, rent: Callable[[int], int]) -> list[VersionedTransaction]:
        """The mint, the platform's SOL, and the staking config."""
        keys = self.keys
        make = CreateAccountParams(
            from_pubkey=keys.faucet.pubkey,
            to_pubkey=self.mint,
            lamports=rent(MINT_SIZE),
            space=MINT_SIZE,
            owner=TOKEN_PROGRAM,
        )
        # SPL Token's InitializeMint2: decimals, the authority, and no authority that could freeze accounts.
        initialise = bytes([20, DECIMALS]) + bytes(keys.mint_authority.pubkey) + b"\0"
        fund = TransferParams(
            from_pubkey=keys.faucet.pubkey, to_pubkey=keys.platform.pubkey, lamports=PLATFORM_LAMPORTS
        )
        rules = staking.Rules(
            slasher=keys.platform.pubkey,
            judge=keys.judge.pubkey,
            minimum=STAKING_MINIMUM,
            cooldown=STAKING_COOLDOWN_SECONDS,
            appeal=STAKING_APPEAL_SECONDS,
            rate_bps=STAKING_RATE_BPS,
        )
        configure = staking.configure(
            local_id(Program.STAKING),
            rules,
            payer=keys.faucet.pubkey,
            admin=keys.platform.pubkey,
            mint=self.mint,
        )
        return [
            signed(
                [create_account(make), Instruction(TOKEN_PROGRAM, initialise, [AccountMeta(self.mint, False, True)])],
                [keys.faucet, keys.mint],
                blockhash,
            ),
            signed([transfer(fund)], [keys.faucet], blockhash),
            signed([configure], [keys.faucet, keys.platform], blockhash),
        ]

    def airdrop(self, to: Pubkey, lamports: int, blockhash: Hash, number: int) -> VersionedTransaction:
        """`number` tells two airdrops of one slot apart."""
        give = transfer(TransferParams(from_pubkey=self.keys.faucet.pubkey, to_pubkey=to, lamports=lamports))
        return signed([give, memo(f"airdrop {number}")], [self.keys.faucet], blockhash)

    def token_airdrop(self, owner: Pubkey, units: int, blockhash: Hash, number: int) -> VersionedTransaction:
        """New CYXWIZ for the owner. `number` tells two airdrops of one slot apart."""
        instructions, signers = self.issue(owner, units)
        return signed([*instructions, memo(f"airdrop {number}")], signers, blockhash)

    def issue(self, owner: Pubkey, units: int) -> tuple[Sequence[Instruction], Sequence[Key]]:
        """What makes new CYXWIZ in the owner's associated token account, which is made when it is not there, and who
        signs it; the first pays."""
        keys = self.keys
        accounts = [
            AccountMeta(self.mint, False, True),
            AccountMeta(get_associated_token_address(owner, self.mint), False, True),
            AccountMeta(keys.mint_authority.pubkey, True, False),
        ]
        mint_to = Instruction(TOKEN_PROGRAM, b"\x07" + units.to_bytes(8, "little"), accounts)
        return [make_account(keys.faucet.pubkey, owner, self.mint), mint_to], [keys.faucet, keys.mint_authority]


def signed(instructions: Sequence[Instruction], keys: Sequence[Key], blockhash: Hash) -> VersionedTransaction:
    """A legacy transaction; the first of `keys` pays."""
    message = Message.new_with_blockhash(list(instructions), keys[0].pubkey, blockhash)
    by_address = {key.pubkey: key for key in keys}
    needed = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction.populate(message, [by_address[each].sign(bytes(message)) for each in needed])


def make_genesis(now_ms: int) -> Genesis:
    """A genesis that is in memory only."""
    keys = Keys(Key.new(), Key.new(), Key.new(), Key.new(), Key.new())
    return Genesis(now_ms, keys, {program: binary(program) for program in Program})


def load_or_make_genesis(directory: Path, now_ms: int) -> Genesis:
    """The genesis of the chain in a directory, which is begun when it is empty.

    Raises:
        CyxError: INVALID when parts of it are missing or were changed; FORBIDDEN when a key file is open to others.
    """
    try:
        make_private(directory)
        path = directory / _FILE
        with _alone(directory):  # of two that begin at once one would run by a genesis that is not the file's
            if not path.exists():
                if (directory / "chain.log").exists():
                    raise invalid(f"{path} is missing beside a chain's log: restore it, or take an empty directory")
                _begin(directory, path, now_ms)
            return _load(directory, path)
    except OSError as error:
        raise invalid(f"{directory}: {error.strerror}; choose another --data-dir") from None


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Waits until no other process is here."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def holds_chain(directory: Path) -> bool:
    return (directory / _FILE).exists()


def _begin(directory: Path, path: Path, now_ms: int) -> None:
    _keys(directory)
    digests: dict[str, str] = {}
    for program in Program:
        body = binary(program)
        write_private(directory / f"{program}.so", body)
        digests[str(program)] = hashlib.sha256(body).hexdigest()
    # The last of all: a directory without it is begun again, with the keys that are there.
    write_private(path, json.dumps({"version": VERSION, "created_ms": now_ms, "programs": digests}, indent=2))
    sync_directory(directory)


def _keys(directory: Path) -> Keys:
    names = ("faucet", "mint", "mint-authority", "platform", "judge")
    return Keys(*(load_or_make_key(directory / f"{name}.json") for name in names))


def _load(directory: Path, path: Path) -> Genesis:
    try:
        document = json.loads(path.read_bytes())
        version, created_ms = int(document["version"]), int(document["created_ms"])
        digests = {Program(name): str(digest) for name, digest in document["programs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise invalid(f"{path}: is not what `cyxwiz localnet` wrote: restore it, or take an empty directory") from None
    if version != VERSION:
        raise invalid(f"{path}: version {version}, this program reads {VERSION}: take an empty directory")
    for name in ("faucet", "mint", "mint-authority", "platform", "judge"):
        if not (directory / f"{name}.json").exists():
            raise invalid(f"{directory / name}.json is missing: restore it, or take an empty directory")
    programs: dict[Program, bytes] = {}
    for program, digest in digests.items():
        file = directory / f"{program}.so"
        body = file.read_bytes()
        if hashlib.sha256(body).hexdigest() != digest:
            raise invalid(f"{file}: is not the program that this chain began with: restore it from a backup")
        if body != binary(program):
            log.warning("%s: the chain runs an earlier %s program; a new directory would run today's", file, program)
        programs[program] = body
    return Genesis(created_ms, _keys(directory), programs)
