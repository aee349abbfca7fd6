"""Every format that a data set may have, and what each reader refuses.

Long, as it is a list: a format, or what is wrong with it, a test.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from cyxwiz.compute.data.columns import Columns
from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.compute.data.files import detect_file, split_of
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.rows import open_rows
from cyxwiz.domain.errors import Code, CyxError

HEX = "0" * 64
ROWS = [[1.0, 2.5], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
LABELS = [0, 1, 2, 1]


def taken(path: Path, options: str = "", kind: str = "auto") -> Dataset:
    return load(f"file://{kind}/{path}{options}", data_roots=(path if path.is_dir() else path.parent,))


def refusal(path: Path, options: str = "", kind: str = "auto", code: Code = Code.INVALID) -> str:
    with pytest.raises(CyxError) as caught:
        taken(path, options, kind)
    assert caught.value.code is code, caught.value
    assert str(path) in caught.value.message
    return caught.value.message


def table(path: Path, rows: list[list[float]], labels: list[Any], names: tuple[str, ...] = ("a", "b", "kind")) -> Path:
    """The same table in whatever format the ending of the path names."""
    records = [dict(zip(names, [*row, label], strict=True)) for row, label in zip(rows, labels, strict=True)]
    kind = path.suffix[1:]
    if kind in ("csv", "tsv"):
        mark = {"csv": ",", "tsv": "\t"}[kind]
        lines = [mark.join(names), *(mark.join(map(str, record.values())) for record in records)]
        path.write_text("\n".join(lines))
    elif kind == "json":
        path.write_text(json.dumps(records))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    elif kind == "npz":
        np.savez(path, x=np.array(rows), y=np.array(labels))
    else:
        np.save(path, np.array([[*row, label] for row, label in zip(rows, labels, strict=True)]))
    return path


FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "npz", "npy")


@pytest.mark.parametrize("kind", FORMATS)
def test_one_table_is_the_same_in_every_format(tmp_path: Path, kind: str) -> None:
    path = table(tmp_path / f"t.{kind}", ROWS, LABELS)
    found = taken(path)
    np.testing.assert_array_equal(found.features, np.array(ROWS, np.float32))
    assert found.features.dtype == np.float32
    assert found.labels.tolist() == LABELS
    assert found.classes == 3
    assert found.standardize == (kind not in ("npz", "npy"))
    assert taken(path, kind=kind).labels.tolist() == LABELS
    for other in (tmp_path / "bare", tmp_path / "blob"):  # told by its content alone
        path.rename(other)
        path = other
        if kind != "tsv":
            np.testing.assert_array_equal(load(f"blob://sha256/{HEX}", blob=path).features, found.features)
    assert load(f"blob://sha256/{HEX}?format={kind}", blob=path).labels.tolist() == LABELS


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "npy"])
def test_text_labels_are_classes_in_sorted_order(tmp_path: Path, kind: str) -> None:
    found = taken(table(tmp_path / f"t.{kind}", ROWS, ["wolf", "cat", "dog", "cat"]))
    assert found.class_names == ("cat", "dog", "wolf")
    assert found.labels.tolist() == [2, 0, 1, 0]
    assert found.classes == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_with_a_point_are_numbers_to_predict(tmp_path: Path, kind: str) -> None:
    found = taken(table(tmp_path / f"t.{kind}", ROWS, [0.5, 1.5, 2.0, 3.0]))
    assert found.classes is None
    assert found.labels.tolist() == [[0.5], [1.5], [2.0], [3.0]]


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_columns_are_chosen_by_name_or_number(tmp_path: Path, kind: str) -> None:
    path = table(tmp_path / f"t.{kind}", [["p", 1.0, 2.0], ["q", 3.0, 4.0]], [0, 1], ("id", "kind", "a", "z"))  # type: ignore[list-item]
    found = taken(path, "?label=z&features=a,kind")
    assert found.features.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert taken(path, "?label=3&features=2").features.tolist() == [[2.0], [4.0]]
    assert "'p'" in refusal(path, "?label=z") or kind == "parquet"
    assert "id" in refusal(path, "?label=z")
    assert "nothing" in refusal(path, "?label=nothing")
    assert "twice" in refusal(path, "?label=z&features=z,a")
    assert taken(path, "?label=id&features=a").class_names == ("p", "q")


def test_a_label_is_found_by_its_name_where_the_order_of_columns_says_little(tmp_path: Path) -> None:
    records = [{"Label": "x", "a": 1, "b": 2}, {"Label": "y", "a": 3, "b": 4}]
    (tmp_path / "t.json").write_text(json.dumps(records))
    assert taken(tmp_path / "t.json").class_names == ("x", "y")
    (tmp_path / "t.csv").write_text("label,a,b\n0,1,7\n1,3,8\n")
    assert taken(tmp_path / "t.csv").classes == 9


@pytest.mark.parametrize(
    ("text", "options", "said", "warned"),
    [
        ("label,a,b\n0,1,7\n1,3,8\n", "", "the column 'b' of 3", True),
        ("label,a,b\n0,1,7\n1,3,8\n", "?label=label", "the column 'label' of 3", False),
        ("x,y,kind\n0,1,7\n1,3,8\n", "", "the column 'kind' of 3", False),
        ("x,class,target\n0,1,7\n1,3,8\n", "", "the column 'target' of 3", False),
        ("1,2\n3,4\n", "", "the column number 1 (from 0) of 2", False),
    ],
)
def test_which_column_is_the_label_is_said(tmp_path: Path, text: str, options: str, said: str, warned: bool) -> None:
    (tmp_path / "t.csv").write_text(text)
    first, *others = taken(tmp_path / "t.csv", options).notes
    assert (first.level, said in first.message) == ("info", True)
    assert [note.level for note in others] == ["warning"] * warned
    assert all("?label=label" in note.message for note in others)


def test_a_text_in_json_may_hold_what_else_ends_a_line(tmp_path: Path) -> None:
    rows = [{"a": number, "label": label} for number, label in enumerate(["yes\u2028it", "no\x85", "no\x85"])]
    (tmp_path / "t.jsonl").write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert taken(tmp_path / "t.jsonl").class_names == ("no", "yes\u2028it")


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("a,b\n1,0\n2,1\n", "", 2),
        ("1,0\n2,1\n", "", 2),
        ("1,x\n2,y\n", "", 2),
        ("0,1,kind\n1,2,0\n2,2,1\n", "", 2),
        ("1,0\n2,1\n3,1\n", "?header=true", 2),
        ("\n\na;b\n1;0\n\n2;1\n", "?delimiter=semicolon", 2),
        ('"a, b",c\n"1",0\n2,"1"\n', "", 2),
        ("1 0\n2   1\n", "?delimiter=space", 2),
        ("\ufeffa,b\r\n1,0\r\n2,1\r\n", "", 2),
        ("a|b\n1|0\n2|1", "?delimiter=|", 2),
        (",a,b\n0,1,0\n2,2,1\n", "", 2),
        ('"a\n(kg)",b\n1,0\n2,1\n', "", 2),
        ('\n"a\r\n(kg)",b\r\n1,0\r\n\r\n2,1\r\n', "", 2),
        ("a,b\n1,0\n  \n2,1\n \t\n\n", "", 2),
        ("a,b,\n1,0,\n2,1,\n", "", 2),
        ("a,b\n1,0,\n2,1\n", "", 2),
        ("1,0,\n2,1,\n", "", 2),
        ("a b \n1 0  \n\n2   1\n", "?delimiter=space", 2),
        ("a;b;\n1;0; \n2;1;\n", "?delimiter=semicolon", 2),
    ],
)
def test_headers_quotes_and_delimiters(tmp_path: Path, text: str, options: str, rows: int) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = taken(tmp_path / "t.csv", options)
    assert len(found.features) == rows
    assert found.features[-1, 0] == (3 if "header" in options else 2)
    model = Columns(labels=False, width=found.features.shape[1])
    asked = open_rows(f"file:///{tmp_path / 't.csv'}{options}", tmp_path / "own", wanted=model, data_roots=(tmp_path,))
    assert asked.take(0, 9)["x"].tolist() == found.features.tolist(), "and a model is asked about the same"


@pytest.mark.parametrize("nothing", ["", "?", "NA", " null "])
def test_a_first_row_with_a_missing_value_is_no_header(tmp_path: Path, nothing: str) -> None:
    (tmp_path / "t.csv").write_text(f"10,{nothing},1\n2,3,0\n4,5,1\n")
    assert "row 1" in refusal(tmp_path / "t.csv")
    with pytest.raises(CyxError, match="row 1"):
        open_rows(f"file://csv/{tmp_path / 't.csv'}", tmp_path / "own", data_roots=(tmp_path,))


def test_a_header_that_could_be_a_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,2019,2020\n1,2,0\n4,5,1\n")
    found = taken(tmp_path / "t.csv")
    assert len(found.features) == 2
    assert [note.message for note in found.notes if "?header=false" in note.message and note.level == "warning"]
    asked = open_rows(f"file://csv/{tmp_path / 't.csv'}", tmp_path / "own", data_roots=(tmp_path,))
    assert [note.message for note in asked.notes if "?header=false" in note.message]
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,0\n4,5,1\n")
    assert not [note for note in taken(tmp_path / "t.csv").notes if "header" in note.message]


def test_a_txt_file_is_read_by_its_own_delimiter(tmp_path: Path) -> None:
    for mark in ("\t", ";", ",", " ", "  "):
        (tmp_path / "t.txt").write_bytes(f"\ufeff1{mark}2{mark}0{mark}\r\n3{mark}4{mark}1\r\n\r\n".encode())
        assert taken(tmp_path / "t.txt").features.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("mark", ["\t", ";", ","])
def test_an_uploaded_table_has_no_name_to_go_by(tmp_path: Path, mark: str) -> None:
    (tmp_path / HEX).write_text(f"a{mark}b c{mark}kind\n1{mark}2{mark}x\n3{mark}4{mark}y\n")
    found = load(f"blob://sha256/{HEX}", blob=tmp_path / HEX)
    assert (found.features.tolist(), found.columns.features) == ([[1, 2], [3, 4]], ("a", "b c"))
    asked = open_rows(f"blob://sha256/{HEX}", tmp_path / "own", wanted=found.columns, blob=tmp_path / HEX)
    assert asked.take(0, 2)["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.csv", "a,b,c\n1,2,0\n1,x,0\n", ["row 3", "column b", "'x'"]),
        ("t.csv", "a,b,c\n1,2,0\n\n1,,0\n", ["row 4", "column b"]),
        ("t.csv", "1,2,0\n1,2\n", ["row 2 has 2 columns"]),
        ("t.csv", "1,2,0\n1,2,3,4\n", ["row 2 has 4 columns"]),
        ("t.csv", "1,2,0\n1,2,\n", ["no label in sample 1"]),
        ("t.csv", "1,2,\n1,2,0\n", ["no label in sample 0"]),
        ("t.csv", "a;b\n1;0\n2;1\n", ["split at ';'", "delimiter=semicolon"]),
        ("t.csv", "a,b,c\n1_000,2,0\n3,4,1\n", ["row 2", "column a", "'1_000'"]),
        ("t.csv", "a,b,c\n\u0663,2,0\n3,4,1\n", ["row 2", "column a"]),
        ("t.csv", f'a,b\n"{"9" * 200_000}",0\n', ["no table of text: field larger"]),
        ("t.csv", "1,2,0\ninf,2,0\n", ["sample 1", "column 0"]),
        ("t.json", "{", ["no JSON"]),
        ("t.json", "[]", ["list of objects"]),
        ("t.json", '{"a": 1}', ["arrays x and y"]),
        ("t.json", '[{"a": 1, "y": NaN}]', ["NaN"]),
        ("t.json", '[{"a": 1, "y": 0}, {"y": 1}]', ["row 2", "'a'"]),
        ("t.json", '[{"a": 1, "y": 0}, [1, 2]]', ["row 2"]),
        ("t.json", '[{"a": 1, "y": 0}, {"a": "x", "y": 0}]', ["row 2", "column a", "'x'"]),
        ("t.json", '[{"a": 1, "y": 0}, {"a": null, "y": 0}]', ["sample 1"]),
        ("t.json", '[{"a": 1, "y": 0}, {"a": 2, "y": "x"}]', ["neither all numbers"]),
        ("t.json", '[{"a": 1, "y": 0}, {"a": 2, "y": null}]', ["no label in sample 1"]),
        ("t.json", '{"x": [[1], [2, 3]], "y": [0, 1]}', ["one shape"]),
        ("t.json", '{"x": [[1], [2]], "y": [0]}', ["2 samples but 1 labels"]),
        ("t.json", '[{"a": 1, "y": "b"}, {"a": 2, "y": "\\ud800"}]', ["sample 1", "'\\ud800'", "Unicode"]),
        ("t.json", "[" * 100_000, ["no JSON"]),
        ("t.json", f'[{{"a": {"9" * 5000}, "y": 0}}]', ["no JSON: a number has thousands of digits."]),
        ("t.jsonl", '{"a": 1, "y": 0}\n{"a": }', ["line 2"]),
    ],
)
def test_a_bad_table_is_refused_where_it_is_bad(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    (tmp_path / name).write_text(text)
    message = refusal(tmp_path / name)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n1_000,2,0\n3,4,1\n", "row 2, column a holds '1_000'"),
        (f'a,b\n"{"9" * 200_000}",0\n', "no table of text: field larger"),
    ],
)
def test_a_model_is_asked_about_no_table_that_training_refuses(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CyxError, match=words) as caught:
        open_rows(f"file:///{tmp_path / 't.csv'}", tmp_path / "own", data_roots=(tmp_path,))
    assert caught.value.code is Code.INVALID


def test_json_takes_arrays_of_any_shape(tmp_path: Path) -> None:
    pictures = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "t.json").write_text(json.dumps({"x": pictures.tolist(), "y": ["a", "b"]}))
    assert taken(tmp_path / "t.json").shape.features == (3, 4)
    lines = [json.dumps({"image": picture.tolist(), "label": 1}) for picture in pictures]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    np.testing.assert_array_equal(taken(tmp_path / "t.jsonl").features, pictures)
    assert "only feature" in refusal_of_two(tmp_path / "u.jsonl", pictures)


def refusal_of_two(path: Path, pictures: Any) -> str:
    path.write_text("\n".join(json.dumps({"i": p.tolist(), "b": 1, "y": 0}) for p in pictures))
    return refusal(path)


# arrays


def test_an_npz_may_hold_splits_and_further_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    np.savez(path, x_train=x, y_train=y, x_test=x[:2] + 1, y_test=y[:2], extra=x * 2, name=np.array("set"))
    found = taken(path)
    assert len(found.features) == 4
    assert list(found.fields) == ["extra"]
    np.testing.assert_array_equal(found.fields["extra"], (x * 2).astype(np.float32))
    assert taken(path, "?split=test").features[0, 0] == 1
    assert "validation" in refusal(path, "?split=validation")


def test_an_array_of_no_dimension_is_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.array(5.0), y=np.array(1))
    assert "x holds a single value" in refusal(tmp_path / "t.npz")
    with pytest.raises(CyxError, match="holds a single value; rows of numbers are needed"):
        open_rows(f"file:///{tmp_path / 't.npz'}", tmp_path / "own", data_roots=(tmp_path,))


def test_a_folder_of_two_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((3, 2, 2), 255, np.uint8))
    np.save(tmp_path / "y.npy", np.array(["b", "a", "b"]))
    found = taken(tmp_path)
    assert found.shape.features == (2, 2)
    assert found.features.max() == 1.0
    assert found.divisor == 255
    assert found.class_names == ("a", "b")
    np.save(tmp_path / "y.npy", np.array([object(), 1, 2], dtype=object), allow_pickle=True)
    assert "npy" in refusal(tmp_path)


def test_a_pickle_is_never_loaded_and_a_header_that_lies_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.array([[object(), 1]], dtype=object), allow_pickle=True)
    refusal(path)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    path.write_bytes(buffer.getvalue() + b"\0" * 64)
    assert "ends before" in refusal(path), "it was taken for one that fits no memory, and tried on node after node"


def test_what_is_no_array_in_an_npz_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.arange(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "rows")
    assert taken(path).features.shape == (3, 2)
    assert len(open_rows(f"file:///{path}", tmp_path / "own", data_roots=(tmp_path,))) == 3


def test_an_npz_is_measured_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 1000)
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    raw[at : at + 4] = struct.pack("<I", 0xFFFF_FFFE)
    second = bytes(raw)
    path.write_bytes(second)
    refusal(path)


# parquet


def parquet_of(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_of_lists_pictures_and_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    labels = pa.array(["b", "a", "b"]).dictionary_encode()
    parquet_of(path, x=pa.array([[[1, 2], [3, 4]]] * 3), label=labels)
    found = taken(path)
    assert found.shape.features == (2, 2)
    assert found.class_names == ("a", "b")
    parquet_of(path, x=pa.array([[1, 2], [3], [4]]), label=labels)
    assert "lengths" in refusal(path)
    parquet_of(path, x=pa.array([1, None, 2]), label=labels)
    assert "row 2" in refusal(path)
    picture = {"bytes": png(np.full((4, 5), 51, np.uint8)), "path": None}
    parquet_of(path, image=pa.array([picture] * 3), label=pa.array([0, 1, 2]))
    found = taken(path)
    assert found.shape.features == (4, 5)
    assert found.features[0, 0, 0] == pytest.approx(0.2)
    assert taken(path, "?size=3x2&mode=RGB").shape.features == (2, 3, 3)
    path.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    refusal(path)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.utf8())]
)
def test_text_in_parquet_is_a_label_and_no_feature(tmp_path: Path, kind: Any) -> None:
    words = pa.array(["b", "a", "b"]).cast(kind)
    path = parquet_of(tmp_path / "t.parquet", x=pa.array([1, 2, 3]), label=words)
    assert taken(path).class_names == ("a", "b")
    parquet_of(path, x=words, label=pa.array([0, 1, 0]))
    assert "column x holds text, no numbers; leave it out" in refusal(path)


def test_parquet_of_decimals_dates_and_nulls(tmp_path: Path) -> None:
    path, x = tmp_path / "t.parquet", pa.array([1, 2, 3])
    parquet_of(path, x=x, label=pa.array([1, 0, 1]).cast(pa.decimal128(19, 0)).cast(pa.decimal128(5, 0)))
    assert (taken(path).classes, taken(path).labels.tolist()) == (2, [1, 0, 1])
    parquet_of(path, x=x, label=pa.array([1.25, 0, 1]).cast(pa.decimal128(5, 2)))
    assert (taken(path).classes, taken(path).labels.tolist()) == (None, [[1.25], [0], [1]])
    parquet_of(path, x=x, label=pa.array([1, 2, 3], pa.date32()))
    assert "column label holds date32[day], no numbers; name another column with ?label=" in refusal(path)
    parquet_of(path, x=x, label=pa.array([1, None, 0]))
    assert "no label in sample 1" in refusal(path)


# pictures


def png(array: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def pictures(folder: Path, *, side: int = 4, color: bool = False) -> None:
    shape = (side, side, 3) if color else (side, side)
    for name, value in (("cat", 10), ("dog", 200)):
        (folder / name).mkdir(parents=True)
        for number, kind in enumerate(("png", "bmp", "jpg")):
            kinds = {"jpg": "JPEG"}.get(kind, kind.upper())
            (folder / name / f"{number}.{kind}").write_bytes(png(np.full(shape, value, np.uint8), kinds))


@pytest.mark.parametrize("color", [False, True])
def test_a_folder_for_each_class(tmp_path: Path, color: bool) -> None:
    pictures(tmp_path, color=color)
    (tmp_path / "notes.txt").write_text("by hand")
    found = taken(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.shape.features == ((4, 4, 3) if color else (4, 4))
    np.testing.assert_allclose(found.features[0], 10 / 255, atol=1e-6)
    np.testing.assert_allclose(found.features[5], 200 / 255, atol=0.01)
    assert taken(tmp_path, "?size=8x6&mode=L").shape.features == (6, 8)
    assert taken(tmp_path, kind="images").features.shape == found.features.shape


def test_grey_pictures_of_16_bits_are_scaled(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 12_850, 65_535]], np.uint16)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(grey))
    expected = np.array([[0, 1, 50, 255]], np.float32) / 255
    np.testing.assert_allclose(taken(tmp_path).features[0], expected)
    np.testing.assert_allclose(taken(tmp_path, "?mode=RGB").features[1, ..., 2], expected)
    assert taken(tmp_path, "?size=2x1").features[0].max() < 1


def test_pictures_of_several_sizes_or_modes_need_one_stated(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes(png(np.zeros((9, 9), np.uint8)))
    assert "9 x 9" in refusal(tmp_path)
    assert taken(tmp_path, "?size=4x4").shape.features == (4, 4)
    (tmp_path / "dog" / "9.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    assert "mode" in refusal(tmp_path)
    assert taken(tmp_path, "?mode=RGB").shape.features == (4, 4, 3)


def test_splits_of_pictures_are_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train")
    pictures(tmp_path / "set" / "test", side=6)
    assert taken(tmp_path).shape.features == (4, 4)
    assert taken(tmp_path, "?split=test").shape.features == (6, 6)
    assert "train" in refusal(tmp_path, "?split=validation")


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    bad = tmp_path / "dog" / "9.png"
    bad.write_bytes(png(np.zeros((4, 4), np.uint8))[:45])
    assert "dog/9.png" in refusal(tmp_path)
    bad.write_bytes(b"GIF89a")
    assert "dog/9.png" in refusal(tmp_path)
    bad.write_bytes(bomb(60_000, 60_000))
    assert "dog/9.png" in refusal(tmp_path, "?size=4x4")
    bad.write_bytes(bomb(10_000, 10_000))
    assert "10000 x 10000" in refusal(tmp_path, "?size=4x4")
    bad.unlink()
    (tmp_path / "stray.png").write_bytes(b"")
    assert "stray.png" in refusal(tmp_path)
    (tmp_path / "stray.png").unlink()
    (tmp_path / "dog" / "link.png").symlink_to("/etc/passwd")
    assert taken(tmp_path).shape.samples == 6  # links are passed over


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


# MNIST, CIFAR


def idx(array: Any) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_mnist_plain_or_packed_in_both_splits(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    ending = ".gz" if pack is gzip.compress else ""
    images = np.arange(5 * 4 * 4).reshape(5, 4, 4)
    for part, size in (("train", 5), ("t10k", 3)):
        (tmp_path / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(idx(images[:size])))
        (tmp_path / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(np.arange(size))))
    found = taken(tmp_path)
    np.testing.assert_allclose(found.features, images / 255, atol=1e-6)
    assert taken(tmp_path, "?split=test").labels.tolist() == [0, 1, 2]
    assert taken(tmp_path, kind="mnist").classes == 5
    refusal(tmp_path, "?split=validation")
    whole = pack(idx(images))
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(pack(idx(images) + b"\0"))
    assert "more bytes" in refusal(tmp_path)
    path.write_bytes(whole[:-9])
    refusal(tmp_path)
    path.write_bytes(pack(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2)))
    assert "at most" in refusal(tmp_path)


@pytest.mark.parametrize(("kind", "labels"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_records(tmp_path: Path, kind: str, labels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    marks = np.array([[3, 7], [1, 2], [0, 9], [4, 5]], np.uint8)[:, :labels]
    records = np.concatenate([marks, pixels.reshape(4, -1)], axis=1)
    names = {"cifar10": ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")}.get(
        kind, ("train.bin", "", "test.bin")
    )
    (tmp_path / names[0]).write_bytes(records[:3].tobytes())
    if names[1]:
        (tmp_path / names[1]).write_bytes(records[3:].tobytes())
    (tmp_path / names[2]).write_bytes(records[:2].tobytes())
    found = taken(tmp_path)
    assert found.shape.features == (32, 32, 3)
    np.testing.assert_allclose(found.features[1, 5, 6], pixels[1, :, 5, 6] / 255, atol=1e-6)
    assert found.labels.tolist() == ([3, 1, 0, 4] if kind == "cifar10" else [7, 2, 9])
    assert len(taken(tmp_path, "?split=test", kind).features) == 2
    if kind == "cifar100":
        (tmp_path / "coarse_label_names.txt").write_text("\n".join(f"kind {n}" for n in range(20)))
        coarse = taken(tmp_path, "?label=coarse")
        assert coarse.labels.tolist() == [3, 1, 0]
        assert coarse.class_names[3] == "kind 3"
        assert coarse.classes == 20
    (tmp_path / names[0]).write_bytes(records.tobytes()[:-1])
    assert "multiple" in refusal(tmp_path)


# folders of files


@pytest.mark.parametrize("wrapping", ["MNIST/raw", "cifar-10-batches-bin", "a/b/c"])
def test_folders_around_all_of_it_are_looked_through(tmp_path: Path, wrapping: str) -> None:
    def around(name: str) -> Path:
        folder = tmp_path / name / wrapping
        folder.mkdir(parents=True)
        (tmp_path / name / "README.md").write_text("what it is")
        (tmp_path / name / "._a").write_text("")
        return folder

    mnist = around("mnist")
    (mnist / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((5, 4, 4))))
    (mnist / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))
    cifar = around("cifar")
    (cifar / "data_batch_1.bin").write_bytes(bytes(3073 * 4))
    (cifar / "readme.html").write_text("")
    arrays = around("arrays")
    np.save(arrays / "x.npy", np.ones((3, 2)))
    np.save(arrays / "y.npy", np.arange(3))
    pictures(around("pictures") / "train")
    pictures(around("one"))
    (tmp_path / "one" / wrapping / "cat").rename(tmp_path / "one" / wrapping / ".hidden")  # one class is left
    table(around("tables") / "t.csv", ROWS, LABELS)
    wanted = {"mnist": (4, 4), "cifar": (32, 32, 3), "arrays": (2,), "pictures": (4, 4), "one": (4, 4), "tables": (2,)}
    assert {name: taken(tmp_path / name).shape.features for name in wanted} == wanted
    assert taken(tmp_path / "mnist", kind="mnist").classes == 5
    assert taken(tmp_path / "one").class_names == ("dog",)
    assert open_rows(f"file:///{tmp_path / 'arrays'}", tmp_path / "rows", data_roots=(tmp_path,)).shapes() == {
        "x": (2,)
    }
    for number in (1, 2):  # what has data beside it is around nothing
        (tmp_path / "cifar" / f"data_batch_{number}.bin").write_bytes(bytes(3073))
    assert taken(tmp_path / "cifar").shape.samples == 2


def test_what_only_looks_like_a_number_is_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n1,2,++1\n3,4,+1\n")
    assert taken(tmp_path / "t.csv").class_names == ("++1", "+1")
    (tmp_path / "t.csv").write_text("a,b,y\n1,2,1_0\n3,4,2_0\n")
    assert taken(tmp_path / "t.csv").class_names == ("1_0", "2_0")


def test_files_of_one_split_are_joined(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    table(data / "train-00000-of-00002.parquet", ROWS[:2], ["b", "a"])
    table(data / "train-00001-of-00002.parquet", ROWS[2:], ["c", "a"])
    table(data / "test-00000-of-00001.parquet", ROWS[:3], ["a", "a", "b"])
    (tmp_path / "README.md").write_text("about")
    found = taken(tmp_path)
    assert found.features.tolist() == ROWS
    assert found.class_names == ("a", "b", "c")
    assert len(taken(tmp_path, "?split=test").features) == 3
    assert "validation" in refusal(tmp_path, "?split=validation")
    other = tmp_path / "other"
    other.mkdir()
    table(other / "train.parquet", ROWS, LABELS)
    assert "several sets" in refusal(tmp_path)
    table(tmp_path / "x.csv", ROWS, LABELS)
    assert "several formats" in refusal(tmp_path)
    assert "several sets" in refusal(tmp_path, "?format=parquet")
    assert taken(tmp_path, "?format=csv").features.tolist() == ROWS


def test_files_whose_columns_differ_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "train_1.csv").write_text("1,0\n2,1\n")
    (tmp_path / "train_2.csv").write_text("1,2,0\n2,3,1\n")
    assert "columns differ" in refusal(tmp_path)


def test_files_with_words_and_numbers_for_labels_are_not_joined(tmp_path: Path) -> None:
    for name, label in (("a", "x"), ("b", 0)):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"a": 1, "label": label}]))
    assert "labels that are text in some of its files and numbers in others" in refusal(tmp_path)


def test_files_that_name_their_columns_in_another_order_are_joined_by_the_names(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b,y\n1,2,0\n3,4,1\n")
    (tmp_path / "2.csv").write_text("y,b,a\n1,6,5\n0,8,7\n")
    found = taken(tmp_path)
    assert found.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert open_rows(f"file:///{tmp_path}", tmp_path / "rows", data_roots=(tmp_path,)).take(2, 3)["x"].tolist() == [
        [5, 6]
    ]
    (tmp_path / "2.csv").write_text("a,c,y\n5,6,1\n7,8,0\n")
    assert "no column 'b'" in refusal(tmp_path)
    (tmp_path / "2.csv").write_text("c,d,z\n5,6,1\n7,8,0\n")
    assert "other names: a, b, y; c, d, z" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"), ("data/train-00000-of-00005.parquet", "train"), ("test/a.csv", "test"),
        ("iris_train.csv", "train"), ("val.jsonl", "validation"), ("dev/x/0.json", "validation"), ("a.csv", None),
        ("trainer.csv", None), ("README", None),
    ],
)  # fmt: skip
def test_the_split_in_a_name(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_folder_without_data_and_a_gzipped_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    assert "known format" in refusal(tmp_path)
    (tmp_path / "t").write_bytes(gzip.compress(b"1,0\n2,1\n"))
    assert "unpack" in refusal(tmp_path / "t")
    table(tmp_path / "t.csv", ROWS, LABELS)
    assert "split" in refusal(tmp_path / "t.csv", "?split=test")
    assert "folder" in refusal(tmp_path / "t.csv", kind="images")
    with pytest.raises(CyxError):
        load(f"file://{tmp_path / 't.csv'}", data_roots=())
    assert load(f"file://{tmp_path / 't.csv'}", data_roots=(tmp_path,)).classes == 3


def damaged_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(4000.0).reshape(2000, 2), y=np.zeros(2000, np.int64))
    whole = bytearray(buffer.getvalue())
    whole[300:310] = b"\xff" * 10  # within what is packed
    return bytes(whole)


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 64) + text.ljust(63).encode() + b"\n" + bytes(96)


def npz_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


FAR = "{'descr':'<f8','fortran_order':False,'shape':(1000000,1000000)}"
LATIN = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(struct.pack("<3i", 0, 1, 2)), pa.py_buffer(b"\xe4\xf6")]
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.npz", damaged_npz()),
        ("t.npz", npz_of({"x.npy": npy_header(FAR), "y.npy": npy_header(FAR)})),
        ("t.npz", npz_of({"x.npy": b"no array", "y.npy": b""})),
        ("t.npy", npy_header("{'descr': '<f8', 'shape': (4, 3")),
        ("t.npy", npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (4, -3)}")),
        ("t.npy", npy_header("{'descr': '<f8', 'fortran_order': True, b'shape': (4, 3)}")),
        ("t.jsonl", b'{"a": 1, "label": "x"}\n{"a": 2, "label": "\xe4"}\n'),
        ("t.csv", b"a,label\n1,x\n2,\xe4\n"),
    ],
)
def test_a_damaged_file_is_refused_at_every_door(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)
    with pytest.raises(CyxError) as caught:
        open_rows(f"file:///{tmp_path / name}", tmp_path / "own", data_roots=(tmp_path,))
    assert caught.value.code is Code.INVALID


def test_words_of_parquet_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    assert "no readable parquet" in refusal(parquet_of(tmp_path / "t.parquet", x=pa.array([1, 2]), label=LATIN))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x93NUMPY\x01\x00", b"[", b"{", b"\x1f\x8b"]),
    st.binary(max_size=300),
)
def test_no_bytes_raise_anything_but_a_refusal(tmp_path_factory: Any, head: bytes, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(head + body)
    for kind in (*FORMATS, "auto"):
        try:
            load(f"blob://sha256/{HEX}?format={kind}" if kind != "auto" else f"blob://sha256/{HEX}", blob=path)
        except CyxError as error:
            assert error.code in (Code.INVALID, Code.EXHAUSTED, Code.NOT_FOUND)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1, "y": 0}\n{"a": 2, "y": 1}\n', "jsonl"),
        ('\ufeff\n{"a": 1, "y": 0}\r\n\r\n{"a": 2, "y": 1}\r\n', "jsonl"),
        (f'{{"x": {[0.5] * 2000}, "y": 0}}\n' * 2, "jsonl"),
        ("[1, 2, 0]\n[3, 4, 1]\n", "jsonl"),
        ('{"x": [[1], [2]],\n "y": [0, 1]}\n', "json"),
        ('{"x": [[1], [2]], "y": [0, 1]}\n', "json"),
        ("[[1, 2, 0],\n[3, 4, 1]]\n", "json"),
        ("[\n[1, 2, 0],\n[3, 4, 1]\n]\n", "json"),
    ],
)
def test_a_jsonl_is_told_from_a_json_by_its_first_lines(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(text.encode())
    assert detect_file("u", path) == kind
    assert len(taken(path).features) == 2
