from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.compute.child_protocol import (
    MAX_FRAME,
    MAX_SECONDS,
    Decoder,
    ProtocolError,
    encode,
    encode_report,
    encode_work,
    read_frame,
    to_report,
    to_work,
)
from cyxwiz.compute.process import MAX_LINE, Lines
from cyxwiz.ports.executor import (
    Artefact,
    Cancelled,
    Failed,
    Finished,
    FirstStep,
    Logged,
    Progressed,
    Report,
    Started,
    Work,
)

REPORTS: list[Report] = [
    Started(7),
    FirstStep(),
    Progressed(1, 2, 3, 4, 0.5, {"loss": 0.25}, 1.5, 2.5, epoch_ended=True),
    Logged("info", "hällo\n", "stdout"),
    Finished((Artefact("m", Path("/w/m"), "ab", 3),), {"loss": 0.1}, 2, 3.5),
    Failed("INVALID", "no", {"layer": "x", "bound": [1, 2]}, retryable=True),
    Cancelled(),
]
POINT = {
    "epoch": 1, "epochs": 1, "batch": 1, "batches": 1, "progress": 0.5, "metrics": {}, "elapsed_seconds": 0.0,
    "remaining_seconds": 0.0, "epoch_ended": True,
}  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_survives_in_pieces_of_any_size(report: Report) -> None:
    data = encode_report(report) * 2
    for size in (1, 3, len(data)):
        decoder = Decoder()
        frames = [frame for i in range(0, len(data), size) for frame in decoder.feed(data[i : i + size])]
        assert [to_report(frame) for frame in frames] == [report, report]


def framed(kind: str, /, **fields: object) -> Report:
    (frame,) = Decoder().feed(encode(kind, fields))
    return to_report(frame)


def test_what_a_job_says_fits_a_message_to_central() -> None:
    """It may be a stranger's code: one report that central does not take would come again for ever."""
    said = framed("logged", level="i" * 99, message="x" * 9_000_000, source="s" * 99)
    assert isinstance(said, Logged)
    assert (len(said.level), len(said.message), len(said.source)) == (64, 16_384, 64)
    named = framed("progressed", **{**POINT, "metrics": {"n" * 5000: 1.0}})
    assert isinstance(named, Progressed)
    assert [len(name) for name in named.metrics] == [100]
    for kind, fields in (
        ("progressed", {**POINT, "metrics": {str(number): 1.0 for number in range(257)}}),
        ("asked", {"id": 1, "kind": "set", "key": "k" * 70_000, "value": ""}),
        ("asked", {"id": 1, "kind": "set", "key": "k", "value": "AAAA" * 400_000}),
    ):
        with pytest.raises(ProtocolError, match="more than"):
            framed(kind, **fields)


@pytest.mark.parametrize("said", [1e308, -1.0, 10**300])
def test_seconds_are_some_that_a_run_can_take(said: float) -> None:
    sane = MAX_SECONDS if said > 0 else 0.0
    end = framed("finished", artefacts=[], final_metrics={}, epochs_completed=1, compute_seconds=said)
    assert isinstance(end, Finished)
    assert end.compute_seconds == sane
    point = framed("progressed", **{**POINT, "elapsed_seconds": said, "remaining_seconds": said})
    assert isinstance(point, Progressed)
    assert (point.elapsed_seconds, point.remaining_seconds) == (sane, sane)


@pytest.mark.parametrize(
    ("kind", "fields", "name"),
    [
        ("asked", {"id": -1, "kind": "set", "key": "k", "value": ""}, "id"),
        ("reached", {"rank": -1, "round_trip_seconds": 1.0, "bytes_per_second": 1.0}, "rank"),
        ("linked", {"kind": 2**32, "step": 1}, "kind"),
        ("linked", {"kind": 0, "step": -1}, "step"),
        ("finished", {"artefacts": [{"name": "m", "path": "/m", "sha256": "", "size": -1}]}, "artefacts"),
    ],
)
def test_a_number_that_no_message_can_carry_is_refused(kind: str, fields: dict[str, object], name: str) -> None:
    with pytest.raises(ProtocolError, match=f"{name} is wrong"):
        framed(kind, **fields)


def test_a_job_survives(tmp_path: Path) -> None:
    work = Work(
        "j", "training", "{}", "mock://x", {"a": "b"}, 1, 2, 3, "cpu", 1, tmp_path, (tmp_path,), tmp_path / "d", 4.5
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_work(work) + encode("cancel"))
        ours.shutdown(socket.SHUT_WR)
        frame = read_frame(theirs)
        assert frame is not None
        assert to_work(frame) == work
        assert read_frame(theirs) == {"v": 1, "type": "cancel"}
        assert read_frame(theirs) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"x", "not JSON"),
        (b"[]", "no object"),
        (b"{}", "version None; this is version 1"),
        (b'{"v": 2, "type": "a"}', "version 2; this is version 1"),
        (b'{"v": 1}', "type is missing"),
        (b'{"v": 1, "type": 5}', "or no text"),
        (b'{"v": 1, "type": NaN}', "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 99999, "not JSON"),
    ],
)
def test_a_broken_frame_is_refused_after_the_ones_before_it(body: bytes, words: str) -> None:
    frames = Decoder().feed(encode("ready") + struct.pack(">I", len(body)) + body)
    assert next(frames)["type"] == "ready"
    with pytest.raises(ProtocolError, match=words):
        next(frames)


def test_a_huge_length_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().feed(struct.pack(">I", MAX_FRAME + 1)))
    with pytest.raises(ProtocolError):
        encode("log", {"message": "x" * MAX_FRAME})


@given(
    st.binary(max_size=200) | st.dictionaries(st.text(), st.none() | st.text()).map(lambda d: json.dumps(d).encode())
)
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    try:
        for frame in Decoder().feed(struct.pack(">I", len(body)) + body):
            to_report(frame)
    except ProtocolError:
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_is_never_nan(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_report(Progressed(1, 1, 1, 1, 1.0, {"loss": value}, 0.0, 0.0, epoch_ended=True))


def test_lines_are_split_and_cut() -> None:
    taken: list[str] = []
    lines = Lines(taken.append)
    for data in (b"a\nb", b"c\r\n\n", b"x" * (MAX_LINE + 5), b"yy\n\xff", b""):
        lines.feed(data)
    assert taken == ["a", "bc", "", "x" * MAX_LINE + "…", "\ufffd"]
