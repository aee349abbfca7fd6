"""Running operations in this process: the child's work, without its channel."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cyxwiz.compute.kernels.backends import NAMES, Backend, backend
from cyxwiz.compute.kernels.kernel import SECTION, Call, Kernel, choice
from cyxwiz.compute.kernels.registry import find
from cyxwiz.domain.errors import Code, CyxError, invalid, unsupported
from cyxwiz.domain.operation import ELEMENT_BYTES, Computed, Operation, Output, Reference, Tensor

# Parameters that every operation has besides its kernel's.
KERNEL, BACKEND = "kernel", "backend"
_BACKEND = Kernel(lambda call: {}, (), parameters={BACKEND: choice("auto", *NAMES, default="auto")})


@dataclass(slots=True)
class _Value:
    """An output that was made, on its backend, and how many inputs still read it."""

    name: str
    array: Any
    home: Backend
    readers: int
    wanted: bool


def run(operations: Sequence[Operation], room_bytes: int) -> Computed:
    """Runs them in the given order; the outputs are those that none of them reads.

    Args:
        room_bytes: what one array may take, and all outputs together.
    Raises:
        CyxError: what is wrong, beginning with the operation's id where it has one.
    """
    reads = Counter(reference for each in operations for reference in each.references)
    values: dict[Reference, _Value] = {}
    began = time.perf_counter()
    for each in operations:
        try:
            made = _outputs(each, values, room_bytes)
        except CyxError as error:
            named = f"Operation {each.id!r}: " if each.id else ""
            raise CyxError(error.code, named + error.message, error.details, retryable=error.retryable) from error
        for number, (name, array, home) in enumerate(made):
            source = Reference(each.id, number)
            values[source] = _Value(name, array, home, reads[source], not reads[source])
        for read in each.references:
            values[read].readers -= 1
            if not values[read].readers:
                values[read].array = None
    wanted = {source: value for source, value in values.items() if value.wanted}
    outputs = tuple(Output(source, _tensor(value, room_bytes)) for source, value in wanted.items())
    seconds = time.perf_counter() - began
    total = sum(len(each.tensor.data) for each in outputs)
    if total > room_bytes:
        message = (
            f"The outputs take {total} bytes together; at most {room_bytes} are sent "
            f"({SECTION}.room_bytes of this node)."
        )
        raise CyxError(Code.EXHAUSTED, message, retryable=False)
    return Computed(outputs, seconds)


def _outputs(each: Operation, values: dict[Reference, _Value], room_bytes: int) -> list[tuple[str, Any, Backend]]:
    import numpy as np

    texts = dict(each.parameters)
    name, kernel = find(each.kind, texts.pop(KERNEL, None))
    chosen = _BACKEND.read({BACKEND: texts.pop(BACKEND)} if BACKEND in texts else {})[BACKEND]
    parameters = kernel.read(texts)
    sources = [_source(value, values) for value in each.inputs]
    shapes, dtypes = [_shape(one) for one in sources], [_dtype(one) for one in sources]
    kernel.check_inputs(shapes, dtypes)
    kernel.check(Call(None, (), shapes, dtypes, parameters, room_bytes))
    home = backend(chosen, each.device)
    work = kernel.run if home.name != "torch" else _by_torch(name, kernel)
    arrays = [_array(one, home, number) for number, one in enumerate(sources)]
    with np.errstate(all="ignore"):  # infinities and NaN are values like others
        made = work(Call(home.xp, arrays, shapes, dtypes, parameters, room_bytes))
    for what, array in made.items():
        if _type_name(array) not in ELEMENT_BYTES:
            raise CyxError(Code.INTERNAL, f"kernel {name} made {what} of type {_type_name(array)[:40]}.")
    return [(what, array, home) for what, array in made.items()]


def _by_torch(name: str, kernel: Kernel) -> Any:
    from cyxwiz.compute.kernels.with_torch import RUNS

    work = kernel.torch or RUNS.get(name)
    if work is None:
        raise unsupported(f"kernel {name} does not run on backend torch; numpy has it on the CPU, cupy on a GPU.")
    return work


def _source(value: Tensor | Reference, values: dict[Reference, _Value]) -> Tensor | _Value:
    if isinstance(value, Tensor):
        return value
    if value not in values:
        raise invalid(f"operation {value.operation!r} has no output number {value.output}.")
    return values[value]


def _shape(source: Tensor | _Value) -> tuple[int, ...]:
    return source.shape if isinstance(source, Tensor) else tuple(map(int, source.array.shape))


def _dtype(source: Tensor | _Value) -> str:
    return source.dtype if isinstance(source, Tensor) else _type_name(source.array)


def _type_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _array(source: Tensor | _Value, home: Backend, number: int) -> Any:
    """The input on that backend; one that was made there is not copied."""
    if isinstance(source, Tensor):
        return home.take(_host(source, number))
    return source.array if source.home is home else home.take(source.home.give(source.array))


def _host(tensor: Tensor, number: int) -> Any:
    import numpy as np

    data = tensor.data
    if tensor.compressed:
        data = _uncompressed(tensor, number)
    flat = np.frombuffer(data, np.dtype(tensor.dtype).newbyteorder("<")).astype(tensor.dtype, copy=False)
    return flat.reshape(tensor.shape)


def _uncompressed(tensor: Tensor, number: int) -> bytes:
    """Never makes more than one byte above what the shape says."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(tensor.data, tensor.nbytes + 1)
    except zlib.error as error:
        raise invalid(f"input {number} is no zlib stream: {error}.") from None
    if len(data) != tensor.nbytes or not stream.eof or stream.unused_data:
        raise invalid(f"input {number}: its zlib stream does not hold the {tensor.nbytes} bytes of its shape.")
    return data


def _tensor(value: _Value, room_bytes: int) -> Tensor:
    import numpy as np

    dtype, shape = _type_name(value.array), tuple(map(int, value.array.shape))
    Call(None, (), (), (), {}, room_bytes).fits(shape, dtype)
    host = np.ascontiguousarray(value.home.give(value.array), np.dtype(dtype).newbyteorder("<"))
    return Tensor(value.name, shape, dtype, host.tobytes())
