"""Transactions of payments: recorded before they are sent, and never left in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from weakref import WeakValueDictionary

from solders.instruction import Instruction
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.payment import Movement, once_only
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sender import Failed, Intent, Landed, Sender, SendPolicy, Signed
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.sharing import Shared, apart
from cyxwiz.runtime.tasks import Tasks, spawn

Prepared = tuple[Sequence[Instruction], Sequence[Key]]
"""What is to happen, and who signs it; the first pays."""

PENDING, CONFIRMED, FAILED = "pending", "confirmed", "failed"
FARTHEST_BEHIND = timedelta(hours=1)  # that a node of the cluster is; it may have forgotten what landed before
KEPT_SLOTS = 10_000
TURNS = "sending"  # the scope of what is sent once: the right to sign one after so many others, given once
_LAMPORTS = "ResultWithNegativeLamports"  # how the System program refuses what an account has too little SOL for


def newest(moves: Sequence[Movement], kind: str) -> str:
    """The transaction of that kind that landed last."""
    landed = _landed(moves, kind)
    return landed.reference if landed is not None else ""


def _landed(moves: Sequence[Movement], kind: str) -> Movement | None:
    return next((each for each in reversed(moves) if each.kind == kind and each.state == CONFIRMED), None)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Units that a transaction moves: to the payee with the fee, of these the fee, and back to the client."""

    units: int = 0
    fee: int = 0
    back: int = 0


@dataclass(slots=True)
class Record:
    """What is recorded of a payment while a step of it is done.

    Args:
        moves: its movements, oldest first, none of them pending once `Send.resolve` is through.
        ended: of those, what is still to be stored: they ended meanwhile.
    """

    moves: list[Movement]
    ended: list[Movement] = field(default_factory=list[Movement])

    def end(self, movement: Movement) -> None:
        at = next((at for at, each in enumerate(self.moves) if each.reference == movement.reference), None)
        if at is None:
            self.moves.append(movement)
        else:
            self.moves[at] = movement
        self.ended.append(movement)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to land for a movement, and who signs it."""

    movement: Movement
    instructions: tuple[Instruction, ...]
    signers: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Sent:
    """What became of a transaction, whatever of it was signed. A `CyxError`: that is not known."""

    ended: Landed | Failed | CyxError
    tried: Sequence[Signed]
    shared: bool


class _Overtaken(CyxError):
    """Somebody else, such as another central, has signed for the same meanwhile."""


class Send:
    """Gets the transactions of payments onto the chain and keeps their record."""

    def __init__(self, store: Store, clock: Clock, rpc: Rpc, policy: SendPolicy) -> None:
        self._store = store
        self._clock = clock
        self._sender = Sender(rpc, clock, policy)
        # Sees to the end of what was signed, without signing anything new.
        self._finisher = Sender(rpc, clock, replace(policy, max_signings=1))
        self._rpc = rpc
        self._in_hand: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by payment
        # Intents that are recorded at one time are recorded in one unit.
        self._recording = Shared(apart(self._record_all), clock)
        self._boarding = Shared(apart(self._board), clock)
        self._tasks = Tasks()
        self._slots: dict[str, int] = {}  # by payment: in which its latest transaction landed

    async def resolve(self, payment_id: str) -> Sequence[Movement]:
        """Waits until nothing of a payment is in doubt: what was sent before a crash has landed or never will.

        Returns:
            Its movements, oldest first, none of them pending.

        Raises:
            CyxError: UNAVAILABLE when the cluster can't say.
        """
        record = Record(list(await self._store.read(lambda tx: tx.movements_of(payment_id))))
        try:
            await self.clear(record)
        finally:
            await self.keep(record)
        return record.moves

    async def clear(self, record: Record) -> None:
        """As `resolve`, for what was read already; it stores nothing."""
        for movement in list(record.moves):
            if movement.state != PENDING:
                continue
            signed = Signed(Signature.from_string(movement.reference), movement.raw, movement.last_height)
            ended = await self._finisher.send(Intent((), ()), record=_never, signed=[signed])
            self._saw(movement, ended)
            record.end(self._ended(movement, None if isinstance(ended, Landed) else ended.error.message))

    async def keep(self, record: Record) -> None:
        """Stores what has ended."""
        if ended := record.ended:
            await self._store.write(lambda tx: tx.save_movements(ended))

    async def prefetch(self) -> None:
        """Has at hand what `record` signs by."""
        if self._sender.signs_now:
            await self._sender.blockhash()

    def record(
        self, tx: Tx, movement: Movement, instructions: Sequence[Instruction], signers: Sequence[Key]
    ) -> Sequence[Movement]:
        """Signs a transaction and records it within a unit, where that needs nothing to be asked; else does nothing.
        The next `clear` of its payment sends it, as after a crash between the two."""
        signed = self._sender.sign_now(Intent(tuple(instructions), tuple(signers)))
        if signed is None:
            return ()
        made = _pending(movement, signed.signature, signed.raw, signed.last_valid_block_height)
        tx.add_movement(made)
        return (made,)

    async def seen(self, payment_id: str, moves: Sequence[Movement]) -> int:
        """The slot of a payment's latest transaction: who has not seen it says nothing about the payment. 0: any will.

        Args:
            moves: its movements, oldest first.

        Raises:
            CyxError: UNAVAILABLE when the cluster does not know a transaction that has landed lately.
        """
        if (known := self._slots.get(payment_id)) is not None:
            return known
        last = next((each for each in reversed(moves) if each.state == CONFIRMED), None)
        if last is None or self._clock.now() - (last.confirmed_at or last.at) > FARTHEST_BEHIND:
            return 0
        status = (await self._rpc.statuses([Signature.from_string(last.reference)])).found[0]
        if status is None:
            raise CyxError(Code.UNAVAILABLE, f"the cluster does not show transaction {last.reference} yet")
        return self._slots.setdefault(payment_id, status.slot)

    def _saw(self, movement: Movement, ended: Landed | Failed) -> None:
        if len(self._slots) > KEPT_SLOTS:
            self._slots.clear()
        if isinstance(ended, Landed):
            self._slots[movement.payment_id] = ended.slot

    async def land(
        self,
        movement: Movement,
        instructions: Sequence[Instruction],
        signers: Sequence[Key],
        record: Record | None = None,
        turn: int | None = None,
    ) -> str:
        """Sends one transaction until it is final; returns its signature. The first signer pays, a key of the
        platform's.

        Args:
            turn: how many transactions there were for it before, where nobody else may send one meanwhile.
            record: takes what became of it, for the caller to store, and lets it share a transaction with others; None:
                it is stored here, and is sent alone.

        Raises:
            CyxError: what it was refused with; UNAVAILABLE or TIMEOUT when it never landed, and UNAVAILABLE when the
                platform's SOL has run out.
        """
        wanted = _Wanted(movement, tuple(instructions), tuple(signers))
        results = record or Record([])
        sent = (
            await asyncio.shield(await self._boarding(wanted))
            if record is not None
            else await self._sent([wanted], turn)
        )
        self._conclude(wanted, sent, results)
        if isinstance(sent.ended, Failed) and sent.shared:
            # Whose fault it was is seen when each is alone. Nothing that all were in can land any more.
            sent = await self._sent([wanted])
            self._conclude(wanted, sent, results)
        if record is None:
            await self.keep(results)
        if isinstance(sent.ended, Landed):
            return str(sent.ended.signature)
        raise _of_the_platform(sent.ended.error if isinstance(sent.ended, Failed) else sent.ended)

    async def _board(self, asked: list[_Wanted]) -> Sequence[asyncio.Task[_Sent]]:
        """Has all of them sent, several in one transaction where there is room; each has the sending that it is in."""
        sendings: list[asyncio.Task[_Sent]] = []
        for load in list(_loads(asked)):  # all of them first: where one can't be laid out, none is on its way yet
            task = spawn(self._sent(load), name="send", group=self._tasks)
            sendings += [task] * len(load)
        return sendings

    async def _sent(self, load: Sequence[_Wanted], turn: int | None = None) -> _Sent:
        """Sends what is wanted of several in one transaction."""
        tried: list[Signed] = []

        async def keep(signature: Signature, raw: bytes, last_height: int) -> None:
            made = [_pending(each.movement, signature, raw, last_height) for each in load]
            if turn is None:
                await self._recording(made)
            else:
                await self._take_turn(made[0], turn + len(tried))
            tried.append(Signed(signature, raw, last_height))

        try:
            ended: Landed | Failed | CyxError = await self._sender.send(_together(load), record=keep)
        except CyxError as error:
            ended = error
        return _Sent(ended, tried, shared=len(load) > 1)

    def _conclude(self, wanted: _Wanted, sent: _Sent, record: Record) -> None:
        """Notes what became of each signing; what is still in doubt stays so, and is seen to at the next look."""
        if isinstance(sent.ended, CyxError):
            return
        self._saw(wanted.movement, sent.ended)
        landed = sent.ended.signature if isinstance(sent.ended, Landed) else None
        why = "another signing landed" if isinstance(sent.ended, Landed) else sent.ended.error.message
        why = f"shared with other payments: {why}" if sent.shared else why
        for made in sent.tried:
            moved = _pending(wanted.movement, made.signature, made.raw, made.last_valid_block_height)
            record.end(self._ended(moved, None if made.signature == landed else why))

    async def aclose(self) -> None:
        """What is still on its way is seen to after the next start."""
        await self._boarding.aclose()
        await self._tasks.aclose()
        await self._recording.aclose()

    async def _record_all(self, made: Sequence[Sequence[Movement]]) -> Sequence[None]:
        await self._store.write(lambda tx: tx.add_movements([each for group in made for each in group]))
        return [None] * len(made)

    async def _take_turn(self, made: Movement, turn: int) -> None:
        """Records a signing, unless somebody else has recorded one that was not known when this one was decided on."""

        def unit(tx: Tx) -> None:
            tx.remember(TURNS, f"{made.payment_id} {turn}", "", made.reference)
            tx.add_movement(made)

        try:
            await self._store.write(unit)
        except CyxError as error:
            if error.code is not Code.EXISTS:
                raise
            raise _Overtaken(Code.STALE, f"{made.payment_id} is being sent by another central") from None

    async def once(self, movement: Movement, prepare: Callable[[], Awaitable[Prepared]]) -> str:
        """As `land`, once a payment's id and kind, whoever asks how often, also at the same time, of several centrals
        on one store, and after a crash. Raises CONFLICT when another amount or destination is asked for than was done.

        Args:
            prepare: gives the instructions and who signs, if nothing has landed yet; what it raises ends it.
        """
        ident = movement.payment_id
        async with self._in_hand.setdefault(ident, asyncio.Lock()):
            while True:
                moves = await self.resolve(ident)
                if (done := _landed(moves, movement.kind)) is not None:
                    return once_only(done, movement)
                try:
                    instructions, signers = await prepare()
                    return await self.land(movement, instructions, signers, turn=len(moves))
                except _Overtaken:
                    continue
                except CyxError as error:
                    # Where somebody else did the same meanwhile, what it needed is gone.
                    if error.retryable or _landed(await self.resolve(ident), movement.kind) is None:
                        raise

    def _ended(self, movement: Movement, error: str | None) -> Movement:
        return replace(
            movement,
            state=CONFIRMED if error is None else FAILED,
            error=(error or "")[:500],
            confirmed_at=self._clock.now() if error is None else None,
            raw=b"",
        )


def _together(load: Sequence[_Wanted]) -> Intent:
    signers = dict.fromkeys(signer for each in load for signer in each.signers)
    return Intent(tuple(step for each in load for step in each.instructions), tuple(signers))


def _loads(asked: Sequence[_Wanted]) -> Iterable[Sequence[_Wanted]]:
    """What goes into one transaction each, in the order in which it was asked for; of a payment one thing at a time."""
    load: list[_Wanted] = []
    for each in asked:
        again = any(other.movement.payment_id == each.movement.payment_id for other in load)
        if load and (again or not _together([*load, each]).fits):
            yield load
            load = []
        load.append(each)
    if load:
        yield load


def _of_the_platform(error: CyxError) -> CyxError:
    """The error, told as the platform's where SOL is lacking: who asked lacks nothing, and may ask again."""
    if error.code is not Code.FUNDS or error.details.get("program_error", _LAMPORTS) != _LAMPORTS:
        return error
    return CyxError(Code.UNAVAILABLE, f"The platform's SOL has run out: {error.message}")


def _pending(movement: Movement, signature: Signature, raw: bytes, last_height: int) -> Movement:
    return replace(movement, reference=str(signature), state=PENDING, raw=raw, last_height=last_height)


async def _never(signature: Signature, raw: bytes, last_height: int) -> None:
    raise AssertionError("what is only finished is not signed anew")
