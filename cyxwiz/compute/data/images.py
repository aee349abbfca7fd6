"""Pictures: folders of them with a folder for each class, and single ones of other readers.

PNG, JPEG and BMP, decoded by Pillow. What a file says of its size is checked before anything is unpacked.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.columns import Columns
from cyxwiz.compute.data.dataset import MAX_CLASSES, MAX_VALUES, Raw, check_size
from cyxwiz.compute.data.files import IMAGES, SPLIT_NAMES, walk
from cyxwiz.domain.errors import Code, CyxError, invalid

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

MAX_PIXELS = 2**26  # of one picture before it is resized
_BAD = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error, zlib.error)
_WIDE = "I;16"  # grey of 16 bits, as a PNG may have
_GREY = ("1", "L", "LA", _WIDE)


@dataclass(slots=True)
class Decoder:
    """Pictures of one size and mode as uint8, height x width or height x width x 3.

    The options set both; without them the first picture does, and another size or mode is refused.
    """

    uri: str
    size: tuple[int, int] | None = None  # width, height
    mode: str | None = None
    resize: bool = False
    convert: bool = False

    @classmethod
    def of(cls, uri: str, options: Mapping[str, str]) -> Decoder:
        size = options.get("size")
        width, _, height = (size or "0x0").partition("x")
        mode = options.get("mode")
        return cls(uri, (int(width), int(height)) if size else None, mode, size is not None, mode is not None)

    def decode(self, source: Path | bytes, name: str) -> Array:
        import numpy as np

        try:
            from PIL import Image, UnidentifiedImageError
        except ImportError as error:
            raise CyxError(Code.UNAVAILABLE, f"The dataset {self.uri} needs Pillow; install cyxwiz[node].") from error
        try:
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound of _settle is narrower
                image = Image.open(opened, formats=("PNG", "JPEG", "BMP"))
            with image:
                self._settle(image, name)
                assert self.size is not None
                if image.size != self.size:
                    image.draft(self.mode, self.size)  # lets a JPEG be unpacked at a smaller scale
                picture: Any = _narrow(image) if image.mode == _WIDE else image
                picture = picture if picture.mode == self.mode else picture.convert(self.mode)
                if picture.size != self.size:
                    picture = picture.resize(self.size, Image.Resampling.BILINEAR)
                return np.asarray(picture, dtype=np.uint8)
        except (UnidentifiedImageError, Image.DecompressionBombError, *_BAD) as error:
            raise invalid(f"The dataset {self.uri}: {name} is no readable picture: {str(error)[:200]}.") from error

    def _settle(self, image: Any, name: str) -> None:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise invalid(
                f"The dataset {self.uri}: {name} has {width} x {height} pixels; at most {MAX_PIXELS} are unpacked.",
                uri=self.uri,
            )
        mode = "L" if image.mode in _GREY else "RGB"
        self.size, self.mode = self.size or (width, height), self.mode or mode
        if not self.resize and (width, height) != self.size:
            raise invalid(
                f"The dataset {self.uri}: {name} has {width} x {height} pixels, the first picture "
                f"{self.size[0]} x {self.size[1]}; state one size with ?size=WIDTHxHEIGHT.",
                uri=self.uri,
            )
        if not self.convert and mode != self.mode:
            raise invalid(
                f"The dataset {self.uri}: {name} is {mode}, the first picture {self.mode}; state one with ?mode=L or "
                "?mode=RGB.",
                uri=self.uri,
            )


def _narrow(image: Any) -> Any:
    """The same in 8 bits, scaled: Pillow's own conversion makes everything above 255 white."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(((np.asarray(image, dtype=np.uint32) + 128) // 257).astype(np.uint8))


def read_images(uri: str, folder: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    """A folder for each class; below train/, test/ or validation/ if it has those. Where no labels are wanted, pictures
    in any folder."""
    import numpy as np

    if not folder.is_dir():
        raise invalid(f"The dataset {uri} is no folder with a folder of pictures for each class.", uri=uri)
    root = _part(uri, folder, options.get("split"))
    files: list[tuple[Path, str]] = []
    for path in walk(uri, root):
        if path.suffix.lower() in IMAGES:
            name, *below = path.relative_to(root).parts
            if not below and wanted.labels:
                raise invalid(f"The dataset {uri}: {path.name} lies in no class's folder.", uri=uri)
            files.append((path, name))
    names = tuple(sorted({name for _, name in files}))
    if not files or (wanted.labels and len(names) > MAX_CLASSES):
        raise invalid(f"The dataset {uri} has {len(files)} pictures in {len(names)} folders of classes.", uri=uri)
    decoder = Decoder.of(uri, options)
    first, _ = files[0]
    sample = decoder.decode(first, first.name)
    check_size(uri, len(files) * sample.size, "values")
    features = np.empty((len(files), *sample.shape), dtype=np.uint8)
    for index, (path, _) in enumerate(files):
        features[index] = decoder.decode(path, path.relative_to(root).as_posix())
    numbers = {name: number for number, name in enumerate(names)}
    if not wanted.labels:
        return Raw(features, np.empty(0))
    return Raw(features, np.array([numbers[name] for _, name in files], dtype=np.int64), names=names)


def decoded(uri: str, values: list[bytes], options: Mapping[str, str]) -> Array:
    """Pictures that stand in a table, n x height x width (x 3)."""
    import numpy as np

    decoder = Decoder.of(uri, options)
    first = decoder.decode(values[0], "row 1")
    if len(values) * first.size > MAX_VALUES:
        check_size(uri, len(values) * first.size, "values")
    features = np.empty((len(values), *first.shape), dtype=np.uint8)
    for index, value in enumerate(values):
        features[index] = decoder.decode(value, f"row {index + 1}")
    return features


def _part(uri: str, folder: Path, split: str | None) -> Path:
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.is_symlink()]
    parts = {SPLIT_NAMES[entry.name.lower()]: entry for entry in inner if entry.name.lower() in SPLIT_NAMES}
    if len(parts) < len(inner) or not inner:
        if split is not None:
            raise invalid(f"The dataset {uri} has no folder {split}; leave the option split out.", uri=uri)
        return folder
    wanted = split or ("train" if "train" in parts else sorted(parts)[0])
    if wanted not in parts:
        raise invalid(f"The dataset {uri} has the splits {', '.join(sorted(parts))}.", uri=uri)
    return parts[wanted]
