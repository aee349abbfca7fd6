"""A client's own table is read by the rules by which a node reads one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from cyxwiz.client import CyxError, LocalData
from cyxwiz.compute.data.load import load
from cyxwiz.domain.errors import Code


@pytest.mark.parametrize(
    "text",
    [
        "a,b,kind\n1,2,0\n3,4,1\n",
        "0,1,kind\n1,2,0\n3,4,1\n",
        "1,2,x\n3,4,y\n",
        "a,b,kind,\n1,2,0,\n3,4,1,\n",
        "a,b,kind\n1,2,0,\n  \n3,4,1\n\n",
        "1,2,0,\r\n3,4,1,\r\n",
        "\ufeff1,2,no\r\n3,4,yes\r\n",
    ],
)
def test_one_table_is_the_same_to_both(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    here = LocalData.read(tmp_path / "t.csv")
    there = load(f"file:///{tmp_path / 't.csv'}", data_roots=(tmp_path,))
    assert here.samples.tolist() == there.features.tolist() == [[1, 2], [3, 4]]
    assert here.labels.tolist() == there.labels.tolist() == [0, 1]
    assert here.names == there.class_names


def test_classes_with_a_point_are_whole(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1,2,1.0\n3,4,2.0\n")
    assert LocalData.read(tmp_path / "t.csv").labels.tolist() == [1, 2]
    np.savez(tmp_path / "t.npz", x=np.zeros((2, 1)), y=np.array(["0.5", "1"]))
    with pytest.raises(CyxError, match="only classes are streamed"):
        LocalData.read(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,y\n1,2,0.5\n3,4,1\n", "only classes are streamed"),
        ("a,b,y\n1,2,-1\n3,4,1\n", "labels from -1 to 1"),
        ("a,b,y\n1,2,\n3,4,1\n", "row 2 has no label"),
        ("a,b,y\n1,2,0\n3,1\n", "row 3 has 2 columns, the first has 3"),
        (",2,0\n3,4,1\n", "could not convert"),
        ("a,b,y\n1e39,2,0\n3,4,1\n", "infinite"),
        ("a,b,y\n", "needs rows of numbers"),
    ],
)
def test_what_is_no_table_with_classes_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CyxError, match=words) as caught:
        LocalData.read(tmp_path / "t.csv")
    assert caught.value.code is Code.INVALID


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.savez_compressed(whole, x=np.arange(4000.0).reshape(2000, 2), y=np.zeros(2000, np.int64))
    packed = bytearray(whole.getvalue())
    packed[300:310] = b"\xff" * 10
    single = io.BytesIO()
    np.save(single, np.arange(3))
    for content in (b"", bytes(packed), single.getvalue()):
        (tmp_path / "t.npz").write_bytes(content)
        with pytest.raises(CyxError, match="can't be read") as caught:
            LocalData.read(tmp_path / "t.npz")
        assert caught.value.code is Code.INVALID
