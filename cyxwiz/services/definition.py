"""What a job computes, as documents say it: a model, a pipeline's steps, a script; with weights and packages."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.ids import parse_job_id
from cyxwiz.domain.lockfile import lock_digest
from cyxwiz.domain.script import Script
from cyxwiz.domain.weights import MAX_NAME, Weights, parse_blob
from cyxwiz.graph import parse
from cyxwiz.services.validation import first_problem, read_object

MAX_LOCK_CHARACTERS = 1 << 20
DEFAULT_BATCH = 32


class Part(BaseModel):
    """Strict by type and by name."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _object_or_text(value: object) -> object:
    """Says itself what is wrong: of a choice of types, pydantic would name its own."""
    if isinstance(value, dict | str):
        return cast("object", value)
    raise ValueError("must be an object of keys and values, or its JSON text")


class Model(Part):
    graph: Annotated[dict[str, Any] | str, BeforeValidator(_object_or_text)] | None = None
    layers: list[Any] | None = None
    script: str | None = None  # which of the files to run
    files: dict[str, str] | None = None  # path to SHA-256 of a blob
    args: list[str] | None = None
    source: str | None = None  # a folder: who submits by SDK or command line may name one, which becomes files
    definition: str | None = None  # any of the shapes of the wire contract, as JSON text
    weights: str | None = None  # blob:sha256:HEX
    from_job: str | None = None
    file: Annotated[str, Field(max_length=MAX_NAME)] | None = None  # of that job's result


Steps = list[dict[str, Any]]
Lock = Annotated[str, Field(max_length=MAX_LOCK_CHARACTERS)]


class Whole(Model):
    """All of it in one object, as the text of the wire's `model_definition`."""

    steps: Steps | None = None
    requirements: Lock | None = None
    network: bool | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """The fields of a `JobSpec` that say what is computed."""

    model: str = ""
    script: Script | None = None
    weights: Weights | None = None
    requirements: str = ""  # the lock's digest; its text is then `model`
    network: bool = False


def batch_of(definition: Definition) -> int:
    """The batch size of a job that states none: its model's own (a DataLoader's), else 32."""
    if definition.script is None and definition.model:
        with contextlib.suppress(CyxError):  # who checks the model says what is wrong with it
            return parse(definition.model).batch_size or DEFAULT_BATCH
    return DEFAULT_BATCH


def parse_definition(text: str) -> Definition:
    """A definition as the wire has it: JSON text of a model, or of an object with the keys of a job file's `model`,
    `steps`, `requirements` and `network`.

    Raises:
        CyxError: INVALID, naming the field. A text that is a model's is left to who parses models.
    """
    if any(f'"{key}"' in text for key in ("script", "weights", "from_job", "steps")):
        given = read_object(text.encode("utf-8", "surrogatepass"), "model definition")
        if given.keys() & {"script", "weights", "from_job", "steps"}:
            try:
                whole = Whole.model_validate(given)
            except ValidationError as error:
                raise first_problem(error, "model", Whole) from None
            return definition_of(whole, whole.steps, whole.requirements, network=whole.network or False)
    return Definition(text)


def definition_of(model: Model, steps: Steps | None, requirements: str | None, *, network: bool = False) -> Definition:
    """Raises CyxError INVALID for keys that don't go together, naming one."""
    given = {
        key: value
        for key, value in model.model_dump(include=set(Model.model_fields)).items()
        if value is not None
    }  # fmt: skip
    if model.source is not None:
        raise invalid(
            "model.source: a folder can be named to `cyxwiz submit` and to the SDK, which upload it; here give files",
            field="model.source",
        )
    if steps is not None:
        if given:
            key = sorted(given)[0]
            message = f"model.{key}: a preprocessing job has steps and no model; leave it out"
            raise invalid(message, field=f"model.{key}")
        return Definition(json.dumps({"steps": steps}), network=network, requirements=_lock(requirements))
    if model.script is not None:
        if extra := sorted(given.keys() - {"script", "files", "args"}):
            raise invalid(f"model.{extra[0]}: a script builds its own model; leave it out", field=f"model.{extra[0]}")
        script = Script(model.script, model.files or {}, tuple(model.args or ()))
        return Definition(requirements or "", script, None, _lock(requirements), network)
    weights = _weights(model)
    shapes = [key for key in ("graph", "layers", "definition") if key in given]
    if len(shapes) > 1 or "files" in given or "args" in given or (not shapes and weights is None):
        raise invalid(
            "model: give exactly one of graph, layers, definition or script; or weights or from_job", field="model"
        )
    return Definition(_text(model), None, weights, _lock(requirements), network)


def _text(model: Model) -> str:
    if model.layers is not None:
        return json.dumps({"layers": model.layers})
    value = model.graph if model.graph is not None else model.definition
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _lock(text: str | None) -> str:
    return "" if text is None else lock_digest(text)


def _weights(model: Model) -> Weights | None:
    if model.weights is not None and model.from_job is not None:
        raise invalid("model.from_job: give it or model.weights, not both", field="model.from_job")
    if model.weights is not None:
        if model.file is not None:
            raise invalid("model.file: names a file of model.from_job's result; leave it out", field="model.file")
        return Weights(parse_blob(model.weights, "model.weights"))
    if model.from_job is not None:
        return Weights(job_id=parse_job_id(model.from_job, "model.from_job"), file=model.file or "")
    if model.file is not None:
        message = "model.file: names a file of a job's result; say which job with model.from_job"
        raise invalid(message, field="model.file")
    return None
