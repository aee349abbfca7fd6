"""Layers that move or drop no number except Split, which gives one part of an axis. Axes leave out the batch."""

from __future__ import annotations

import math

from cyxwiz.graph.layers.dense import free
from cyxwiz.graph.params import Param, axis, integer, needed
from cyxwiz.graph.rule import Rule, Shape, Site
from cyxwiz.graph.values import MAX_RANK, PICTURE


def _flat(site: Site) -> Shape:
    return (math.prod(site.given),)


def _reshaped(site: Site) -> Shape:
    wanted, size = site.whole("shape"), math.prod(site.given)
    if wanted == PICTURE:
        return _picture(site)
    if len(wanted) > 1 and wanted[0] == -1 and math.prod(wanted[1:]) == size:
        return wanted[1:]  # the -1 is the batch, as in the editor's "-1,28,28,1"
    known = math.prod(part for part in wanted if part != -1)
    if size % known or (-1 not in wanted and size != known):
        raise site.refuse(f"{known} numbers{' or a multiple' if -1 in wanted else ''} for {list(wanted)}", site.given)
    return tuple(size // known if part == -1 else part for part in wanted)


def _picture(site: Site) -> Shape:
    """(H, W, C) as it is, (H, W) in one channel, and a flat row as a square in one or three channels."""
    if len(site.given) in (2, 3):
        return (*site.given, 1)[:3]
    for channels in (1, 3):
        side = math.isqrt(site.given[0] // channels)
        if side * side * channels == site.given[0]:
            return side, side, channels
    raise site.refuse("(H, W, C), (H, W) or a row that is a square picture", site.given, "State an input_shape.")


def order(site: Site) -> tuple[int, ...]:
    """The axes of a Permute, from 0 without the batch. Without a 0 among them they count from 1, as in Keras; with one
    axis more than the sample the batch is counted, which stays the first."""
    stated, rank = site.whole("dims"), len(site.given)
    counted = stated[1:] if len(stated) == rank + 1 and stated[0] == 0 else stated
    axes = counted if 0 in counted else tuple(place - 1 for place in counted)
    if sorted(axes) != list(range(rank)):
        raise site.refuse(f"every axis from 0 to {rank - 1} once", str(list(stated)))
    return axes


def _permuted(site: Site) -> Shape:
    return tuple(site.given[place] for place in order(site))


def _squeezed(site: Site) -> Shape:
    rank = len(site.given)
    if "axis" not in site.params:
        return tuple(size for size in site.given if size > 1) or (1,)
    place = site.axis("axis", rank)
    if site.given[place] != 1 or rank == 1:
        raise site.refuse(f"a size of 1 at axis {place}, and another axis", site.given)
    return site.given[:place] + site.given[place + 1 :]


def _unsqueezed(site: Site) -> Shape:
    place = site.axis("axis", len(site.given) + 1)
    return (*site.given[:place], 1, *site.given[place:])


def section(site: Site) -> tuple[int, int, int]:
    """Axis, start and length of the part that a Split gives."""
    place = site.axis("axis", len(site.given))
    size, part = site.given[place], site.integer("part")
    if "sizes" in site.params:
        sizes = site.whole("sizes")
        if sum(sizes) != size:
            raise site.refuse(f"sizes that add up to {size}", str(list(sizes)))
    elif "split_size" in site.params:
        length = site.integer("split_size")
        sizes = tuple(min(length, size - start) for start in range(0, size, length))
    else:
        count = site.integer("sections")
        if size % count:
            raise site.refuse(f"a size at axis {place} that {count} sections divide", site.given)
        sizes = (size // count,) * count
    if part >= len(sizes):
        raise site.refuse(f"a part from 0 to {len(sizes) - 1}", str(part))
    return place, sum(sizes[:part]), sizes[part]


def _split(site: Site) -> Shape:
    place, _, length = section(site)
    return (*site.given[:place], length, *site.given[place + 1 :])


_BATCH = "a -1 in front with nothing left for it is the batch"
_TARGET = {"shape": needed(Param("target", aliases=("target_shape", "new_shape", "size"), meaning=_BATCH))}
_RESHAPE = Rule("any", "shape", _reshaped, free, _TARGET)

RULES: dict[str, Rule] = {
    "Flatten": Rule("any", "(all,)", _flat, free),
    "Reshape": _RESHAPE,
    "View": _RESHAPE,
    "TensorReshape": _RESHAPE,
    "Permute": Rule(
        "any", "its axes in that order", _permuted, free,
        {
            "dims": needed(
                Param(
                    "axes", None, 0, MAX_RANK, aliases=("axes", "order", "permutation"),
                    meaning="every axis once, from 0 or, as in Keras, from 1; or with a 0 before those for the batch",
                )
            )
        },
    ),
    "Squeeze": Rule(
        "any", "without axes of size 1", _squeezed, free, {"axis": axis(None, "by default every axis of size 1")}
    ),
    "Unsqueeze": Rule("any", "one axis of size 1 more", _unsqueezed, free, {"axis": axis(-1)}),
    "Split": Rule(
        "any", "one part per output", _split, free,
        {
            "axis": axis(-1),
            "sections": integer(1, 4096, 2, "num_splits", "num_sections", "parts", meaning="equal parts"),
            "sizes": Param("axes", None, 1, 2**31, aliases=("split_sizes",), meaning="instead of sections"),
            "split_size": Param("int", None, 1, 2**31, meaning="of each part but the last; instead of sections"),
            "part": integer(0, 4095, 0, "index", meaning="which one, where no link says it"),
        },
    ),
}  # fmt: skip
