"""Tensor operations on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cyxwiz.domain.operation import Computed, Operation


class Kernels(Protocol):
    """Runs operations outside of this process."""

    async def run(self, caller: str, operations: Sequence[Operation]) -> Computed:
        """Runs operations that are in an order in which they can be run (`domain.operation.arrange`).

        A process never serves more than one caller. A call that is cancelled ends its operations.

        Raises:
            CyxError: INVALID for operations, tensors or parameters that are wrong; UNSUPPORTED for a kernel, a device
                or a type that this node does not have; EXHAUSTED when too many operations wait (retryable), or when
                they take more memory or bytes than they may (not retryable); TIMEOUT when they took too long;
                UNAVAILABLE when this node is stopping, is closed by its owner's limits or can start no process;
                INTERNAL when the process broke down.
        """
        ...
