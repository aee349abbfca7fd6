"""The kernels of this node: those that come with it, and those of packages that its owner installed.

A package names its kernels under the entry point group `cyxwiz.kernels`; each leads to a `Kernel`. What comes with the
node can't be replaced. They are loaded where they run, in the child.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from importlib import metadata

from cyxwiz.compute.kernels import elementwise, losses, products, shipped, steps, windows
from cyxwiz.compute.kernels.kernel import Kernel
from cyxwiz.domain.errors import invalid, unsupported

GROUP = "cyxwiz.kernels"
CUSTOM = "custom"

# Operations of the wire contract with a number of their own.
OPERATIONS: Mapping[str, Kernel] = {
    **products.KERNELS,
    **{name: windows.KERNELS[name] for name in ("conv2d", "pool")},
    **elementwise.KERNELS,
    **losses.KERNELS,
    **steps.KERNELS,
}
SHIPPED: Mapping[str, Kernel] = {**shipped.KERNELS, "im2col": windows.KERNELS["im2col"]}


def names() -> list[str]:
    """Every kernel that OP_CUSTOM may name."""
    return sorted({*SHIPPED, *(point.name for point in metadata.entry_points(group=GROUP))})


def find(kind: str, named: str | None) -> tuple[str, Kernel]:
    """The kernel for a kind of operation, with its name.

    Args:
        named: the parameter `kernel`, which goes with the kind `custom` alone.
    Raises:
        CyxError: INVALID without a name, UNSUPPORTED for a kernel that is not here or can't be loaded.
    """
    if kind != CUSTOM:
        if named is not None:
            raise invalid("parameter kernel goes with OP_CUSTOM only.", parameter="kernel")
        if kind not in OPERATIONS:
            raise unsupported(f"there is no operation {kind[:60]!r}; known are {', '.join(OPERATIONS)}, {CUSTOM}.")
        return kind, OPERATIONS[kind]
    if not named:
        raise invalid(f"parameter kernel is missing: name one of {', '.join(names())}.", parameter="kernel")
    if named in SHIPPED:
        return named, SHIPPED[named]
    for point in metadata.entry_points(group=GROUP, name=named):
        return named, _load(point)
    raise unsupported(f"this node has no kernel {named[:60]!r}; it has {', '.join(names())}.")


def _load(point: metadata.EntryPoint) -> Kernel:
    try:
        kernel = point.load()
    except Exception:  # another's code: whatever it raises, the owner finds it in the node's log
        traceback.print_exc()
        raise unsupported(f"the kernel {point.name!r} can't be loaded; the node's log has the reason.") from None
    if not isinstance(kernel, Kernel):
        raise unsupported(f"the kernel {point.name!r} is no cyxwiz.compute.kernels.Kernel.")
    return kernel
