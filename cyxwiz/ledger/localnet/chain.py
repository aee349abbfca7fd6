"""The chain: who is let in, in which order, and when it is durable.

A transaction that passed the checks is written to the journal together with all others that wait, and executed once
it is on the disk. So nothing that anybody reads can be lost, and what was answered is there after any end of the
process. While one group is being written the next one gathers.

There is one machine and no vote: what is executed is final, and all commitments are the same.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.ledger.localnet.genesis import FAUCET_LAMPORTS, Genesis, load_or_make_genesis, make_genesis
from cyxwiz.ledger.localnet.history import Details, History, Status
from cyxwiz.ledger.localnet.journal import FileJournal, Journal, NoJournal
from cyxwiz.ledger.localnet.timeline import SLOT_MS, VALID_SLOTS, Timeline
from cyxwiz.ledger.localnet.transactions import Keys, decode, signature_of
from cyxwiz.ledger.localnet.vm import Machine
from cyxwiz.ledger.programs import local_id
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.tasks import Tasks, spawn

MAX_AIRDROP_LAMPORTS = 10_000 * 10**9
MAX_ADVANCE_SECONDS = 10 * 365 * 86_400
AT_ONCE = 32  # transactions that are executed before others get their turn
_HEAD = struct.Struct("<BBQ")  # kind, flags, milliseconds since genesis


class Kind(IntEnum):
    """What a record of the journal is."""

    TRANSACTION = 1
    ADVANCE = 2  # the time is moved ahead by its milliseconds


class Flag(IntFlag):
    """How a transaction of the journal is executed, at each replay too."""

    TAKE_BACK = 1  # one that fails leaves nothing
    SLOTS = 2  # it may ask for the hashes of the latest slots; records of earlier versions may not


class Refused(Exception):
    """A transaction that was not taken.

    Args:
        error: as Solana writes it in JSON.
        logs, units: of its execution, if it got so far.
    """

    def __init__(self, error: Any, logs: Sequence[str] = (), units: int = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.logs = list(logs)
        self.units = units


class BadSignature(Exception):
    """A transaction with a signature that is not its signer's."""


@dataclass(slots=True)
class _Waiting:
    transaction: VersionedTransaction
    at_ms: int
    flags: Flag
    record: bytes
    done: asyncio.Future[Any]


class Chain:
    """Made by `open_chain`. Its methods belong to one event loop."""

    def __init__(self, genesis: Genesis, journal: Journal, clock: Clock, kept: int | None = None) -> None:
        self.genesis = genesis
        self._journal = journal
        self._clock = clock
        self.timeline = Timeline(genesis.hash, genesis.created_ms, clock)
        self._machine = Machine(self.timeline)
        self.history = History() if kept is None else History(kept)
        self._queue: list[_Waiting] = []
        self._in_flight: dict[Signature, asyncio.Future[Any]] = {}
        self._tasks = Tasks()
        self._draining: asyncio.Task[None] | None = None
        self._closed = False
        self._airdrops = 0
        self._watchers: list[Callable[[Signature, Details], None]] = []
        self._machine.endow(genesis.keys.faucet.pubkey, FAUCET_LAMPORTS)
        for program, body in genesis.programs.items():
            self._machine.deploy(local_id(program), body)

    # -- what it reads

    def slot(self) -> int:
        return self.timeline.slot()

    def latest_blockhash(self) -> tuple[Hash, int]:
        """The hash, and the last block height at which it is good."""
        slot = self.slot()
        return self.timeline.blockhash(slot), slot + VALID_SLOTS

    def account(self, address: Pubkey) -> Account | None:
        self._machine.show_time(self.timeline.now_ms())
        return self._machine.account(address)

    def owned_by(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        return self._machine.owned_by(program)

    def keys(self, transaction: VersionedTransaction) -> Keys:
        """The accounts that it names, also those of address tables."""
        return self._machine.keys(transaction)

    def rent(self, size: int) -> int:
        return self._machine.rent(size)

    async def status(self, signature: Signature) -> Status | None:
        """Where a transaction landed. One that was let in and is not executed yet is waited for, so that None for one
        whose blockhash is no longer good means that it never will land."""
        if (waiting := self._in_flight.get(signature)) is not None:
            await asyncio.wait({waiting})
        return self.history.status(signature)

    def lowest_prices(self, addresses: Iterable[Pubkey]) -> list[tuple[int, int]]:
        return self.history.lowest_prices(addresses, self.slot())

    def watch(self, told: Callable[[Signature, Details], None]) -> Callable[[], None]:
        """Has `told` called for all that lands from now on; the answer ends it."""
        self._watchers.append(told)
        return lambda: self._watchers.remove(told)

    def simulate(
        self, transaction: VersionedTransaction, *, verify: bool, any_blockhash: bool
    ) -> tuple[Any, TransactionMetadata, dict[Pubkey, Account]]:
        """The error or None, what it did, and the accounts as they would be.

        Raises:
            Refused: it would not get as far as being executed.
            BadSignature: with `verify`.
        """
        if verify and not all(transaction.verify_with_results()):
            raise BadSignature
        if not any_blockhash and self.timeline.slot_of(transaction.message.recent_blockhash) is None:
            raise Refused("BlockhashNotFound")
        return self._machine.simulate(transaction, self.timeline.now_ms())

    # -- what it takes

    async def submit(self, raw: bytes, *, preflight: bool = True) -> Signature:
        """Takes a signed transaction; returns when it is durable and executed.

        Args:
            preflight: one that fails is refused and leaves nothing; without it a failed one lands and pays its fee.

        Raises:
            CyxError: INVALID or UNSUPPORTED for what is no transaction; UNAVAILABLE when the disk refuses, or the
                chain is being closed.
            BadSignature: a signature does not fit.
            Refused: it was refused, and changed nothing. A repetition is refused with `preflight` only.
        """
        transaction = decode(raw)
        if not all(transaction.verify_with_results()):
            raise BadSignature
        return await self._take(transaction, take_back=preflight)

    async def _take(self, transaction: VersionedTransaction, *, take_back: bool) -> Signature:
        signature = signature_of(transaction)
        if (waiting := self._in_flight.get(signature)) is not None:
            await asyncio.shield(waiting)  # the same transaction: whatever becomes of that one
            return signature
        if self.history.status(signature) is not None:
            if take_back:
                raise Refused("AlreadyProcessed")
            return signature
        if self.timeline.slot_of(transaction.message.recent_blockhash) is None:
            raise Refused("BlockhashNotFound")
        at_ms = self.timeline.now_ms()
        waiting = self._enqueue_one(transaction, at_ms, Flag.SLOTS | (Flag.TAKE_BACK if take_back else 0))
        self._in_flight[signature] = waiting
        waiting.add_done_callback(lambda _: self._in_flight.pop(signature, None))
        await asyncio.shield(waiting)
        return signature

    def _enqueue_one(self, transaction: VersionedTransaction, at_ms: int, flags: Flag) -> asyncio.Future[Any]:
        record = _HEAD.pack(Kind.TRANSACTION, flags, at_ms) + bytes(transaction)
        return self._enqueue(record, transaction, at_ms, flags)

    def _enqueue(self, record: bytes, transaction: Any, at_ms: int, flags: Flag) -> asyncio.Future[Any]:
        if self._closed:
            raise CyxError(Code.UNAVAILABLE, "the local chain is being closed")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # A refusal that nobody waits for any longer is no fault of the program's.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._queue.append(_Waiting(transaction, at_ms, flags, record, done))
        if self._draining is None:
            self._draining = spawn(self._drain(), name="chain's journal", group=self._tasks)
        return done

    async def _drain(self) -> None:
        try:
            while self._queue:
                group, self._queue = self._queue, []
                await self._commit(group)
        finally:
            self._draining = None

    async def _commit(self, group: list[_Waiting]) -> None:
        try:
            await self._journal.commit([each.record for each in group])
        except Exception as error:
            for each in group:
                each.done.set_exception(error)
            if not isinstance(error, CyxError):
                raise
            return
        for number, each in enumerate(group, 1):
            try:
                self._perform(each)
            except Exception as error:
                each.done.set_exception(error)
            else:
                each.done.set_result(None)
            if number % AT_ONCE == 0:
                await self._clock.sleep(0)

    def _perform(self, each: _Waiting) -> None:
        if each.transaction is None:
            self.timeline.advance(each.at_ms)
        else:
            self._execute(each.transaction, each.at_ms, each.flags)

    def _execute(self, transaction: VersionedTransaction, at_ms: int, flags: Flag) -> None:
        """Raises `Refused` when it did not land."""
        take_back, slots = Flag.TAKE_BACK in flags, Flag.SLOTS in flags
        outcome = self._machine.execute(transaction, at_ms, take_back=take_back, slots=slots)
        if not outcome.landed:
            raise Refused(outcome.error, outcome.meta.logs(), outcome.meta.compute_units_consumed())
        signature = signature_of(transaction)
        self.history.add(transaction, at_ms // SLOT_MS, self.timeline.unix(at_ms), outcome)
        if self._watchers:
            details = self.history.details(signature)
            assert details is not None, "the latest one is kept"
            for told in list(self._watchers):
                told(signature, details)

    async def airdrop(self, to: Pubkey, lamports: int) -> Signature:
        """SOL from the faucet.

        Raises:
            CyxError: INVALID for an amount out of bounds.
            Refused: the faucet is empty, or the amount leaves `to` below the rent.
        """
        if not 0 < lamports <= MAX_AIRDROP_LAMPORTS:
            raise invalid(f"lamports: {lamports} is out of bounds (1 to {MAX_AIRDROP_LAMPORTS})", field="lamports")
        self._airdrops += 1
        blockhash, _ = self.latest_blockhash()
        return await self._take(self.genesis.airdrop(to, lamports, blockhash, self._airdrops), take_back=True)

    async def token_airdrop(self, owner: Pubkey, units: int) -> Signature:
        """New CYXWIZ for `owner`, in units.

        Raises:
            CyxError: INVALID for an amount out of bounds.
            Refused: the supply would pass 2^64-1.
        """
        if not 0 < units <= MAX_UNITS:
            raise invalid(f"units: {units} is out of bounds (1 to {MAX_UNITS})", field="units")
        self._airdrops += 1
        blockhash, _ = self.latest_blockhash()
        return await self._take(self.genesis.token_airdrop(owner, units, blockhash, self._airdrops), take_back=True)

    async def advance(self, seconds: int) -> int:
        """Moves the chain's time ahead, durably; the slot afterwards. Blockhashes go out of date as in a real wait.

        Raises:
            CyxError: INVALID for seconds out of bounds.
        """
        if not 0 < seconds <= MAX_ADVANCE_SECONDS:
            raise invalid(f"seconds: {seconds} is out of bounds (1 to {MAX_ADVANCE_SECONDS})", field="seconds")
        record = _HEAD.pack(Kind.ADVANCE, 0, seconds * 1000)
        await asyncio.shield(self._enqueue(record, None, seconds * 1000, Flag(0)))
        return self.slot()

    # -- its beginning and its end

    async def begin(self, records: Sequence[bytes]) -> None:
        """Replays the journal's records, or makes the first transactions when there are none.

        Raises:
            CyxError: INVALID when a record is none.
        """
        if not records:
            for transaction in self.genesis.first_transactions(self.timeline.blockhash(0), self._machine.rent):
                await self._enqueue_one(transaction, 0, Flag.SLOTS)
            return
        latest = 0
        for number, record in enumerate(records, 1):
            latest = max(latest, self._replay(number, record))
            if number % AT_ONCE == 0:
                await self._clock.sleep(0)
        self.timeline.not_before(latest)
        self._airdrops = len(records)  # past every number that was used

    def _replay(self, number: int, record: bytes) -> int:
        """Performs a record; the milliseconds since genesis that it was made at."""
        try:
            kind, flags, at_ms = _HEAD.unpack_from(record)
            if kind == Kind.ADVANCE:
                self.timeline.advance(at_ms)
                return 0
            if kind != Kind.TRANSACTION:
                raise invalid(f"kind {kind}")
            transaction = decode(record[_HEAD.size :])
        except (struct.error, CyxError) as error:
            raise invalid(f"record {number} of the local chain's log is none: {error}; start a new chain") from None
        try:
            self._execute(transaction, at_ms, Flag(flags))
        except Refused:
            return at_ms  # as it was then
        return at_ms

    async def aclose(self) -> None:
        """Waits for what was let in, and gives the directory free."""
        self._closed = True
        if self._draining is not None:
            await asyncio.wait({self._draining})
        await self._tasks.aclose()
        self._journal.close()


async def open_chain(directory: Path | None, clock: Clock, *, kept: int | None = None) -> Chain:
    """The chain in a directory, begun when it is empty; in memory only when None.

    Raises:
        CyxError: CONFLICT when another process has it, INVALID when its files are damaged, FORBIDDEN when its keys are
            open to others.
    """
    now_ms = round(clock.now().timestamp() * 1000)
    if directory is None:
        chain = Chain(make_genesis(now_ms), NoJournal(), clock, kept)
        await chain.begin([])
        return chain
    genesis = load_or_make_genesis(directory, now_ms)
    journal = FileJournal(directory / "chain.log")
    try:
        chain = Chain(genesis, journal, clock, kept)
        await chain.begin(journal.read())
    except BaseException:
        journal.close()
        raise
    return chain
