"""What the steps of a pipeline do to data, and that the same job gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cyxwiz.compute.datasets import load
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.preprocess import images, preprocess
from cyxwiz.compute.preprocess.job import array_module
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Finished, Logged, Report, Work

TABLE = "a,b,c,kind\n1,10,0,x\n2,,1,y\n3,30,2,x\n4,40,0,y\n,50,1,x\n6,60,1,y\n"


def job(folder: Path, *steps: Any, dataset: str = "builtin:wine", seed: int = 0, roots: tuple[Path, ...] = ()) -> Work:
    folder.mkdir(parents=True, exist_ok=True)
    return Work(
        job_id="job", job_type="preprocessing", model=json.dumps({"steps": steps}), dataset_uri=dataset,
        hyperparameters={}, epochs=1, batch_size=32, seed=seed, device="cpu", threads=1, work_dir=folder,
        data_roots=roots,
    )  # fmt: skip


def run(work: Work) -> tuple[Finished, dict[str, Any], dict[str, Any], list[Report]]:
    sent: list[Report] = []
    end = preprocess(work, sent.append, Orders())
    with np.load(end.artefacts[0].path) as file:
        arrays = {name: file[name] for name in file.files}
    told = json.loads(end.artefacts[1].path.read_text())
    return end, arrays, told, sent


def table(tmp_path: Path, *steps: Any, text: str = TABLE, **more: Any) -> dict[str, Any]:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "t.csv").write_text(text)
    uri = "file://csv/t.csv"
    return run(job(tmp_path / "work", *steps, dataset=uri, roots=(tmp_path / "data",), **more))[1]


def test_missing_values_are_read_and_filled(tmp_path: Path) -> None:
    made = table(tmp_path, {"type": "impute", "with": "median", "columns": [0]}, {"type": "impute", "columns": [1]})
    assert made["x"][:, 0].tolist() == [1, 2, 3, 4, 3, 6]
    assert made["x"][:, 1].tolist() == [10, 38, 30, 40, 50, 60]
    assert made["y"].tolist() == [0, 1, 0, 1, 0, 1]
    assert made["class_names"].tolist() == ["x", "y"]


def test_the_log_says_what_computes_beside_the_notes_on_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    *_, sent = run(job(tmp_path / "work", {"type": "impute"}, dataset="file://csv/t.csv", roots=(tmp_path,)))
    said = [each.message for each in sent if isinstance(each, Logged)]
    assert "the label is the column 'kind' of 4" in said
    assert "preprocessing 6 rows of (3,) with NumPy: 1 steps" in said


@pytest.mark.parametrize(
    ("steps", "column", "expected"),
    [
        ([{"type": "drop_missing"}], 0, [1, 3, 4, 6]),
        ([{"type": "drop_missing", "columns": [0]}], 0, [1, 2, 3, 4, 6]),
        ([{"type": "impute", "with": "constant", "value": -1}], 0, [1, 2, 3, 4, -1, 6]),
        ([{"type": "impute", "with": "most_frequent"}], 2, [0, 1, 2, 0, 1, 1]),
        ([{"type": "drop_missing"}, {"type": "clip", "max": 3}], 0, [1, 3, 3, 3]),
        ([{"type": "drop_missing"}, {"type": "scale", "factor": 2, "offset": 1, "columns": [0]}], 0, [3, 7, 9, 13]),
        ([{"type": "drop_missing"}, {"type": "normalize", "low": -1}], 0, [-1.0, -0.2, 0.2, 1.0]),
        ([{"type": "filter", "column": 2, "min": 1}], 0, [2, 3, None, 6]),
        ([{"type": "filter", "labels": [1]}], 0, [2, 4, 6]),
        ([{"type": "select", "columns": [2, 0]}], 0, [0, 1, 2, 0, 1, 1]),
        ([{"type": "drop", "columns": [0, 1]}], 0, [0, 1, 2, 0, 1, 1]),
        ([{"type": "drop", "columns": [0, 1]}, {"type": "one_hot", "columns": [0]}], 2, [0, 0, 1, 0, 0, 0]),
        ([{"type": "drop", "columns": [0, 1]}, {"type": "log1p"}], 0, list(np.log1p([0, 1, 2, 0, 1, 1]))),
    ],
)
def test_what_a_step_does(tmp_path: Path, steps: list[Any], column: int, expected: list[Any]) -> None:
    x = table(tmp_path, *steps)["x"]
    wanted = [np.nan if each is None else each for each in expected]
    assert np.allclose(x[:, column], wanted, equal_nan=True, atol=1e-6)


def test_what_is_learned_is_learned_from_the_training_rows_alone(tmp_path: Path) -> None:
    _, made, told, _ = run(job(tmp_path, {"type": "split", "validation": 0.25, "test": 0.25}, {"type": "standardize"}))
    assert {name: len(array) for name, array in made.items() if name.startswith("x")} == {
        "x_train": 88, "x_validation": 45, "x_test": 45,
    }  # fmt: skip
    assert np.allclose(made["x_train"].mean(0), 0, atol=1e-5)
    assert np.allclose(made["x_train"].std(0), 1, atol=1e-5)
    assert abs(made["x_test"].mean(0)).max() > 0.01
    whole = load("builtin:wine")
    back = made["x_test"] * np.array(told["steps"][1]["learned"]["std"]) + told["steps"][1]["learned"]["mean"]
    assert all(np.isclose(whole.features, row, rtol=1e-4).all(1).any() for row in back)
    shares = [np.bincount(made[f"y_{part}"]) / len(made[f"y_{part}"]) for part in ("train", "test")]
    assert np.allclose(shares[0], shares[1], atol=0.03), "stratified"


def test_the_main_axes(tmp_path: Path) -> None:
    steps = [{"type": "standardize"}, {"type": "pca", "components": 3, "whiten": True}]
    _, made, told, _ = run(job(tmp_path, *steps))
    assert np.allclose(np.cov(made["x"].T), np.eye(3), atol=1e-4)
    axes = np.array(told["steps"][1]["learned"]["components"])
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-8)
    assert (axes[np.arange(3), abs(axes).argmax(1)] > 0).all()


MIXED = [
    {"type": "shuffle"}, {"type": "sample", "rows": 100}, {"type": "split"}, {"type": "standardize"},
    {"type": "augment", "noise": 0.1, "copies": 2},
]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    hashes = [run(job(tmp_path / f"{n}", *MIXED, seed=seed))[0].artefacts[0].sha256 for n, seed in enumerate((3, 3, 4))]
    assert hashes[0] == hashes[1] != hashes[2]
    made = run(job(tmp_path / "again", *MIXED, seed=3))[1]
    assert (len(made["x_train"]), len(made["x_test"])) == (3 * 80, 20)
    assert (made["y_train"][:80] == made["y_train"][80:160]).all()
    assert 0.05 < (made["x_train"][80:160] - made["x_train"][:80]).std() < 0.15


def test_what_is_made_can_be_trained_on(tmp_path: Path) -> None:
    end, made, _, _ = run(job(tmp_path, {"type": "split"}, {"type": "standardize"}, {"type": "cast", "to": "float16"}))
    assert made["x_train"].dtype == np.float16
    uri = f"blob://sha256/{end.artefacts[0].sha256}"
    train, test = (load(uri + option, blob=end.artefacts[0].path) for option in ("", "?split=test"))
    assert (train.classes, len(train.features), len(test.features)) == (3, 142, 36)
    assert end.final_metrics["rows_train"] == 142
    assert end.final_metrics["rows_validation"] == 0


def test_images_change_their_size() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    half = images.resize(np, image, "hw", (2, 2), "bilinear")
    assert half.tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    twice = images.resize(np, image, "hw", (8, 8), "nearest")
    assert (twice == image.repeat(2, 1).repeat(2, 2)).all()
    torch = pytest.importorskip("torch")
    other = np.random.default_rng(0).random((3, 2, 7, 5), dtype=np.float32)
    ours = images.resize(np, other, "chw", (11, 3), "bilinear")
    theirs = torch.nn.functional.interpolate(torch.from_numpy(other), (11, 3), mode="bilinear", align_corners=False)
    assert np.allclose(ours, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("layout", ["hw", "hwc", "chw"])
def test_images_are_flipped_and_shifted(layout: str) -> None:
    shape = {"hw": (6, 5), "hwc": (6, 5, 3), "chw": (3, 6, 5)}[layout]
    x = np.random.default_rng(1).random((40, *shape), dtype=np.float32) + 1
    axis = {"hw": 2, "hwc": 2, "chw": 3}[layout]
    made = images.vary(np, x, {"flip": "horizontal", "shift": 0, "layout": layout}, np.random.default_rng(0))
    flipped = [(each == np.flip(old, axis - 1)).all() for each, old in zip(made, x, strict=True)]
    assert 10 < sum(flipped) < 30
    assert all(f or (each == old).all() for f, each, old in zip(flipped, made, x, strict=True))
    moved = images.vary(np, x, {"flip": "none", "shift": 2, "layout": layout}, np.random.default_rng(0))
    assert moved.shape == x.shape
    assert all(np.isin(each[each != 0], old).all() for each, old in zip(moved, x, strict=True))
    assert (moved == 0).any()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"type": "filter", "column": 0, "min": 99}], "steps.0 (filter): steps: no row is left"),
        ([{"type": "cast", "to": "uint8"}], "don't fit uint8"),
        ([{"type": "drop", "columns": [3]}], "steps.0 (drop): there is no column 3: a sample has 3"),
        ([{"type": "pca", "components": 2}], "values are missing; impute them before"),
        ([{"type": "scale", "factor": -1}, {"type": "log1p"}], "steps.1 (log1p): a value is -1 or below"),
        (
            [{"type": "scale", "factor": 1e30}] * 2 + [{"type": "normalize"}],
            "steps.1 (scale): a value becomes too large",
        ),
    ],
)
def test_what_the_data_do_not_allow_is_named(tmp_path: Path, steps: list[Any], words: str) -> None:
    with pytest.raises(CyxError) as caught:
        table(tmp_path, *steps)
    assert caught.value.code is Code.INVALID
    assert words in caught.value.message


@pytest.mark.parametrize("step", ["impute", "standardize", "normalize", "one_hot"])
def test_a_column_without_values_is_refused(tmp_path: Path, step: str) -> None:
    with pytest.raises(CyxError, match="no value in any training row"):
        table(tmp_path, {"type": step, "columns": [1]}, text="a,b,kind\n1,,x\n2,NA,y\n")


@pytest.mark.parametrize("cell", ["inf", "1e39"])
def test_what_is_infinite_is_refused_before_a_step_learns_from_it(tmp_path: Path, cell: str) -> None:
    with pytest.raises(CyxError, match=r"infinite values, first in sample 1, column 0 \(from 0\)"):
        table(tmp_path, {"type": "standardize"}, text=f"a,b,kind\n1,2,x\n{cell},3,y\n")


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.decimal128(9, 2), pa.bool_(), pa.list_(pa.float64())])
def test_a_null_in_parquet_is_a_missing_value(tmp_path: Path, kind: Any) -> None:
    listed = pa.types.is_list(kind)
    values: Any = [[1.0, None], [1.0, 0.0]] if listed else [True, None] if kind == pa.bool_() else [1, None]
    parquet.write_table(pa.table({"a": pa.array(values, kind), "label": [0, 1]}), tmp_path / "t.parquet")
    step = {"type": "impute", "with": "constant", "value": 7}
    made = run(job(tmp_path / "work", step, dataset="file://parquet/t.parquet", roots=(tmp_path,)))[1]
    assert made["x"].tolist() == ([[1, 7], [1, 0]] if listed else [[1], [7]])


def test_words_are_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(CyxError, match="which is no number"):
        table(tmp_path, {"type": "impute"}, text="a,b,kind\n1,red,x\n2,3,y\n")


def test_a_graphics_card_is_used_by_cupy_alone() -> None:
    assert array_module("cpu") == (np, "NumPy")
    xp, what = array_module("cuda:0")
    assert (xp is np) == what.startswith("NumPy, as CuPy")
