"""`resnet`: the nodes and links of a residual network, after He et al. 2015, "Deep residual learning".

`{"type": "resnet", "layers": 50}` with `num_classes` (1000), `width` (64, filters of the first stage), `stem`
(`imagenet`: 7 x 7 with stride 2 and a pool; `small`: 3 x 3, for pictures of some 32 cells) and `input_shape`. The
stride of a bottleneck lies on its 3 x 3 convolution, as in later implementations.
"""

from __future__ import annotations

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import values
from cyxwiz.graph.catalogue import BY_NAME
from cyxwiz.graph.nodes import Link, Node, Table
from cyxwiz.graph.parts import MAX_UNITS
from cyxwiz.graph.values import PICTURE

# layers: blocks of each stage, and whether a block is a bottleneck
FAMILY = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(document: Table, source: str) -> tuple[list[Node], list[Link]]:
    """Nodes and links of the network that reads the node `source`; CyxError INVALID for one of unknown depth. Without
    an `input_shape` flat rows are read as square pictures."""
    stated = document.get("layers", document.get("depth", 50))
    known = ", ".join(map(str, FAMILY))
    if isinstance(stated, list):
        raise invalid(f"layers is a list; a resnet takes one of {known}.", where="layers")
    depth = values.integer("layers", stated, 1, 10_000)
    if depth not in FAMILY:
        raise invalid(f"There is no resnet of {depth} layers; known: {known}.", where="layers", got=depth)
    classes = document.get("num_classes", document.get("output_size", document.get("classes", 1000)))
    width = values.integer("width", document.get("width", 64), 1, 4096)
    stem = values.choice("stem", document.get("stem", "imagenet"), ("imagenet", "small"))
    network = _Network(source)
    if not {"input_shape", "input_size"} & document.keys():
        network.add("picture", "Reshape", {"shape": list(PICTURE)})
    network.stem(width, small=stem == "small")
    blocks, bottleneck = FAMILY[depth]
    for stage, count in enumerate(blocks, start=1):
        filters = width * 2 ** (stage - 1)
        for block in range(count):
            network.block(f"stage{stage}.{block}", filters, 2 if stage > 1 and block == 0 else 1, bottleneck)
    network.add("pool", "GlobalAvgPool")
    network.add("output", "Dense", {"units": values.integer("num_classes", classes, 1, MAX_UNITS)})
    return network.nodes, network.links


class _Network:
    """Nodes in a row; `last` is the one that the next reads."""

    def __init__(self, source: str) -> None:
        self.nodes: list[Node] = []
        self.links: list[Link] = []
        self.last = source
        self._channels = 0

    def add(self, ident: str, kind: str, given: Table | None = None, reads: tuple[str, ...] = ()) -> str:
        self.nodes.append(Node(ident, BY_NAME[kind], kind, given or {}))
        for pin, name in enumerate(reads or (self.last,)):
            self.links.append(Link(name, ident, None, (pin, 0)))
        self.last = ident
        return ident

    def convolve(self, ident: str, filters: int, kernel: int, stride: int = 1, *, relu: bool = True) -> str:
        """Convolution, batch normalisation and maybe a ReLU."""
        given = {"filters": filters, "kernel_size": kernel, "stride": stride, "padding": kernel // 2, "bias": False}
        self.add(f"{ident}.conv", "Conv2D", given)
        self.add(f"{ident}.norm", "BatchNorm")
        self._channels = filters
        return self.add(f"{ident}.relu", "ReLU") if relu else self.last

    def stem(self, width: int, *, small: bool) -> None:
        self.convolve("stem", width, 3 if small else 7, 1 if small else 2)
        if not small:
            self.add("stem.pool", "MaxPool2D", {"pool_size": 3, "stride": 2, "padding": 1})

    def block(self, ident: str, filters: int, stride: int, bottleneck: bool) -> None:
        """A residual block; where size or channels change, its shortcut is a 1 x 1 convolution."""
        before, channels = self.last, self._channels
        made = filters * 4 if bottleneck else filters
        if bottleneck:
            self.convolve(f"{ident}.a", filters, 1)
            self.convolve(f"{ident}.b", filters, 3, stride)
            inner = self.convolve(f"{ident}.c", made, 1, relu=False)
        else:
            self.convolve(f"{ident}.a", filters, 3, stride)
            inner = self.convolve(f"{ident}.b", made, 3, relu=False)
        shortcut = before
        if stride > 1 or channels != made:
            self.last = before
            shortcut = self.convolve(f"{ident}.shortcut", made, 1, stride, relu=False)
        self.add(f"{ident}.add", "Add", reads=(inner, shortcut))
        self.add(f"{ident}.relu", "ReLU")
