"""The seeded, timed challenge for one device: matrix products over filled memory, checked, and copies.

Blocks are n by n matrices of whole numbers in float32. Those with an even number have odd entries from -4095 to 4095,
the others entries from -1 to 1, and a product is of one of each. Its partial sums stay below 4096·n, which float32
holds exactly up to n = 4096; so every device that multiplies in float32 gets the same numbers, in whatever order it
adds. Entries of 12 bits don't fit into TF32, float16 or bfloat16: a device that takes a shortcut is caught. Memory is
filled with different blocks: block i is one of a few drawn ones with its rows rotated by i.

Products are checked by Freivalds' test (R. Freivalds, "Probabilistic machines can use less running time", 1977): for a
vector r drawn from 0 to 65535, the device's C·r must equal A·(B·r), which the host computes from the drawn blocks
alone. A wrong C passes with a chance of at most 2^-16. All sums stay below 2^53, so that the test is exact. Products
are timed in rounds; after a round one of its products, drawn then, is checked, outside of the timing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from cyxwiz.domain.errors import Code, CyxError

DRAWN = 4  # blocks drawn from the seed; even, so that rotated blocks keep their kind
WIDE = 2048  # entries 2·k + 1 for k from -WIDE to WIDE - 1
ANSWERED = 4  # rounds whose checked products make up the answer
FILL_SHARE = 0.3  # of the time, at most
PRODUCT_SHARE = 0.5  # of the time, checks included
LARGEST_R = 1 << 16
COPIES = 16  # of blocks that are timed together


@dataclass(frozen=True, slots=True)
class Shape:
    """n: rows of a block; round: products a round; fill: share of the free memory."""

    n: int
    round: int
    fill: float


CPU_SHAPE = Shape(1024, 1, 0.25)
GPU_SHAPE = Shape(4096, 8, 0.5)


@dataclass(frozen=True, slots=True)
class Result:
    device: str
    backend: str
    n: int
    filled_bytes: int
    products: int
    checked: int
    matrix_gflops: float  # 1e9 float32 operations a second; a product is 2·n^3
    memory_gb_per_second: float  # 1e9 bytes a second, read and written
    answer: str  # the same on every device for the same seed, n, round and release of NumPy, whose generator draws


class Backend(Protocol):
    """Arrays on one device. `product` and `copy` may return before they are done; `finish` waits."""

    name: str

    def free_bytes(self) -> int: ...
    def put(self, block: Any) -> Any: ...
    def rotated(self, block: Any, rows: int) -> Any: ...
    def product(self, a: Any, b: Any, out: Any) -> None: ...
    def copy(self, source: Any, target: Any) -> None: ...
    def finish(self) -> None: ...

    def times(self, block: Any, vector: Any) -> Any:
        """block · vector, in float64 and on the host."""
        ...


class NumpyBackend:
    """The processor, by NumPy."""

    def __init__(self, free_bytes: int) -> None:
        import numpy

        self._np = numpy
        self._free = free_bytes
        self.name = f"numpy {numpy.__version__}"

    def free_bytes(self) -> int:
        return self._free

    def put(self, block: Any) -> Any:
        return block.copy()

    def rotated(self, block: Any, rows: int) -> Any:
        return self._np.roll(block, rows, axis=0)

    def product(self, a: Any, b: Any, out: Any) -> None:
        self._np.matmul(a, b, out=out)

    def copy(self, source: Any, target: Any) -> None:
        self._np.copyto(target, source)

    def finish(self) -> None:
        pass

    def times(self, block: Any, vector: Any) -> Any:
        return block.astype(self._np.float64) @ vector


class TorchBackend:
    """A device by torch: cpu, cuda:0, mps."""

    def __init__(self, device: str, free_bytes: int) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._free = free_bytes
        self.name = f"torch {torch.__version__}"

    def free_bytes(self) -> int:
        if self._device.type == "cuda":
            return int(self._torch.cuda.mem_get_info(self._device)[0])
        return self._free

    def put(self, block: Any) -> Any:
        return self._torch.from_numpy(block).to(self._device, copy=True)

    def rotated(self, block: Any, rows: int) -> Any:
        return self._torch.roll(block, rows, 0)

    def product(self, a: Any, b: Any, out: Any) -> None:
        self._torch.matmul(a, b, out=out)

    def copy(self, source: Any, target: Any) -> None:
        target.copy_(source)

    def finish(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            self._torch.mps.synchronize()

    def times(self, block: Any, vector: Any) -> Any:
        if self._device.type == "mps":  # it has no float64
            return block.cpu().double().numpy() @ vector
        there = self._torch.from_numpy(vector).to(self._device)
        return (block.double() @ there).cpu().numpy()


def run(
    backend: Backend, device: str, seed: int, seconds: float, shape: Shape, clock: Callable[[], float] = perf_counter
) -> Result:
    """About `seconds` of work. Raises INTERNAL when the device computed wrongly, EXHAUSTED without room for a round."""
    import numpy

    draw = numpy.random.default_rng(seed)
    size = (shape.n, shape.n)
    drawn = [
        (draw.integers(-1, 2, size) if index % 2 else 2 * draw.integers(-WIDE, WIDE, size) + 1).astype(numpy.float32)
        for index in range(DRAWN)
    ]
    block_bytes = 4 * shape.n**2
    room = int(backend.free_bytes() * shape.fill) // block_bytes
    if room < DRAWN + shape.round:
        raise CyxError(
            Code.EXHAUSTED,
            f"{device}: {room * block_bytes} bytes may be filled, a round takes {(DRAWN + shape.round) * block_bytes}",
        )
    blocks = [backend.put(block) for block in drawn]
    outs = [backend.put(drawn[0]) for _ in range(shape.round)]
    began = clock()
    while len(blocks) + len(outs) < room and clock() - began < seconds * FILL_SHARE:
        index = len(blocks)
        blocks.append(backend.rotated(blocks[index % DRAWN], index))
        backend.finish()
    gflops, products, checked, answer = _products(backend, device, drawn, blocks, outs, draw, seconds, shape, clock)
    rate = _copies(backend, blocks, block_bytes, seconds * (1 - FILL_SHARE - PRODUCT_SHARE), clock)
    filled = (len(blocks) + len(outs)) * block_bytes
    return Result(device, backend.name, shape.n, filled, products, checked, gflops, rate, answer)


def _products(
    backend: Backend, device: str, drawn: list[Any], blocks: list[Any], outs: list[Any], draw: Any, seconds: float,
    shape: Shape, clock: Callable[[], float],
) -> tuple[float, int, int, str]:  # fmt: skip
    """(1e9 operations a second, products, checked products, answer)"""
    digest, spent, rounds = hashlib.sha256(), 0.0, 0
    backend.product(blocks[0], blocks[1], outs[0])  # loads what the first product loads
    backend.finish()
    began = clock()
    while rounds < ANSWERED or clock() - began < seconds * PRODUCT_SHARE:
        # The first rounds take the drawn blocks alone, so that the answer does not hang on how much was filled.
        most = DRAWN if rounds < ANSWERED else len(blocks)
        pairs = [(2 * int(a), 2 * int(b) + 1) for a, b in draw.integers(0, most // 2, (shape.round, 2))]
        start = clock()
        for (a, b), out in zip(pairs, outs, strict=True):
            backend.product(blocks[a], blocks[b], out)
        backend.finish()
        spent += clock() - start
        chosen = int(draw.integers(0, shape.round))
        vector = draw.integers(0, LARGEST_R, shape.n).astype("float64")
        told = backend.times(outs[chosen], vector)
        right = _times(drawn, pairs[chosen][0], _times(drawn, pairs[chosen][1], vector))
        if not (told == right).all():
            raise CyxError(Code.INTERNAL, f"{device} computes wrongly: a product of {shape.n} rows failed its check")
        if rounds < ANSWERED:
            digest.update(right.astype("int64").tobytes())
        rounds += 1
    products = rounds * shape.round
    return products * 2 * shape.n**3 / spent / 1e9, products, rounds, digest.hexdigest()


def _times(drawn: list[Any], index: int, vector: Any) -> Any:
    """block[index] · vector on the host, from the drawn block and the rotation."""
    import numpy

    base = drawn[index % DRAWN]
    parts = [base[at : at + 512].astype(numpy.float64) @ vector for at in range(0, len(base), 512)]
    found = numpy.concatenate(parts)
    return found if index < DRAWN else numpy.roll(found, index)


def _copies(backend: Backend, blocks: list[Any], block_bytes: int, seconds: float, clock: Callable[[], float]) -> float:
    """1e9 bytes a second over all that was filled, read and written bytes counted: the best group, as STREAM has it."""
    best, count, began = 0.0, 0, clock()
    while count < len(blocks) or clock() - began < seconds:
        start = clock()
        for _ in range(COPIES):
            # Far apart, so that neither side is still in a cache.
            backend.copy(blocks[count % len(blocks)], blocks[(count + len(blocks) // 2) % len(blocks)])
            count += 1
        backend.finish()
        best = max(best, 2 * block_bytes * COPIES / (clock() - start) / 1e9)
        if clock() - began > 2 * seconds + 1:
            break  # more memory was filled than can be copied in time
    return best
