"""`.cyxmodel`, version 2: the earlier system's format, as one binary file and as a directory; written and read.

The binary file, little endian: u32 0x43595857, u32 2, u64 length of a JSON text, that text (`metadata`, `modules`), u64
modules; then for each module u64 parameters, and for each of these u64 length and name, u64 axes, u64 sizes, i32 type
(0 for float32, the only one written and read), u64 bytes and the numbers.

The directory has manifest.json (or metadata.json), graph.cyxgraph, config.json, history.json, weights/manifest.json
(`tensors`, each with `name`, `shape`, `dtype`, `offset` and `size_bytes`) and weights/NAME.bin: u32 axes, i64 sizes,
u32 type (0, or 1 as the format's own document has it) and the numbers, or the numbers alone. As one file it is a tar.

What the earlier system has no place for (loss, scaling, shapes, the definition's text) stands under `cyxwiz`. A file
without it is read too: the binary's modules are then known by their names, such as `Linear(784 -> 512)`.

Refuses with CyxError INVALID whatever is not such a file; sizes are checked against what is there before they are used.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cyxwiz import __version__
from cyxwiz.compute.archive import is_tar, tar, untar
from cyxwiz.compute.data.columns import Columns
from cyxwiz.compute.export.trained import Saved, Trained
from cyxwiz.compute.export.weights import features_from
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph import parse, sites, to_cyxgraph
from cyxwiz.graph.rule import Site

MAGIC = 0x43595857
VERSION = 2
FLOAT32 = 0
_FLOAT32_IN_THE_DOCUMENT = 1
DIRECTORY = "model.cyxmodel"  # its name in a tar
_MAX_JSON = 64 * 2**20
_MAX_COUNT = 1_000_000
_MAX_AXES = 8


# --- writing


def write_binary(trained: Trained, path: Path) -> None:
    """The model as one file."""
    weights = trained.weights()
    modules = _modules(trained, weights)
    head = {"metadata": _metadata(trained), "modules": [_described(module) for module in modules]}
    text = json.dumps(head, allow_nan=False).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<IIQ", MAGIC, VERSION, len(text)) + text)
        file.write(struct.pack("<Q", len(modules)))
        for module in modules:
            file.write(struct.pack("<Q", len(module["parameters"])))
            for name, value in module["parameters"].items():
                label = name.encode()
                file.write(struct.pack("<Q", len(label)) + label)
                file.write(struct.pack(f"<Q{value.dim()}Q", value.dim(), *value.shape))
                file.write(struct.pack("<iQ", FLOAT32, value.numel() * 4))
                file.write(_numbers(value))


def write_directory(trained: Trained, path: Path) -> None:
    """The model as a directory, which must not be there yet or be empty."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise invalid(f"The directory {path.name} is not empty.", file=path.name)
    weights = trained.weights()
    _write_json(path / "manifest.json", _manifest(trained, weights))
    _write_json(path / "graph.cyxgraph", to_cyxgraph(trained.graph))
    _write_json(path / "config.json", _config(trained))
    _write_json(path / "history.json", _history(trained))
    folder = path / "weights"
    folder.mkdir()
    entries: list[dict[str, object]] = []
    taken: set[str] = set()
    total = 0
    for name, value in weights.items():
        file = re.sub(r"[^A-Za-z0-9-]", "_", name)
        while file in taken:
            file += "_"
        taken.add(file)
        size = (folder / f"{file}.bin").write_bytes(_weight_head(tuple(value.shape), FLOAT32) + _numbers(value))
        shape = list(value.shape)
        entries.append(
            {"name": name, "file": f"{file}.bin", "shape": shape, "dtype": FLOAT32, "offset": 0, "size_bytes": size}
        )
        total += size
    _write_json(
        folder / "manifest.json",
        {"version": "1.0", "total_tensors": len(entries), "total_bytes": total, "tensors": entries},
    )


def write_archive(trained: Trained, path: Path) -> None:
    """The directory, named `model.cyxmodel`, as a tar."""
    with TemporaryDirectory(dir=path.parent) as folder:
        write_directory(trained, Path(folder))
        tar(Path(folder), path, top=DIRECTORY)


def _numbers(value: Tensor) -> bytes:
    return value.numpy().astype("<f4", copy=False).tobytes()


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")


def _own(trained: Trained) -> dict[str, object]:
    return {
        "definition": trained.definition,
        "features": trained.features,
        "loss": trained.loss,
        "label_shape": list(trained.label_shape),
        "scaling": dict(trained.scaling),
        "dataset": trained.dataset,
        "class_names": list(trained.class_names),
        "columns": trained.columns.document(),
    }


def _metadata(trained: Trained) -> dict[str, object]:
    return {
        "name": trained.name,
        "description": f"trained on {trained.dataset}" if trained.dataset else "",
        "created_at": trained.created,
        "framework": "CyxWiz",
        "format_version": "2.0",
        "cyxwiz": _own(trained),
    }


def _modules(trained: Trained, weights: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """One entry for every layer, its parameters by their names inside of it."""
    modules: list[dict[str, Any]] = []
    for place, (site, _) in enumerate(sites(trained.graph, trained.features)):
        prefix = f"layer{place}."
        inner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        modules.append({"index": place, "name": _module_name(site), "parameters": inner})
    return modules


def _module_name(site: Site) -> str:
    """As the earlier system writes those that it knows."""
    match site.type:
        case "Dense":
            width = math.prod(site.given) if site.flag("flatten") else site.given[-1]
            return f"Linear({width} -> {site.integer('units')})"
        case "Dropout":
            return f"Dropout(p={site.number('rate'):.6f})"
        case "LeakyReLU":
            return f"LeakyReLU(slope={site.number('negative_slope'):.6f})"
        case "ELU":
            return f"ELU(alpha={site.number('alpha'):.6f})"
        case name:
            return name


def _described(module: dict[str, Any]) -> dict[str, object]:
    parameters: dict[str, Tensor] = module["parameters"]
    return {
        "index": module["index"],
        "name": module["name"],
        "has_parameters": bool(parameters),
        "trainable": bool(parameters),
        "parameters": [{"name": name, "shape": list(v.shape), "dtype": FLOAT32} for name, v in parameters.items()],
    }


def _manifest(trained: Trained, weights: Mapping[str, Tensor]) -> dict[str, object]:
    accuracy = trained.metrics.get("val_accuracy", trained.metrics.get("accuracy", 0.0))
    return {
        "version": "2.0",
        "format": "cyxmodel",
        "created": trained.created,
        "cyxwiz_version": __version__,
        "model": {
            "name": trained.name,
            "type": "Sequential" if _is_chain(trained) else "Graph",
            "num_parameters": sum(value.numel() for value in weights.values()),
            "num_layers": len(trained.graph.layers),
        },
        "training": {
            "epochs_trained": trained.epochs,
            "final_accuracy": accuracy,
            "final_loss": trained.metrics.get("val_loss", trained.metrics.get("loss", 0.0)),
        },
        "metadata": {"author": "", "description": "", "custom": {}},
        "content": {"has_optimizer_state": False, "has_training_history": bool(trained.history), "has_graph": True},
        "cyxwiz": _own(trained),
    }


def _is_chain(trained: Trained) -> bool:
    reads = [layer.inputs for layer in trained.graph.layers]
    before = [(trained.graph.inputs[0],), *[(layer.id,) for layer in trained.graph.layers[:-1]]]
    return reads == before


def _config(trained: Trained) -> dict[str, object]:
    hyper = trained.hyper
    return {
        "optimizer": {
            "type": hyper.optimizer,
            "learning_rate": hyper.learning_rate,
            "momentum": hyper.momentum,
            "weight_decay": hyper.weight_decay,
            "beta1": hyper.beta1,
            "beta2": hyper.beta2,
            "epsilon": hyper.eps,
        },
        "training": {
            "batch_size": trained.batch_size,
            "epochs": trained.epochs,
            "loss_function": trained.loss,
        },
        "data": {
            "dataset_name": trained.dataset,
            "num_classes": trained.classes or 0,
            "input_shape": list(trained.arrays().get("x", ())),
        },
    }


def _history(trained: Trained) -> dict[str, object]:
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "timestamps")
    found: dict[str, list[float]] = {name: list(trained.history.get(name, ())) for name in names}
    losses = found["val_loss"] or found["loss"]
    best = min(range(len(losses)), key=losses.__getitem__) if losses else None
    values = {name: numbers[best] for name, numbers in found.items() if best is not None and best < len(numbers)}
    return {**found, "best": {} if best is None else {"epoch": best + 1, **values}}


# --- reading


def read_cyxmodel(path: Path) -> Saved:
    """The model of a `.cyxmodel` file or directory, or of a directory's tar; CyxError INVALID naming what is wrong
    with it."""
    try:
        if path.is_dir():
            return _read_directory(path)
        return _read_archive(path) if is_tar(path) else _read_binary(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, struct.error) as error:
        raise invalid(f"{path.name} cannot be read as a .cyxmodel: {error}.", file=path.name) from None


def _read_binary(path: Path) -> Saved:
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size, path.name)
        magic, version, length = reader.take("<IIQ")
        if magic != MAGIC or version != VERSION:
            raise reader.wrong(f"it starts with {magic:#x}, version {version}; expected {MAGIC:#x}, version {VERSION}")
        head = json.loads(reader.bytes(length, _MAX_JSON))
        weights: dict[str, Tensor] = {}
        (modules,) = reader.take("<Q")
        for place in range(reader.count(modules)):
            (parameters,) = reader.take("<Q")
            for _ in range(reader.count(parameters)):
                name, value = _parameter(reader)
                weights[f"layer{place}.{name}"] = value
    own = head["metadata"].get("cyxwiz")
    if own is not None:
        return _saved(own, weights, head["metadata"])
    definition, features = _known_modules([str(module["name"]) for module in head["modules"]])
    return Saved(json.dumps(definition), features, "", (), {}, weights, head["metadata"])


def _parameter(reader: _Reader) -> tuple[str, Tensor]:
    (length,) = reader.take("<Q")
    name = reader.bytes(length, 1024).decode()
    (axes,) = reader.take("<Q")
    if axes > _MAX_AXES:
        raise reader.wrong(f"{name} has {axes} axes; at most {_MAX_AXES} are read")
    shape = reader.take(f"<{axes}Q")
    kind, size = reader.take("<iQ")
    if kind != FLOAT32 or size != 4 * math.prod(shape):
        raise reader.wrong(f"{name} has the type {kind} and {size} bytes for the shape {shape}")
    return name, _tensor(reader.bytes(size, size), shape)


def _tensor(data: bytes, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape) if data else torch.zeros(shape)


class _Reader:
    """Reads no more than the file has."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self._file, self._left, self._name = file, size, name

    def bytes(self, length: int, most: int) -> bytes:
        if length > min(self._left, most):
            raise self.wrong(f"{length} bytes are announced, {min(self._left, most)} can be read")
        self._left -= length
        return self._file.read(length)

    def take(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form), 4096))

    def count(self, value: int) -> int:
        # Everything that is counted takes at least 8 bytes.
        if value > min(_MAX_COUNT, self._left // 8):
            raise self.wrong(f"{value} entries are announced, more than fit the file")
        return value

    def wrong(self, what: str) -> CyxError:
        return invalid(f"{self._name} is no .cyxmodel file: {what}.", file=self._name)


def _read_directory(path: Path) -> Saved:
    first = path / "manifest.json"
    manifest = _json(first if first.is_file() else path / "metadata.json")
    listed = _json(path / "weights" / "manifest.json")
    # Directories that this project wrote at first have them under `weights`.
    entries = (listed["tensors"] if "tensors" in listed else listed["weights"]) if isinstance(listed, dict) else listed
    weights: dict[str, Tensor] = {}
    for entry in entries:
        file = str(entry.get("file", re.sub(r"[^A-Za-z0-9-]", "_", entry["name"]) + ".bin"))
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,300}", file) or file.startswith("."):
            raise invalid(f"{path.name}: the weight file {file!r} is no plain name.", file=path.name)
        weights[str(entry["name"])] = _weight(path / "weights" / file, tuple(int(size) for size in entry["shape"]))
    own = manifest.get("cyxwiz")
    if own is not None:
        return _saved(own, weights, manifest)
    definition = (path / "graph.cyxgraph").read_text(encoding="utf-8")
    return Saved(definition, _stated_shape(path, definition, weights), "", (), {}, weights, manifest)


def _stated_shape(path: Path, definition: str, weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of a sample: as config.json or the graph says, which the earlier system often leaves empty, else as
    wide as the first Dense is."""
    config = path / "config.json"
    shape = _json(config)["data"]["input_shape"] if config.is_file() else ()
    if shape:
        return tuple(int(size) for size in shape)
    graph = parse(definition)
    if graph.input_shape is not None:
        return graph.input_shape
    first = weights.get("layer0.weight")
    if graph.layers[0].type != "Dense" or first is None or first.dim() != 2:
        raise invalid(f"{path.name}: neither config.json nor graph.cyxgraph says the shape of a sample.")
    return (first.shape[1],)


def _read_archive(path: Path) -> Saved:
    with TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
        target = Path(folder) / path.name
        untar(f"The file {path.name}", path, target, path.stat().st_size + _MAX_JSON)
        tops = list(target.iterdir())
        return _read_directory(tops[0] if len(tops) == 1 and tops[0].is_dir() else target)


def _weight(file: Path, shape: tuple[int, ...]) -> Tensor:
    """The numbers of one file, with or without a head before them."""
    wanted, size = 4 * math.prod(shape), file.stat().st_size
    heads = tuple(_weight_head(shape, kind) for kind in (FLOAT32, _FLOAT32_IN_THE_DOCUMENT))
    if size not in (wanted, wanted + len(heads[0])):
        raise invalid(f"{file.name} has {size} bytes, expected {wanted} for the shape {shape}.", file=file.name)
    data = file.read_bytes()
    if size > wanted and not data.startswith(heads):
        raise invalid(f"{file.name} says another shape or type than float32 {shape}.", file=file.name)
    return _tensor(data[size - wanted :], shape)


def _weight_head(shape: tuple[int, ...], kind: int) -> bytes:
    return struct.pack(f"<I{len(shape)}qI", len(shape), *shape, kind)


def _json(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON:
        raise invalid(f"{path.name} is larger than {_MAX_JSON} bytes.", file=path.name)
    return json.loads(path.read_text(encoding="utf-8"))


def _saved(own: Mapping[str, Any], weights: Mapping[str, Tensor], info: Mapping[str, Any]) -> Saved:
    features, label_shape = features_from(own["features"]), tuple(own["label_shape"])
    names = tuple(str(name) for name in own.get("class_names", ()))
    columns = Columns.of(own.get("columns", {}))
    return Saved(own["definition"], features, own["loss"], label_shape, own["scaling"], weights, info, names, columns)


def _known_modules(names: list[str]) -> tuple[dict[str, object], tuple[int, ...]]:
    """The definition of a file of the earlier system, and the width of its first Linear."""
    layers: list[dict[str, object]] = []
    width: int | None = None
    for name in names:
        for pattern, make in _NAMES.items():
            match = re.fullmatch(pattern, name)
            if match:
                layers.append(make(match))
                break
        else:
            raise invalid(
                f"The module {name[:100]!r} is not known, and the file holds no definition.", module=name[:100]
            )
        linear = re.fullmatch(r"Linear\((\d+) -> \d+\)", name)
        width = int(linear[1]) if linear and width is None else width
    if width is None:
        raise invalid("The file holds no definition and no Linear, so that its input is not known.")
    return {"layers": layers}, (width,)


_NAMES: Mapping[str, Callable[[re.Match[str]], dict[str, object]]] = {
    r"Linear\((\d{1,9}) -> (\d{1,9})\)": lambda match: {"type": "Dense", "units": int(match[2])},
    r"Dropout\(p=([0-9.]{1,20})\)": lambda match: {"type": "Dropout", "rate": match[1]},
    r"LeakyReLU\(slope=(-?[0-9.]{1,20})\)": lambda match: {"type": "LeakyReLU", "negative_slope": match[1]},
    r"ELU\(alpha=(-?[0-9.]{1,20})\)": lambda match: {"type": "ELU", "alpha": match[1]},
    r"(Flatten|ReLU|GELU|Swish|SiLU|Mish|Sigmoid|Tanh|Softmax)": lambda match: {"type": match[1]},
}
