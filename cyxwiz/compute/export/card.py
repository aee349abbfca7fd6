"""The model card: what the model is, what it was trained on, how well it did and how to use its files. Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyxwiz.compute.export.trained import Trained
from cyxwiz.graph import cost, sites
from cyxwiz.graph.rule import show
from cyxwiz.runtime.files import file_sha256

_USES = {
    ".onnx": "`onnxruntime.InferenceSession(path).run(None, {name: array})`",
    ".pt2": "`torch.export.load(path).module()(tensor)`",
    ".pt": "`torch.jit.load(path)(tensor)`",
    ".cyxmodel": "CyxWiz, `.cyxmodel` version 2",
    ".tar": "`tar xf`: CyxWiz, the directory `model.cyxmodel`",
    ".safetensors": "`safetensors.torch.load_file(path)`",
}


def write_card(trained: Trained, path: Path, files: Sequence[Path] = ()) -> None:
    path.write_text(card(trained, files), encoding="utf-8")


def card(trained: Trained, files: Sequence[Path] = ()) -> str:
    """The card's text. `files` are listed with their sizes and SHA-256."""
    price = cost(trained.graph, trained.features)
    arrays = ", ".join(f"{name} {show(shape)}" for name, shape in trained.arrays().items())
    parts = [
        f"# {_line(trained.name)}",
        "",
        f"{price.parameters:,} parameters, {price.forward_flops:,} floating-point operations for one sample.",
        "",
        _table(
            ("", ""),
            [
                ("Created", trained.created),
                ("Data set", trained.dataset),
                ("Input", f"{arrays}, float32, after a batch axis; raw, the scaling is inside the exported programs"),
                ("Columns", ", ".join(trained.columns.features)),
                ("Scaling", _scaling(trained)),
                ("Classes", _classes(trained)),
                ("Loss", trained.loss),
                ("Optimizer", f"{trained.hyper.optimizer}, learning rate {trained.hyper.learning_rate:g}"),
                ("Epochs, batch", f"{trained.epochs}, {trained.batch_size}"),
            ],
        ),
        "",
        "## Layers",
        "",
        _table(("Layer", "Type", "Reads", "Gives", "Parameters"), _layers(trained)),
    ]
    if trained.metrics:
        rows = [(name, f"{value:.6g}") for name, value in sorted(trained.metrics.items())]
        parts += ["", "## Measured", "", _table(("Metric", "Value"), rows)]
    if files:
        rows = [(file.name, str(file.stat().st_size), file_sha256(file), _USES.get(file.suffix, "")) for file in files]
        parts += ["", "## Files", "", _table(("File", "Bytes", "SHA-256", "To be read with"), rows)]
    return "\n".join(parts) + "\n"


def _layers(trained: Trained) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    found = sites(trained.graph, trained.features)
    for layer, (_, made) in zip(trained.graph.layers, found, strict=True):
        params = ", ".join(f"{name} {_shown(value)}" for name, value in layer.params.items())
        rows.append((layer.id, layer.type, ", ".join(layer.inputs), show(made), params))
    return rows


def _shown(value: object) -> str:
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _scaling(trained: Trained) -> str:
    words = [f"divided by {trained.scaling['divisor']:g}"] if trained.scaling.get("divisor", 1) != 1 else []
    mean = trained.scaling.get("mean")
    if mean is not None:
        each = isinstance(mean, list)
        words.append(
            "each feature less its mean, by its deviation"
            if each
            else f"less {mean:g}, then by {trained.scaling['std']:g}"
        )
    return ", ".join(words) or "none"


def _classes(trained: Trained) -> str:
    if trained.class_names:
        return ", ".join(trained.class_names)
    return "" if trained.classes is None else str(trained.classes)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_line(cell) for cell in row) + " |" for row in rows if any(row[1:])]
    return "\n".join(lines)


def _line(text: str) -> str:
    """Text from outside as one cell of a table."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return plain if len(plain) <= 500 else plain[:500] + "…"
