"""The job file: one strict schema for REST, gRPC and the command line, turned into a `JobSpec`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from cyxwiz.domain.checkpoint import parse_every
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid, unsupported
from cyxwiz.domain.ids import JobId, parse_reservation_id
from cyxwiz.domain.job import REMOTE, Device, JobSpec, JobType, Priority, Resources, Strategy
from cyxwiz.domain.lockfile import check_lock
from cyxwiz.domain.money import DUST_UNITS, check_amount, parse_cyxwiz
from cyxwiz.domain.payment import Funds
from cyxwiz.domain.script import check_script
from cyxwiz.domain.verification import MAX_COPIES, Mode
from cyxwiz.domain.weights import Weights, is_model
from cyxwiz.graph import (
    blob_digest,
    check_dataset_uri,
    check_hyperparameters,
    check_model_fits,
    check_no_hyperparameters,
    check_pipeline,
    known_shape,
    parse,
    parse_evaluation,
    parse_hyperparameters,
    parse_inference,
    parse_pipeline,
)
from cyxwiz.ports.store import BlobInfo, Tx
from cyxwiz.services.definition import Lock, Model, Part, Steps, batch_of, definition_of
from cyxwiz.services.reserved_jobs import check_reserved
from cyxwiz.services.validation import first_problem

MAX_MODEL_BYTES = 8 << 20
MAX_SCRIPT_BYTES = 1 << 30  # of a script's files together, each as often as it is named
MAX_EPOCHS = 1_000_000
MAX_BATCH = 1_000_000
MAX_NODES = 256
MAX_SIZE = 2**62
MAX_SECONDS = 366 * 86400
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
    if size > MAX_SIZE:
        raise ValueError("is larger than any machine")
    return int(size)


def parse_span(value: Any) -> float:
    """Seconds for '90s', '1h', '2d'."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", str(value))
    if match is None or isinstance(value, bool):
        raise ValueError("must be a span of time such as 90s, 30m, 1h or 2d")
    seconds = float(match[1]) * _SPANS[match[2]]
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError("must be above 0 and at most a year")
    return seconds


def _plain(value: Any) -> Any:
    """Hyperparameters may be written as numbers, booleans or lists of such and of words; they travel as text."""
    if isinstance(value, list):
        parts = [_plain(each) for each in cast("list[Any]", value)]
        return ",".join(parts) if all(isinstance(each, str) for each in parts) else cast("Any", value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return json.dumps(value)
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Span = Annotated[float, BeforeValidator(parse_span)]
Text = Annotated[str, Field(max_length=10_000)]
Plain = Annotated[Text, BeforeValidator(_plain)]


class _Resources(Part):
    device: Literal["any", "cpu", "cuda", "opencl", "metal", "vulkan"] = "any"
    vram: Size = 0
    ram: Size = 1 << 30
    nodes: int = Field(1, ge=1, le=MAX_NODES)
    min_nodes: int = Field(1, ge=1, le=MAX_NODES)
    max_duration: Span = 3600.0
    regions: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=100)


class _Payment(Part):
    max_price: Annotated[str, Field(min_length=1), BeforeValidator(_plain)] = ""  # no limit, which none may state
    address: Annotated[str, Field(max_length=200)] = ""
    quote: Annotated[str, Field(max_length=64, description="a quote's id; then one of the next two is due")] = ""
    transaction: Annotated[str, Field(max_length=2000, description="the quote's, signed, in base64")] = ""
    escrow_tx_hash: Annotated[str, Field(max_length=100, description="of the transaction that you sent yourself")] = ""


class _Checkpoint(Part):
    every: Annotated[str, Field(max_length=40)] = "auto"


class _Verify(Part):
    mode: Literal["none", "spot", "quorum"] = "none"
    n: int = Field(2, ge=2, le=MAX_COPIES)

    @field_validator("n")
    @classmethod
    def _of_a_quorum(cls, n: int, told: ValidationInfo) -> int:
        if told.data.get("mode") != "quorum":
            raise ValueError('it is of mode = "quorum", which is not asked for: nothing else counts nodes')
        return n


class JobFile(Part):
    name: str = Field("", max_length=200)
    type: Literal["training", "inference", "evaluation", "preprocessing"] = "training"
    dataset: Text = ""
    epochs: int = Field(10, ge=1, le=MAX_EPOCHS)
    batch_size: int = Field(default_factory=int, ge=1, le=MAX_BATCH)  # 0, which none may state: see `batch_of`
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    priority: Literal["low", "normal", "high", "critical"] = "normal"
    model: Model = Model()
    steps: Steps | None = None
    requirements: Lock | None = None
    network: bool = False
    hyperparameters: dict[Annotated[str, Field(max_length=100)], Plain] = Field(default_factory=dict, max_length=200)
    resources: _Resources = Field(default_factory=lambda: _Resources.model_validate({}))
    payment: _Payment = _Payment()
    checkpoint: _Checkpoint = _Checkpoint()
    verify: _Verify = Field(default_factory=lambda: _Verify.model_validate({}))
    strategy: Literal["ddp", "fsdp", "local_sgd", "diloco"] = "ddp"
    reservation: str = Field("", max_length=64)
    labels: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=50
    )


def parse_jobfile(data: object) -> JobSpec:
    """A checked spec from the job file's fields.

    Raises:
        CyxError: INVALID naming the field and what it must be; UNSUPPORTED for what this version can't run.
    """
    return parse_submission(data)[0]


def parse_submission(data: object) -> tuple[JobSpec, Funds | None]:
    """The spec, and how its client pays for it itself; None where the balance pays. Raises as `parse_jobfile`."""
    try:
        file = JobFile.model_validate(data)
    except ValidationError as error:
        raise first_problem(error, "job", JobFile) from None
    return _spec(file), _funds(file.payment)


def _funds(given: _Payment) -> Funds | None:
    if not given.quote and not given.transaction and not given.escrow_tx_hash:
        return None
    if not given.quote:
        raise invalid("payment.quote: missing; a transaction counts for the quote it was made for", field="payment")
    return Funds(given.quote, given.transaction, given.escrow_tx_hash)


def _spec(file: JobFile) -> JobSpec:
    kind = JobType(file.type)
    if file.steps is None and kind is JobType.PREPROCESSING:
        raise invalid('steps: missing; give a list of steps such as {type = "standardize"}', field="steps")
    if file.steps is not None and kind is not JobType.PREPROCESSING:
        raise invalid(f"steps: are for jobs of the type preprocessing, not {kind}", field="steps")
    definition = definition_of(file.model, file.steps, file.requirements, network=file.network)
    spec = JobSpec(
        name=file.name,
        type=kind,
        dataset_uri=file.dataset,
        model=definition.model,
        script=definition.script,
        weights=definition.weights,
        requirements=definition.requirements,
        network=definition.network,
        epochs=epochs_of(kind, file.epochs),
        batch_size=file.batch_size or batch_of(definition),
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
        max_price_units=_cap(file.payment.max_price),
        payment_address=file.payment.address,
        labels=file.labels,
        checkpoint_every=file.checkpoint.every,
        strategy=Strategy(file.strategy),
        reservation_id=parse_reservation_id(file.reservation, "reservation") if file.reservation else "",
        verify=Mode(file.verify.mode),
        copies=file.verify.n,
    )
    check_spec(spec)
    return spec


def _cap(text: str) -> int:
    """Units that a job may cost at most; 0, no limit, where it says nothing of it."""
    if not text:
        return 0
    units = parse_cyxwiz(text, "payment.max_price")
    if not units:
        raise invalid("payment.max_price: no node works for 0; leave it out for no limit", field="payment.max_price")
    return units


def check_spec(spec: JobSpec) -> None:
    """Refuses at submit whatever no node could run: every door's last word.

    Raises:
        CyxError: INVALID or UNSUPPORTED, naming the field, layer or URI.
    """
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
    if spec.max_price_units:
        check_amount(spec.max_price_units, "payment.max_price", least=DUST_UNITS)
    _check_gang(spec)
    parse_every(spec.checkpoint_every)
    _check_verify(spec)
    if spec.script is not None:
        _check_script(spec)
        return
    if spec.requirements or spec.network:
        key = "requirements" if spec.requirements else "network"
        raise invalid(f"{key}: is for your own code: give model.script or model.source as well", field=key)
    if not spec.dataset_uri:
        raise invalid("dataset: missing; name one such as builtin:digits", field="dataset")
    uri = check_dataset_uri(spec.dataset_uri)
    if spec.type is JobType.PREPROCESSING:
        check_no_hyperparameters(spec.hyperparameters)
        if spec.weights is not None:
            raise invalid("model: a preprocessing job has steps and no model; leave it out", field="model")
        check_pipeline(parse_pipeline(spec.model), known_shape(uri))
    elif spec.type is JobType.TRAINING:
        _check_training(spec)
    else:
        _check_use(spec)


def _check_gang(spec: JobSpec) -> None:
    resources = spec.resources
    if not 1 <= resources.nodes <= MAX_NODES:
        raise invalid(f"resources.nodes: must be from 1 to {MAX_NODES}, not {resources.nodes}", field="resources.nodes")
    if resources.nodes > 1 and spec.type is not JobType.TRAINING:
        raise invalid(
            f"resources.nodes: several nodes train together; an {spec.type} job runs on one", field="resources.nodes"
        )
    if resources.nodes > 1 and spec.dataset_uri.startswith(REMOTE):
        raise invalid(
            "resources.nodes: data that a client streams goes to one node; for several, upload it",
            field="resources.nodes",
        )
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


def _check_verify(spec: JobSpec) -> None:
    """Only what can be done again, and alone, can be checked."""
    if spec.verify is Mode.NONE:
        return
    if not 2 <= spec.copies <= MAX_COPIES:
        raise invalid(f"verify.n: must be from 2 to {MAX_COPIES}, not {spec.copies}", field="verify.n")
    why = ""
    if spec.type is not JobType.TRAINING or spec.script is not None:
        why = "only the training of a declared model makes a proof that can be checked"
    elif spec.resources.nodes > 1:
        why = "a job of several nodes can't be done again by one"
    elif spec.dataset_uri.startswith(REMOTE):
        why = "data that their owner streams are there for one node only"
    if why:
        raise unsupported(f"verify.mode: {spec.verify}: {why}; leave it out, or take mode = none", field="verify.mode")


def _check_script(spec: JobSpec) -> None:
    assert spec.script is not None
    if spec.type is not JobType.TRAINING:
        raise invalid(
            f"type: a script is a job of the type training, not {spec.type}: what it does is its own matter",
            field="type",
        )
    check_script(spec.script)
    if spec.requirements:
        check_lock(spec.model)
    if spec.dataset_uri:
        check_dataset_uri(spec.dataset_uri)


def _check_training(spec: JobSpec) -> None:
    if spec.weights is not None:
        raise invalid(
            "model: a training job starts from weights of its own; weights and from_job are for evaluation and "
            "inference",
            field="model",
        )
    graph = parse(spec.model)
    hyperparameters = parse_hyperparameters(spec.hyperparameters, graph)
    check_model_fits(graph, spec.dataset_uri, hyperparameters.loss.type if hyperparameters.loss else None)
    check_hyperparameters(hyperparameters, graph, spec.dataset_uri)


def _check_use(spec: JobSpec) -> None:
    """An evaluation or an inference: a model that is trained already."""
    if spec.weights is None:
        raise invalid(
            f"model: an {spec.type} job needs trained weights: model.from_job, or model.weights = blob:sha256:…",
            field="model",
        )
    loss: str | None = None
    if spec.type is JobType.EVALUATION:
        loss = parse_evaluation(spec.hyperparameters).loss
    else:
        parse_inference(spec.hyperparameters)
    if spec.model:
        graph = parse(spec.model)
        if spec.type is JobType.EVALUATION:
            check_model_fits(graph, spec.dataset_uri, loss)


def resolve(tx: Tx, spec: JobSpec, owner_id: str) -> JobSpec:
    """The spec with the blob of its weights named. Whatever blob it names must be stored here, and be the caller's.

    Raises:
        CyxError: NOT_FOUND for a blob or a job that is not there or somebody else's; CONFLICT for a job without a
            result; INVALID for one whose result has no such file, or no file of weights. As `check_reserved`.
    """
    check_reserved(tx, spec, owner_id)
    total = 0
    for path, sha256 in spec.script.files.items() if spec.script is not None else ():
        missing = f"model.files: {path} ({sha256}) is not stored here; upload it first"
        total += _owned(tx, sha256, owner_id, missing).size
    if total > MAX_SCRIPT_BYTES:
        raise invalid(
            f"model.files: {total} bytes in all, at most {MAX_SCRIPT_BYTES}; data goes into `dataset`",
            field="model.files",
        )
    if (digest := blob_digest(spec.dataset_uri)) is not None:
        _owned(
            tx,
            digest,
            owner_id,
            f"dataset: {spec.dataset_uri} is not stored here; upload it with POST /api/blobs",
        )
    if spec.weights is None:
        return spec
    weights = _of_result(tx, spec.weights, owner_id) if spec.weights.job_id else spec.weights
    message = f"model.weights: {weights.sha256} is not stored here; upload it with POST /api/blobs"
    _owned(tx, weights.sha256, owner_id, message)
    return replace(spec, weights=weights)


def blobs_of(spec: JobSpec) -> set[str]:
    """The SHA-256 of what is stored here and named by a job: its data set, its script's files, its weights."""
    named = {blob_digest(spec.dataset_uri), spec.weights.sha256 if spec.weights is not None else None}
    return {sha256 for sha256 in named if sha256} | set(spec.script.files.values() if spec.script is not None else ())


def _owned(tx: Tx, sha256: str, owner_id: str, message: str) -> BlobInfo:
    info = tx.blob(sha256)
    if info is None or owner_id not in info.owners:
        raise CyxError(Code.NOT_FOUND, message)
    return info


def _of_result(tx: Tx, weights: Weights, owner_id: str) -> Weights:
    """The weights that a job of the same owner made."""
    job = tx.job(JobId(weights.job_id))
    if job is None or job.owner_id != owner_id:
        raise CyxError(Code.NOT_FOUND, f"model.from_job: you have no job {weights.job_id}")
    result = tx.result(job.id)
    if result is None:
        raise conflict(f"model.from_job: job {job.id} is {job.state} and has no result", state=str(job.state))
    fitting = [file for file in result.files if (file.name == weights.file if weights.file else is_model(file.name))]
    if not fitting:
        names = ", ".join(file.name for file in result.files[:20]) or "none: they are with its node"
        wanted = f"no file {weights.file!r}" if weights.file else "no file of weights"
        raise invalid(f"model.from_job: the result of job {job.id} has {wanted}; it has {names}", field="model.file")
    return Weights(fitting[0].sha256, weights.job_id, fitting[0].name)


def epochs_of(kind: JobType, stated: int) -> int:
    """Only training goes over its data more than once."""
    return stated if kind is JobType.TRAINING else 1
