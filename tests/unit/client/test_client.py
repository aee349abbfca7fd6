from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trustme

from cyxwiz.client import FROM_START, Client, SyncClient, connection
from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.errors import Code, CyxError
from tests.relay import relay
from tests.unit.client.server import SERVICE, FakeCentral, asks_to_sign, job, serving, serving_beside, update

JOB = job()["id"]


@pytest.fixture
async def fake() -> FakeCentral:
    return FakeCentral()


@pytest.fixture
async def client(fake: FakeCentral, tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        serving(fake) as port,
        Client(f"127.0.0.1:{port}", "cyx_key", tmp_path, patience=2, reconnect=5) as opened,
    ):
        yield opened


async def test_every_method_of_the_service_has_one_here(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    """Each is called once, and asks for what its name says."""
    fake.answers["WatchJob"] = [update("1.1.1", status="completed")]
    fake.answers["Login"] = fake.answers["Refresh"] = {"access_token": "a", "refresh_token": "r"}
    await client.submit({"name": "x"})
    await client.plan({"name": "x"})
    for act in ("get", "cancel", "delete", "explain", "metrics", "logs", "result", "receipt", "wait"):
        await getattr(client, act)(JOB)
    for act in ("pause", "resume", "preempt", "checkpoints"):
        await getattr(client, act)(JOB)
    for act in ("list_jobs", "stats", "nodes", "node_tokens", "whoami", "users", "keys", "create_key"):
        await getattr(client, act)()
    for act in ("node", "node_metrics", "drain_node", "resume_node", "ban_node", "unban_node"):
        await getattr(client, act)(JOB)
    for act in ("revoke_node_token", "disable_user", "revoke_key"):
        await getattr(client, act)(JOB)
    asks_to_sign(fake)
    fake.answers["WalletLogin"] = fake.answers["Login"]
    await client.link_wallet(Keypair(b"\1" * 32))
    await client.wallet_login(Keypair(b"\1" * 32))
    await client.unlink_wallet("11111111111111111111111111111111")
    for act in ("wallet", "payments", "transactions", "platform", "receipts", "wallets"):
        await getattr(client, act)()
    await client.top_up(JOB, "1.5")
    await client.grant(JOB, "1.5")
    await client.proof(JOB)
    await client.quote({}, "w")
    await client.withdraw("w", "1")
    await client.complain_about_node(JOB, JOB, "late")
    for act in ("stake", "withdraw_stake", "appeal_slash", "claim_rewards"):
        await getattr(client, act)(JOB)
    await client.add_stake(JOB, "1.5")
    await client.fund_rewards("1.5")
    await client.judge_slash(JOB, True)
    for act in ("reservation", "release_reservation"):
        await getattr(client, act)(JOB)
    await client.reservations(active=True)
    await client.reserve(JOB, 60, {"name": "x"})
    await client.extend_reservation(JOB, 5)
    await client.create_node_token(2, 60.0)
    await client.create_user("bob")
    await client.set_user_budget("bob", "5")
    await client.user_budget("bob")
    await client.blobs()
    await client.delete_blob("0" * 64)
    await client.login("bob", "secret-word")
    await client.refresh()
    await client.logout()
    assert {name for name, *_ in fake.calls} == {method.name for method in SERVICE.methods}


async def test_arguments_go_by_their_names_and_unset_ones_not_at_all(fake: FakeCentral, client: Client) -> None:
    await client.list_jobs(status="running", name=None, limit=5)
    await client.ban_node("n", 60.0)
    await client.create_node_token()
    assert [args for _, _, args, _ in fake.calls] == [{"status": "running", "limit": 5}, {"seconds": 60.0}, {}]
    assert all(metadata["authorization"] == "Bearer cyx_key" for *_, metadata in fake.calls)


async def test_an_error_is_the_servers_own(fake: FakeCentral, client: Client) -> None:
    fake.answers["GetJob"] = CyxError(Code.FUNDS, "Not enough", {"missing": "1.5"}, retryable=True)
    with pytest.raises(CyxError) as caught:
        await client.get(JOB)
    error = caught.value
    assert (error.code, error.message, error.details, error.retryable) == (
        Code.FUNDS,
        "Not enough",
        {"missing": "1.5"},
        True,
    )


async def test_a_submit_is_repeated_with_the_same_key(fake: FakeCentral, client: Client) -> None:
    tries = []

    def answer(ident: str, args: dict[str, Any], metadata: dict[str, Any]) -> Any:
        tries.append(metadata["idempotency-key"])
        if len(tries) < 3:
            raise CyxError(Code.UNAVAILABLE, "starting")
        return job()

    fake.answers["SubmitJob"] = answer
    assert (await client.submit({"name": "x"}))["id"] == JOB
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert (await client.submit({"name": "x"}, "mine"))["id"] == JOB
    assert tries[-1] == "mine"


async def test_what_is_not_safe_is_not_repeated(fake: FakeCentral, client: Client) -> None:
    fake.answers["CreateKey"] = CyxError(Code.UNAVAILABLE, "starting")
    with pytest.raises(CyxError, match="starting"):
        await client.create_key()
    assert len(fake.calls) == 1


async def test_a_lasting_refusal_is_not_repeated(fake: FakeCentral, client: Client) -> None:
    fake.answers["SubmitJob"] = CyxError(Code.UNAVAILABLE, "for good", retryable=False)
    with pytest.raises(CyxError, match="for good"):
        await client.submit({"name": "x"})
    assert len(fake.calls) == 1


async def test_nobody_there(tmp_path: Path) -> None:
    async with Client("127.0.0.1:1", data_dir=tmp_path, patience=0.2) as client:
        for act in (client.whoami(), client.submit({"name": "x"}), client.wait(JOB)):
            with pytest.raises(CyxError, match=r"127\.0\.0\.1:1.*cyxwiz run") as caught:
                await act
            assert caught.value.code is Code.UNAVAILABLE


async def test_a_far_server_is_reached_at_the_first_attempt(fake: FakeCentral, tmp_path: Path) -> None:
    """Also by a request that may not be repeated: a connection may take its time."""
    async with (
        serving(fake) as port,
        relay(port, delay=0.4) as far,
        Client(f"127.0.0.1:{far.port}", "cyx_key", tmp_path, patience=0) as client,
    ):
        await client.revoke_key(JOB)
    assert [each[0] for each in fake.calls] == ["RevokeKey"]


async def test_an_answer_that_does_not_come_is_a_time_out(fake: FakeCentral, tmp_path: Path) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    fake._value = hang  # type: ignore[method-assign]
    async with serving(fake) as port, Client(f"127.0.0.1:{port}", data_dir=tmp_path, timeout=0.1) as client:
        with pytest.raises(CyxError, match=r"did not answer within 0\.1 s") as caught:
            await client.whoami()
    assert caught.value.code is Code.TIMEOUT


async def test_a_watch_goes_on_at_its_cursor(fake: FakeCentral, client: Client) -> None:
    parts = iter(
        [
            [update("1.1.0", 1, status="running"), CyxError(Code.UNAVAILABLE, "stopping")],
            [],  # a stream that ends too soon is a server that stops
            [update("2.2.0", 2, status="completed")],
        ]
    )
    fake.answers["WatchJob"] = lambda *_: next(parts)
    async with aclosing(client.watch(JOB, FROM_START)) as updates:
        epochs = [point["epoch"] async for each in updates for point in each["metrics"]]
    assert epochs == [1, 2]
    assert [args.get("cursor") for _, _, args, _ in fake.calls] == ["0.0.0", "1.1.0", "1.1.0"]


async def test_a_watch_survives_a_restart(fake: FakeCentral, tmp_path: Path) -> None:
    fake.answers["WatchJob"] = lambda *_: [update("1.1.0", 1, status="running"), CyxError(Code.UNAVAILABLE, "bye")]
    async with serving(fake) as port:
        client = Client(f"127.0.0.1:{port}", data_dir=tmp_path, reconnect=10)
        updates = client.watch(JOB)
        assert (await anext(updates))["cursor"] == "1.1.0"
    fake.answers["WatchJob"] = [update("2.2.0", status="completed")]
    waiting = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with serving(fake, port):
        assert (await waiting)["job"]["status"] == "completed"
        assert [each async for each in updates] == []
        await client.close()


async def test_a_watch_of_nothing_fails_at_once(fake: FakeCentral, client: Client) -> None:
    fake.answers["WatchJob"] = CyxError(Code.NOT_FOUND, "Job not found")
    with pytest.raises(CyxError, match="not found"):
        await client.wait(JOB)
    assert len(fake.calls) == 1


async def test_wait_gives_up_in_time(fake: FakeCentral, client: Client) -> None:
    fake.answers["WatchJob"] = lambda *_: [update("1.1.0", status="running")]
    with pytest.raises(CyxError, match=r"not ended within 0\.3 s: it is running") as caught:
        await client.wait(JOB, 0.3)
    assert caught.value.code is Code.TIMEOUT


async def test_a_log_in_is_kept_renewed_and_forgotten(fake: FakeCentral, tmp_path: Path) -> None:
    good = {"first"}

    def who(ident: str, args: dict[str, Any], metadata: dict[str, Any]) -> Any:
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        if token not in good:
            raise CyxError(Code.UNAUTHENTICATED, "This token has expired; log in or refresh")
        return {"name": token}

    fake.answers["WhoAmI"] = who
    fake.answers["Login"] = {"access_token": "first", "refresh_token": "r1", "user": {}}
    fake.answers["Refresh"] = {"access_token": "second", "refresh_token": "r2"}
    async with serving(fake) as port:
        where = tmp_path / "session.json"
        async with Client(f"127.0.0.1:{port}", data_dir=tmp_path) as client:
            await client.login("bob", "secret-word", keep=True)
        assert where.stat().st_mode & 0o777 == 0o600
        async with Client(data_dir=tmp_path) as client:
            assert (await client.whoami())["name"] == "first"
        good.clear()
        good.add("second")
        async with Client(data_dir=tmp_path) as client:
            assert (await client.whoami())["name"] == "second"
            assert json.loads(where.read_text())["refresh_token"] == "r2"
            good.clear()
            fake.answers["Refresh"] = CyxError(Code.UNAUTHENTICATED, "used already")
            with pytest.raises(CyxError, match="log in"):
                await client.whoami()
        good.add("second")
        async with Client(data_dir=tmp_path) as client:
            await client.logout()
        assert not where.exists()


def keep(folder: Path, port: int, access: str, refresh: str) -> Path:
    session = {"access_token": access, "refresh_token": refresh, "server": f"grpc://127.0.0.1:{port}"}
    connection.keep_session(folder / "session.json", session)
    return folder / "session.json"


async def test_log_out_voids_the_tokens_that_it_had_to_renew(fake: FakeCentral, tmp_path: Path) -> None:
    def voided(ident: str, args: dict[str, Any], metadata: dict[str, Any]) -> Any:
        if metadata["authorization"] != "Bearer second":
            raise CyxError(Code.UNAUTHENTICATED, "This token has expired; log in or refresh")
        return {"logged_out": True}

    fake.answers["Logout"] = voided
    fake.answers["Refresh"] = {"access_token": "second", "refresh_token": "r2"}
    async with serving(fake) as port:
        where = keep(tmp_path, port, "first", "r1")
        async with Client(data_dir=tmp_path) as client:
            assert await client.logout() == {"logged_out": True}
    assert [args for method, _, args, _ in fake.calls if method == "Logout"][-1] == {"refresh_token": "r2"}
    assert not where.exists()


async def test_log_out_forgets_what_is_void_already(fake: FakeCentral, tmp_path: Path) -> None:
    fake.answers["Logout"] = fake.answers["Refresh"] = CyxError(Code.UNAUTHENTICATED, "This user is disabled or gone")
    async with serving(fake) as port:
        where = keep(tmp_path, port, "first", "r1")
        async with Client(data_dir=tmp_path) as client:
            assert await client.logout() == {"logged_out": True}
            assert not where.exists()
            with pytest.raises(CyxError, match="disabled"):
                await client.logout()
        async with Client(f"127.0.0.1:{port}", "wrong", tmp_path) as client:
            with pytest.raises(CyxError, match="disabled"):
                await client.logout()
        fake.answers["Logout"] = CyxError(Code.INTERNAL, "broken")
        where = keep(tmp_path, port, "first", "r1")
        async with Client(data_dir=tmp_path) as client:
            with pytest.raises(CyxError, match="broken"):
                await client.logout()
        assert where.exists()


async def test_a_tokens_bad_characters_are_told(tmp_path: Path) -> None:
    async with Client("127.0.0.1:1", "cyx_\u00e9", tmp_path) as client:
        with pytest.raises(CyxError, match="authorization"):
            await client.whoami()


async def test_a_data_set_beside_the_job_file_is_uploaded(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "job.toml").write_text('dataset = "data.csv"\n')
    await client.submit(tmp_path / "job.toml")
    sha256 = next(iter(fake.blobs))
    assert fake.calls[-1][2] == {"dataset": f"blob://sha256/{sha256}"}
    (tmp_path / "job.toml").write_text('dataset = "nope.csv"\n')
    with pytest.raises(CyxError, match=r"nope\.csv"):
        await client.submit(tmp_path / "job.toml")


def test_the_sync_face(tmp_path: Path) -> None:
    fake = FakeCentral()
    fake.answers["WatchJob"] = [update("1.0.0", status="running"), update("2.0.0", status="completed")]
    fake.answers["GetJob"] = CyxError(Code.NOT_FOUND, "Job not found")
    with serving_beside(fake) as port, SyncClient(f"127.0.0.1:{port}", data_dir=tmp_path) as client:
        assert client.whoami()["method"] == "WhoAmI"
        assert [each["cursor"] for each in client.watch(JOB)] == ["1.0.0", "2.0.0"]
        for each in client.watch(JOB):
            assert each["cursor"] == "1.0.0"
            break
        handle = client.job(JOB)
        assert handle.id == JOB
        assert handle.wait()["status"] == "completed"
        assert next(iter(handle.watch()))["cursor"] == "1.0.0"
        with pytest.raises(CyxError, match="not found"):
            handle.get()
        assert "submit" in dir(client)
        with pytest.raises(AttributeError):
            client.nonsense()
        assert client.address == f"127.0.0.1:{port}"
    client.close()


def test_closing_ends_what_other_threads_wait_for(tmp_path: Path) -> None:
    fake, asked, ended = FakeCentral(), threading.Event(), queue.Queue[Any]()

    def updates(*_: Any) -> Any:
        asked.set()
        return [update("1.0.0", status="running")]

    fake.answers["WatchJob"] = updates

    def waiting(act: Any) -> None:
        try:
            ended.put(act())
        except CyxError as error:
            ended.put(error)

    with serving_beside(fake) as port:
        client = SyncClient(f"127.0.0.1:{port}", data_dir=tmp_path, reconnect=60)
        acts = (lambda: client.wait(JOB), lambda: list(client.watch(JOB)))
        threads = [threading.Thread(target=waiting, args=(act,), daemon=True) for act in acts]
        for thread in threads:
            thread.start()
        assert asked.wait(5)
        client.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        for act in (client.whoami, client.job(JOB).get, lambda: list(client.watch(JOB))):
            waiting(act)
        client.close()
    said = [ended.get_nowait() for _ in range(5)]
    assert [str(error.code) for error in said] == ["CONFLICT"] * 5, said
    assert all("closed" in error.message for error in said)


@contextlib.asynccontextmanager
async def browsers_door(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


async def refused(url: str, folder: Path, ca_file: str) -> CyxError:
    async with Client(url, "cyx_key", folder, folder / ca_file if ca_file else None, patience=0) as client:
        with pytest.raises(CyxError) as error:
            await client.stats()
    return error.value


async def test_a_door_that_is_another_one_or_not_trusted_is_told_as_such(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other")
    (tmp_path / "text").write_text("no PEM")
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with browsers_door() as plain, browsers_door(context) as tls:
        for url, ca_file, code, said in (
            (f"http://127.0.0.1:{plain}", "", Code.UNAVAILABLE, "speaks HTTP and no gRPC"),
            (f"https://127.0.0.1:{tls}", "ca", Code.UNAVAILABLE, "speaks HTTP and no gRPC"),
            (f"grpcs://127.0.0.1:{tls}", "other", Code.UNAVAILABLE, "not trusted here, or of another name: --ca-file"),
            (f"grpcs://127.0.0.1:{tls}", "", Code.UNAVAILABLE, "not trusted here, or of another name: --ca-file"),
            (f"grpcs://127.0.0.1:{tls}", "text", Code.INVALID, "no certificate or key in PEM"),
        ):
            error = await refused(url, tmp_path, ca_file)
            assert said in error.message, error.message
            assert error.code is code
            assert "start a server" not in error.message
            assert "(OK)" not in error.message
