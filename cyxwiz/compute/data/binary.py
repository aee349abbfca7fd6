"""The fixed formats of MNIST (IDX, plain or gzipped) and of CIFAR-10 and CIFAR-100 (binary version)."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cyxwiz.compute.data.dataset import Raw, check_size
from cyxwiz.compute.data.files import inside, missing
from cyxwiz.domain.errors import invalid

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def read_mnist(uri: str, folder: Path, options: Mapping[str, str]) -> Raw:
    """Images n x height x width and labels of the training part, or of the test part (t10k)."""
    part = {"train": "train", "test": "t10k"}.get(options.get("split", "train"))
    if part is None:
        raise invalid(f"The dataset {uri}: MNIST has the splits train and test.", uri=uri)
    images = _idx(uri, _either(uri, folder, f"{part}-images", "idx3-ubyte"), 3)
    labels = _idx(uri, _either(uri, folder, f"{part}-labels", "idx1-ubyte"), 1)
    return Raw(images, labels)


def _either(uri: str, folder: Path, stem: str, ending: str) -> Path:
    names = [f"{stem}{dot}{ending}{packed}" for packed in ("", ".gz") for dot in "-."]
    for name in names:
        if inside(folder, folder / name) and (folder / name).is_file():
            return folder / name
    raise missing(uri, names)


def _idx(uri: str, path: Path, rank: int) -> Array:
    """One IDX file of unsigned bytes: magic number 0, 0, 8, rank, then the sizes, all big-endian."""
    import numpy as np

    check_size(uri, path.stat().st_size)
    start = 4 + 4 * rank
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            head = file.read(start)
            if len(head) < start or head[:4] != bytes((0, 0, 8, rank)):
                raise invalid(f"The dataset {uri}: {path.name} is no IDX file of {rank} dimensions of bytes.", uri=uri)
            sizes = struct.unpack(f">{rank}I", head[4:])
            wanted = 1
            for size in sizes:
                wanted *= size
            check_size(uri, wanted, "values")
            raw = file.read(wanted + 1)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise invalid(f"The dataset {uri}: {path.name} can't be unpacked: {error}.", uri=uri) from error
    if len(raw) != wanted:
        got = f"{len(raw)} bytes" if len(raw) < wanted else "more bytes"
        raise invalid(f"The dataset {uri}: {path.name} holds {got} of data, its header says {wanted}.", uri=uri)
    return np.frombuffer(raw, dtype=np.uint8).reshape(sizes)


def read_cifar10(uri: str, folder: Path, options: Mapping[str, str]) -> Raw:
    """Records of a label byte and 3 x 32 x 32 bytes, as n x 32 x 32 x 3: data_batch_1..5.bin, or test_batch.bin."""
    part = options.get("split", "train")
    pattern = {"train": "data_batch_*.bin", "test": "test_batch.bin"}.get(part)
    return _cifar(uri, folder, pattern, 1, 0, "batches.meta.txt")


def read_cifar100(uri: str, folder: Path, options: Mapping[str, str]) -> Raw:
    """Records of a coarse label, a fine label and 3 x 32 x 32 bytes; the fine one counts unless ?label=coarse."""
    pattern = {"train": "train.bin", "test": "test.bin"}.get(options.get("split", "train"))
    kind = options.get("label", "fine")
    if kind not in ("fine", "coarse"):
        raise invalid(f"The dataset {uri}: CIFAR-100 has the labels fine and coarse.", uri=uri)
    return _cifar(uri, folder, pattern, 2, int(kind == "fine"), f"{kind}_label_names.txt")


def _cifar(uri: str, folder: Path, pattern: str | None, labels: int, which: int, names: str) -> Raw:
    import numpy as np

    if pattern is None:
        raise invalid(f"The dataset {uri}: CIFAR has the splits train and test.", uri=uri)
    files = [path for path in sorted(folder.glob(pattern)) if inside(folder, path) and path.is_file()]
    if not files:
        raise missing(uri, [pattern])
    check_size(uri, sum(path.stat().st_size for path in files))
    parts: list[Array] = []
    for path in files:
        raw = np.fromfile(path, dtype=np.uint8)
        if not raw.size or raw.size % (labels + _PIXELS):
            raise invalid(
                f"The dataset {uri}: {path.name} has {raw.size} bytes, no multiple of {labels + _PIXELS}.", uri=uri
            )
        parts.append(raw.reshape(-1, labels + _PIXELS))
    records = np.concatenate(parts)
    images = records[:, labels:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return Raw(images, records[:, which], names=_names(folder, folder / names))


def _names(folder: Path, path: Path) -> tuple[str, ...]:
    if not inside(folder, path) or not path.is_file() or path.stat().st_size > 1 << 20:
        return ()
    return tuple(line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip())
