from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.client import apply_sets, read_job
from cyxwiz.client.jobfile import locate, weights_file
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.services.jobfile import parse_jobfile

EXAMPLES = Path(__file__).parents[3] / "examples"

BOMB = "l0: &l0 [x]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 13))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, *sets: str) -> str:
    with pytest.raises(CyxError) as caught:
        read_job(path, sets)
    assert caught.value.code is Code.INVALID
    return caught.value.message.replace(str(path.parent) + "/", "")


@pytest.mark.parametrize("name", ["digits.toml", "iris.yaml", "wine.json"])
def test_the_examples_are_jobs(name: str) -> None:
    assert parse_jobfile(read_job(EXAMPLES / name)).epochs > 1


def test_a_graph_is_a_job_with_its_data_set(tmp_path: Path) -> None:
    job = read_job(EXAMPLES / "mlp.cyxgraph", ["dataset=builtin:digits", "epochs=3"])
    assert job["name"] == "mlp"
    assert parse_jobfile(job).epochs == 3


def test_the_three_ways_say_the_same(tmp_path: Path) -> None:
    toml = read_job(written(tmp_path, "a.toml", 'name = "x"\nepochs = 2\n[model]\nlayers = [4, 2]\n'))
    assert toml == read_job(written(tmp_path, "a.yaml", "name: x\nepochs: 2\nmodel: {layers: [4, 2]}\n"))
    assert toml == read_job(written(tmp_path, "a.JSON", json.dumps(toml)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", 'name = "x\n', "a.toml:1:10: "),
        ("a.toml", "a = 1\na = 2\n", "a.toml:2:6: Cannot overwrite a value"),
        ("a.json", '{"a": 1,\n "b": }', "a.json:2:7: Expecting value"),
        ("a.json", '{"a": 1, "a": 2}', "a.json: 'a' is given twice"),
        ("a.json", '{"a": NaN}', "a.json: NaN is not a JSON number"),
        ("a.json", "[1]", "a.json: must hold a table"),
        ("a.json", "[" * 100_000, "a.json: is nested too deeply"),
        ("a.toml", "a = " + "[" * 100_000, "a.toml: is nested too deeply"),
        ("a.toml", "a = " + "9" * 5000, "a.toml: Exceeds the limit"),
        ("a.yaml", BOMB, "a.yaml: has more than 1000000 values"),
        ("a.yaml", "a: 1\nb: [\n", "a.yaml:3:1: "),
        ("a.yaml", "a: 1\na: 2\n", "a.yaml:2:1: 'a' is given twice"),
        ("a.yaml", "a: !!python/object:os.system {}\n", "a.yaml:1:4: could not determine a constructor"),
        ("a.yaml", "just text", "a.yaml: must hold a table"),
        ("a.yaml", "", "a.yaml: must hold a table of fields (name, dataset, model, …), not nothing"),
        ("a.yaml", "x: 1\nname: 2024-01-01\n", "a.yaml:2: name: 2024-01-01 is a date"),
        ("a.yaml", "x: .nan\n", "a.yaml:1: x: nan is no number"),
        ("a.yaml", "1: x\n", "a.yaml: the file: the key 1 must be text"),
        ("a.toml", "[payment]\nwhen = 2024-01-01\n", "a.toml:2: payment.when: 2024-01-01 is a date"),
        ("a.txt", "", "a.txt: the name must end in"),
        ("a.cyxgraph", "{", "a.cyxgraph:1:2: "),
        ("a.toml", '[model]\ngraph = "none.cyxgraph"\n', "model.graph: none.cyxgraph: no such file"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert refused(written(tmp_path, name, text)).startswith(message)


def test_files_that_are_none(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml") == "none.toml: no such file"
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    assert refused(tmp_path / "latin.toml") == "latin.toml: is not UTF-8 text (byte 8)"
    (tmp_path / "folder.toml").mkdir()
    assert "can't be read" in refused(tmp_path / "folder.toml")


def test_a_graph_lies_beside_the_job_file(tmp_path: Path) -> None:
    written(tmp_path, "g.cyxgraph", '{"nodes": []}')
    job = read_job(written(tmp_path, "a.toml", '[model]\ngraph = "g.cyxgraph"\n'))
    assert job["model"]["graph"] == {"nodes": []}
    text = read_job(written(tmp_path, "b.json", '{"model": {"graph": "{\\"nodes\\": []}"}}'))
    assert text["model"]["graph"] == '{"nodes": []}'
    assert read_job(written(tmp_path, "c.toml", ""), ["model.graph=g.cyxgraph"]) == {"model": {"graph": {"nodes": []}}}


def test_a_script_is_left_to_central(tmp_path: Path) -> None:
    assert read_job(written(tmp_path, "train.py", "")) == {"name": "train", "model": {"script": "train.py"}}


@pytest.mark.parametrize(
    ("setting", "job"),
    [
        ("epochs=5", {"epochs": 5}),
        ("a.b.c = true", {"a": {"b": {"c": True}}}),
        ("x=0.5", {"x": 0.5}),
        ("x=1e-3", {"x": 0.001}),
        ('x="5"', {"x": "5"}),
        ("dataset=builtin:digits", {"dataset": "builtin:digits"}),
        ("x=[1, 'a']", {"x": [1, "a"]}),
        ("x={a = 1}", {"x": {"a": 1}}),
        ("x=", {"x": ""}),
        ("x=a=b", {"x": "a=b"}),
        ("x=1\ny = 2", {"x": "1\ny = 2"}),
    ],
)
def test_settings(setting: str, job: dict[str, Any]) -> None:
    made: dict[str, Any] = {}
    apply_sets(made, [setting])
    assert made == job


@pytest.mark.parametrize("setting", ["epochs", "=1", "a..b=1", "epochs.x=1", "x=nan", "x=2024-01-01"])
def test_settings_that_are_none(setting: str) -> None:
    with pytest.raises(CyxError, match="--set") as caught:
        apply_sets({"epochs": 1}, [setting])
    assert caught.value.code is Code.INVALID


def test_the_line_of_a_field(tmp_path: Path) -> None:
    path = written(tmp_path, "a.toml", 'name = "epochs"\n\nepochs = 0\n[resources]\nram = "x"\n[other]\nram = 1\n')
    assert (locate(path, "epochs"), locate(path, "resources.ram"), locate(path, "none")) == (3, 5, None)
    assert locate(written(tmp_path, "a.json", '{\n "a": {"ram": 1}\n}'), "a.ram") == 2
    assert locate(written(tmp_path, "a.yaml", "a:\n  ram: 1\n"), "a.ram") == 2
    assert locate(written(tmp_path, "b.yaml", "a:\n  ram: 1\nb:\n  ram: 2\n"), "a.ram") is None


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000])
def test_a_setting_that_toml_cannot_read_is_text(value: str) -> None:
    job: dict[str, Any] = {}
    apply_sets(job, [f"name={value}"])
    assert job == {"name": value}


def test_a_lock_lies_beside_the_job_file(tmp_path: Path) -> None:
    written(tmp_path, "r.lock", "tiny==1 --hash=sha256:00\n")
    assert read_job(written(tmp_path, "a.toml", 'requirements = "r.lock"\n'))["requirements"].startswith("tiny==1")
    text = read_job(written(tmp_path, "b.toml", 'requirements = "a==1 --hash=sha256:00"\n'))
    assert text["requirements"] == "a==1 --hash=sha256:00"
    written(tmp_path, "c.toml", 'requirements = "none.lock"\n')
    assert "requirements: " in refused(tmp_path / "c.toml")


def test_weights_that_are_a_file_lie_beside_the_job_file(tmp_path: Path) -> None:
    path = written(tmp_path, "m.onnx", "")
    assert weights_file({"weights": "m.onnx"}, tmp_path) == path
    for model in ({}, {"weights": "blob:sha256:00"}, {"weights": "blob://sha256/00"}, {"weights": 5}):
        assert weights_file(model, tmp_path) is None
    with pytest.raises(CyxError, match="is no file; name one beside the job file"):
        weights_file({"weights": "other.onnx"}, tmp_path)
    (tmp_path / "model.cyxmodel").mkdir()
    with pytest.raises(CyxError, match=r"no directory of a \.cyxmodel, which has a manifest\.json"):
        weights_file({"weights": "model.cyxmodel/"}, tmp_path)
    written(tmp_path / "model.cyxmodel", "manifest.json", "{}")
    assert weights_file({"weights": "model.cyxmodel/"}, tmp_path) == tmp_path / "model.cyxmodel"
