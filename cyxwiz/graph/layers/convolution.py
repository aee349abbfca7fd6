"""Convolutions and pools. A sample without the channel axis, such as (H, W), is read with one channel.

Output sizes: (n + padding - dilation (k - 1) - 1) // stride + 1 along every axis, as in Dumoulin and Visin 2016, "A
guide to convolution arithmetic". `same` pads so that ceil(n / stride) come out, the odd cell at the end. Transposed
ones turn that round: (n - 1) stride - padding + dilation (k - 1) + 1 + output_padding, and n stride with `same`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cyxwiz.graph.layers.dense import MAX_UNITS
from cyxwiz.graph.params import Param, flag, integer, needed
from cyxwiz.graph.rule import Cost, Rule, Shape, Site

_PLACES = {1: "(T, C)", 2: "(H, W, C)", 3: "(D, H, W, C)"}
AXES = {"Conv1D": 1, "Conv2D": 2, "Conv3D": 3, "DepthwiseConv2D": 2, "MaxPool2D": 2, "AvgPool2D": 2}


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window: what it reads and, per axis, its size, step, spacing, padding before and after, and steps. Of a
    transposed convolution the padding is taken off what comes out."""

    sizes: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    more: tuple[int, ...] = ()  # of a transposed one: cells at the end of each axis that no input cell would reach


def places(site: Site, axes: int) -> Shape:
    """The shape that comes in, with its channel axis."""
    if len(site.given) == axes:
        return (*site.given, 1)
    if len(site.given) != axes + 1:
        hint = "State input_shape on the DatasetInput, or add a Reshape."
        raise site.refuse(f"{_PLACES[axes]} or the same without C", site.given, hint)
    return site.given


def window(site: Site) -> Window:
    """The window of a convolution or a pool."""
    axes = AXES[site.type]
    *sizes, channels = places(site, axes)
    kernel = site.sizes("kernel_size" if "kernel_size" in site.params else "pool_size", axes)
    stride = site.sizes("stride", axes) if "stride" in site.params else kernel
    dilation = site.sizes("dilation", axes) if "dilation" in site.params else (1,) * axes
    spans = [space * (size - 1) + 1 for size, space in zip(kernel, dilation, strict=True)]
    if transposed(site):
        pads, more = _taken_off(site, spans, stride, dilation)
        grown = tuple(
            (size - 1) * step + span - before - after + extra
            for size, step, span, (before, after), extra in zip(sizes, stride, spans, pads, more, strict=True)
        )
        if min(grown) < 1:
            raise site.refuse("a padding that leaves at least one cell along every axis", site.given)
        return Window(tuple(sizes), channels, kernel, stride, dilation, pads, grown, more)
    if site.params["padding"] == "same":
        wanted = [-(-size // step) for size, step in zip(sizes, stride, strict=True)]
        lacking = [
            max(0, (count - 1) * step + span - size)
            for count, step, span, size in zip(wanted, stride, spans, sizes, strict=True)
        ]
        pads = tuple((lack // 2, lack - lack // 2) for lack in lacking)
    else:
        pads = tuple((pad, pad) for pad in site.sizes("padding", axes))
    steps: list[int] = []
    for size, span, step, (before, after) in zip(sizes, spans, stride, pads, strict=True):
        if size + before + after < span:
            raise site.refuse(f"at least {span} cells along every axis, padding included", site.given)
        steps.append((size + before + after - span) // step + 1)
    return Window(tuple(sizes), channels, kernel, stride, dilation, pads, tuple(steps))


def transposed(site: Site) -> bool:
    return bool(site.params.get("transposed"))


def _taken_off(
    site: Site, spans: Sequence[int], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """What a transposed convolution's padding takes off at both ends, and how many cells more it makes at the end."""
    if site.params["padding"] == "same":
        over = [span - step for span, step in zip(spans, stride, strict=True)]
        pads = tuple((max(0, each) // 2, max(0, each) - max(0, each) // 2) for each in over)
        return pads, tuple(max(0, -each) for each in over)
    more = site.sizes("output_padding", len(spans))
    if any(extra >= max(step, space) for extra, step, space in zip(more, stride, dilation, strict=True)):
        raise site.refuse("an output_padding below the stride or the dilation", str(more))
    return tuple((pad, pad) for pad in site.sizes("padding", len(spans))), more


def _convolved(site: Site) -> Shape:
    found, filters, groups = window(site), site.integer("filters"), site.integer("groups")
    if found.channels % groups or filters % groups:
        raise site.refuse(f"channels and filters that {groups} groups divide", f"{found.channels} and {filters}")
    return (*found.steps, filters)


def _convolved_cost(site: Site, made: Shape) -> Cost:
    found = window(site)
    weights = math.prod(found.kernel) * (found.channels // site.integer("groups")) * made[-1]
    bias = made[-1] if site.flag("bias") else 0
    return Cost(weights + bias, 2 * _places_of(site, made) * weights)


def _places_of(site: Site, made: Shape) -> int:
    """At how many places the weights are applied."""
    return math.prod(window(site).sizes if transposed(site) else made[:-1])


def _depthwise(site: Site) -> Shape:
    found = window(site)
    return (*found.steps, found.channels * site.integer("depth_multiplier"))


def _depthwise_cost(site: Site, made: Shape) -> Cost:
    weights = math.prod(window(site).kernel) * made[-1]
    bias = made[-1] if site.flag("bias") else 0
    return Cost(weights + bias, 2 * _places_of(site, made) * weights)


def _pooled(site: Site) -> Shape:
    found = window(site)
    if site.params["padding"] != "same":
        for (before, _), size in zip(found.pads, found.kernel, strict=True):
            if 2 * before > size:
                raise site.refuse("a padding of at most half the pool_size", str(before))
    return (*found.steps, found.channels)


def _pooled_cost(site: Site, made: Shape) -> Cost:
    return Cost(0, math.prod(made) * math.prod(window(site).kernel))


def _global(site: Site) -> Shape:
    if len(site.given) < 2:
        raise site.refuse("(T, C), (H, W, C) or (D, H, W, C)", site.given)
    return site.given[-1:]


def _adaptive(site: Site) -> Shape:
    axes = len(site.given) - 1
    if not 1 <= axes <= 3:
        raise site.refuse("(T, C), (H, W, C) or (D, H, W, C)", site.given)
    return (*site.sizes("output_size", axes), site.given[-1])


def _reads_all(site: Site, made: Shape) -> Cost:
    return Cost(0, math.prod(site.given))


def _sizes(default: int | None, low: int = 1, *aliases: str, meaning: str = "") -> Param:
    return Param("sizes", None if default is None else (default,), low, 4096, aliases=aliases, meaning=meaning)


_WINDOW = {
    "kernel_size": _sizes(3, 1, "kernel"),
    "stride": _sizes(1, 1, "strides"),
    "padding": Param("padding", (0,), 0, 4096, aliases=("pad",)),
    "dilation": _sizes(1, 1, "dilation_rate"),
    "bias": flag(True, "use_bias"),
    "transposed": flag(False, meaning="from few cells to many"),
    "output_padding": _sizes(0, 0, meaning="of transposed ones"),
}
_CONVOLUTION = {
    "filters": integer(1, MAX_UNITS, 32, "out_channels"),
    **_WINDOW,
    "groups": integer(1, MAX_UNITS, 1),
}
_POOL = {
    "pool_size": _sizes(2, 1, "kernel_size", "pool"),
    "stride": _sizes(None, 1, "strides", meaning="by default pool_size"),
    "padding": Param("padding", (0,), 0, 4096, aliases=("pad",), meaning="cells of padding never count"),
}

RULES: dict[str, Rule] = {
    "Conv1D": Rule("(T, C) or (T,)", "(T', filters)", _convolved, _convolved_cost, _CONVOLUTION),
    "Conv2D": Rule("(H, W, C) or (H, W)", "(H', W', filters)", _convolved, _convolved_cost, _CONVOLUTION),
    "Conv3D": Rule("(D, H, W, C) or (D, H, W)", "(D', H', W', filters)", _convolved, _convolved_cost, _CONVOLUTION),
    "DepthwiseConv2D": Rule(
        "(H, W, C) or (H, W)", "(H', W', C x depth_multiplier)", _depthwise, _depthwise_cost,
        {"depth_multiplier": integer(1, 4096, 1, "multiplier"), **_WINDOW},
    ),
    "MaxPool2D": Rule("(H, W, C) or (H, W)", "(H', W', C)", _pooled, _pooled_cost, _POOL),
    "AvgPool2D": Rule("(H, W, C) or (H, W)", "(H', W', C)", _pooled, _pooled_cost, _POOL),
    "GlobalMaxPool": Rule("(T, C), (H, W, C) or (D, H, W, C)", "(C,)", _global, _reads_all),
    "GlobalAvgPool": Rule("(T, C), (H, W, C) or (D, H, W, C)", "(C,)", _global, _reads_all),
    "AdaptiveAvgPool": Rule(
        "(T, C), (H, W, C) or (D, H, W, C)", "(output_size…, C)", _adaptive, _reads_all,
        {"output_size": needed(_sizes(None, 1, "size", "target_size"))},
    ),
}  # fmt: skip
