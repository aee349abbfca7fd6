from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import (
    blob_digest,
    check_dataset_uri,
    check_hyperparameters,
    check_model_fits,
    parse,
    parse_hyperparameters,
    to_cyxgraph,
)
from cyxwiz.graph.dataset_uri import hub_parts
from tests.soak import examples

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("builtin:digits", ("builtin", "digits", "")),
        ("builtin://Breast-Cancer", ("builtin", "breast_cancer", "")),
        ("mock://anything", ("mock", "random", "anything")),
        ("file://csv//data/a.csv", ("file", "csv", "/data/a.csv")),
        ("file://csv/a/b.csv", ("file", "csv", "a/b.csv")),
        ("file://mnist/m", ("file", "mnist", "m")),
        ("file://cifar10/x", ("file", "cifar10", "x")),
        ("file:///data/a.csv", ("file", "auto", "/data/a.csv")),
        ("file://auto/a", ("file", "auto", "a")),
        ("https://example.org/a.csv?v=1#label=x", ("https", "example.org", "/a.csv?v=1")),
        ("HTTPS://example.org:8443", ("https", "example.org:8443", "/")),
        ("http://[::1]:80/a", ("http", "[::1]:80", "/a")),
        ("s3://my-bucket/a/b.csv", ("s3", "my-bucket", "a/b.csv")),
        ("s3://my-bucket", ("s3", "my-bucket", "")),
        ("hf://datasets/a/b@main/data/", ("hf", "datasets", "a/b@main/data")),
        (f"ipfs://Qm{'a' * 44}/x/y", ("ipfs", f"Qm{'a' * 44}", "x/y")),
        (f"blob://sha256/{HEX}", ("blob", "sha256", HEX)),
        ("remote://my data", ("remote", "client", "my data")),
    ],
)
def test_a_known_uri_is_split(uri: str, parts: tuple[str, str, str]) -> None:
    found = check_dataset_uri(uri)
    assert (found.scheme, found.kind, found.rest) == parts


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", Code.INVALID),
        ("digits", Code.INVALID),
        ("builtin:mnist", Code.INVALID),
        ("ftp://x", Code.INVALID),
        ("file://csv/", Code.INVALID),
        ("file://docx/x", Code.INVALID),
        ("file:///", Code.INVALID),
        ("file://csv/a?colour=red", Code.INVALID),
        ("file://csv/a?label=a&label=b", Code.INVALID),
        ("file://images/a?size=0x5", Code.INVALID),
        ("file://images/a?size=9999x9", Code.INVALID),
        (f"file://csv/a?sha256={HEX}", Code.INVALID),
        ("blob://sha256/xyz", Code.INVALID),
        ("mock://a\0b", Code.INVALID),
        ("x" * 3000, Code.INVALID),
        ("https://", Code.INVALID),
        ("https://user:secret@example.org/a", Code.INVALID),
        ("https://example.org:0/a", Code.INVALID),
        ("https://example.org:99999/a", Code.INVALID),
        ("https://exa mple.org/a", Code.INVALID),
        ("https://example.org/a#sha256=12", Code.INVALID),
        ("s3://B/a", Code.INVALID),
        ("s3://bucket/" + "k" * 1025, Code.INVALID),
        ("hf://a/b", Code.INVALID),
        ("hf://datasets/a", Code.INVALID),
        ("hf://datasets/a/b/../c", Code.INVALID),
        ("hf://datasets/a/b/..", Code.INVALID),
        ("ipfs://a", Code.INVALID),
        (f"ipfs://Qm{'a' * 44}/../x", Code.INVALID),
        ("remote://", Code.INVALID),
    ],
)
def test_any_other_uri_is_refused(uri: str, code: Code) -> None:
    with pytest.raises(CyxError) as caught:
        check_dataset_uri(uri)
    assert caught.value.code is code
    if code is Code.UNSUPPORTED:
        assert uri.partition("://")[0] in caught.value.message


def test_options_are_read_and_a_blob_is_known_with_them() -> None:
    found = check_dataset_uri("file://csv/a.csv?label=the%20kind&delimiter=;#header=false")
    assert found.rest == "a.csv"
    assert found.options == {"label": "the kind", "delimiter": ";", "header": "false"}
    assert check_dataset_uri(f"s3://bucket/a#sha256={HEX}").options == {"sha256": HEX}
    for uri in (f"blob://sha256/{HEX}", f"BLOB://sha256/{HEX}?split=test"):
        assert blob_digest(uri) == HEX
    assert blob_digest("builtin:iris") is None
    assert blob_digest("nonsense") is None


@pytest.mark.parametrize(
    ("rest", "parts"),
    [
        ("a/b", ("a/b", "main", "")),
        ("a/b@v1.0", ("a/b", "v1.0", "")),
        ("a/b/data/x.csv", ("a/b", "main", "data/x.csv")),
        ("a/b@0a1b/data", ("a/b", "0a1b", "data")),
    ],
)
def test_a_hub_uri_has_repository_revision_and_path(rest: str, parts: tuple[str, str, str]) -> None:
    assert hub_parts(check_dataset_uri(f"hf://datasets/{rest}")) == parts


@settings(max_examples=examples(200), deadline=None)
@given(
    st.text()
    | st.text().map("https://h/".__add__)
    | st.text().map("hf://datasets/".__add__)
    | st.text().map("file://csv/".__add__)
    | st.text().map("blob://".__add__)
)
def test_no_uri_raises_anything_else(uri: str) -> None:
    try:
        check_dataset_uri(uri)
    except CyxError as error:
        error.message.encode()


FITS = [
    ({"layers": [64, 32, 10]}, "builtin:digits", None),
    ({"layers": [64, 32, 12]}, "builtin:digits", None),
    ({"layers": [{"type": "dense", "units": 10}]}, "builtin:digits", "MSELoss"),
    ({"layers": [{"type": "dense", "units": 1}]}, "builtin:breast_cancer", "BCEWithLogits"),
    ({"layers": [{"type": "dense", "units": 1}, "sigmoid"]}, "builtin:breast_cancer", "BCELoss"),
    ({"layers": [{"type": "dense", "units": 1}]}, "builtin:diabetes", None),
    ({"layers": [{"type": "dense", "units": 3}]}, "builtin:linnerud", "HuberLoss"),
    ({"layers": [784, 10]}, "mock://x", None),
    ({"layers": [5, 2]}, "file://csv/a.csv", None),
    (
        {"layers": [{"type": "normalize", "mean": 0, "std": 1}, {"type": "embedding", "num_embeddings": 17}, "flatten",
                    {"type": "dense", "units": 10}]},
        "builtin:digits", None,
    ),
]  # fmt: skip
MISFITS = [
    ({"layers": [{"type": "dense", "units": 9}]}, "builtin:digits", None, ["layers[0] (Dense)", "9", "10"]),
    ({"layers": [784, 10]}, "builtin:digits", None, ["784", "64"]),
    ({"layers": [{"type": "dense", "units": 1}]}, "builtin:iris", "MSELoss", ["3"]),
    ({"layers": [{"type": "dense", "units": 10}]}, "builtin:digits", "BCELoss", ["Sigmoid"]),
    ({"layers": [{"type": "dense", "units": 1}]}, "builtin:diabetes", "CrossEntropyLoss", ["MSELoss"]),
    ({"layers": [{"type": "dense", "units": 2}]}, "builtin:diabetes", None, ["2 outputs", "needs 1"]),
    ({"layers": ["flatten"]}, "builtin:digits", None, ["no layer of the model has weights"]),
    ({"layers": [{"type": "onehot", "num_classes": 3}, {"type": "dense"}]}, "builtin:digits", None, ["OneHotEncode"]),
    ({"layers": [784, 1048576, 1048576]}, "mock://x", None, ["parameters"]),
    *(
        (
            {"layers": [*before, {"type": "embedding", "num_embeddings": 17}, {"type": "dense", "units": 10}]},
            "builtin:digits", None, ["Embedding", "whole numbers", "standardized", "Normalize node with mean 0 and"],
        )
        for before in ([], [{"type": "reshape", "shape": [8, 8]}, "identity"])
    ),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "uri", "loss"), FITS)
def test_a_fitting_model_passes(definition: object, uri: str, loss: str | None) -> None:
    check_model_fits(parse(json.dumps(definition)), uri, loss)


@pytest.mark.parametrize(("definition", "uri", "loss", "words"), MISFITS)
def test_a_misfit_is_invalid(definition: object, uri: str, loss: str | None, words: list[str]) -> None:
    with pytest.raises(CyxError) as caught:
        check_model_fits(parse(json.dumps(definition)), uri, loss)
    assert caught.value.code is Code.INVALID
    assert all(word in caught.value.message for word in words), caught.value.message


def test_defaults_and_each_optimizer() -> None:
    plain = parse_hyperparameters({})
    assert (plain.optimizer, plain.learning_rate, plain.validation_split, plain.shuffle) == ("Adam", 0.001, 0.2, True)
    assert plain.loss is None
    for word, name in {
        "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "NAdam",
    }.items():  # fmt: skip
        assert parse_hyperparameters({"optimizer": word}).optimizer == name
    assert parse_hyperparameters({"optimizer": "sgd"}).momentum == 0.9
    assert parse_hyperparameters({"optimizer": "adamw"}).weight_decay == 0.01


def test_the_job_wins_over_the_graph_and_the_graph_over_defaults() -> None:
    graph = parse(
        '{"layers": [{"type": "data_split", "train_ratio": 0.5}, {"type": "dense"}],'
        ' "optimizer": {"type": "sgd", "learning_rate": 0.3, "momentum": 0.5}, "loss": "huber"}'
    )
    own = parse_hyperparameters({}, graph)
    assert (own.optimizer, own.learning_rate, own.momentum, own.validation_split) == ("SGD", 0.3, 0.5, 0.5)
    assert own.loss is not None
    assert own.loss.type == "HuberLoss"
    job = parse_hyperparameters({"learning_rate": "0.1", "validation_split": "0", "loss": "mse"}, graph)
    assert (job.learning_rate, job.momentum, job.validation_split) == (0.1, 0.5, 0.0)
    assert job.loss is not None
    assert job.loss.type == "MSELoss"
    other = parse_hyperparameters({"optimizer": "adam"}, graph)
    assert (other.learning_rate, other.momentum) == (0.001, 0.0)


@pytest.mark.parametrize(
    ("ratios", "validation", "test"),
    [
        ({"train_ratio": 0.7}, 0.3, 0.0),
        ({"train_ratio": 0.8, "val_ratio": 0.1, "test_ratio": 0.1}, 0.1, 0.1),
        ({"train_ratio": 0.6, "test_ratio": 0.4}, 0.0, 0.4),
        ({"train_ratio": 0.5, "val_ratio": 0.1, "test_ratio": 0.1}, 0.4, 0.1),
    ],
)
def test_a_split_has_three_parts(ratios: dict[str, float], validation: float, test: float) -> None:
    graph = parse(json.dumps({"layers": [{"type": "data_split", **ratios}, {"type": "dense"}]}))
    read = parse_hyperparameters({}, graph)
    assert (read.validation_split, read.test_split) == (validation, test)
    again = parse(json.dumps(to_cyxgraph(graph)))
    assert (again.validation_split, again.test_split or 0.0) == (validation, test)
    with pytest.raises(CyxError, match="must leave at least"):
        parse_hyperparameters({"validation_split": "0.5", "test_split": "0.5"})


@pytest.mark.parametrize(
    ("given", "uri", "words"),
    [
        ({"class_weights": "1,2"}, "builtin:iris", "has 2 numbers, the dataset has 3 classes"),
        ({"class_weights": "balanced"}, "builtin:diabetes", "has no classes"),
        ({"class_weights": "1,2"}, "builtin:diabetes", "has no classes"),
        ({"export": "cyxmodel,onnx"}, "builtin:digits", "an ONNX file holds 2146435072"),
    ],
)
def test_what_the_data_can_not_take_is_said_before_anything_runs(given: dict[str, str], uri: str, words: str) -> None:
    graph = parse('{"layers": [{"type": "dense", "units": 30000}, {"type": "dense", "units": 30000}]}')
    with pytest.raises(CyxError, match=words):
        check_hyperparameters(parse_hyperparameters(given, graph), graph, uri)
    check_hyperparameters(parse_hyperparameters(given, graph), graph, "https://example.com/unknown.csv")


def test_unknown_keys_are_kept_and_idle_ones_told() -> None:
    read = parse_hyperparameters({"warmup": "3", "momentum": "0.5"})
    assert read.extra == {"warmup": "3"}
    assert read.notes == ("The hyperparameter momentum has no effect with Adam",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", "0"), ("learning_rate", "nan"), ("learning_rate", "inf"), ("learning_rate", "fast"),
        ("weight_decay", "-1"), ("momentum", "1"), ("beta1", "1.0"), ("eps", "0"), ("validation_split", "0.95"),
        ("shuffle", "perhaps"), ("optimizer", "lion"), ("optimizer", "relu"), ("loss", "adam"), ("loss", ""),
    ],
)  # fmt: skip
def test_a_bad_value_names_key_value_and_bound(key: str, value: str) -> None:
    with pytest.raises(CyxError) as caught:
        parse_hyperparameters({key: value})
    assert caught.value.code is Code.INVALID
    assert key in caught.value.message
    assert repr(value) in caught.value.message
    assert "must be" in caught.value.message
