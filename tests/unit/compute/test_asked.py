"""Trained models that are asked: evaluation, batch inference, and the scores themselves."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from cyxwiz.client.blobs import pack
from cyxwiz.compute import infer as inference
from cyxwiz.compute.course import Stopped
from cyxwiz.compute.data.columns import Columns
from cyxwiz.compute.data.filed import Filed
from cyxwiz.compute.data.rows import open_rows
from cyxwiz.compute.datasets import load
from cyxwiz.compute.evaluate import evaluate
from cyxwiz.compute.infer import infer
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.scores import ClassScores, NumberScores
from cyxwiz.compute.train import train
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Checkpointed, Finished, Logged, Report, Work

LAYERS = json.dumps({"layers": [{"type": "dense", "units": 16}, "relu", {"type": "dense", "units": 3}, "softmax"]})


def job(folder: Path, kind: str, **changes: Any) -> Work:
    fields: dict[str, Any] = {
        "job_id": "job", "job_type": kind, "model": "", "dataset_uri": "builtin:wine", "hyperparameters": {},
        "epochs": 1, "batch_size": 8, "seed": 0, "device": "cpu", "threads": 1, "work_dir": folder / kind,
    }  # fmt: skip
    work = Work(**{**fields, **changes})
    work.work_dir.mkdir(parents=True, exist_ok=True)
    return work


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A model of wine, in every format that can be asked."""
    folder = tmp_path_factory.mktemp("model")
    hyper = {"export": "onnx,cyxmodel", "learning_rate": "0.02"}
    return train(
        job(folder, "training", model=LAYERS, epochs=15, hyperparameters=hyper), lambda _: None, Orders()
    )  # fmt: skip


def file(model: Finished, name: str) -> Path:
    return next(each.path for each in model.artefacts if each.name == name)


FILES = ["model.safetensors", "model.cyxmodel", "model.onnx"]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_figures_of_training(tmp_path: Path, model: Finished, name: str) -> None:
    hyper = {"rows": "held_out"}
    end = evaluate(
        job(tmp_path, "evaluation", weights=file(model, name), hyperparameters=hyper), lambda _: None, Orders()
    )
    figures = end.final_metrics
    assert figures["accuracy"] == pytest.approx(model.final_metrics["val_accuracy"])
    assert figures["loss"] == pytest.approx(model.final_metrics["val_loss"], rel=1e-4)
    document = json.loads(end.artefacts[0].path.read_text())
    assert end.artefacts[0].name == "evaluation.json"
    matrix = np.array(document["confusion_matrix"])
    assert matrix.sum() == figures["samples"] == 36
    assert np.trace(matrix) / 36 == pytest.approx(figures["accuracy"])
    assert [each["support"] for each in document["classes"]] == matrix.sum(1).tolist()


def test_a_loss_is_the_models_own_with_its_parameters(tmp_path: Path) -> None:
    layers = json.dumps({"layers": [*json.loads(LAYERS)["layers"][:3], {"type": "huber_loss", "delta": 0.05}]})
    trained = train(job(tmp_path, "training", model=layers, epochs=2), lambda _: None, Orders())
    asked = job(tmp_path, "evaluation", weights=trained.artefacts[0].path, hyperparameters={"rows": "held_out"})
    figures = evaluate(asked, lambda _: None, Orders()).final_metrics
    assert figures["loss"] == pytest.approx(trained.final_metrics["val_loss"], rel=1e-4)


def test_numbers_to_predict(tmp_path: Path) -> None:
    layers = json.dumps({"layers": [{"type": "dense", "units": 1}]})
    work = job(tmp_path, "training", model=layers, dataset_uri="builtin:diabetes", epochs=30,
               hyperparameters={"learning_rate": "0.5"})  # fmt: skip
    trained = train(work, lambda _: None, Orders())
    asked = job(tmp_path, "evaluation", dataset_uri="builtin:diabetes", weights=trained.artefacts[0].path)
    figures = evaluate(asked, lambda _: None, Orders()).final_metrics
    out = infer(
        job(tmp_path, "inference", dataset_uri="builtin:diabetes", weights=asked.weights), lambda _: None, Orders()
    )
    with np.load(out.artefacts[0].path) as answers:
        assert set(answers.files) == {"outputs"}, "no classes"
        made = answers["outputs"][:, 0].astype(float)
    y = load("builtin:diabetes").labels[:, 0].astype(float)
    assert figures["mae"] == pytest.approx(abs(made - y).mean(), rel=1e-5)
    assert figures["rmse"] == pytest.approx(((made - y) ** 2).mean() ** 0.5, rel=1e-5)
    assert figures["r2"] == pytest.approx(1 - ((made - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-4)
    assert figures["r2"] > 0.2


def test_the_scores_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    scores = ClassScores(6)  # class 5 never occurs
    for start in range(0, 200, 30):
        scores.add(y[start : start + 30], p[start : start + 30])
    made = scores.metrics()
    for name, of in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        assert made[f"{name}_macro"] == pytest.approx(of(y, p, average="macro", zero_division=0))
        each = of(y, p, average=None, labels=range(6), zero_division=0)
        assert [made[f"{name}_class_{number}"] for number in range(6)] == pytest.approx(list(each))
    assert scores.document(())["confusion_matrix"] == metrics.confusion_matrix(y, p, labels=range(6)).tolist()
    targets, outputs = rng.random((50, 2)), rng.random((50, 2))
    numbers = NumberScores(targets)
    numbers.add(targets[:20], outputs[:20])
    numbers.add(targets[20:], outputs[20:])
    assert numbers.metrics()["r2"] == pytest.approx(metrics.r2_score(targets, outputs))
    constant = NumberScores(np.ones((3, 1)))
    constant.add(np.ones((3, 1)), np.zeros((3, 1)))
    assert constant.metrics() == {"mae": 1.0, "rmse": 1.0}, "nothing to explain, no R^2"


def expected(model: Finished) -> Any:
    from cyxwiz.compute.export import inference_module, read_safetensors

    module = inference_module(read_safetensors(file(model, "model.safetensors")).trained())
    with torch.inference_mode():
        return module(torch.from_numpy(load("builtin:wine").features)).numpy()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("output", ["npz", "csv", "jsonl"])
def test_answers_in_order_in_every_format(tmp_path: Path, model: Finished, name: str, output: str) -> None:
    hyper = {"output": output, "classes": "true"}
    sent: list[Report] = []
    end = infer(job(tmp_path, "inference", weights=file(model, name), hyperparameters=hyper), sent.append, Orders())
    path = end.artefacts[0].path
    assert path.name == f"predictions.{output}"
    wanted = expected(model)
    if output == "npz":
        with np.load(path) as made:
            outputs, predictions = made["outputs"], made["predictions"]
    elif output == "csv":
        with path.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert [int(row["row"]) for row in rows] == list(range(178))
        outputs = np.array([[float(row[f"output_{n}"]) for n in range(3)] for row in rows])
        predictions = np.array([int(row["prediction"]) for row in rows])
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["row"] for row in rows] == list(range(178))
        outputs = np.array([row["outputs"] for row in rows])
        predictions = np.array([row["prediction"] for row in rows])
    assert np.allclose(outputs, wanted, atol=1e-5)
    assert (predictions == wanted.argmax(1)).all()
    assert end.final_metrics["rows"] == 178
    assert not (tmp_path / "inference" / "answers.bin").exists()


class Stopping(Orders):
    """Told to stop after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    @property
    def preempted(self) -> bool:  # type: ignore[override]
        self._looks -= 1
        return self._looks < 0

    @preempted.setter
    def preempted(self, _: bool) -> None:
        """As `Orders` sets it."""


def test_who_goes_on_repeats_and_loses_no_row(tmp_path: Path, model: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "rows_at_once", lambda *_: 13)
    weights = file(model, "model.safetensors")
    whole = infer(job(tmp_path / "whole", "inference", weights=weights), lambda _: None, Orders())
    resume: Path | None = None
    asked = 0
    for turn, looks in enumerate((3, 5, 100)):
        sent: list[Report] = []
        work = job(tmp_path / f"{turn}", "inference", weights=weights, resume=resume, checkpoint_every="2 step")
        if looks == 100:
            end = infer(work, sent.append, Orders())
            break
        with pytest.raises(Stopped):
            infer(work, sent.append, Stopping(looks))
        saved = [report for report in sent if isinstance(report, Checkpointed)]
        assert saved[-1].step == asked + looks * 13
        assert saved[0].step == asked + 26, "as often as was asked for"
        resume = saved[-1 - turn].file.path  # the last one, then the one before, as after a crash
        asked = saved[-1 - turn].step
        assert saved[-1 - turn].progress == pytest.approx(asked / 178)
    assert end.artefacts[0].sha256 == whole.artefacts[0].sha256
    with pytest.raises(CyxError, match="checkpoint of another job"):
        infer(job(tmp_path / "other", "inference", weights=weights, seed=5, resume=resume), lambda _: None, Orders())


def test_a_file_that_is_cut_off_is_no_checkpoint(
    tmp_path: Path, model: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "rows_at_once", lambda *_: 50)
    weights, sent = file(model, "model.safetensors"), list[Report]()
    with pytest.raises(Stopped):
        infer(job(tmp_path / "a", "inference", weights=weights), sent.append, Stopping(1))
    saved = next(report for report in sent if isinstance(report, Checkpointed)).file.path
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(CyxError, match="not whole"):
        infer(job(tmp_path / "b", "inference", weights=weights, resume=saved), lambda _: None, Orders())


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"dataset_uri": "builtin:iris"}, "model.safetensors", "reads x with the shape (13)"),
        ({"dataset_uri": "builtin:iris"}, "model.onnx", "reads x with the shape (13)"),
        ({"model": LAYERS}, "model.onnx", "an ONNX file is a whole program"),
        ({"model": '{"layers": [13, 5, 3]}'}, "model.safetensors", "The weight"),
        ({}, "README.md", "no safetensors, no .cyxmodel and no ONNX file"),
    ],
)
@pytest.mark.parametrize("run", [evaluate, infer])
def test_what_can_not_be_asked_is_named(
    tmp_path: Path, model: Finished, run: Any, changes: dict[str, Any], name: str, words: str
) -> None:
    with pytest.raises(CyxError) as caught:
        run(job(tmp_path, "asked", weights=file(model, name), **changes), lambda _: None, Orders())
    assert caught.value.code is Code.INVALID
    assert words in caught.value.message


def test_plain_weights_need_a_definition(tmp_path: Path, model: Finished) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(file(model, "model.safetensors"))
    save_file(tensors, tmp_path / "plain.safetensors")
    with pytest.raises(CyxError, match=r"no cyxwiz\.definition"):
        infer(job(tmp_path, "a", weights=tmp_path / "plain.safetensors"), lambda _: None, Orders())
    made = infer(job(tmp_path, "b", weights=tmp_path / "plain.safetensors", model=LAYERS), lambda _: None, Orders())
    assert made.final_metrics["rows"] == 178


def rows_of(tmp_path: Path, name: str, content: bytes | str, options: str = "", width: int | None = None) -> Any:
    (tmp_path / "data").mkdir(exist_ok=True)
    path = tmp_path / "data" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_rows(
        f"file:///{path}{options}", tmp_path / "rows", wanted=Columns(labels=False, width=width),
        data_roots=(tmp_path / "data",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "options", "width", "wanted"),
    [
        ("a.csv", "1,2\n3,4\n", "", 2, [[1, 2], [3, 4]]),
        ("a.csv", "1,2\n3,4\n", "", 1, [[1], [3]]),
        ("a.csv", "y,b,kind\n1,2,red\n3,4,blue\n", "", 2, [[1, 2], [3, 4]]),
        ("a.csv", "y,b,label\n1,2,red\n3,4,blue\n", "", None, [[1, 2], [3, 4]]),
        ("a.jsonl", '{"label": "\u2028", "b": 2}\n{"label": "\x85", "b": 4}\n', "", 1, [[2], [4]]),
        ("a.csv", "a,b,c\n1,2,3\n4,5,6\n", "?features=c,a", None, [[3, 1], [6, 4]]),
        ("a.csv", "a,b,c\n1,2,3\n4,5,6\n", "?label=a", 9, [[2, 3], [5, 6]]),
        ("a.tsv", "1\t2\n3\t4\n", "", 2, [[1, 2], [3, 4]]),
        ("a.jsonl", '{"x": 1, "y": 2}\n\n{"y": 4, "x": 3}\n', "", 2, [[1, 2], [3, 4]]),
        ("a.jsonl", '{"x": 1, "y": 2}\n{"y": 4, "x": 3}\n', "", 1, [[1], [3]]),
        ("a.jsonl", '{"v": [1, 2]}\n{"v": [3, 4]}\n', "", 2, [[1, 2], [3, 4]]),
        ("a.jsonl", "[1, 2]\n[3, 4]\n", "", 2, [[1, 2], [3, 4]]),
    ],
)
def test_rows_of_text_need_no_labels(
    tmp_path: Path, name: str, text: str, options: str, width: int | None, wanted: list[Any]
) -> None:
    rows = rows_of(tmp_path, name, text, options, width)
    assert rows.take(0, 9)["x"].tolist() == wanted
    assert rows.take(1, 2)["x"].tolist() == wanted[1:]
    assert isinstance(rows.arrays["x"], Filed)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "1,2\n3\n", "row 2 has 1 columns"),
        ("a.csv", "1,2\n3,red\n", "holds 'red', which is no number"),
        ("a.csv", "1,2\nnan,3\n", "missing or infinite values in sample 1"),
        ("a.jsonl", '{"x": 1}\n{"z": 1}\n', "lacks a column"),
        ("a.jsonl", '{"x": [1]}\n{"x": [1, 2]}\n', "differ in shape"),
        ("a.jsonl", "{\n", "line 1 is no JSON"),
        ("a.jsonl", f'{{"x": {"9" * 5000}}}\n', "line 1 is no JSON: a number has thousands of digits."),
        ("a.jsonl", "", "holds no rows"),
        ("a.npy", "no array", "no readable npy file"),
        ("a.npz", "no archive", "no readable npz file"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(CyxError) as caught:
        rows_of(tmp_path, name, text, "", 2).take(0, 10)
    assert words in caught.value.message


def test_arrays_stay_in_their_files_and_bytes_are_divided(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    np.savez(tmp_path / "a.npz", x_test=x, mask=np.ones((4, 2)), y_test=np.ones(4), other=np.ones(3))
    rows = rows_of(tmp_path, "a.npz", (tmp_path / "a.npz").read_bytes())
    assert rows.shapes() == {"x": (2, 3), "mask": (2,)}
    assert np.allclose(rows.take(1, 3)["x"], x[1:3] / 255)
    assert all(isinstance(array, Filed) for array in rows.arrays.values())
    np.save(tmp_path / "f.npy", np.asfortranarray(x.reshape(4, 6)))
    columns = rows_of(tmp_path, "f.npy", (tmp_path / "f.npy").read_bytes())
    assert np.allclose(columns.take(1, 3)["x"], x.reshape(4, 6)[1:3] / 255), "column-major"
    np.save(tmp_path / "c.npy", np.ones((9, 9)))
    with pytest.raises(CyxError, match="shorter than its header"):
        rows_of(tmp_path, "c.npy", (tmp_path / "c.npy").read_bytes()[:-8])
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    with pytest.raises(CyxError, match="objects, which are never loaded"):
        rows_of(tmp_path, "o.npy", (tmp_path / "o.npy").read_bytes())
    np.save(tmp_path / "b.npy", np.ones(5))
    assert rows_of(tmp_path, "b.npy", (tmp_path / "b.npy").read_bytes()).take(0, 2)["x"].tolist() == [[1], [1]]


def test_classes_go_by_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words, centres = ("ape", "bee", "cat"), {"ape": -4.0, "bee": 0.0, "cat": 4.0}

    def table(name: str, of: tuple[str, ...], count: int) -> str:
        kinds = [of[n % len(of)] for n in range(count)]
        lines = [f"{centres[kind] + rng.normal(0, 0.3):.3f},{rng.normal():.3f},{kind}" for kind in kinds]
        (tmp_path / name).write_text("\n".join(["a,b,kind", *lines]) + "\n")
        return f"file://csv/{name}"

    hyper = {"export": "onnx,cyxmodel", "learning_rate": "0.1"}
    given: dict[str, Any] = {"data_roots": (tmp_path,)}
    layers = '{"layers": [{"type": "dense", "units": 8}, "relu", {"type": "dense", "units": 3}]}'
    work = job(tmp_path, "training", model=layers, epochs=20, hyperparameters=hyper,
               dataset_uri=table("all.csv", words, 90), **given)  # fmt: skip
    trained = train(work, lambda _: None, Orders())
    some, other = table("some.csv", ("bee", "cat"), 20), table("other.csv", ("cat",), 20)
    for name in FILES:
        asked = job(tmp_path, "evaluation", weights=file(trained, name), dataset_uri=some, **given)
        end = evaluate(asked, lambda _: None, Orders())
        assert end.final_metrics["accuracy"] > 0.9, name
        document = json.loads(end.artefacts[0].path.read_text())
        assert [each["support"] for each in document["classes"]] == [0, 10, 10]
        assert [each["name"] for each in document["classes"]] == list(words)
        out = infer(job(tmp_path, "inference", weights=file(trained, name), dataset_uri=other,
                        hyperparameters={"output": "jsonl"}, **given), lambda _: None, Orders())  # fmt: skip
        assert {json.loads(line)["name"] for line in out.artefacts[0].path.read_text().splitlines()} == {"cat"}
        single = job(
            tmp_path, "evaluation", weights=file(trained, name), dataset_uri=table("1.csv", ("cat",), 1), **given
        )
        assert evaluate(single, lambda _: None, Orders()).final_metrics["samples"] == 1
    centres["dog"] = 9.0
    stranger = table("dogs.csv", ("bee", "dog"), 4)
    with pytest.raises(CyxError, match="has the class 'dog'"):
        evaluate(
            job(tmp_path, "evaluation", weights=file(trained, FILES[0]), dataset_uri=stranger, **given),
            lambda _: None,
            Orders(),
        )


@pytest.fixture(scope="module")
def of_columns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished, Any]:
    """A folder, a model of a table whose features look like labels by their names, and its features and labels."""
    folder = tmp_path_factory.mktemp("columns")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).round(3)
    kinds = (x[:, 1] > 0).astype(int)
    lines = [f"{a},{b},{c},{kind}" for (a, b, c), kind in zip(x.tolist(), kinds.tolist(), strict=True)]
    (folder / "t.csv").write_text("\n".join(["x,y,target,kind", *lines]))
    layers = '{"layers": [{"type": "dense", "units": 8}, "relu", {"type": "dense", "units": 2}]}'
    work = job(folder, "training", model=layers, epochs=20, dataset_uri="file://csv/t.csv", data_roots=(folder,),
               hyperparameters={"export": "onnx,cyxmodel,cyxmodel_directory", "learning_rate": "0.05"})  # fmt: skip
    return folder, train(work, lambda _: None, Orders()), (x, kinds)


def written(path: Path, columns: dict[str, Any]) -> Path:
    """A table in the format that the ending of the path names."""
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".csv":
        lines = [",".join(columns), *(",".join(str(value) for value in record.values()) for record in records)]
        path.write_text("\n".join(lines))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        text = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records))
        path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("order", ["x,y,target,kind", "kind,target,y,x", "x,y,target", "id,y,x,target,kind"])
def test_a_model_reads_the_columns_that_it_learned_from(
    tmp_path: Path, of_columns: tuple[Path, Finished, Any], order: str, suffix: str
) -> None:
    _, trained, (x, kinds) = of_columns
    values = {"x": x[:, 0], "y": x[:, 1], "target": x[:, 2], "kind": kinds, "id": np.arange(len(x))}
    path = written(tmp_path / f"t{suffix}", {name: values[name].tolist() for name in order.split(",")})
    given: dict[str, Any] = {"dataset_uri": f"file:///{path}", "data_roots": (tmp_path,)}
    for name in (*FILES, "model.cyxmodel.tar"):
        out = infer(job(tmp_path, "inference", weights=file(trained, name), **given), lambda _: None, Orders())
        with np.load(out.artefacts[0].path) as answers:
            made = answers["outputs"].argmax(1)
        assert (made == kinds).mean() > 0.95, name
        if "kind" in order:
            asked = job(tmp_path, "evaluation", weights=file(trained, name), **given)
            assert evaluate(asked, lambda _: None, Orders()).final_metrics["accuracy"] > 0.95, name


def test_columns_of_other_names_are_read_in_their_order_and_said_so(
    tmp_path: Path, of_columns: tuple[Path, Finished, Any]
) -> None:
    folder, trained, (x, kinds) = of_columns
    said: list[Report] = []

    def asked(names: str, options: str = "") -> Any:
        path = written(tmp_path / "t.csv", dict(zip(names.split(","), x.T.tolist(), strict=True)))
        work = job(tmp_path, "inference", weights=file(trained, FILES[0]), dataset_uri=f"file:///{path}{options}",
                   data_roots=(tmp_path,))  # fmt: skip
        with np.load(infer(work, said.append, Orders()).artefacts[0].path) as answers:
            return (answers["outputs"].argmax(1) == kinds).mean()

    assert asked("a,b,c") > 0.95
    assert "in their order" in next(
        report.message for report in said if isinstance(report, Logged) and report.level == "warning"
    )
    with pytest.raises(CyxError, match="no column 'target', which the model learned from"):
        asked("x,y,z")
    assert asked("x,y,z", "?features=x,y,z") > 0.95
    # A definition that is given with a file which has its own does not hide the columns.
    layers = '{"layers": [{"type": "dense", "units": 8}, "relu", {"type": "dense", "units": 2}]}'
    work = job(tmp_path, "inference", weights=file(trained, FILES[0]), model=layers, data_roots=(folder,),
               dataset_uri="file://csv/t.csv")  # fmt: skip
    assert infer(work, lambda _: None, Orders()).final_metrics["rows"] == 200


@pytest.mark.parametrize("deep", [True, False])
def test_a_directory_that_a_client_packed_is_a_model(
    tmp_path: Path, of_columns: tuple[Path, Finished, Any], deep: bool
) -> None:
    folder, trained, _ = of_columns
    with tarfile.open(file(trained, "model.cyxmodel.tar")) as archive:
        archive.extractall(tmp_path / "m", filter="data")
    packed = tmp_path / "packed.tar"
    pack(tmp_path / "m" if deep else tmp_path / "m" / "model.cyxmodel", packed)
    work = job(tmp_path, "evaluation", weights=packed, dataset_uri="file://csv/t.csv", data_roots=(folder,))
    assert evaluate(work, lambda _: None, Orders()).final_metrics["accuracy"] > 0.95


@pytest.mark.parametrize("flat", [True, False])
def test_pictures_that_are_asked_about_need_no_classes(tmp_path: Path, flat: bool) -> None:
    from PIL import Image

    folder = tmp_path / "pics" if flat else tmp_path / "pics" / "new"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((2, 2), number * 10, np.uint8)).save(folder / f"{number}.png")
    rows = open_rows(f"file:///{tmp_path / 'pics'}", tmp_path / "rows", data_roots=(tmp_path,))
    assert (rows.take(0, 9)["x"][:, 0, 0] * 255).round().tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ('[{"a": 1, "b": 2}, {"a": 3, "b": 4}]', 2, [[1, 2], [3, 4]]),
        ('[{"a": 1, "b": 2}, {"a": 3, "b": 4}]', 1, [[1], [3]]),
        ('[{"v": [1, 2, 3], "kind": 5}, {"v": [1, 2, 4], "kind": 5}]', 3, [[1, 2, 3], [1, 2, 4]]),
        ('{"x": [[1, 2], [3, 4]]}', 2, [[1, 2], [3, 4]]),
    ],
)
def test_json_that_is_asked_about_needs_no_labels(tmp_path: Path, text: str, width: int, wanted: list[Any]) -> None:
    assert rows_of(tmp_path, "a.json", text, "", width).take(0, 9)["x"].tolist() == wanted
