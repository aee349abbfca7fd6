from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from cyxwiz.compute.datasets import load
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import BUILTIN

HEX = "0" * 64


def refused(uri: str, code: Code, *words: str, roots: tuple[Path, ...] = (), blob: Path | None = None) -> None:
    with pytest.raises(CyxError) as caught:
        load(uri, data_roots=roots, blob=blob)
    assert caught.value.code is code, caught.value
    assert uri in caught.value.message
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize("name", BUILTIN)
def test_a_builtin_set_is_scikit_learns_and_as_the_table_says(name: str) -> None:
    dataset = load(f"builtin:{name}")
    assert dataset.shape == BUILTIN[name]
    options = {"scaled": False} if name == "diabetes" else {}
    theirs = getattr(sklearn_datasets, f"load_{name}")(**options)
    np.testing.assert_array_equal(dataset.features, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.labels.squeeze(), theirs.target.astype(dataset.labels.dtype))


def test_mock_data_depends_on_uri_and_seed_only() -> None:
    one, again, seed, other = load("mock://a"), load("mock://a"), load("mock://a", seed=1), load("mock://b")
    assert one.features.shape == (1000, 784)
    assert set(one.labels) == set(range(10))
    np.testing.assert_array_equal(one.features, again.features)
    assert not np.array_equal(one.features, seed.features)
    assert not np.array_equal(one.features, other.features)


def test_csv_labels_are_classes_when_whole_and_numbers_otherwise(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("a,b,label\n1,2,0\n3,4.5,2\n")
    (tmp_path / "r.csv").write_text("1,2,0.0\n3,4,2.0\n")
    classes = load("file://csv/c.csv", data_roots=(tmp_path,))
    assert classes.shape.classes == 3
    assert classes.labels.tolist() == [0, 2]
    assert classes.features.tolist()[1] == [3, 4.5]
    numbers = load(f"file://csv/{tmp_path}/r.csv", data_roots=(tmp_path,))
    assert numbers.shape.classes is None
    assert numbers.labels.tolist() == [[0], [2]]


@pytest.mark.parametrize(
    "text",
    [
        "", "a,b\n", "1\n2\n", "1,2\n3\n", "x,1\ny,2\nz,3\n", "nan,1\n2,0\n", "1e60,1\n2,0\n", "1,-1\n2,0\n",
        "1,0\n", "1,99999\n2,3\n",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_a_bad_csv_is_invalid(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    refused("file://csv/x.csv", Code.INVALID, roots=(tmp_path,))


def test_binary_posing_as_csv_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(bytes(range(256)))
    refused("file://csv/x.csv", Code.INVALID, roots=(tmp_path,))


def test_files_are_read_below_the_data_roots_only(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "s.csv").write_text("1,0\n2,1\n")
    (root / "link.csv").symlink_to(other / "s.csv")
    refused("file://csv/s.csv", Code.FORBIDDEN, "data_roots")
    refused("file://csv/s.csv", Code.NOT_FOUND, roots=(root,))
    refused("file://csv/../other/s.csv", Code.FORBIDDEN, roots=(root,))
    refused(f"file://csv/{other}/s.csv", Code.FORBIDDEN, roots=(root,))
    refused("file://csv/link.csv", Code.FORBIDDEN, roots=(root,))
    refused("file://csv//etc/shadow", Code.FORBIDDEN, roots=(root,))
    assert load("file://csv/s.csv", data_roots=(root, other)).shape.samples == 2
    refused("file://csv/" + "x" * 300, Code.NOT_FOUND, roots=(root,))
    refused("file://csv/.", Code.NOT_FOUND, roots=(root,))
    os.mkfifo(root / "pipe.csv")
    refused("file://csv/pipe.csv", Code.INVALID, "neither a file nor a folder", roots=(root,))


def _idx(rank: int, array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return bytes((0, 0, 8, rank)) + struct.pack(f">{rank}I", *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("dot", ["-", "."])
def test_mnist_files_of_both_namings(tmp_path: Path, dot: str) -> None:
    images = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 256
    (tmp_path / f"train-images{dot}idx3-ubyte").write_bytes(_idx(3, images))
    (tmp_path / f"train-labels{dot}idx1-ubyte").write_bytes(_idx(1, np.arange(5)))
    dataset = load(f"file://mnist/{tmp_path}", data_roots=(tmp_path.parent,))
    assert dataset.shape.features == (28, 28)
    assert dataset.shape.classes == 5
    assert dataset.features.max() == 1.0
    assert dataset.divisor == 255
    (tmp_path / f"train-labels{dot}idx1-ubyte").write_bytes(_idx(1, np.arange(5))[:-1])
    refused(f"file://mnist/{tmp_path}", Code.INVALID, "header", roots=(tmp_path,))
    (tmp_path / f"train-labels{dot}idx1-ubyte").unlink()
    refused(f"file://mnist/{tmp_path}", Code.NOT_FOUND, "train-labels", roots=(tmp_path,))


def test_a_blob_is_npz_or_csv_and_never_a_pickle(tmp_path: Path) -> None:
    uri, path = f"blob://sha256/{HEX}", tmp_path / "blob"
    refused(uri, Code.UNAVAILABLE)
    with path.open("wb") as file:
        np.savez(file, x=np.full((3, 2, 2), 255, np.uint8), y=np.array([0, 1, 1]))
    dataset = load(uri, blob=path)
    assert dataset.shape.features == (2, 2)
    assert dataset.shape.classes == 2
    assert dataset.features.max() == 1
    path.write_text("1,0.5\n2,1.5\n")
    assert load(uri, blob=path).shape.classes is None
    with path.open("wb") as file:
        np.savez(file, x=np.array([object(), 1], dtype=object), y=np.zeros(2))
    refused(uri, Code.INVALID, blob=path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2))
    refused(uri, Code.INVALID, "x and y", blob=path)
    path.write_bytes(b"PK\x03\x04" + b"\0" * 50)
    refused(uri, Code.INVALID, blob=path)
