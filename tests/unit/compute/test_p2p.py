"""The parts of P2P that need no socket: tokens, sessions, live jobs, relayed calls, wishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from cyxwiz.compute.orders import Orders
from cyxwiz.compute.p2p.downloads import chunks
from cyxwiz.compute.p2p.live import ENDED_KEPT, KEPT, OWN_KEPT, LiveJob, Reader, Standing, Weights
from cyxwiz.compute.p2p.sessions import MAX_SESSIONS, Sessions
from cyxwiz.compute.p2p.updates import checkpoint_of, complete_of, error_of, log_of, progress_of
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.node import P2P_ISSUER
from cyxwiz.ext.v1 import link_pb2 as link
from cyxwiz.ports.execution import Headers
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services import relayed_call
from cyxwiz.services.p2p_tokens import bearer, check, peek
from cyxwiz.services.relay import Logins
from cyxwiz.services.relayed_call import PART, WINDOW, Call
from cyxwiz.services.secrets import Secrets

NODE, JOB = "n" * 8, "j" * 8
SECRETS = Secrets("jwt " * 8, "p2p " * 8, "admin " * 8, "custody " * 8)
SECRET = SECRETS.p2p_for(NODE, legacy=False)


class FixedClock(SystemClock):
    at = 1_000_000

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


def token(secret: bytes = SECRET, **changes: Any) -> str:
    claims = {"iss": P2P_ISSUER, "sub": "owner", "job_id": JOB, "node_id": NODE, "iat": 0, "exp": 1_000_060, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm="HS256")


def test_a_token_says_who_may_reach_what() -> None:
    claims = check(token(), SECRET, NODE, FixedClock(), JOB)
    assert (claims.owner_id, claims.job_id, claims.node_id, claims.expires_at) == ("owner", JOB, NODE, 1_000_060)
    assert peek(token()) == NODE


@pytest.mark.parametrize(
    "bad",
    [
        token(SECRETS.p2p_for("other", legacy=False)),
        token(SECRETS.p2p.encode()),
        token(exp=1_000_000),
        token(exp=None),
        token(exp="soon"),
        token(iss="somebody"),
        token(iss=None),
        token(job_id="other"),
        token(job_id=5),
        token(node_id="other"),
        token(sub=None),
        token() + "x",
        "",
        "a.b",
        "é",
    ],
)
def test_any_other_token_is_refused_with_the_same_words(bad: str) -> None:
    with pytest.raises(CyxError) as refused:
        check(bad, SECRET, NODE, FixedClock(), JOB)
    assert refused.value.code is Code.UNAUTHENTICATED
    assert refused.value.message.startswith("Invalid or expired auth token")


def test_nodes_can_forge_no_tokens_of_each_other() -> None:
    keys = {SECRETS.p2p_for(node, legacy=False) for node in ("a", "b", "c")}
    assert len(keys) == 3
    assert all(len(key) == 32 and key != SECRETS.p2p.encode() for key in keys)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic abc"])
def test_credentials_are_asked_for(authorization: str) -> None:
    with pytest.raises(CyxError) as refused:
        bearer(authorization)
    assert refused.value.code is Code.UNAUTHENTICATED


def test_a_session_ends_with_its_token_and_its_disconnect() -> None:
    clock = FixedClock()
    sessions = Sessions(NODE, clock)
    headers = Headers(f"Bearer {token()}", JOB)
    with pytest.raises(CyxError) as early:
        sessions.connect(token(), JOB, "")
    assert early.value.code is Code.UNAVAILABLE
    sessions.share(SECRET)
    with pytest.raises(CyxError):
        sessions.admit(headers, JOB, connected=True)
    sessions.connect(token(), JOB, "Bearer log-in")
    earlier = Headers("Bearer log-in", JOB)
    for each in (headers, earlier):
        assert sessions.admit(each, JOB, connected=True).claims.job_id == JOB
        with pytest.raises(CyxError):
            sessions.admit(each, "another")
    assert sessions.disconnect(earlier)
    assert not sessions.disconnect(headers)
    sessions.connect(token(), JOB, "Bearer log-in")
    clock.at += 60
    for each in (headers, earlier):
        with pytest.raises(CyxError):
            sessions.admit(each, JOB, connected=True)


# updates


def test_no_owner_shuts_others_out_with_many_log_ins() -> None:
    """Each ConnectToNode with another `authorization` was one more session, of as many as a node has for all."""
    sessions, logins = Sessions(NODE, FixedClock()), Logins(FixedClock())
    sessions.share(SECRET)
    for who, shown in (("bob", "bobs"), *(("mallory", f"junk {number}") for number in range(MAX_SESSIONS + 1))):
        proof = token(sub=who)
        sessions.connect(proof, JOB, f"Bearer {shown}")
        logins.learn(shown, JOB, check(proof, SECRET, NODE, FixedClock()))
    assert sessions.admit(Headers("Bearer bobs", JOB), JOB, connected=True).claims.owner_id == "bob"
    assert (found := logins.find("bobs", JOB)) is not None
    assert found.owner_id == "bob"
    last = f"junk {MAX_SESSIONS}"
    assert sessions.admit(Headers(f"Bearer {last}", JOB), JOB, connected=True).claims.owner_id == "mallory"
    assert logins.find(last, JOB) is not None
    assert logins.find("junk 0", JOB) is None


def test_what_is_too_large_for_a_message_is_told_as_the_most_that_it_holds() -> None:
    far = 2**32 - 1
    progress = link.Progress(epoch=far, epochs=far, batch=far, batches=far)
    progress.elapsed_seconds, progress.remaining_seconds = 1e308, float("nan")
    told = progress_of(link.Report(progress=progress), None).progress
    counts = (told.current_epoch, told.total_epochs, told.current_batch, told.total_batches)
    assert counts == (2**31 - 1,) * 4
    assert (told.elapsed_time, told.estimated_time_remaining) == (2**63 - 1, 0)
    finished = link.Finished(artefacts=[link.Artefact()], compute_seconds=float("inf"), epochs_completed=far)
    complete = complete_of(link.Report(finished=finished)).complete
    assert (complete.total_training_time, complete.total_epochs_completed) == (2**63 - 1, far)
    assert checkpoint_of(link.Report(checkpoint=link.Checkpoint(epoch=far)), {}).checkpoint.epoch == 2**31 - 1
    assert error_of(JOB, 1, "INTERNAL", "no", far).error.epoch_at_error == 2**31 - 1


# live jobs


def said(number: int) -> Any:
    return log_of(JOB, number, "info", str(number))


async def read(reader: Reader, count: int) -> list[str]:
    found: list[str] = []
    async for update in reader.updates():
        found.append(update.log.message)
        if len(found) == count:
            break
    return found


async def test_readers_get_everything_in_order_then_live() -> None:
    job = LiveJob(JOB, "owner")
    job.tell(said(1))
    early, late = Reader(job, ""), asyncio.ensure_future(read(Reader(job, ""), 3))
    await asyncio.sleep(0)
    job.tell(said(2))
    job.tell(said(3))
    assert await late == ["1", "2", "3"]
    job.stand(Standing.DONE)
    early.half_closed = True
    assert await read(early, 99) == ["1", "2", "3"]


async def test_no_log_costs_the_curve() -> None:
    job = LiveJob(JOB, "owner")
    for epoch in range(1, 4):
        job.tell(pb.TrainingUpdate(progress=pb.TrainingProgress(current_epoch=epoch)))
        for number in range(KEPT):
            job.tell(said(number))
    found, cursor = job.after(0)
    assert [update.progress.current_epoch for update in found if update.HasField("progress")] == [1, 2, 3]
    assert found[2].HasField("progress"), "in the order in which they were told"
    assert [update.log.message for update in found[3:]] == [str(number) for number in range(KEPT)]
    job.tell(said(7))
    assert [update.log.message for update in job.after(cursor)[0]] == ["7"]
    job.trim()
    assert len(job.after(0)[0]) == 3 + ENDED_KEPT


async def test_a_slow_reader_misses_the_oldest_and_holds_no_memory() -> None:
    job = LiveJob(JOB, "owner")
    reader = Reader(job, "")
    for number in range(KEPT + 10):
        job.tell(said(number))
    assert await read(reader, 2) == ["10", "11"]
    for _ in range(OWN_KEPT):
        reader.say(said(0))
    with pytest.raises(CyxError) as full:
        reader.say(said(0))
    assert full.value.code is Code.EXHAUSTED


@pytest.mark.parametrize(
    ("standing", "half_closed", "ends"),
    [
        (Standing.HERE, True, False),
        (Standing.PAUSED, True, False),
        (Standing.DONE, False, False),
        (Standing.DONE, True, True),
        (Standing.AWAY, False, True),
    ],
)
async def test_when_a_stream_ends(standing: Standing, half_closed: bool, ends: bool) -> None:
    job = LiveJob(JOB, "owner", standing=standing)
    reader = Reader(job, "")
    reader.half_closed = half_closed
    reading = asyncio.ensure_future(read(reader, 1))
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    assert bool(done) is ends
    reading.cancel()


# relayed calls


class Pair:
    """Two ends of a call whose frames go straight over, or wait until they are let through."""

    def __init__(self) -> None:
        self.one, self.two = Call(1, self._to(lambda: self.two)), Call(1, self._to(lambda: self.one))
        self.open = True
        self.waiting: list[Any] = []
        self.bytes = 0

    def _to(self, other: Callable[[], Call]) -> Any:
        async def send(frame: link.Relay) -> None:
            self.bytes += len(frame.part.data)
            copied = link.Relay.FromString(frame.SerializeToString())
            if self.open:
                other().receive(copied)

        return send


async def collect(messages: AsyncIterator[bytes]) -> list[bytes]:
    return [message async for message in messages]


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * WINDOW + 5])
async def test_a_relayed_message_arrives_whole(size: int) -> None:
    pair = Pair()
    sent = [bytes([index]) * size for index in range(3)]
    reading = asyncio.ensure_future(collect(pair.two.messages()))
    for message in sent:
        await pair.one.write(message)
    await pair.one.half_close()
    assert await reading == sent


async def test_a_reader_that_stops_stops_the_writer_at_the_window() -> None:
    pair = Pair()
    writing = asyncio.ensure_future(pair.one.write(bytes(4 * WINDOW)))
    await asyncio.wait({writing}, timeout=0.05)
    assert not writing.done()
    assert WINDOW - 2 * PART < pair.bytes <= WINDOW
    pair.one.end(CyxError(Code.UNAVAILABLE, "cut"))
    with pytest.raises(CyxError):
        await writing


async def test_what_was_not_granted_is_refused() -> None:
    pair = Pair()
    part = link.Relay(call=1, part=link.RelayPart(data=bytes(PART)))
    with pytest.raises(CyxError) as refused:
        for _ in range(2 * WINDOW // PART):
            pair.two.receive(part)
    assert refused.value.code is Code.INVALID


async def test_too_large_a_message_is_refused_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_call, "MAX_MESSAGE", PART)
    pair = Pair()
    with pytest.raises(CyxError):
        await pair.one.write(bytes(PART + 1))
    for _ in range(2):
        pair.two.receive(link.Relay(call=1, part=link.RelayPart(data=bytes(PART), more=True)))
    with pytest.raises(CyxError) as refused:
        await collect(pair.two.messages())
    assert refused.value.code is Code.INVALID


async def test_an_end_comes_with_its_error() -> None:
    pair = Pair()
    await pair.one.write(b"last")
    await pair.one.tell_end(CyxError(Code.NOT_FOUND, "gone"))
    found: list[bytes] = []
    with pytest.raises(CyxError) as ended:
        async for message in pair.two.messages():
            found.append(message)
    assert (found, ended.value.code, ended.value.message) == ([b"last"], Code.NOT_FOUND, "gone")


# weights


@pytest.mark.parametrize(("offset", "size", "count"), [(0, 0, 1), (0, 4, 3), (4, 4, 2), (9, 4, 1), (10, 4, 1)])
async def test_chunks_cover_the_rest_of_the_file(tmp_path: Path, offset: int, size: int, count: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"0123456789")
    found = [chunk async for chunk in chunks(Weights(path, "", 10), offset, size)]
    assert b"".join(chunk.data for chunk in found) == b"0123456789"[offset:]
    assert len(found) == count
    assert [chunk.is_last_chunk for chunk in found] == [False] * (count - 1) + [True]


@pytest.mark.parametrize("size", [10, 20])
async def test_a_file_that_went_or_shrank_is_told(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    if size == 20:
        path.write_bytes(b"0123456789")
    with pytest.raises(CyxError) as gone:
        assert [chunk async for chunk in chunks(Weights(path, "", size), 0, 4)]
    assert gone.value.code is Code.NOT_FOUND


# wishes


def test_wishes_are_taken_once_and_the_end_stays_given() -> None:
    orders = Orders()
    orders.give("checkpoint")
    orders.give("update", {"learning_rate": 0.1})
    assert orders.given
    assert [(wish.order, dict(wish.values)) for wish in orders.take()] == [
        ("checkpoint", {}),
        ("update", {"learning_rate": 0.1}),
    ]
    assert not orders.given
    assert not orders.ending
    orders.give("preempt")
    assert orders.take() == []
    assert orders.given
    assert orders.ending
