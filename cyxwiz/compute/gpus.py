"""Which run has which of a node's GPUs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cyxwiz.domain.errors import Code, CyxError

if TYPE_CHECKING:
    from cyxwiz.compute.runs import Record


class Gpus:
    """Which GPU each run has.

    No two jobs that ask for a GPU have the same one. A job for any device takes the least used of those that nobody
    asked for, else the CPU; it stays there when a job that asks for a GPU finds no other, so that none fails for a
    guest. A gang's members need devices of one kind: those of a gang for any device take the CPU.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._owned: dict[int, Record] = {}
        self._shared: dict[Record, int] = {}

    def resize(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes

    def take(self, record: Record) -> str:
        """The run's device: cpu or cuda:<index>. Raises UNSUPPORTED, retryable elsewhere, when none is free."""
        assign = record.assign
        if assign.device in ("cpu", "any") and not assign.vram_bytes:
            open_to_all = [index for index in range(len(self._sizes)) if index not in self._owned]
            if assign.device == "cpu" or not open_to_all or assign.HasField("gang"):
                return "cpu"
            guests = Counter(self._shared.values())
            index = min(open_to_all, key=lambda each: (guests[each], each))
            self._shared[record] = index
            return f"cuda:{index}"
        free = [index for index in range(len(self._sizes)) if index not in self._owned]
        fitting = [index for index in free if self._sizes[index] >= assign.vram_bytes]
        if not fitting:
            raise CyxError(Code.UNSUPPORTED, f"This node has no free {assign.device} device that fits", retryable=True)
        guests = Counter(self._shared.values())
        index = min(fitting, key=lambda each: (self._sizes[each], guests[each]))  # as central reckons
        self._owned[index] = record
        return f"cuda:{index}"

    def release(self, record: Record) -> None:
        self._shared.pop(record, None)
        self._owned = {index: owner for index, owner in self._owned.items() if owner is not record}
