"""What slides over pictures: convolution, pooling, and the columns that a convolution multiplies.

Pictures are (N, C, H, W), or (N, H, W, C) with `layout` NHWC; the weights of a convolution are (O, C / groups, kernel
height, kernel width) in both.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cyxwiz.compute.kernels.kernel import Call, Kernel, Outputs, Shape, choice, either, flag, pair, whole
from cyxwiz.domain.errors import invalid

_COLUMN_BYTES = 64 << 20  # of columns that are made at a time
_LAYOUT = choice("NCHW", "NHWC", default="NCHW")
_WINDOW = {"stride": pair((1, 1), at_least=1), "dilation": pair((1, 1), at_least=1), "layout": _LAYOUT}
_PADDING = either(pair((0, 0)), choice("same", "valid"))


class Slide(NamedTuple):
    """How a window goes over a picture; each entry for rows and columns. `before` and `after` are the padding."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape
    after: Shape
    out: Shape


def first_channels(shape: Shape, layout: str) -> Shape:
    """The shape as (N, C, H, W). Raises INVALID when it has not four dimensions."""
    if len(shape) != 4:
        raise invalid(f"pictures must be of four dimensions ({layout}), not of shape {list(shape)}.")
    return shape if layout == "NCHW" else (shape[0], shape[3], shape[1], shape[2])


def slide_of(size: Shape, kernel: Shape, call: Call) -> Slide:
    """The window's way over a picture of that height and width. Raises INVALID when it does not fit in."""
    stride, padding = call["stride"], call["padding"]
    dilation = call.parameters.get("dilation", (1, 1))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "same":  # as many places as the picture has, by the stride; an odd one is added behind
        total = [max(0, (-(-n // s) - 1) * s + r - n) for n, s, r in zip(size, stride, reach, strict=True)]
        before = tuple(each // 2 for each in total)
        after = tuple(each - first for each, first in zip(total, before, strict=True))
    else:
        before = after = (0, 0) if padding == "valid" else padding
    room = [n + b + a - r for n, b, a, r in zip(size, before, after, reach, strict=True)]
    if min(room) < 0:
        raise invalid(f"a window of {reach[0]} x {reach[1]} does not fit into {size[0]} x {size[1]} with its padding.")
    out = tuple(each // s + 1 for each, s in zip(room, stride, strict=True))
    return Slide(kernel, stride, dilation, before, after, out)


def padded(xp: Any, x: Any, slide: Slide, value: float = 0.0) -> Any:
    """The pictures (N, C, H, W) with their padding."""
    around = tuple(zip(slide.before, slide.after, strict=True))
    return xp.pad(x, ((0, 0), (0, 0), *around), constant_values=value) if any(map(any, around)) else x


def windows(xp: Any, x: Any, slide: Slide) -> Any:
    """A view (N, C, OH, OW, KH, KW) of padded pictures: what the window sees at each place."""
    reach = tuple((k - 1) * d + 1 for k, d in zip(slide.kernel, slide.dilation, strict=True))
    every = xp.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    (sh, sw), (dh, dw) = slide.stride, slide.dilation
    return every[:, :, ::sh, ::sw, ::dh, ::dw]


def _channels_first(x: Any, call: Call) -> Any:
    return x if call["layout"] == "NCHW" else x.transpose(0, 3, 1, 2)


def _channels_last(x: Any, call: Call) -> Any:
    return x if call["layout"] == "NCHW" else x.transpose(0, 2, 3, 1)


# --- convolution


def _fits_padded(call: Call, pictures: Shape, slide: Slide) -> None:
    size = [n + b + a for n, b, a in zip(pictures[2:], slide.before, slide.after, strict=True)]
    call.fits((*pictures[:2], *size), call.dtypes[0], "The padded input")


def convolution_slide(call: Call) -> Slide:
    """The way of the weights over the pictures."""
    return slide_of(first_channels(call.shapes[0], call["layout"])[2:], call.shapes[1][2:], call)


def _check_convolution(call: Call) -> None:
    x, weight, groups = first_channels(call.shapes[0], call["layout"]), call.shapes[1], call["groups"]
    call.need(len(weight) == 4, f"weight must be (O, C / groups, kH, kW), not of shape {list(weight)}.")
    fits = x[1] == weight[1] * groups
    call.need(fits, f"{x[1]} channels in {groups} groups need a weight of {x[1] / groups:g}, not of {weight[1]}.")
    call.need(weight[0] % groups == 0, f"{weight[0]} filters can't be shared out to {groups} groups.")
    if len(call.shapes) > 2:
        bias = call.shapes[2]
        call.need(bias == weight[:1], f"bias must be of shape {[weight[0]]}, not {list(bias)}.")
    slide = convolution_slide(call)
    _fits_padded(call, x, slide)
    call.fits((x[0], weight[0], *slide.out), call.dtypes[0])


def _convolve(call: Call) -> Outputs:
    xp, groups, slide = call.xp, call["groups"], convolution_slide(call)
    x, weight = _channels_first(call.inputs[0], call), call.inputs[1]
    seen = windows(xp, padded(xp, x, slide), slide)
    count, channels, height, width = seen.shape[:4]
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    made = xp.empty((count, weight.shape[0], height, width), x.dtype)
    one = channels * height * width * math.prod(slide.kernel) * x.dtype.itemsize
    step = max(1, _COLUMN_BYTES // one)
    for start in range(0, count, step):
        columns = _columns(seen[start : start + step]).reshape(-1, groups, filters.shape[2], height * width)
        made[start : start + step] = xp.matmul(filters, columns).reshape(-1, *made.shape[1:])
    if len(call.inputs) > 2:
        made += call.inputs[2].reshape(1, -1, 1, 1)
    return {"result": _channels_last(made, call)}


def _columns(seen: Any) -> Any:
    """(N, C · KH · KW, OH · OW), copied out of the windows."""
    count, channels, height, width, rows, columns = seen.shape
    return seen.transpose(0, 1, 4, 5, 2, 3).reshape(count, channels * rows * columns, height * width)


def _check_columns(call: Call) -> None:
    x = first_channels(call.shapes[0], call["layout"])
    slide = slide_of(x[2:], call["kernel_size"], call)
    _fits_padded(call, x, slide)
    call.fits((x[0], x[1] * math.prod(slide.kernel), math.prod(slide.out)), call.dtypes[0])


def _im2col(call: Call) -> Outputs:
    x = _channels_first(call.inputs[0], call)
    slide = slide_of(x.shape[2:], call["kernel_size"], call)
    return {"columns": _columns(windows(call.xp, padded(call.xp, x, slide), slide))}


# --- pooling


def pool_slide(call: Call) -> Slide:
    """The way of the pool over the pictures."""
    size = first_channels(call.shapes[0], call["layout"])[2:]
    kernel = size if call["kernel_size"] == "global" else call["kernel_size"]
    parameters = {**call.parameters, "stride": call["stride"] or kernel}
    return slide_of(size, kernel, Call(call.xp, (), (), (), parameters, call.room_bytes))


def _check_pool(call: Call) -> None:
    x, slide = first_channels(call.shapes[0], call["layout"]), pool_slide(call)
    both = zip(slide.kernel, (max(each) for each in zip(slide.before, slide.after, strict=True)), strict=True)
    call.need(all(2 * side <= k for k, side in both), "the padding of a pool must not be more than half of its window.")
    _fits_padded(call, x, slide)
    call.fits((*x[:2], *slide.out), call.dtypes[0])


def _pool(call: Call) -> Outputs:
    xp, slide, highest = call.xp, pool_slide(call), call["function"] == "max"
    x = padded(xp, _channels_first(call.inputs[0], call), slide, -math.inf if highest else 0.0)
    seen = windows(xp, x, slide)
    if highest:
        return {"result": _channels_last(seen.max((-1, -2)), call)}
    counted: Any = math.prod(slide.kernel)
    if not call["count_include_pad"]:
        size = first_channels(call.shapes[0], call["layout"])[2:]
        counted = windows(xp, padded(xp, xp.ones((1, 1, *size), x.dtype), slide), slide).sum((-1, -2))
    return {"result": _channels_last(seen.sum((-1, -2)) / counted, call)}


KERNELS = {
    "conv2d": Kernel(
        _convolve,
        ("x", "weight"),
        _check_convolution,
        optional=("bias",),
        parameters={**_WINDOW, "padding": _PADDING, "groups": whole(1, at_least=1, at_most=2**20)},
    ),
    "pool": Kernel(
        _pool,
        ("x",),
        _check_pool,
        parameters={
            "function": choice("max", "avg"),
            "kernel_size": either(pair(at_least=1), choice("global")),
            "stride": pair((), at_least=1),
            "padding": _PADDING,
            "count_include_pad": flag(True),
            "layout": _LAYOUT,
        },
    ),
    "im2col": Kernel(
        _im2col, ("x",), _check_columns, parameters={**_WINDOW, "padding": _PADDING, "kernel_size": pair(at_least=1)}
    ),
}
