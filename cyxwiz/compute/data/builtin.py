"""scikit-learn's bundled sets (`builtin:`) and random data (`mock://`)."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.dataset import Dataset, Raw, labelled
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph.dataset_uri import MOCK

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array


_FILES = {
    "diabetes": ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"),
    "linnerud": ("linnerud_exercise.csv", "linnerud_physiological.csv"),
    "digits": ("digits.csv.gz",),
    "wine": ("wine_data.csv",),
}


def builtin_files(uri: str, name: str) -> list[Path]:
    """Where scikit-learn's package has a set: features and targets, or a file of both. Raises CyxError UNAVAILABLE
    without the package."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} needs the package scikit-learn; install it on the node.")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    return [folder / file for file in _FILES.get(name, (f"{name}.csv",))]


def builtin(uri: str, name: str) -> Dataset:
    """scikit-learn's bundled files, read without importing it: that import alone takes longer than a short job.

    Tables keep their units and ask with `standardize` for the training part's mean and deviation to be taken out; so
    does digits, whose pixels run from 0 to 16.
    """
    import numpy as np

    def table(path: Path, **options: Any) -> Array:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        return np.loadtxt(text.splitlines(), ndmin=2, **options)

    paths = builtin_files(uri, name)
    if name == "diabetes":
        features, targets = map(table, paths)
        return labelled(uri, Raw(features, targets.reshape(-1, 1), standardize=True))
    if name == "linnerud":
        exercise, body = (table(path, skiprows=1) for path in paths)
        return labelled(uri, Raw(exercise, body, standardize=True))
    raw = table(paths[0], delimiter=",", skiprows=0 if name == "digits" else 1)
    return replace(labelled(uri, Raw(raw[:, :-1], raw[:, -1].astype(np.int64), standardize=True)), nominal=True)


def mock(uri: str, seed: int) -> Dataset:
    """Random data that depend on the URI and the seed only."""
    import numpy as np

    digest = hashlib.sha256(f"{uri}|{seed}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    features = random.random((MOCK.samples, *MOCK.features), dtype=np.float32)
    labels = random.integers(0, MOCK.classes or 1, MOCK.samples, dtype=np.int64)
    return Dataset(uri, features, labels, MOCK.classes, nominal=True)
