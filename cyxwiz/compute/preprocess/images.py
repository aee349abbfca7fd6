"""Images in rows: sizes, flips and shifts, for NumPy and CuPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def resize(xp: Any, x: Any, layout: str, size: tuple[int, int], method: str) -> Any:
    """Images (n, then the axes of `layout`) of another height and width.

    Pixels are areas: the centre of target pixel i lies at (i + 1/2) · in / out - 1/2 of the source. Bilinear mixes the
    two nearest of each axis, nearest takes the one whose area holds the centre.
    """
    x = x if layout != "chw" else xp.moveaxis(x, 1, -1)
    for axis, length in ((1, size[0]), (2, size[1])):
        x = _along(xp, x, axis, length, method)
    return xp.ascontiguousarray(x if layout != "chw" else xp.moveaxis(x, -1, 1))


def _along(xp: Any, x: Any, axis: int, length: int, method: str) -> Any:
    before = x.shape[axis]
    if length == before:
        return x
    place = (xp.arange(length, dtype=xp.float64) + 0.5) * before / length
    if method == "nearest":
        return xp.take(x, xp.minimum(place.astype(xp.int64), before - 1), axis=axis)
    place = xp.clip(place - 0.5, 0, before - 1)
    low = xp.floor(place).astype(xp.int64)
    high = xp.minimum(low + 1, before - 1)
    shape = [1] * x.ndim
    shape[axis] = length
    share = (place - low).astype(xp.float32).reshape(shape)
    return xp.take(x, low, axis=axis) * (1 - share) + xp.take(x, high, axis=axis) * share


def vary(xp: Any, x: Any, params: Mapping[str, Any], chance: np.random.Generator) -> Any:
    """A copy of images of which half, drawn by chance, are flipped, and each is shifted; what comes in is 0."""
    flip, shift, layout = params["flip"], params["shift"], params["layout"]
    if flip == "none" and not shift:
        return x
    x = x if layout != "chw" else xp.moveaxis(x, 1, -1)
    count, height, width = x.shape[:3]
    if flip != "none":
        chosen = xp.asarray(chance.random(count) < 0.5).reshape(count, *[1] * (x.ndim - 1))
        x = xp.where(chosen, xp.flip(x, axis=2 if flip == "horizontal" else 1), x)
    if shift:
        moves = xp.asarray(chance.integers(-shift, shift + 1, size=(count, 2)))
        rows = xp.arange(height)[None, :] - moves[:, :1]
        columns = xp.arange(width)[None, :] - moves[:, 1:]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        picked = x[
            xp.arange(count)[:, None, None],
            xp.clip(rows, 0, height - 1)[:, :, None],
            xp.clip(columns, 0, width - 1)[:, None, :],
        ]
        x = xp.where(inside.reshape(*inside.shape, *[1] * (x.ndim - 3)), picked, xp.float32(0))
    return x if layout != "chw" else xp.moveaxis(x, -1, 1)
