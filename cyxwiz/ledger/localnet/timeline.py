"""Slots, block heights and blockhashes of a local chain: functions of its clock.

A slot takes 400 ms and has one block, so block height and slot are the same number. The blockhash of a slot is SHA-256
of the genesis hash and the slot: nothing has to be stored for a hash to be valid after a restart. Nobody else makes
blocks here, so it need not be unpredictable.
"""

from __future__ import annotations

import hashlib

from solders.hash import Hash

from cyxwiz.ports.clock import Clock

SLOT_MS = 400
VALID_SLOTS = 150  # a blockhash is good in the slot that it is of and in this many after it
SLOTS_PER_EPOCH = 432_000


class Timeline:
    """The chain's time, in milliseconds since its genesis. It never goes back.

    Args:
        genesis_hash: what the blockhashes are made of.
        genesis_ms: the instant of slot 0, in milliseconds of Unix time.
        clock: read on each call.
    """

    def __init__(self, genesis_hash: Hash, genesis_ms: int, clock: Clock) -> None:
        self._genesis_hash = bytes(genesis_hash)
        self.genesis_ms = genesis_ms
        self._clock = clock
        self._wall_ms = round(clock.now().timestamp() * 1000)
        self._monotonic = clock.monotonic()
        self._ahead_ms = 0
        self._last_ms = 0
        self._slots: dict[bytes, int] = {}  # blockhash -> slot, of those that are valid
        self._known_until = -1

    def now_ms(self) -> int:
        """Since genesis. Follows the monotonic clock from the wall clock's instant at the start."""
        self._last_ms = max(self._last_ms, self._by_clock())
        return self._last_ms

    def _by_clock(self) -> int:
        passed = round((self._clock.monotonic() - self._monotonic) * 1000)
        return self._wall_ms + passed - self.genesis_ms + self._ahead_ms

    def advance(self, milliseconds: int) -> None:
        """Moves the chain's time ahead of the clock's."""
        self._ahead_ms += milliseconds

    def not_before(self, at_ms: int) -> None:
        """The time has been `at_ms` already: after a wall clock was set back the chain goes on from there."""
        self._ahead_ms += max(0, at_ms - self._by_clock())

    def slot(self) -> int:
        return self.now_ms() // SLOT_MS

    def unix(self, at_ms: int) -> int:
        """Unix time, in whole seconds."""
        return (self.genesis_ms + at_ms) // 1000

    def unix_of_slot(self, slot: int) -> int:
        return self.unix(slot * SLOT_MS)

    def blockhash(self, slot: int) -> Hash:
        return Hash(hashlib.sha256(self._genesis_hash + slot.to_bytes(8, "little")).digest())

    def slot_of(self, blockhash: Hash) -> int | None:
        """The slot of a blockhash; None when it is unknown or no longer valid."""
        now = self.slot()
        oldest = max(0, now - VALID_SLOTS)
        if now > self._known_until:
            for slot in range(max(oldest, self._known_until + 1), now + 1):
                self._slots[bytes(self.blockhash(slot))] = slot
            self._known_until = now
            if len(self._slots) > 4 * VALID_SLOTS:
                self._slots = {known: slot for known, slot in self._slots.items() if slot >= oldest}
        found = self._slots.get(bytes(blockhash))
        return found if found is not None and found >= oldest else None
