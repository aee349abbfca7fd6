"""The torch module of every type of layer, by family, made from the same `Site` that its pure rule decides on.

A builder may count on what the rule has checked. Modules are batch-first with channels last, as the shapes of the
graph are; what torch wants with channels first is permuted, which is torch's own channels-last layout in memory.
"""

from __future__ import annotations

from cyxwiz.compute.layers import activation, attention, convolution, dense, merge, norm, recurrent, reshape, wrapper
from cyxwiz.compute.layers.typing import Builder

_SINGLE: dict[str, Builder] = {
    **dense.BUILDERS,
    **convolution.BUILDERS,
    **norm.BUILDERS,
    **recurrent.BUILDERS,
    **attention.BUILDERS,
    **activation.BUILDERS,
    **reshape.BUILDERS,
    **merge.BUILDERS,
}
BUILDERS: dict[str, Builder] = {**_SINGLE, **wrapper.builders(_SINGLE)}
