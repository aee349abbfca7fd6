"""safetensors: the weights with the definition in the metadata, the same bytes for the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cyxwiz.compute.data.columns import Columns
from cyxwiz.compute.export.trained import Saved, Trained
from cyxwiz.compute.tensors import write_tensors
from cyxwiz.domain.errors import invalid
from cyxwiz.graph import skipped_softmax
from cyxwiz.ports.executor import Artefact


def write_safetensors(trained: Trained, path: Path) -> Artefact:
    skipped = skipped_softmax(trained.graph, trained.features, trained.loss)
    metadata = {
        "format": "pt",
        "cyxwiz.definition": trained.definition,
        "cyxwiz.dataset": trained.dataset,
        "cyxwiz.input_shape": json.dumps(trained.features),
        "cyxwiz.label_shape": json.dumps(trained.label_shape),
        "cyxwiz.loss": trained.loss,
        "cyxwiz.scaling": json.dumps(dict(trained.scaling)),
        "cyxwiz.skipped_softmax": "" if skipped is None else skipped.id,
    }
    if trained.class_names:
        metadata["cyxwiz.classes"] = json.dumps(list(trained.class_names))
    if trained.columns.features:
        metadata["cyxwiz.columns"] = json.dumps(trained.columns.document())
    return write_tensors(path, trained.weights(), metadata)


def read_safetensors(path: Path) -> Saved:
    """What `write_safetensors`, or a training job, wrote; CyxError INVALID for another file."""
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names = [name for name in file.keys() if not name.endswith("num_batches_tracked")]  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise invalid(f"{path.name} cannot be read as safetensors: {error}.", file=path.name) from None
    if "cyxwiz.definition" not in metadata:
        raise invalid(f"{path.name} holds weights but no cyxwiz.definition to build their model from.", file=path.name)
    stated = json.loads(metadata["cyxwiz.input_shape"])
    return Saved(
        metadata["cyxwiz.definition"],
        features_from(stated),
        metadata["cyxwiz.loss"],
        tuple(json.loads(metadata.get("cyxwiz.label_shape", "[]"))),
        json.loads(metadata["cyxwiz.scaling"]),
        weights,
        {key: value for key, value in metadata.items() if key == "cyxwiz.dataset"},
        tuple(json.loads(metadata.get("cyxwiz.classes", "[]"))),
        Columns.of(json.loads(metadata.get("cyxwiz.columns", "{}"))),
    )


def features_from(stated: Any) -> Any:
    """A shape, or shapes by name, from JSON's lists."""
    if isinstance(stated, dict):
        return {name: tuple(shape) for name, shape in stated.items()}
    return tuple(stated)
