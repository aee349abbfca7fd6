"""The kernels that are asked for by name (OP_CUSTOM): norms, attention, search, transforms, and what joins others."""

from __future__ import annotations

import math
from typing import Any

from cyxwiz.compute.kernels.elementwise import AXIS, softmax
from cyxwiz.compute.kernels.kernel import ALL, NUMBERS, Call, Kernel, Outputs, flag, number, whole, wholes
from cyxwiz.compute.kernels.products import broadcast
from cyxwiz.domain.errors import invalid


def _same_size(call: Call) -> None:
    call.fits(call.shapes[0], call.dtypes[0])


def _along_axis(call: Call) -> None:
    call.axis(call["axis"], len(call.shapes[0]))
    _same_size(call)


def _softmax(call: Call) -> Outputs:
    return {"result": softmax(call.xp, call.inputs[0], call["axis"])}


# --- norms, over the last dimensions, as many as `weight` has, or the last alone


def _check_norm(call: Call) -> None:
    x = call.shapes[0]
    call.need(len(x) > 0, "a norm needs at least one dimension.")
    for name, shape in zip(("weight", "bias"), call.shapes[1:], strict=False):
        first = call.shapes[1]
        fits = 0 < len(shape) <= len(x) and x[-len(shape) :] == shape and shape == first
        call.need(fits, f"{name} of shape {list(shape)} does not fit x of shape {list(x)}.")
    _same_size(call)


def _norm_axes(call: Call) -> tuple[int, ...]:
    many = len(call.shapes[1]) if len(call.shapes) > 1 else 1
    return tuple(range(-many, 0))


def _layer_norm(call: Call) -> Outputs:
    x, axes = call.inputs[0], _norm_axes(call)
    low = x - x.mean(axes, keepdims=True)
    made = low / call.xp.sqrt((low * low).mean(axes, keepdims=True) + call["eps"])
    return {"result": _scaled(call, made)}


def _rms_norm(call: Call) -> Outputs:
    x, axes = call.inputs[0], _norm_axes(call)
    return {"result": _scaled(call, x / call.xp.sqrt((x * x).mean(axes, keepdims=True) + call["eps"]))}


def _scaled(call: Call, made: Any) -> Any:
    if len(call.inputs) > 1:
        made = made * call.inputs[1]
    return made + call.inputs[2] if len(call.inputs) > 2 else made


# --- attention (Vaswani et al. 2017)


def _check_attention(call: Call) -> None:
    query, key, value, *mask = call.shapes
    good = min(map(len, (query, key, value))) >= 2 and query[-1] == key[-1] and key[:-1] == value[:-1]
    good = good and query[:-2] == key[:-2]
    shapes = f"{list(query)}, {list(key)} and {list(value)}"
    call.need(good, f"attention takes query (…, L, D), key (…, S, D) and value (…, S, E), not {shapes}.")
    scores = (*query[:-1], key[-2])
    if mask:
        call.need(broadcast(scores, mask[0]) == scores, f"mask of shape {list(mask[0])} does not fit {list(scores)}.")
    call.fits(scores, call.dtypes[0], "The table of scores")
    call.fits((*query[:-1], value[-1]), call.dtypes[0])


def _attention(call: Call) -> Outputs:
    """softmax(query · keyᵀ · scale + mask) · value; `causal` hides from row i the keys after i."""
    xp, (query, key, value, *mask) = call.xp, call.inputs
    scale = 1 / math.sqrt(query.shape[-1]) if call["scale"] is None else call["scale"]
    scores = xp.matmul(query, key.swapaxes(-1, -2)) * scale
    if mask:
        scores = scores + mask[0]
    if call["causal"]:
        rows, columns = xp.arange(scores.shape[-2])[:, None], xp.arange(scores.shape[-1])
        scores = xp.where(columns <= rows, scores, -math.inf)
    return {"result": xp.matmul(softmax(xp, scores, -1), value)}


# --- search


def _check_top_k(call: Call) -> None:
    x = call.shapes[0]
    axis = call.axis(call["axis"], len(x))
    call.need(call["k"] <= x[axis], f"k is {call['k']}, but there are only {x[axis]} along axis {axis}.")
    call.fits(x, "int64", "The order")


def _top_k(call: Call) -> Outputs:
    """The k largest along an axis, the largest first, and where they are; of equal ones the first comes first."""
    xp, axis = call.xp, call["axis"]
    x = xp.moveaxis(call.inputs[0], axis, -1)
    last = x.shape[-1] - 1
    order = last - xp.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., : call["k"]]
    values = xp.take_along_axis(x, order, -1)
    return {"values": xp.moveaxis(values, -1, axis), "indices": xp.moveaxis(order.astype("int64"), -1, axis)}


def _check_cosine(call: Call) -> None:
    a, b = call.shapes
    fits = len(a) == len(b) == 2 and a[1] == b[1]
    call.need(fits, f"cosine_similarity takes rows (N, D) and (M, D), not {list(a)} and {list(b)}.")
    call.fits((a[0], b[0]), call.dtypes[0])


def _cosine(call: Call) -> Outputs:
    """Of each row of a with each row of b."""
    xp = call.xp
    a, b = (x / xp.maximum(xp.sqrt((x * x).sum(-1, keepdims=True)), call["eps"]) for x in call.inputs)
    return {"result": xp.matmul(a, b.T)}


# --- Fourier transform


def _check_fft(call: Call) -> None:
    call.need(len(set(call.shapes)) == 1, "real and imaginary must be of one shape.")
    call.axis(call["axis"], len(call.shapes[0]))
    call.fits((2, *call.shapes[0]), call.dtypes[0])


def _fft(call: Call) -> Outputs:
    """The discrete Fourier transform, unscaled; its inverse is divided by the length."""
    x = call.inputs[0] + 1j * call.inputs[1] if len(call.inputs) > 1 else call.inputs[0]
    transform = call.xp.fft.ifft if call["inverse"] else call.xp.fft.fft
    made = transform(x, axis=call["axis"])
    return {"real": made.real.astype(call.dtypes[0]), "imaginary": made.imag.astype(call.dtypes[0])}


# --- what joins others in a graph


def _check_both(call: Call) -> None:
    call.fits(broadcast(call.shapes[0], call.shapes[1]), call.dtypes[0])


def _check_reshape(call: Call) -> None:
    wanted, has = call["shape"], math.prod(call.shapes[0])
    call.need(wanted.count(-1) <= 1 and 0 not in wanted, "a shape has sizes above 0 and at most one -1.")
    known = math.prod(each for each in wanted if each != -1)
    fits = known == has or (-1 in wanted and has % known == 0)
    call.need(fits and len(wanted) <= 8, f"{has} elements can't take the shape {list(wanted)}.")
    _same_size(call)


def _check_transpose(call: Call) -> None:
    rank, axes = len(call.shapes[0]), call["axes"]
    fits = axes is None or sorted(axes) == list(range(rank))
    call.need(fits, f"axes must name each of the {rank} dimensions once, not {list(axes or ())}.")
    _same_size(call)


def _check_concat(call: Call) -> None:
    first, axis = call.shapes[0], call.axis(call["axis"], len(call.shapes[0]))
    for shape in call.shapes[1:]:
        fits = len(shape) == len(first) and all(a == b or n == axis for n, (a, b) in enumerate(zip(first, shape)))  # noqa: B905
        call.need(fits, f"shapes {list(first)} and {list(shape)} can't be joined along axis {axis}.")
    total = sum(shape[axis] for shape in call.shapes)
    call.fits((*first[:axis], total, *first[axis + 1 :]), call.dtypes[0])


def _check_embedding(call: Call) -> None:
    table, rows = call.shapes
    call.need(len(table) == 2, f"the table must be (rows, width), not of shape {list(table)}.")
    call.need(call.dtypes[1] in ("int32", "int64"), f"indices must be int32 or int64, not {call.dtypes[1]}.")
    call.need(len(rows) < 8, "indices must have fewer than 8 dimensions.")
    call.fits((*rows, table[1]), call.dtypes[0])


def _embedding(call: Call) -> Outputs:
    table, rows = call.inputs
    if bool(((rows < 0) | (rows >= table.shape[0])).any()):
        raise invalid(f"indices outside of 0 to {table.shape[0] - 1}.")
    return {"result": table[rows]}


_EPS = number(1e-5, above=0)

KERNELS = {
    "softmax": Kernel(_softmax, ("x",), _along_axis, parameters={"axis": AXIS}),
    "layer_norm": Kernel(_layer_norm, ("x",), _check_norm, optional=("weight", "bias"), parameters={"eps": _EPS}),
    "rms_norm": Kernel(_rms_norm, ("x",), _check_norm, optional=("weight",), parameters={"eps": _EPS}),
    "attention": Kernel(
        _attention,
        ("query", "key", "value"),
        _check_attention,
        optional=("mask",),
        parameters={"scale": number(None, above=0), "causal": flag()},  # type: ignore[arg-type]
    ),
    "top_k": Kernel(_top_k, ("x",), _check_top_k, dtypes=ALL, parameters={"k": whole(at_least=1), "axis": AXIS}),
    "cosine_similarity": Kernel(_cosine, ("a", "b"), _check_cosine, parameters={"eps": number(1e-8, above=0)}),
    "fft": Kernel(_fft, ("real",), _check_fft, optional=("imaginary",), parameters={"axis": AXIS, "inverse": flag()}),
    "add": Kernel(lambda call: {"result": call.inputs[0] + call.inputs[1]}, ("a", "b"), _check_both, dtypes=NUMBERS),
    "multiply": Kernel(
        lambda call: {"result": call.inputs[0] * call.inputs[1]}, ("a", "b"), _check_both, dtypes=NUMBERS
    ),
    "reshape": Kernel(
        lambda call: {"result": call.inputs[0].reshape(call["shape"])},
        ("x",),
        _check_reshape,
        dtypes=ALL,
        parameters={"shape": wholes(at_least=-1)},
    ),
    "transpose": Kernel(
        lambda call: {"result": call.inputs[0].transpose(call["axes"])},
        ("x",),
        _check_transpose,
        dtypes=ALL,
        parameters={"axes": wholes(None)},
    ),
    "concat": Kernel(
        lambda call: {"result": call.xp.concatenate(call.inputs, axis=call["axis"])},
        ("x1",),
        _check_concat,
        optional=tuple(f"x{place}" for place in range(2, 17)),
        dtypes=ALL,
        parameters={"axis": AXIS},
    ),
    "embedding": Kernel(_embedding, ("table", "indices"), _check_embedding, dtypes=ALL, mixed=True),
}
