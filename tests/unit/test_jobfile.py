"""The job file: what it may say, what it means when it says nothing, and how a mistake is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Device, JobType, Priority, Resources
from cyxwiz.domain.script import Script
from cyxwiz.protocol import job_pb2 as job_pb
from cyxwiz.services.definition import Definition, parse_definition
from cyxwiz.services.jobconfig import spec_of
from cyxwiz.services.jobfile import parse_jobfile, parse_size, parse_span

LAYERS = [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]
SMALL: dict[str, Any] = {"dataset": "builtin:digits", "model": {"layers": LAYERS}}


def merged(**given: Any) -> dict[str, Any]:
    return {**SMALL, **given}


def wire_job(**given: Any) -> job_pb.JobConfig:
    return job_pb.JobConfig(dataset_uri="builtin:digits", model_definition=json.dumps({"layers": LAYERS}), **given)


def refusal(data: object) -> CyxError:
    with pytest.raises(CyxError) as caught:
        parse_jobfile(data)
    return caught.value


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"dataset_uri": "builtin:iris"}, "dataset_uri: unknown field; did you mean dataset?"),
        ({"resources": {"max_durations": "1h"}}, "resources.max_durations: unknown field; did you mean max_duration?"),
        ({"payment": {"maxprice": "1"}}, "payment.maxprice: unknown field; did you mean max_price?"),
        ({"max_price": "1"}, "max_price: unknown field; did you mean payment.max_price?"),
        ({"ram": "1GiB", "name": "x"}, "ram: unknown field; did you mean resources.ram?"),
        ({"colour": "red"}, "colour: unknown field"),
    ],
)
def test_a_field_that_is_nearly_one_says_which(mistake: dict[str, Any], said: str) -> None:
    assert refusal(merged(**mistake)).message == said


@pytest.mark.parametrize(("stated", "counts"), [({}, 100), ({"batch_size": 7}, 7)])
def test_the_models_own_batch_size_counts_where_the_job_states_none(stated: dict[str, int], counts: int) -> None:
    model = {"layers": [{"type": "data_loader", "batch_size": 100}, {"type": "dense", "units": 10}]}
    assert parse_jobfile({**SMALL, **stated, "model": model}).batch_size == counts
    config = job_pb.JobConfig(dataset_uri="builtin:digits", model_definition=json.dumps(model), **stated)
    assert spec_of(config).batch_size == counts


@pytest.mark.parametrize(
    ("stated", "allowed"), [(0, 3600.0), (600, 3600.0), (7200, 7200.0), (366 * 86400, 366 * 86400.0)]
)
def test_a_wire_job_may_use_all_the_time_that_it_pays_for(stated: int, allowed: int) -> None:
    assert spec_of(wire_job(estimated_duration=stated)).resources.max_duration_seconds == allowed


@pytest.mark.parametrize("field", ["estimated_duration", "estimated_memory"])
def test_a_wire_job_has_the_bounds_of_a_job_file(field: str) -> None:
    for number in (-1, 2**63 - 1, 400 * 86400 if field == "estimated_duration" else 2**62 + 1):
        with pytest.raises(CyxError, match=f"^{field}: ") as caught:
            spec_of(wire_job(**{field: number}))
        assert caught.value.code is Code.INVALID


@pytest.mark.parametrize(
    "given",
    [
        {"payment_address": "a\0b"},
        {"hyperparameters": {"note": "a\0b"}},
        {"hyperparameters": {"a\0b": "1"}},
    ],
    ids=["text", "value", "key"],
)
def test_a_nul_is_no_text_of_a_wire_job(given: dict[str, Any]) -> None:
    with pytest.raises(CyxError, match=f"^{next(iter(given))}: .* NUL") as caught:
        spec_of(wire_job(**given))
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_what_no_text_may_hold_is_none_of_a_definition(bad: str) -> None:
    script = {"script": "a.py", "files": {"a.py": "0" * 64}, "args": [bad]}
    with pytest.raises(CyxError, match="The model definition holds") as caught:
        spec_of(job_pb.JobConfig(dataset_uri="builtin:digits", model_definition=json.dumps(script)))
    assert caught.value.code is Code.INVALID


def test_a_small_file_gets_the_published_defaults() -> None:
    spec = parse_jobfile(SMALL)
    assert (spec.name, spec.type, spec.priority) == ("", JobType.TRAINING, Priority.NORMAL)
    assert (spec.epochs, spec.batch_size, spec.seed) == (10, 32, 0)
    assert spec.resources == Resources(Device.ANY, 0, 2**30, 3600.0, ())
    assert (spec.max_price_units, spec.payment_address) == (0, "")
    assert (dict(spec.hyperparameters), dict(spec.labels)) == ({}, {})
    assert json.loads(spec.model) == {"layers": LAYERS}


def test_a_whole_file_is_taken_as_it_is() -> None:
    spec = parse_jobfile(
        {
            "name": "digits-mlp",
            "type": "training",
            "dataset": "builtin:digits",
            "epochs": 20,
            "batch_size": 64,
            "seed": -7,
            "priority": "critical",
            "model": {"layers": LAYERS},
            "hyperparameters": {"optimizer": "sgd", "learning_rate": 0.1, "shuffle": False, "momentum": "0.5"},
            "resources": {
                "device": "cuda",
                "vram": "8GB",
                "ram": "512MiB",
                "nodes": 1,
                "max_duration": "90m",
                "regions": ["eu", "us"],
            },
            "payment": {"max_price": "5", "address": "somewhere"},
            "checkpoint": {},
            "verify": {"mode": "none"},
            "labels": {"team": "a"},
        }
    )
    assert (spec.name, spec.epochs, spec.batch_size, spec.seed) == ("digits-mlp", 20, 64, -7)
    assert spec.priority is Priority.CRITICAL
    assert spec.resources == Resources(Device.CUDA, 8 * 10**9, 512 * 2**20, 5400.0, ("eu", "us"))
    assert spec.max_price_units == 5 * 10**9
    assert spec.payment_address == "somewhere"
    assert dict(spec.labels) == {"team": "a"}
    assert dict(spec.hyperparameters) == {
        "optimizer": "sgd",
        "learning_rate": "0.1",
        "shuffle": "false",
        "momentum": "0.5",
    }


def test_hyperparameters_may_be_lists() -> None:
    given = {"export": ["onnx", "cyxmodel"], "class_weights": [1, 2.5, 1]}
    spec = parse_jobfile({"dataset": "builtin:iris", "model": {"layers": LAYERS}, "hyperparameters": given})
    assert dict(spec.hyperparameters) == {"export": "onnx,cyxmodel", "class_weights": "1,2.5,1"}
    with pytest.raises(CyxError, match=r"hyperparameters\.export: must be text"):
        parse_jobfile({"model": {"layers": LAYERS}, "hyperparameters": {"export": [{}]}})


@pytest.mark.parametrize(
    "model",
    [
        {"layers": [64, 32, 10]},
        {"definition": '{"type": "mlp", "input_size": 64, "hidden_layers": [32], "output_size": 10}'},
        {"graph": {"nodes": [{"id": 1, "type": 0, "parameters": {"units": "10"}}], "links": []}},
        {"graph": '{"nodes": [{"id": 1, "type": "Dense", "parameters": {"units": "10"}}]}'},
    ],
)
def test_every_form_of_a_model_is_taken(model: dict[str, Any]) -> None:
    parse_jobfile(merged(model=model))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 1_000_001}, "epochs"),
        ({"epochs": "ten"}, "epochs"),
        ({"epochs": "10"}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": None}, "batch_size"),
        ({"batch_size": 1_000_001}, "batch_size"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"name": "n" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"type": "cooking"}, "type"),
        ({"priority": "urgent"}, "priority"),
        ({"dataset": ""}, "dataset"),
        ({"dataset": 5}, "dataset"),
        ({"colour": "red"}, "colour"),
        ({"model": {}}, "model"),
        ({"model": {"layers": LAYERS, "definition": "{}"}}, "model"),
        ({"model": {"layers": "dense"}}, "model.layers"),
        ({"model": {"weights": "x"}}, "model.weights"),
        ({"model": []}, "model"),
        ({"resources": {"ram": "lots"}}, "resources.ram"),
        ({"resources": {"ram": -1}}, "resources.ram"),
        ({"resources": {"ram": "1PB"}}, "resources.ram"),
        ({"resources": {"vram": True}}, "resources.vram"),
        ({"resources": {"max_duration": "1w"}}, "resources.max_duration"),
        ({"resources": {"max_duration": "0s"}}, "resources.max_duration"),
        ({"resources": {"max_duration": 90}}, "resources.max_duration"),
        ({"resources": {"max_duration": "367d"}}, "resources.max_duration"),
        ({"resources": {"nodes": 257}}, "resources.nodes"),
        ({"resources": {"nodes": 2, "min_nodes": 3}}, "resources.min_nodes"),
        ({"resources": {"nodes": 3}, "batch_size": 2}, "batch_size"),
        ({"resources": {"nodes": 2}, "dataset": "remote://mine"}, "resources.nodes"),
        ({"strategy": "gossip"}, "strategy"),
        ({"resources": {"device": "tpu"}}, "resources.device"),
        ({"resources": {"regions": "eu"}}, "resources.regions"),
        ({"resources": {"regions": [5]}}, "resources.regions.0"),
        ({"resources": {"cpus": 4}}, "resources.cpus"),
        ({"payment": {"max_price": "-1"}}, "payment.max_price"),
        ({"payment": {"max_price": "0"}}, "payment.max_price"),
        ({"payment": {"max_price": "-0"}}, "payment.max_price"),
        ({"payment": {"max_price": 0.0}}, "payment.max_price"),
        ({"payment": {"max_price": ""}}, "payment.max_price"),
        ({"payment": {"max_price": "cheap"}}, "payment.max_price"),
        ({"payment": {"max_price": "0.0000000001"}}, "payment.max_price"),
        ({"payment": {"max_price": []}}, "payment.max_price"),
        ({"payment": {"max_price": "0.000000999"}}, "payment.max_price"),
        ({"payment": {"address": "a" * 201}}, "payment.address"),
        ({"verify": {"mode": "always"}}, "verify.mode"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {str(n): "" for n in range(51)}}, "labels"),
        ({"hyperparameters": {"a": [{}]}}, "hyperparameters.a"),
        ({"hyperparameters": []}, "hyperparameters"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(change: dict[str, Any], field: str) -> None:
    error = refusal(merged(**change))
    assert error.code is Code.INVALID
    assert error.message.startswith(f"{field}: ")
    assert error.details["field"] == field


@pytest.mark.parametrize("data", [None, [], "job", 5])
def test_what_is_no_object_is_refused(data: object) -> None:
    error = refusal(data)
    assert error.code is Code.INVALID
    assert error.message.startswith("job: ")


def test_several_mistakes_are_counted() -> None:
    assert refusal(merged(epochs=0, batch_size=0, colour="red")).details["problems"] == 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": {"definition": '{"type": "vgg"}'}}, "cannot be built"),
    ],
)
def test_what_comes_later_is_unsupported_not_ignored(change: dict[str, Any], word: str) -> None:
    error = refusal(merged(**change))
    assert error.code is Code.UNSUPPORTED
    assert word in error.message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "builtin:nothing"}, "There is no built-in dataset"),
        ({"dataset": "digits"}, "has no scheme"),
        ({"dataset": "blob://sha256/abc"}, "64 lower-case hex digits"),
        ({"model": {"layers": []}}, "no layer"),
        ({"model": {"layers": [{"type": "dense", "units": 9}]}}, "9 outputs"),
        ({"model": {"layers": [{"type": "densest"}]}}, "no layer type 'densest'"),
        ({"model": {"definition": "{"}}, "not JSON"),
        ({"model": {"layers": [{"type": "dense", "units": 0}]}}, "from 1 to 1048576"),
        ({"hyperparameters": {"learning_rate": "0"}}, "learning_rate is '0'"),
        ({"hyperparameters": {"optimizer": "best"}}, "optimizer is 'best'"),
    ],
)
def test_what_no_node_could_run_is_refused_at_submit(change: dict[str, Any], word: str) -> None:
    error = refusal(merged(**change))
    assert error.code is Code.INVALID
    assert word in error.message


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512MiB", 512 * 2**20), ("8GB", 8 * 10**9), (1024, 1024), ("1.5 GiB", 3 * 2**29), ("2tb", 2 * 10**12)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e3", "1 MiB 2", "1PiB", True, None, "5" * 60])
def test_bad_sizes(text: object) -> None:
    with pytest.raises(ValueError, match=r"must be a size|larger than"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("366d", 366 * 86400)]
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "0s", "-1s", "1w", "367d", 90, True])
def test_bad_spans(text: object) -> None:
    with pytest.raises(ValueError, match=r"must be a span|must be above 0"):
        parse_span(text)


@given(st.integers(0, 2**62), st.sampled_from(["", "B", "kb", "KiB", "mIb"]))
@settings(deadline=None)
def test_any_size_is_read_or_refused(number: int, unit: str) -> None:
    try:
        read: float | str = parse_size(f"{number}{unit}")
    except ValueError as error:
        read = str(error)
    assert read == "is larger than any machine" if isinstance(read, str) else read >= number * 0.999


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("name", "type", "dataset", "epochs", "batch_size", "seed", "priority", "model", "hyperparameters",
          "resources", "checkpoint", "verify", "labels", "steps", "requirements", "network")  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4))
@settings(deadline=None)
def test_whatever_json_comes_it_is_read_or_refused_in_our_own_words(change: dict[str, Any]) -> None:
    refused = None
    try:
        parse_jobfile(merged(**change))
    except CyxError as error:
        refused = error
    assert refused is None or (refused.code in (Code.INVALID, Code.UNSUPPORTED) and refused.message)


SHA = "0" * 64


def test_a_script_instead_of_a_model() -> None:
    spec = parse_jobfile({"model": {"script": "a/train.py", "files": {"a/train.py": SHA}, "args": ["-x"]}})
    assert spec.script == Script("a/train.py", {"a/train.py": SHA}, ("-x",))
    assert (spec.model, spec.dataset_uri) == ("", "")
    text = json.dumps({"script": "a/train.py", "files": {"a/train.py": SHA}, "args": ["-x"]})
    assert parse_definition(text) == Definition("", spec.script), "the same on the wire"
    assert parse_definition('{"layers": [1]}') == Definition('{"layers": [1]}')
    with pytest.raises(CyxError, match="is no JSON"):
        parse_definition('{"script": ')


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"script": "train.py"}, "model.files"),
        ({"script": "train.py", "files": {"other.py": SHA}}, "model.script"),
        ({"script": "train.py", "files": {"train.py": "x"}}, "model.files"),
        ({"script": "train.py", "files": {"train.py": SHA}, "layers": [1]}, "model.layers"),
        ({"source": "dir/"}, "model.source"),
        ({"files": {"train.py": SHA}}, "model"),
        ({"args": ["a"]}, "model"),
    ],
)
def test_scripts_that_are_none(model: dict[str, Any], field: str) -> None:
    error = refusal({"model": model})
    assert error.code is Code.INVALID
    assert error.details["field"] == field
