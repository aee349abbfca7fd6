"""Gets one transaction onto the chain, exactly once, whatever the network does meanwhile.

An intent may need several signings, since a blockhash is good for about a minute. Two signings of one intent could both
land, so a new one is made only when each earlier one is known never to land: the finalized block height has passed its
last valid one, and a node that had seen at least that block does not know it. Until then the same bytes are sent again.

What was signed is handed to `record` before it is sent anywhere. After a crash, `send` is called again with all that
was recorded, and goes on from there. `decide` has the whole of this judgement and no I/O.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ledger.refusals import refusal
from cyxwiz.ledger.rpc import MAX_STATUSES, Height, Rpc, Statuses
from cyxwiz.ports.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BYTES = 1232
SHARED_SECONDS = 0.4  # that a blockhash is used for all who sign
FRESH_SECONDS = 5.0  # that one is still taken for what is sent at once
LEAST_WAIT_SECONDS = 0.001  # what is left of a sum of times may be less than a clock can tell
EXPLANATIONS = 5  # times to ask for the logs of one that failed
_PASSING = frozenset({Code.UNAVAILABLE, Code.TIMEOUT, Code.EXHAUSTED, Code.INTERNAL})  # of an rpc: asked again later
_REFUSED = frozenset({Code.INVALID, Code.FUNDS, Code.UNSUPPORTED})


class Signer(Protocol):
    """A key that signs, such as `keys.Key`."""

    pubkey: Pubkey

    def sign(self, message: bytes) -> Signature: ...


@dataclass(frozen=True, slots=True)
class Intent:
    """What shall happen once.

    Args:
        signers: all keys that must sign; the first pays the fees.
        unit_limit: compute units that it may take; None leaves the cluster's own limit.
    """

    instructions: tuple[Instruction, ...]
    signers: tuple[Signer, ...]
    unit_limit: int | None = None

    def message(self, blockhash: Hash, price: int) -> Message:
        budget = [set_compute_unit_price(price)]
        if self.unit_limit is not None:
            budget.append(set_compute_unit_limit(self.unit_limit))
        return Message.new_with_blockhash([*budget, *self.instructions], self.signers[0].pubkey, blockhash)

    def sign(self, message: Message) -> VersionedTransaction:
        """Raises INVALID when a signer is missing, or the transaction is too long."""
        keys = {each.pubkey: each for each in self.signers}
        needed = message.account_keys[: message.header.num_required_signatures]
        missing = [str(each) for each in needed if each not in keys]
        if missing:
            raise invalid(f"the transaction must also be signed by {', '.join(missing)}")
        made = VersionedTransaction.populate(message, [keys[each].sign(bytes(message)) for each in needed])
        if len(bytes(made)) > MAX_BYTES:
            raise invalid(f"a transaction of {len(bytes(made))} bytes, at most {MAX_BYTES}: split it")
        return made

    @property
    def fits(self) -> bool:
        """Whether one transaction has room for it."""
        message = self.message(Hash.default(), 0)
        return len(bytes(message)) + 64 * message.header.num_required_signatures < MAX_BYTES

    def written(self) -> list[Pubkey]:
        """The accounts that it writes, whose fees it competes with."""
        found = {meta.pubkey for each in self.instructions for meta in each.accounts if meta.is_writable}
        return sorted(found | {self.signers[0].pubkey}, key=bytes)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction. It can land as long as the block height is at most the last valid one."""

    signature: Signature
    raw: bytes
    last_valid_block_height: int


@dataclass(frozen=True, slots=True)
class Landed:
    """It happened, in that slot, and stays."""

    signature: Signature
    slot: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not happen and will not by anything that was signed.

    Args:
        signature: of the one that landed and failed there; None when none landed.
    """

    error: CyxError
    signature: Signature | None = None


Record = Callable[[Signature, bytes, int], Awaitable[None]]
"""Keeps (signature, raw, last valid block height); it is durable when this returns."""


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """How it is sent.

    Args:
        rebroadcast_seconds: between two sendings of the same bytes.
        poll_seconds: between two looks at what became of it.
        call_seconds: that a call of the cluster may take.
        floor, cap: of the priority fee, micro-lamports for a compute unit. The fee is what lately got in, doubled with
            each signing.
        max_signings: after that many it fails with TIMEOUT.
        simulate: ask first whether it would succeed; one that would not fails then, and costs nothing.
        finalized: wait until it cannot be undone; else until two thirds of the cluster have voted for it.
    """

    rebroadcast_seconds: float = 2.0
    poll_seconds: float = 0.5
    call_seconds: float = 15.0
    floor: int = 1000
    cap: int = 1_000_000
    max_signings: int = 10
    simulate: bool = True
    finalized: bool = True

    def price(self, signings: int, recent: int) -> int:
        """The fee for the signing after that many."""
        return min(self.cap, max(self.floor, recent) << min(signings, 64))


@dataclass(frozen=True, slots=True)
class View:
    """What is known: the height first, then the statuses of all that was signed, in its order.

    Args:
        sent_at: when the newest was sent last, by the monotonic clock.
        refused: why the newest was not taken when it was sent last.
    """

    now: float
    height: Height | None = None
    statuses: Statuses | None = None
    sent_at: float | None = None
    refused: CyxError | None = None


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send the newest one."""

    signed: Signed


@dataclass(frozen=True, slots=True)
class SignAnew:
    """Nothing that was signed can land any more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after so long."""

    seconds: float


Action = Landed | Failed | Broadcast | SignAnew | Wait


def decide(signed: Sequence[Signed], view: View, policy: SendPolicy) -> Action:
    """What to do next. A landed error is given as `Failed` with Solana's JSON in its details."""
    found = view.statuses.found if view.statuses is not None else (None,) * len(signed)
    failed: Failed | None = None
    for each, status in zip(signed, found, strict=True):
        if status is None or not (status.finalized or (status.confirmed and not policy.finalized)):
            continue
        if status.error is None:
            return Landed(each.signature, status.slot)
        failed = Failed(refusal(status.error, None, ()), each.signature)
    open_ones = [
        each
        for each, status in zip(signed, found, strict=True)
        if not (failed and each.signature == failed.signature) and not (status is None and _is_dead(each, view))
    ]
    if not open_ones:
        return failed or _after_all(len(signed), view, policy)
    newest = signed[-1]
    passed = view.height is not None and view.height.block_height > newest.last_valid_block_height
    if newest not in open_ones or found[-1] is not None or passed:
        return Wait(policy.poll_seconds)
    if view.sent_at is None or view.now - view.sent_at >= policy.rebroadcast_seconds:
        return Broadcast(newest)
    left = max(LEAST_WAIT_SECONDS, view.sent_at + policy.rebroadcast_seconds - view.now)
    return Wait(min(policy.poll_seconds, left))


def _is_dead(each: Signed, view: View) -> bool:
    """Whether one without a status will never land: all blocks that could have it are final, and in the statuses."""
    if view.height is None or view.statuses is None:
        return False
    return view.height.block_height > each.last_valid_block_height and view.statuses.slot >= view.height.slot


def _after_all(signings: int, view: View, policy: SendPolicy) -> Action:
    if view.refused is not None:
        return Failed(view.refused)
    if signings >= policy.max_signings:
        error = CyxError(
            Code.TIMEOUT, f"none of {signings} signings landed: raise the cap of the priority fee, or wait"
        )
        return Failed(error)
    return SignAnew()


class Sender:
    """Sends intents over one cluster; each `send` is independent of the others."""

    def __init__(self, rpc: Rpc, clock: Clock, policy: SendPolicy | None = None) -> None:
        self._rpc = rpc
        self._clock = clock
        self._policy = policy or SendPolicy()
        self._latest: tuple[Hash, int] | None = None
        self._latest_at = 0.0

    async def send(self, intent: Intent, *, record: Record, signed: Sequence[Signed] = ()) -> Landed | Failed:
        """Sends it until it is final. It may be cancelled at any time, and called again with what was recorded.

        Args:
            record: is given each signing before it is sent. What it raises ends the sending.
            signed: all that was ever recorded for this intent, in its order.

        Raises:
            CyxError: INVALID for an intent that cannot be signed, or too many signings.
        """
        if len(signed) > MAX_STATUSES:
            raise invalid(f"{len(signed)} signings of one intent, at most {MAX_STATUSES}")
        made = list(signed)
        sent_at: float | None = None
        refused: CyxError | None = None
        while True:
            height, statuses = await self._look(made)
            view = View(self._clock.monotonic(), height, statuses, sent_at, refused)
            action = decide(made, view, self._policy)
            match action:
                case Landed():
                    return action
                case Failed():
                    return await self._explained(action)
                case SignAnew():
                    new = await self._sign(intent, made)
                    if isinstance(new, Failed):
                        return new
                    if new is None:
                        await self._clock.sleep(self._policy.poll_seconds)
                        continue
                    await record(new.signature, new.raw, new.last_valid_block_height)
                    made.append(new)
                    sent_at, refused = self._clock.monotonic(), await self._broadcast(new)
                case Broadcast():
                    sent_at, refused = self._clock.monotonic(), await self._broadcast(action.signed)
                case Wait():
                    await self._clock.sleep(action.seconds)

    async def _look(self, made: Sequence[Signed]) -> tuple[Height | None, Statuses | None]:
        """The height, and statuses of not before it where they matter."""
        if not made:
            return None, None
        signatures = [each.signature for each in made]
        statuses = await self._ask(lambda: self._rpc.statuses(signatures))
        if statuses is None:
            return None, None
        known = View(self._clock.monotonic(), statuses=statuses)
        if isinstance(decide(made, known, self._policy), (Landed, Failed)):
            return None, statuses
        height = await self._ask(self._rpc.height)
        if height is None or height.block_height <= made[-1].last_valid_block_height:
            return height, statuses
        return height, await self._ask(lambda: self._rpc.statuses(signatures))

    async def _sign(self, intent: Intent, made: Sequence[Signed]) -> Signed | Failed | None:
        """A new signing; `Failed` when it would not succeed; None when the cluster did not answer."""
        policy = self._policy
        recent: int | None = 0
        if policy.cap > policy.floor:
            recent = await self._ask(lambda: self._rpc.recent_priority_fee(intent.written()))
        if recent is None:
            return None
        price = policy.price(len(made), recent)
        if policy.simulate:
            message = intent.message(Hash.default(), price)
            unsigned = [Signature.default()] * message.header.num_required_signatures
            # Without its signatures: whoever has them could send it, and it is not recorded yet.
            answer = await self._ask(lambda: self._would(VersionedTransaction.populate(message, unsigned)))
            if answer is None:
                return None
            if answer[0] is not None:
                return Failed(answer[0])
        latest = await self.blockhash()
        if latest is None:
            return None
        blockhash, last = latest
        transaction = intent.sign(intent.message(blockhash, price))
        new = Signed(transaction.signatures[0], bytes(transaction), last)
        if any(each.signature == new.signature for each in made):
            return None  # a node that is far behind: its blockhash is over already
        return new

    @property
    def signs_now(self) -> bool:
        """Whether a blockhash is all that a signing needs: neither a fee to ask for, nor whether it would succeed."""
        return not self._policy.simulate and self._policy.cap <= self._policy.floor

    def sign_now(self, intent: Intent) -> Signed | None:
        """A first signing by the blockhash that is at hand, from any thread; None without one, and where it needs more.
        It is to be recorded, and sent by `send`.

        Raises:
            CyxError: INVALID for an intent that cannot be signed.
        """
        latest = self._latest
        if latest is None or not self.signs_now or self._clock.monotonic() - self._latest_at > FRESH_SECONDS:
            return None
        transaction = intent.sign(intent.message(latest[0], self._policy.price(0, 0)))
        return Signed(transaction.signatures[0], bytes(transaction), latest[1])

    async def blockhash(self) -> tuple[Hash, int] | None:
        """A recent blockhash; those who sign within a moment share it."""
        now = self._clock.monotonic()
        if self._latest is None or now - self._latest_at > SHARED_SECONDS:
            self._latest, self._latest_at = await self._ask(self._rpc.latest_blockhash), now
        return self._latest

    async def _explained(self, failed: Failed) -> Failed:
        """With what the logs of the one that landed say, if they can be had."""
        if (signature := failed.signature) is None:
            return failed
        for _ in range(EXPLANATIONS):
            why = await self._ask(lambda: self._rpc.failure(signature))
            if why is not None:
                return Failed(why, signature)
            await self._clock.sleep(self._policy.poll_seconds)
        return failed

    async def _would(self, transaction: VersionedTransaction) -> tuple[CyxError | None]:
        return (await self._rpc.simulate(transaction),)

    async def _broadcast(self, signed: Signed) -> CyxError | None:
        """Why it was not taken, if the cluster said so. It may land all the same, from an earlier sending."""
        try:
            async with asyncio.timeout(self._policy.call_seconds):
                await self._rpc.send(signed.raw)
        except TimeoutError:
            return None
        except CyxError as error:
            log.debug("%s was not taken: %s", signed.signature, error.message)
            return error if error.code in _REFUSED else None
        return None

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, or None when there is none for now."""
        try:
            async with asyncio.timeout(self._policy.call_seconds):
                return await call()
        except TimeoutError:
            return None
        except CyxError as error:
            if error.code not in _PASSING:
                raise
            log.debug("the cluster did not answer: %s", error.message)
            return None
