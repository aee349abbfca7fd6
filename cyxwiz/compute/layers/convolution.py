"""Convolutions and pools on samples with channels last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyxwiz.compute.layers.typing import Builder, channels_first, channels_last
from cyxwiz.graph.layers.convolution import AXES, Window, transposed, window
from cyxwiz.graph.rule import Shape, Site

if TYPE_CHECKING:
    _Convolution, _Opposite = nn.Conv2d, nn.ConvTranspose2d
else:
    _Convolution = _Opposite = object


def _given(site: Site, found: Window) -> tuple[bool, list[int], tuple[int, ...]]:
    """Whether the channel axis is missing, the padding that torch's own argument cannot say, and that it can."""
    missing = len(site.given) == AXES[site.type]
    if all(before == after for before, after in found.pads):
        return missing, [], tuple(before for before, _ in found.pads)
    flat = [size for pads in reversed(found.pads) for size in pads]
    return missing, flat, (0,) * len(found.pads)


class _ChannelsLast(_Convolution):
    """What the three convolutions share: the layout, and padding that differs before and after."""

    missing: bool
    uneven: list[int]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        x = channels_first(input.unsqueeze(-1) if self.missing else input)
        return channels_last(super().forward(functional.pad(x, self.uneven) if self.uneven else x))


class Conv1D(_ChannelsLast, nn.Conv1d):
    """nn.Conv1d on (N, T, C)."""


class Conv2D(_ChannelsLast, nn.Conv2d):
    """nn.Conv2d on (N, H, W, C)."""


class Conv3D(_ChannelsLast, nn.Conv3d):
    """nn.Conv3d on (N, D, H, W, C)."""


class _Transposed(_Opposite):
    """What the three transposed ones share: `cut` has the cells that are taken off the end of each axis alone, `more`
    the empty ones that are put to the input's end, backwards as torch pads: onnxruntime takes no output_padding of a
    stride or more, and an empty cell makes a stride of it."""

    missing: bool
    cut: list[int]
    more: list[int]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - torch names it so
        x = channels_first(input.unsqueeze(-1) if self.missing else input)
        made = super().forward(functional.pad(x, self.more) if self.more else x, output_size)
        for axis, cells in enumerate(self.cut, start=2):
            made = made.narrow(axis, 0, made.shape[axis] - cells) if cells else made
        return channels_last(made)


class TransposedConv1D(_Transposed, nn.ConvTranspose1d):
    """nn.ConvTranspose1d on (N, T, C)."""


class TransposedConv2D(_Transposed, nn.ConvTranspose2d):
    """nn.ConvTranspose2d on (N, H, W, C)."""


class TransposedConv3D(_Transposed, nn.ConvTranspose3d):
    """nn.ConvTranspose3d on (N, D, H, W, C)."""


_KINDS: dict[int, type[nn.Module]] = {1: Conv1D, 2: Conv2D, 3: Conv3D}
_TRANSPOSED: dict[int, type[nn.Module]] = {1: TransposedConv1D, 2: TransposedConv2D, 3: TransposedConv3D}


def _convolution(site: Site, made: Shape) -> nn.Module:
    found, axes = window(site), AXES[site.type]
    missing, uneven, even = _given(site, found)
    groups = found.channels if site.type == "DepthwiseConv2D" else site.integer("groups")
    bias = site.flag("bias")
    sizes = (found.channels, made[-1], found.kernel, found.stride)
    if transposed(site):
        off = tuple(before for before, _ in found.pads)
        split = [divmod(more, step) for more, step in zip(found.more, found.stride, strict=True)]
        rest = tuple(more for _, more in split)
        module = _TRANSPOSED[axes](*sizes, off, rest, groups, bias, found.dilation)
        assert isinstance(module, TransposedConv1D | TransposedConv2D | TransposedConv3D)
        module.more = [cell for cells, _ in reversed(split) for cell in (0, cells)] if rest != found.more else []
        module.cut = [after - before for before, after in found.pads]
    else:
        module = _KINDS[axes](*sizes, even, found.dilation, groups, bias)
        assert isinstance(module, Conv1D | Conv2D | Conv3D)
        module.uneven = uneven
    module.missing = missing
    nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")  # He et al. 2015
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class Pool(nn.Module):
    """A maximum or an average over windows, in which cells of padding never count."""

    share: Tensor

    def __init__(self, site: Site) -> None:
        super().__init__()
        found = window(site)
        self._missing, self._uneven, self._even = _given(site, found)
        self._kernel, self._stride = found.kernel, found.stride
        self._maximum = site.type == "MaxPool2D"
        if self._uneven and not self._maximum:
            ones = functional.pad(torch.ones(1, 1, *found.sizes), self._uneven)
            self.register_buffer("share", functional.avg_pool2d(ones, self._kernel, self._stride), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_first(x.unsqueeze(-1) if self._missing else x)
        if self._maximum:
            x = functional.pad(x, self._uneven, value=-math.inf) if self._uneven else x
            made = functional.max_pool2d(x, self._kernel, self._stride, self._even)
        elif self._uneven:
            made = functional.avg_pool2d(functional.pad(x, self._uneven), self._kernel, self._stride) / self.share
        else:
            made = functional.avg_pool2d(x, self._kernel, self._stride, self._even, count_include_pad=False)
        return channels_last(made)


class GlobalPool(nn.Module):
    """The maximum or the average over every axis but the batch and the channels."""

    def __init__(self, *, maximum: bool) -> None:
        super().__init__()
        self._maximum = maximum

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(1, -2)
        return places.amax(1) if self._maximum else places.mean(1)


def _adaptive_of_volumes(x: Tensor, sizes: list[int]) -> Tensor:
    """As torch's, which has no form in ONNX: a window's mean is that along one axis of the means over the others."""
    channels, before = x.shape[1], x.shape[2]
    depth, height, width = sizes
    planes = functional.adaptive_avg_pool2d(x.flatten(1, 2), (height, width)).unflatten(1, (channels, before))
    columns = functional.adaptive_avg_pool1d(planes.movedim(2, -1).flatten(1, 3), depth)
    return columns.unflatten(1, (channels, height, width)).movedim(-1, 2)


_ADAPTIVE: dict[int, Callable[..., Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: _adaptive_of_volumes,
}


class AdaptiveAvgPool(nn.Module):
    """Averages so that `sizes` come out."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self._sizes = list(sizes)

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(_ADAPTIVE[len(self._sizes)](channels_first(x), self._sizes))


BUILDERS: dict[str, Builder] = {
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2D": _convolution,
    "MaxPool2D": lambda site, made: Pool(site),
    "AvgPool2D": lambda site, made: Pool(site),
    "GlobalMaxPool": lambda site, made: GlobalPool(maximum=True),
    "GlobalAvgPool": lambda site, made: GlobalPool(maximum=False),
    "AdaptiveAvgPool": lambda site, made: AdaptiveAvgPool(made[:-1]),
}
