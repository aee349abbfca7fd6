"""What a node and its child process say to each other over the child's descriptor 3.

A frame is a 4-byte big-endian length and a UTF-8 JSON object with `"v": 1` and `"type"`. The node sends `warm`, `job`,
`preempt`, `cancel`, `checkpoint`, `update`, `fed` and `answer`; the child answers `ready` and the reports of
`ports.executor`. Nothing is pickled. A frame that is too large, no JSON, of another version or with a field of the
wrong type raises `ProtocolError`: the child runs other people's work, so its word is checked like any input from
outside. Texts and figures are bounded as central bounds them, and seconds to what a run can take, so that what a job
says always fits a message to it, and to clients.
"""

from __future__ import annotations

import base64
import json
import math
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, cast

from cyxwiz.domain.job import MAX_LOG_MESSAGE, MAX_LOG_WORD, MAX_METRIC_NAME, MAX_METRICS
from cyxwiz.domain.script import Script
from cyxwiz.ports.executor import (
    Artefact,
    Asked,
    Cancelled,
    Check,
    Checkpointed,
    Failed,
    Finished,
    FirstStep,
    Gang,
    Linked,
    Logged,
    Preempted,
    Progressed,
    Reached,
    Report,
    Started,
    Wanted,
    Work,
)

VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
CHANNEL_FD = 3
MAX_TEXT = 65_536  # characters of what is no line: a name, a path, an environment
MAX_ANSWER = 1 << 20  # bytes that members of a gang tell each other at a time
MAX_SECONDS = 366 * 86_400.0  # longer than any run; estimates may come to more

_LENGTH = struct.Struct(">I")

Frame = dict[str, Any]


class ProtocolError(Exception):
    """The other side sent what is no frame of this protocol."""


def encode(kind: str, fields: Mapping[str, Any] | None = None) -> bytes:
    frame = {"v": VERSION, "type": kind, **(fields or {})}
    body = json.dumps(frame, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of type {kind} has {len(body)} bytes; at most {MAX_FRAME} are sent")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Bytes in, whole frames out: for the node, whose loop never waits on one child."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now, one by one: those before a broken one are still given."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            size = _length(self._buffer)
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _frame(body)


def read_frame(channel: socket.socket) -> Frame | None:
    """Waits for the next frame; None at the end of the stream. For the child."""
    head = _read(channel, _LENGTH.size)
    if head is None:
        return None
    body = _read(channel, _length(head))
    return None if body is None else _frame(body)


def _read(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)


def _length(head: bytes | bytearray) -> int:
    size: int = _LENGTH.unpack_from(head)[0]
    if size > MAX_FRAME:
        raise ProtocolError(f"a frame of {size} bytes; at most {MAX_FRAME} are read")
    return size


def _frame(body: bytes) -> Frame:
    try:
        frame = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame that is not JSON") from error
    if not isinstance(frame, dict):
        raise ProtocolError("a frame that is no object")
    read = cast("Frame", frame)
    if read.get("v") != VERSION:
        raise ProtocolError(f"a frame of version {str(read.get('v'))[:20]}; this is version {VERSION}")
    if not isinstance(read.get("type"), str):
        raise ProtocolError("a frame whose type is missing, or no text")
    return read


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


# --- fields


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("no whole number below 2^63")
    return value


def _count(value: Any) -> int:
    """What goes on to central as 32 bits."""
    if (count := _whole(value)) >= 2**32:
        raise ValueError("no count below 2^32")
    return count


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)


def _seconds(value: Any) -> float:
    return min(max(0.0, _number(value)), MAX_SECONDS)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value.encode("utf-8", "replace").decode()


def _short(value: Any) -> str:
    text = _text(value)
    if len(text) > MAX_TEXT:
        raise ValueError(f"more than {MAX_TEXT} characters")
    return text


def _line(value: Any) -> str:
    """What people read: cut where central would cut it."""
    return _text(value)[:MAX_LOG_MESSAGE]


def _word(value: Any) -> str:
    return _text(value)[:MAX_LOG_WORD]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("no flag")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return cast("dict[str, Any]", value)


def _bytes(value: Any) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _few_bytes(value: Any) -> bytes:
    data = _bytes(value)
    if len(data) > MAX_ANSWER:
        raise ValueError(f"more than {MAX_ANSWER} bytes")
    return data


def _metrics(value: Any) -> dict[str, float]:
    given = _table(value)
    if len(given) > MAX_METRICS:
        raise ValueError(f"more than {MAX_METRICS} figures")
    return {_text(name)[:MAX_METRIC_NAME]: _number(number) for name, number in given.items()}


def _artefact(value: Any) -> Artefact:
    entry = _table(value)
    path = Path(_short(entry.get("path")))
    return Artefact(_short(entry.get("name")), path, _short(entry.get("sha256")), _whole(entry.get("size")))


def _artefacts(value: Any) -> tuple[Artefact, ...]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return tuple(_artefact(entry) for entry in cast("list[Any]", value))


_Check = Callable[[Any], Any]
_REPORTS: dict[str, tuple[Callable[..., Report], dict[str, _Check]]] = {
    "started": (Started, {"pid": _whole}),
    "first_step": (FirstStep, {}),
    "progressed": (
        Progressed,
        {
            "epoch": _count, "epochs": _count, "batch": _count, "batches": _count, "progress": _number,
            "metrics": _metrics, "elapsed_seconds": _seconds, "remaining_seconds": _seconds, "epoch_ended": _flag,
        },
    ),
    "checkpointed": (
        Checkpointed,
        {
            "artefacts": _artefacts, "epoch": _count, "batch": _count, "step": _count, "progress": _number,
            "threads": _count, "link": _short,
        },
    ),
    "linked": (
        Linked,
        {
            "kind": _count, "step": _whole, "loss": _number, "weights": _short, "link": _short, "data": _short,
            "environment": _short,
        },
    ),
    "asked": (Asked, {"id": _whole, "kind": _short, "key": _short, "value": _few_bytes}),
    "wanted": (Wanted, {"rows": _bytes}),
    "reached": (Reached, {"rank": _count, "round_trip_seconds": _seconds, "bytes_per_second": _number}),
    "logged": (Logged, {"level": _word, "message": _line, "source": _word}),
    "finished": (
        Finished,
        {
            "artefacts": _artefacts, "final_metrics": _metrics, "epochs_completed": _count, "compute_seconds": _seconds,
        },
    ),
    "failed": (Failed, {"code": _word, "message": _line, "details": _table, "retryable": _flag}),
    "preempted": (Preempted, {"compute_seconds": _seconds}),
    "cancelled": (Cancelled, {}),
}  # fmt: skip
_TYPES = {maker: kind for kind, (maker, _) in _REPORTS.items()}


def encode_report(report: Report) -> bytes:
    kind = _TYPES[type(report)]
    return encode(kind, {name: _plain(getattr(report, name)) for name in _REPORTS[kind][1]})


def to_report(frame: Frame) -> Report:
    """The report that a frame holds; ProtocolError when it holds none."""
    kind = frame["type"]
    if kind not in _REPORTS:
        raise ProtocolError(f"a frame of the unknown type {kind[:40]!r}")
    maker, checks = _REPORTS[kind]
    fields: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            fields[name] = check(frame.get(name))
        except (ValueError, OverflowError) as error:
            raise ProtocolError(f"a frame of type {kind} whose {name} is wrong: {error}") from error
    return maker(**fields)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, tuple):
        return [_plain(entry) for entry in cast("tuple[Artefact, ...]", value)]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Artefact):
        return {"name": value.name, "path": str(value.path), "sha256": value.sha256, "size": value.size}
    return value


# --- the job

_WORK_FIELDS = (
    "job_id", "job_type", "model", "dataset_uri", "hyperparameters", "epochs", "batch_size", "seed", "device",
    "threads", "max_duration_seconds", "memory_bytes", "network", "checkpoint_every",
    "chain_id", "fixed", "streamed", "install",
)  # fmt: skip
# Files and folders of the node that a child reads: the executor lays them out where the child sees them.
INPUTS = ("dataset_path", "resume", "source", "weights", "packages")


CHECKED = ("claim", "result")  # of a `Check`, as well


def _check_paths(check: Check) -> dict[str, str | None]:
    return {name: None if (path := getattr(check, name)) is None else str(path) for name in CHECKED}


def encode_work(work: Work) -> bytes:
    fields: dict[str, Any] = {name: _plain(getattr(work, name)) for name in _WORK_FIELDS}
    fields["work_dir"] = str(work.work_dir)
    fields["data_roots"] = [str(root) for root in work.data_roots]
    script = work.script
    fields["script"] = script and {"entry": script.entry, "files": dict(script.files), "args": list(script.args)}
    fields["gang"] = None if work.gang is None else asdict(work.gang)
    fields["link_steps"] = list(work.link_steps)
    fields["check"] = None if work.check is None else {**asdict(work.check), **_check_paths(work.check)}
    for name in INPUTS:
        path = getattr(work, name)
        fields[name] = None if path is None else str(path)
    return encode("job", {"work": fields})


def to_work(frame: Frame) -> Work:
    """The job that the node sent: the child trusts its node."""
    fields: dict[str, Any] = dict(frame["work"])
    fields["work_dir"] = Path(fields["work_dir"])
    fields["data_roots"] = tuple(Path(root) for root in fields["data_roots"])
    if fields["script"] is not None:
        fields["script"] = Script(**{**fields["script"], "args": tuple(fields["script"]["args"])})
    fields["gang"] = None if fields["gang"] is None else Gang(**fields["gang"])
    fields["link_steps"] = tuple(fields["link_steps"])
    if (check := fields["check"]) is not None:
        paths = {name: None if check[name] is None else Path(check[name]) for name in CHECKED}
        fields["check"] = Check(**{**check, **paths})
    for name in INPUTS:
        fields[name] = None if fields[name] is None else Path(fields[name])
    return Work(**fields)
