"""Matrix products."""

from __future__ import annotations

from cyxwiz.compute.kernels.kernel import NUMBERS, Call, Kernel, Outputs, Shape, flag
from cyxwiz.domain.errors import invalid


def _turned(shape: Shape, turn: bool, name: str) -> Shape:
    if not turn:
        return shape
    if len(shape) < 2:
        raise invalid(f"{name} of shape {list(shape)} can't be transposed: it has no two dimensions.")
    return (*shape[:-2], shape[-1], shape[-2])


def broadcast(first: Shape, second: Shape) -> Shape:
    """The shape of both together, as NumPy has it. Raises INVALID when they don't go together."""
    rank = max(len(first), len(second))
    one, two = (1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second
    if any(a != b and 1 not in (a, b) for a, b in zip(one, two, strict=True)):
        raise invalid(f"shapes {list(first)} and {list(second)} don't go together.")
    return tuple(max(a, b) for a, b in zip(one, two, strict=True))


def _check(call: Call) -> None:
    a = _turned(call.shapes[0], call["transpose_a"], "a")
    b = _turned(call.shapes[1], call["transpose_b"], "b")
    if not a or not b:
        raise invalid("a matrix product needs at least one dimension on both sides.")
    inner = b[max(0, len(b) - 2)]
    if a[-1] != inner:
        raise invalid(f"a of shape {list(a)} and b of shape {list(b)}: {a[-1]} columns meet {inner} rows.")
    made = (*broadcast(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
    if len(call.shapes) > 2:
        bias = call.shapes[2]
        call.need(made != () and bias == made[-1:], f"bias of shape {list(bias)} does not fit {list(made)}.")
    call.fits(made, call.dtypes[0])


def _run(call: Call) -> Outputs:
    a, b = call.inputs[:2]
    a = a.swapaxes(-1, -2) if call["transpose_a"] else a
    b = b.swapaxes(-1, -2) if call["transpose_b"] else b
    made = call.xp.matmul(a, b)
    return {"result": made + call.inputs[2] if len(call.inputs) > 2 else made}


KERNELS = {
    "matmul": Kernel(
        _run,
        ("a", "b"),
        _check,
        optional=("bias",),
        dtypes=NUMBERS,
        parameters={"transpose_a": flag(), "transpose_b": flag()},
        torch=_run,
    )
}
