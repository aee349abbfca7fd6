"""A trained model's files answer as the model does: every type of layer in every format."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from cyxwiz.compute.build import build
from cyxwiz.compute.export import (
    Trained,
    export,
    inference_module,
    read_cyxmodel,
    read_safetensors,
    write_archive,
    write_binary,
    write_directory,
    write_onnx,
    write_safetensors,
    write_torch_export,
    write_torchscript,
)
from cyxwiz.compute.export.programs import to_onnx
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import train
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import parse, parse_hyperparameters
from cyxwiz.graph.hyperparameters import EXPORTS
from cyxwiz.ports.executor import Work
from tests.layer_cases import cases

pytestmark = pytest.mark.timeout(300)  # an exporter's first use alone takes seconds of two idle cores
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def trained(definition: Any, features: Any, loss: str = "", **more: Any) -> Trained:
    torch.manual_seed(0)
    text = json.dumps(definition)
    graph = parse(text)
    label_shape = more.get("label_shape", ())
    model = build(graph, features, loss, label_shape)
    model.train()
    shapes = features if isinstance(features, Mapping) else {"x": features}
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.01) if before else None
    for _ in range(3):  # an odd number: steps of one length can't come to nothing
        least = 0 if "Embedding" in text else -8
        given = {name: torch.randint(least, 9, (4, *shape)).float() for name, shape in shapes.items()}
        made = model(given if isinstance(features, Mapping) else given["x"])
        if optimizer is not None:
            (made * torch.randn_like(made)).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    for (name, weight), was in zip(model.named_parameters(), before, strict=True):
        assert weight.isfinite().all(), f"{text}: {name}"
        assert not torch.equal(weight, was), f"{text}: {name} was not trained"
    return Trained(model.eval(), graph, text, features, loss, **more)


CNN = {
    "layers": [
        {"type": "input", "input_shape": [6, 6, 1]}, {"type": "conv2d", "filters": 4, "padding": "same"}, "batch_norm",
        "relu", "max_pool_2d", "dropout", {"type": "reshape", "shape": [9, 4]}, {"type": "gru", "units": 5},
        {"type": "dense", "units": 3, "activation": "leaky_relu"}, "softmax",
    ]
}  # fmt: skip
SCALING = {"divisor": 2.0, "mean": [float(i) / 36 for i in range(36)], "std": [1.0 + i / 36 for i in range(36)]}


@pytest.fixture(scope="module")
def cnn() -> Trained:
    return trained(
        CNN, (36,), "CrossEntropyLoss", scaling=SCALING, name="a | b", dataset="builtin:x",
        created="2026-01-01T00:00:00Z", hyper=parse_hyperparameters({"optimizer": "sgd"}), batch_size=4, epochs=2,
        classes=3, class_names=("a", "b", "c"), metrics={"loss": 0.5, "val_accuracy": 0.75},
        history={"loss": [1.0, 0.5], "val_accuracy": [0.25, 0.75]},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Many(nn.Module):
    """Several models side by side."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(model(x) for model, x in zip(self.models, inputs, strict=True))


ALL = list(cases())
FIRST = list({kind: case for case in reversed(ALL) for kind in case[1:2]}.values())
# Their export takes a second or more for each.
SLOW = ("LSTM", "GRU", "Bidirectional", "TransformerEncoder", "TransformerDecoder", "TimeDistributed")


def loaded(path: Path) -> Any:
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        return torch.jit.load(str(path))


@pytest.mark.parametrize("part", range(5))
def test_every_type_of_layer_answers_the_same_in_onnx(part: int) -> None:
    chosen = [case for case in ALL if case in FIRST or case[1] not in SLOW][part::5]
    models, small, large = [], [], []
    for _, kind, text, shape in chosen:
        one = trained(json.loads(text), shape, label_shape=(1,))
        models.append(inference_module(one))
        for batch, into in ((3, small), (5, large)):
            draw = torch.rand(batch, *shape) + 0.1  # nothing on an edge of a function
            into.append(torch.randint(0, 9, (batch, *shape)).float() if kind == "Embedding" else draw)
    module = Many(models).eval()
    inputs, outputs = [f"in{i}" for i in range(len(models))], [f"out{i}" for i in range(len(models))]
    content = to_onnx(module, tuple(small), inputs, outputs)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = module(*large)
    made = session.run(outputs, {name: x.numpy() for name, x in zip(inputs, large, strict=True)})
    for (name, *_), ours, theirs in zip(chosen, expected, made, strict=True):
        torch.testing.assert_close(
            torch.from_numpy(theirs), ours, **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_every_type_of_layer_answers_the_same_in_torchscript(tmp_path: Path) -> None:
    for name, kind, text, shape in FIRST:
        one = trained(json.loads(text), shape, label_shape=(1,))
        write_torchscript(one, tmp_path / "model.pt")
        x = torch.randint(0, 9, (5, *shape)).float() if kind == "Embedding" else torch.rand(5, *shape) + 0.1
        again = loaded(tmp_path / "model.pt")
        torch.testing.assert_close(again(x), inference_module(one)(x), **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def test_every_type_of_layer_survives_a_cyxmodel(tmp_path: Path) -> None:
    for place, (name, _, text, shape) in enumerate(FIRST):
        one = trained(json.loads(text), shape, label_shape=(1,))
        x = torch.randint(0, 9, (2, *shape)).float()
        write_binary(one, tmp_path / "m.cyxmodel")
        write_directory(one, tmp_path / str(place))
        write_archive(one, tmp_path / "m.tar")
        for path in (tmp_path / "m.cyxmodel", tmp_path / str(place), tmp_path / "m.tar"):
            again = read_cyxmodel(path).trained()
            assert torch.equal(again.model(x), one.model(x)), name


def test_exports_take_raw_features_and_give_probabilities(cnn: Trained, tmp_path: Path) -> None:
    raw = torch.rand(5, 36) * 2
    scaled = (raw / 2 - torch.tensor(SCALING["mean"])) / torch.tensor(SCALING["std"])
    expected = cnn.model(scaled).softmax(1)
    assert torch.allclose(inference_module(cnn)(raw), expected, atol=1e-6)
    files = export(cnn, EXPORTS, tmp_path, pytest.fail)
    assert [file.name for file in files] == [
        "model.torchscript.pt", "model.pt2", "model.onnx", "model.cyxmodel", "model.cyxmodel.tar", "README.md"
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(files[2].read_bytes(), providers=["CPUExecutionProvider"])
    made = {
        "torchscript": loaded(files[0])(raw),
        "torch_export": torch.export.load(files[1]).module()(raw),
        "onnx": torch.from_numpy(session.run(["output"], {"input": raw.numpy()})[0]),
        "cyxmodel": inference_module(read_cyxmodel(files[3]).trained())(raw),
    }
    for name, theirs in made.items():
        torch.testing.assert_close(theirs, expected, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")
    metadata = {entry.key: entry.value for entry in onnx.load_model_from_string(files[2].read_bytes()).metadata_props}
    assert json.loads(metadata["cyxwiz.definition"]) == CNN


def test_the_card_tells_what_the_model_is(cnn: Trained, tmp_path: Path) -> None:
    text = export(cnn, ["cyxmodel"], tmp_path, pytest.fail)[-1].read_text()
    count = sum(parameter.numel() for parameter in cnn.model.parameters())
    for words in ("# a \\| b", f"{count:,} parameters", "builtin:x", "| layers[1] | Conv2D |", "(6, 6, 4)", "a, b, c",
                  "val_accuracy | 0.75", "model.cyxmodel", "SGD", "divided by 2"):  # fmt: skip
        assert words in text, words


def test_a_model_of_several_arrays_is_exported_with_their_names(tmp_path: Path) -> None:
    nodes = [
        {"id": "image", "type": "DatasetInput", "parameters": {"field": "image"}}, {"id": "t", "type": "DatasetInput"},
        {"id": "f", "type": "Flatten"}, {"id": "j", "type": "Concatenate"}, {"id": "d", "type": "Dense"},
    ]  # fmt: skip
    pairs = [("image", "f"), ("f", "j"), ("t", "j"), ("j", "d")]
    definition = {"nodes": nodes, "links": [{"from": a, "to": b} for a, b in pairs]}
    one = trained(definition, {"image": (2, 3), "x": (4,)}, scaling={"mean": 1.0, "std": 2.0})
    arrays = {"image": torch.rand(5, 2, 3), "x": torch.rand(5, 4)}
    expected = one.model({"image": arrays["image"], "x": (arrays["x"] - 1) / 2})
    write_onnx(one, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    made = session.run(["output"], {name: value.numpy() for name, value in arrays.items()})[0]
    torch.testing.assert_close(torch.from_numpy(made), expected, **CLOSE)
    write_torch_export(one, tmp_path / "m.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "m.pt2").module()(*arrays.values()), expected, **CLOSE)


def test_safetensors_are_the_same_bytes_and_read_back(cnn: Trained, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_safetensors(cnn, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = read_safetensors(tmp_path / "a").trained()
    x = torch.rand(3, 36)
    assert torch.equal(again.model(x), cnn.model(x))
    assert torch.equal(inference_module(again)(x), inference_module(cnn)(x))
    (tmp_path / "c").write_bytes(b"12345678{}")
    with pytest.raises(CyxError):
        read_safetensors(tmp_path / "c")


def test_the_result_of_a_training_job_is_read_back(tmp_path: Path) -> None:
    definition = '{"layers": [{"type": "input", "input_shape": [8, 8, 1]}, "conv2d", {"type": "dense", "units": 10}]}'
    work = Work(
        job_id="j", job_type="TRAINING", model=definition, dataset_uri="builtin:digits", hyperparameters={}, epochs=1,
        batch_size=64, seed=0, device="cpu", threads=1, work_dir=tmp_path,
    )  # fmt: skip
    end = train(work, lambda report: None, Orders())
    from cyxwiz.compute.datasets import load

    digits = load("builtin:digits")
    again = inference_module(read_safetensors(end.artefacts[0].path).trained())
    right = again(torch.from_numpy(digits.features * digits.divisor)).argmax(1) == torch.from_numpy(digits.labels)
    assert right.float().mean().item() > 0.8


# --- .cyxmodel, byte by byte


def earlier_file() -> bytes:
    """A file as the earlier system writes it, with nothing of ours in it."""
    head = json.dumps(
        {
            "metadata": {"name": "m", "framework": "CyxWiz", "format_version": "2.0"},
            "modules": [{"index": i, "name": name} for i, name in enumerate(
                ["Linear(2 -> 3)", "LeakyReLU(slope=0.2)", "Dropout(p=0.200000)", "Linear(3 -> 1)"])],
        }
    ).encode()  # fmt: skip
    body = struct.pack("<IIQ", 0x43595857, 2, len(head)) + head + struct.pack("<Q", 4)
    for module in ([("weight", (3, 2)), ("bias", (3,))], [], [], [("weight", (1, 3)), ("bias", (1,))]):
        body += struct.pack("<Q", len(module))
        for name, shape in module:
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            body += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<Q{len(shape)}Q", len(shape), *shape)
            body += struct.pack(f"<iQ{count}f", 0, 4 * count, *(float(i) for i in range(count)))
    return body


def test_a_binary_of_the_earlier_system_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.cyxmodel").write_bytes(earlier_file())
    model = read_cyxmodel(tmp_path / "m.cyxmodel").trained().model
    hidden = nn.functional.leaky_relu(
        torch.tensor([[1.0, -2.0]]) @ torch.arange(6.0).reshape(3, 2).T + torch.arange(3.0), 0.2
    )
    torch.testing.assert_close(model(torch.tensor([[1.0, -2.0]])), hidden @ torch.tensor([[0.0], [1.0], [2.0]]))


def test_a_directory_of_the_earlier_system_is_read(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (tmp_path / "metadata.json").write_text("{}")
    nodes = [{"id": 1, "type": 77, "parameters": {}}, {"id": 2, "type": 0, "parameters": {"units": "2"}}]
    links = [{"id": 1, "from_node": 1, "to_node": 2}]
    (tmp_path / "graph.cyxgraph").write_text(json.dumps({"nodes": nodes, "links": links}))
    (tmp_path / "config.json").write_text('{"data": {"input_shape": [2]}}')
    entries = [{"name": "layer0.weight", "shape": [2, 2]}, {"name": "layer0.bias", "shape": [2]}]
    (weights / "manifest.json").write_text(json.dumps(entries))
    (weights / "layer0_weight.bin").write_bytes(struct.pack("<IqqI4f", 2, 2, 2, 0, 1, 2, 3, 4))
    (weights / "layer0_bias.bin").write_bytes(struct.pack("<2f", 10, 20))
    assert read_cyxmodel(tmp_path).trained().model(torch.ones(1, 2)).tolist() == [[13, 27]]


@pytest.mark.parametrize("stated", [None, [], [2]], ids=["no config", "empty", "stated"])
def test_a_directory_as_the_earlier_system_writes_it_is_read(tmp_path: Path, stated: list[int] | None) -> None:
    """Its list is called `tensors`, its config often has no shape, its document has 1 for float32."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (tmp_path / "manifest.json").write_text('{"version": "1.0", "format": "cyxmodel"}')
    kinds = [(1, 77, {"dataset_name": ""}), (2, 0, {"units": "2"}), (3, 29, {}), (4, 50, {"classes": "2"})]
    nodes = [{"id": ident, "type": kind, "parameters": given} for ident, kind, given in kinds]
    links = [{"id": i, "from_node": i, "to_node": i + 1} for i in (1, 2, 3)]
    (tmp_path / "graph.cyxgraph").write_text(json.dumps({"nodes": nodes, "links": links}))
    if stated is not None:
        (tmp_path / "config.json").write_text(json.dumps({"data": {"input_shape": stated, "num_classes": 0}}))
    entries = [
        {"name": "layer0.bias", "shape": [2], "dtype": 0, "offset": 0, "size_bytes": 24},
        {"name": "layer0.weight", "shape": [2, 2], "dtype": 0, "offset": 0, "size_bytes": 40},
    ]
    (weights / "manifest.json").write_text(
        json.dumps({"version": "1.0", "total_tensors": 2, "total_bytes": 64, "tensors": entries})
    )
    (weights / "layer0_weight.bin").write_bytes(struct.pack("<IqqI4f", 2, 2, 2, 1, 1, 2, 3, 4))
    (weights / "layer0_bias.bin").write_bytes(struct.pack("<IqI2f", 1, 2, 0, 10, -20))
    assert read_cyxmodel(tmp_path).trained().model(torch.ones(1, 2)).tolist() == [[13, 0]]


def test_a_directory_says_what_the_reference_lists(cnn: Trained, tmp_path: Path) -> None:
    write_directory(cnn, tmp_path / "d")
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert {"version", "format", "created", "cyxwiz_version", "model", "training", "metadata", "content"} <= set(
        manifest
    )
    assert manifest["training"] == {"epochs_trained": 2, "final_accuracy": 0.75, "final_loss": 0.5}
    assert json.loads((tmp_path / "d" / "config.json").read_text())["optimizer"]["type"] == "SGD"
    history = json.loads((tmp_path / "d" / "history.json").read_text())
    assert history["best"] == {"epoch": 2, "loss": 0.5, "val_accuracy": 0.75}
    assert parse((tmp_path / "d" / "graph.cyxgraph").read_text()).layers == cnn.graph.layers
    listed = json.loads((tmp_path / "d" / "weights" / "manifest.json").read_text())
    sizes = {each["name"]: (each["shape"], each["dtype"], each["size_bytes"]) for each in listed["tensors"]}
    for name, value in cnn.weights().items():
        file = tmp_path / "d" / "weights" / f"{name.replace('.', '_')}.bin"
        assert sizes[name] == (list(value.shape), 0, file.stat().st_size)
    assert (listed["total_tensors"], listed["total_bytes"]) == (len(sizes), sum(size for *_, size in sizes.values()))
    with pytest.raises(CyxError, match="not empty"):
        write_directory(cnn, tmp_path / "d")


def test_an_archive_is_the_directory_and_the_same_bytes_each_time(cnn: Trained, tmp_path: Path) -> None:
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    write_archive(cnn, one)
    write_archive(cnn, two)
    assert one.read_bytes() == two.read_bytes()
    write_directory(cnn, tmp_path / "d")
    with tarfile.open(one) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
    assert set(found) == {f"model.cyxmodel/{each.relative_to(tmp_path / 'd')}" for each in files_of(tmp_path / "d")}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "d", one, two], "nothing else is left"


def files_of(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../b"])
def test_an_archive_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CyxError, match="no plain relative path"):
        read_cyxmodel(tmp_path / "m.tar")


def test_a_tar_without_a_model_is_invalid(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x/readme"))
    with pytest.raises(CyxError, match=r"m.tar cannot be read as a .cyxmodel"):
        read_cyxmodel(tmp_path / "m.tar")


@pytest.mark.parametrize("cut", [0, 3, 12, 40, 300, -1])
def test_a_cut_file_is_invalid(tmp_path: Path, cut: int) -> None:
    (tmp_path / "m.cyxmodel").write_bytes(earlier_file()[:cut])
    with pytest.raises(CyxError) as caught:
        read_cyxmodel(tmp_path / "m.cyxmodel")
    assert caught.value.code is Code.INVALID


def test_every_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    good, path = earlier_file(), tmp_path / "m.cyxmodel"
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        try:
            read_cyxmodel(path).trained()
        except CyxError as error:
            assert error.code is Code.INVALID  # noqa: PT017 - a flipped weight is read, the rest refused


@pytest.mark.parametrize("change", ["file", "shape", "below", "text", "missing", "head", "json"])
def test_a_spoilt_directory_is_invalid(cnn: Trained, tmp_path: Path, change: str) -> None:
    write_directory(cnn, tmp_path / "d")
    path = tmp_path / "d" / "weights" / "manifest.json"
    listed = json.loads(path.read_text())
    entry = listed["tensors"][0]
    if change == "file":
        entry["file"] = "../manifest.json"
    elif change == "shape":
        entry["shape"][0] += 1
    elif change == "below":
        entry["shape"] = [-1] * len(entry["shape"])
    elif change == "text":
        listed["tensors"][0] = "layer0.weight"
    elif change == "missing":
        listed["tensors"].pop()
    elif change == "head":
        file = tmp_path / "d" / "weights" / entry["file"]
        file.write_bytes(b"\xff" + file.read_bytes()[1:])
    path.write_text("[" if change == "json" else json.dumps(listed))
    with pytest.raises(CyxError) as caught:
        read_cyxmodel(tmp_path / "d").trained()
    assert caught.value.code is Code.INVALID
