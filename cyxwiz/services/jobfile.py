"""The job file: one strict schema for REST, gRPC and the command line, turned into a `JobSpec`."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cyxwiz.domain.checkpoint import parse_every
from cyxwiz.domain.errors import Code, CyxError, invalid, unsupported
from cyxwiz.domain.job import Device, JobSpec, JobType, Priority, Resources, Strategy
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.script import Script, check_script
from cyxwiz.graph import blob_digest, check_dataset_uri, check_model_fits, parse, parse_hyperparameters
from cyxwiz.ports.store import Tx
from cyxwiz.services.validation import first_problem

MAX_MODEL_BYTES = 8 << 20
MAX_EPOCHS = 1_000_000
MAX_BATCH = 1_000_000
MAX_NODES = 256
_SIZES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: Any) -> int:
    """Bytes for '512MiB', '8GB' or a whole number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(value))
    unit = _SIZES.get(match[2].lower()) if match else None
    if match is None or unit is None or isinstance(value, bool):
        raise ValueError("must be a size such as 512MiB, 8GB or a number of bytes")
    size = float(match[1]) * unit
    if size > 2**62:
        raise ValueError("is larger than any machine")
    return int(size)


def parse_span(value: Any) -> float:
    """Seconds for '90s', '1h', '2d'."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", str(value))
    if match is None or isinstance(value, bool):
        raise ValueError("must be a span of time such as 90s, 30m, 1h or 2d")
    seconds = float(match[1]) * _SPANS[match[2]]
    if not 0 < seconds <= 366 * 86400:
        raise ValueError("must be above 0 and at most a year")
    return seconds


def _plain(value: Any) -> Any:
    """Hyperparameters may be written as numbers or booleans; they travel as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return json.dumps(value)
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Span = Annotated[float, BeforeValidator(parse_span)]
Text = Annotated[str, Field(max_length=10_000)]
Plain = Annotated[Text, BeforeValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Model(_Part):
    graph: dict[str, Any] | str | None = None
    layers: list[Any] | None = None
    script: str | None = None  # which of the files to run
    files: dict[str, str] | None = None  # path to SHA-256 of a blob
    args: list[str] | None = None
    source: str | None = None  # a folder: who submits by SDK or command line may name one, which becomes files
    definition: str | None = None  # any of the shapes of the wire contract, as JSON text


class _Resources(_Part):
    device: Literal["any", "cpu", "cuda", "opencl", "metal", "vulkan"] = "any"
    vram: Size = 0
    ram: Size = 1 << 30
    nodes: int = Field(1, ge=1, le=MAX_NODES)
    min_nodes: int = Field(1, ge=1, le=MAX_NODES)
    max_duration: Span = 3600.0
    regions: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=100)


class _Payment(_Part):
    max_price: Annotated[str, BeforeValidator(_plain)] = "0"
    address: Annotated[str, Field(max_length=200)] = ""


class _Checkpoint(_Part):
    every: Annotated[str, Field(max_length=40)] = "auto"


class _Verify(_Part):
    mode: Literal["none"] = "none"


class JobFile(_Part):
    name: str = Field("", max_length=200)
    type: Literal["training", "inference", "evaluation", "preprocessing"] = "training"
    dataset: Text = ""
    epochs: int = Field(10, ge=1, le=MAX_EPOCHS)
    batch_size: int = Field(32, ge=1, le=MAX_BATCH)
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    priority: Literal["low", "normal", "high", "critical"] = "normal"
    model: _Model = _Model()
    hyperparameters: dict[Annotated[str, Field(max_length=100)], Plain] = Field(default_factory=dict, max_length=200)
    resources: _Resources = Field(default_factory=lambda: _Resources.model_validate({}))
    payment: _Payment = _Payment()
    checkpoint: _Checkpoint = _Checkpoint()
    verify: _Verify = _Verify()
    strategy: Literal["ddp", "fsdp", "local_sgd", "diloco"] = "ddp"
    labels: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=50
    )


def parse_jobfile(data: object) -> JobSpec:
    """A checked spec from the job file's fields.

    Raises:
        CyxError: INVALID naming the field and what it must be; UNSUPPORTED for what this version can't run.
    """
    try:
        file = JobFile.model_validate(data)
    except ValidationError as error:
        raise first_problem(error, "job") from None
    model, script = _model(file.model)
    spec = JobSpec(
        name=file.name,
        type=JobType(file.type),
        dataset_uri=file.dataset,
        model=model,
        script=script,
        epochs=file.epochs,
        batch_size=file.batch_size,
        seed=file.seed,
        priority=Priority(file.priority),
        hyperparameters=file.hyperparameters,
        resources=Resources(
            device=Device(file.resources.device),
            vram_bytes=file.resources.vram,
            ram_bytes=file.resources.ram,
            max_duration_seconds=file.resources.max_duration,
            regions=tuple(file.resources.regions),
            nodes=file.resources.nodes,
            min_nodes=file.resources.min_nodes,
        ),
        max_price_units=parse_cyxwiz(file.payment.max_price, "payment.max_price"),
        payment_address=file.payment.address,
        labels=file.labels,
        checkpoint_every=file.checkpoint.every,
        strategy=Strategy(file.strategy),
    )
    check_spec(spec)
    return spec


def check_spec(spec: JobSpec) -> None:
    """Refuses at submit whatever no node could run: every door's last word.

    Raises:
        CyxError: INVALID or UNSUPPORTED, naming the field, layer or URI.
    """
    if spec.type is not JobType.TRAINING:
        raise unsupported(f"type: {spec.type} jobs are not built yet; training is", field="type")
    if not 1 <= spec.epochs <= MAX_EPOCHS:
        raise invalid(f"epochs: must be from 1 to {MAX_EPOCHS}, not {spec.epochs}", field="epochs")
    if not 1 <= spec.batch_size <= MAX_BATCH:
        raise invalid(f"batch_size: must be from 1 to {MAX_BATCH}, not {spec.batch_size}", field="batch_size")
    if len(spec.model.encode(errors="replace")) > MAX_MODEL_BYTES:
        raise invalid(f"model: the definition is larger than {MAX_MODEL_BYTES} bytes", field="model")
    if spec.resources.device is Device.CPU and spec.resources.vram_bytes:
        raise invalid(
            "resources.vram: a job for the CPU has none; leave it out or ask for a GPU", field="resources.vram"
        )
    _check_gang(spec)
    parse_every(spec.checkpoint_every)
    if spec.script is not None:
        check_script(spec.script)
        if spec.dataset_uri:
            check_dataset_uri(spec.dataset_uri)
        return
    if not spec.dataset_uri:
        raise invalid("dataset: missing; name one such as builtin:digits", field="dataset")
    graph = parse(spec.model)
    hyperparameters = parse_hyperparameters(spec.hyperparameters, graph)
    check_dataset_uri(spec.dataset_uri)
    check_model_fits(graph, spec.dataset_uri, hyperparameters.loss.type if hyperparameters.loss else None)


def _check_gang(spec: JobSpec) -> None:
    resources = spec.resources
    if not 1 <= resources.nodes <= MAX_NODES:
        raise invalid(f"resources.nodes: must be from 1 to {MAX_NODES}, not {resources.nodes}", field="resources.nodes")
    if not 1 <= resources.min_nodes <= resources.nodes:
        raise invalid(
            f"resources.min_nodes: must be from 1 to resources.nodes ({resources.nodes}), not {resources.min_nodes}",
            field="resources.min_nodes",
        )
    if resources.nodes > spec.batch_size and spec.script is None:
        raise invalid(
            f"batch_size: {spec.batch_size} is shared by the {resources.nodes} nodes; take at least one sample each",
            field="batch_size",
        )


def check_blobs(tx: Tx, spec: JobSpec, owner_id: str) -> None:
    """A blob:// data set and a script's files must be stored here, and be the caller's."""
    for path, sha256 in spec.script.files.items() if spec.script is not None else ():
        info = tx.blob(sha256)
        if info is None or owner_id not in info.owners:
            raise CyxError(Code.NOT_FOUND, f"model.files: {path} ({sha256}) is not stored here; upload it first")
    if (digest := blob_digest(spec.dataset_uri)) is not None:
        info = tx.blob(digest)
        if info is None or owner_id not in info.owners:
            raise CyxError(
                Code.NOT_FOUND, f"dataset: {spec.dataset_uri} is not stored here; upload it with POST /api/blobs"
            )


def parse_definition(text: str) -> tuple[str, Script | None]:
    """A model definition as the wire has it: JSON text of a graph, or of `script`, `files` and `args`."""
    if '"script"' in text:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            return text, None  # who reads it as a graph says what is wrong
        if isinstance(given, dict) and "script" in given:
            try:
                return _model(_Model.model_validate(given))
            except ValidationError as error:
                raise first_problem(error, "model") from None
    return text, None


def _model(model: _Model) -> tuple[str, Script | None]:
    given = {k: v for k, v in model.model_dump().items() if v is not None}
    if model.source is not None:
        raise invalid(
            "model.source: a folder can be named to `cyxwiz submit` and to the SDK, which upload it; here give files",
            field="model.source",
        )
    if model.script is not None:
        if extra := sorted(given.keys() - {"script", "files", "args"}):
            raise invalid(f"model.{extra[0]}: a script builds its own model; leave it out", field=f"model.{extra[0]}")
        return "", Script(model.script, model.files or {}, tuple(model.args or ()))
    if len(given) != 1 or "files" in given or "args" in given:
        raise invalid("model: give exactly one of graph, layers, definition or script", field="model")
    if "layers" in given:
        return json.dumps({"layers": given["layers"]}), None
    value = given.get("graph", given.get("definition"))
    return value if isinstance(value, str) else json.dumps(value), None
