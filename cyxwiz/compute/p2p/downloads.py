"""The chunks of a result's file, from any offset, each with the SHA-256 of its bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from cyxwiz.compute.p2p.live import Weights
from cyxwiz.domain.errors import CyxError, invalid, not_found
from cyxwiz.protocol import execution_pb2 as pb

CHUNK = 1 << 20
MAX_CHUNK = 16 << 20


async def chunks(weights: Weights, offset: int, size: int) -> AsyncIterator[pb.WeightsChunk]:
    """`offset` may be the file's size: then one empty last chunk says so. `size` 0 means 1 MiB.

    Raises:
        CyxError: INVALID for an offset or size out of bounds, NOT_FOUND when the file is gone.
    """
    if not 0 <= offset <= weights.size:
        raise invalid(f"offset: must be from 0 to {weights.size}, not {offset}", field="offset", bound=weights.size)
    if not 0 <= size <= MAX_CHUNK:
        raise invalid(f"chunk_size: must be from 0 (1 MiB) to {MAX_CHUNK}, not {size}", field="chunk_size")
    try:
        file = weights.path.open("rb")
    except OSError:
        raise _gone(weights) from None
    with file:
        file.seek(offset)
        while True:
            data = await asyncio.to_thread(file.read, min(size or CHUNK, weights.size - offset))
            if not data and offset < weights.size:
                raise _gone(weights)
            last = offset + len(data) == weights.size
            yield pb.WeightsChunk(
                data=data,
                offset=offset,
                total_size=weights.size,
                is_last_chunk=last,
                checksum=f"sha256:{hashlib.sha256(data).hexdigest()}",
            )
            if last:
                return
            offset += len(data)


def _gone(weights: Weights) -> CyxError:
    return not_found("weights", weights.path.name)
