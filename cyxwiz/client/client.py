"""The SDK: every request that central answers, as a method that gives the JSON document back.

Promised: an error is the server's own `CyxError`; a submit is safe to repeat, since it always carries an idempotency
key, and is repeated while the server is away for less than `patience` seconds; `watch` and `wait` go on where they were
when central restarts. Refused: repeating a request that is not safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from cyxwiz.client import blobs, connection
from cyxwiz.client.errors import is_passing, rebuild
from cyxwiz.client.escrow import pay_with
from cyxwiz.client.handle import JobHandle
from cyxwiz.client.jobfile import code_files, read_job, weights_file
from cyxwiz.client.keypair import Keypair
from cyxwiz.client.market import Market
from cyxwiz.client.money import MoneyCalls
from cyxwiz.client.patience import Patience
from cyxwiz.client.reservations import ReservationCalls
from cyxwiz.client.stakes import StakeCalls
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.domain.wallet_proof import Purpose
from cyxwiz.ext.v1 import blobs_pb2_grpc, client_pb2, client_pb2_grpc

Json = dict[str, Any]
T = TypeVar("T")

ENDED = ("completed", "failed", "cancelled")
FROM_START = "0.0.0"


class Client(Market, MoneyCalls, ReservationCalls, StakeCalls):
    """A connection to central.

    Args:
        server: host:port, grpc://… or grpcs://…; found in the data directory when it is left out.
        token: an API key or access token; found likewise.
        data_dir: where `client.json` lies; `CYXWIZ_DATA_DIR`, else the user's own directory.
        ca_file: the certificate authority (PEM) of a server that speaks TLS with a certificate of its own.
        timeout: seconds for one answer.
        cert_file, key_file: the client's own certificate and key (PEM), for a server that demands one.
        patience: seconds for which a safe request is repeated while the server is away.
        reconnect: seconds for which a watch waits for a server that went away to come back.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        data_dir: Path | str | None = None,
        ca_file: Path | str | None = None,
        timeout: float = 30.0,
        *,
        cert_file: Path | str | None = None,
        key_file: Path | str | None = None,
        patience: float = 5.0,
        reconnect: float = 300.0,
    ) -> None:
        self._target = connection.discover(server, token, data_dir, ca_file, cert_file=cert_file, key_file=key_file)
        self._credentials = self._target.credentials
        self._timeout = timeout
        self._patience = patience
        self._reconnect = reconnect
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._met = False  # whether the server answered before: only then is a silence a restart

    @property
    def address(self) -> str:
        return self._target.address

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    # calls

    def _open(self) -> grpc.aio.Channel:
        """The channel belongs to the running loop, so it is opened at first use."""
        if self._channel is None:
            self._channel = connection.open_channel(self._target)
            self._stub = client_pb2_grpc.ClientServiceStub(self._channel)
        return self._channel

    def metadata(self, idempotency_key: str | None = None) -> list[tuple[str, str]]:
        """What travels with a call: who asks, and the key that makes it safe to repeat."""
        pairs = []
        if self._credentials.token:
            pairs.append(("authorization", f"Bearer {self._credentials.token}"))
        if idempotency_key:
            pairs.append(("idempotency-key", idempotency_key))
        for name, value in pairs:
            if not (value.isascii() and value.isprintable()):
                raise invalid(f"{name}: may hold printable ASCII characters only", field=name)
        return pairs

    async def guarded(self, act: Callable[[], Awaitable[T]], *, safe: bool = True, long: bool = False) -> T:
        """Runs `act`: errors rebuilt, an expired log-in renewed once, safe ones repeated (`long`: as a watch is)."""
        wait = Patience(self._reconnect if long and self._met else self._patience)
        renewed = False
        while True:
            try:
                answer = await act()
            except grpc.RpcError as error:
                rebuilt = rebuild(error, self.address, self._timeout)
            else:
                self._met = True
                return answer
            if rebuilt.code is Code.UNAUTHENTICATED and not renewed and await self._renew():
                renewed = True
                continue
            if not (safe and is_passing(rebuilt) and await wait.again()):
                raise rebuilt

    async def _ask(
        self, method: str, ident: str = "", args: Mapping[str, Any] | None = None, *, key: str = "", safe: bool = False
    ) -> Json:
        given = {name: value for name, value in (args or {}).items() if value is not None}
        query = client_pb2.Query(id=ident, json=encode(given) if given else b"")
        self._open()

        async def once() -> Json:
            call = getattr(self._stub, method)
            document = await call(query, timeout=self._timeout, metadata=self.metadata(key))
            return json.loads(document.json)

        return await self.guarded(once, safe=safe)

    async def _read(self, method: str, ident: str = "", /, **args: Any) -> Json:
        return await self._ask(method, ident, args, safe=self._met)

    async def _renew(self) -> bool:
        """New tokens for the kept log-in; another process may have fetched them already."""
        path, held = self._credentials.kept, self._credentials
        if path is None or not held.refresh_token:
            return False
        document = connection.read_session(path)
        if document.get("access_token") not in (None, held.token):
            self._use(document, path)
            return True
        try:
            query = client_pb2.Query(json=encode({"refresh_token": held.refresh_token}))
            answer = await self._stub.Refresh(query, timeout=self._timeout)
        except grpc.RpcError:
            return False  # the refusal of the first call says what to do: log in again
        tokens = {**document, **json.loads(answer.json)}
        connection.keep_session(path, tokens)
        self._use(tokens, path)
        return True

    def _use(self, tokens: Mapping[str, Any], path: Path | None) -> None:
        self._credentials = connection.Credentials(
            str(tokens["access_token"]), str(tokens.get("refresh_token") or ""), path
        )

    # jobs

    async def submit(
        self, job: Mapping[str, Any] | Path | str, idempotency_key: str | None = None, *, wallet: Keypair | None = None
    ) -> Json:
        """Submits a job (a mapping, or the path of a job file) and gives the job object. A `wallet` locks its money by
        its own signature, otherwise your balance at the platform pays.
        """
        document = await self.prepare(job)
        if wallet is not None:
            signed = pay_with(wallet, await self.quote(document, wallet.address))
            document = {**document, "payment": {**document.get("payment", {}), **signed}}
        return await self._ask("SubmitJob", "", document, key=idempotency_key or str(uuid.uuid4()), safe=True)

    async def plan(self, job: Mapping[str, Any] | Path | str) -> Json:
        """What a submit would meet: the price and every node's answer."""
        return await self._ask("PlanJob", "", await self.prepare(job), safe=self._met)

    async def prepare(self, job: Mapping[str, Any] | Path | str, sets: Iterable[str] = ()) -> Mapping[str, Any]:
        """The job that a file describes, ready to submit: data, code and weights that lie beside it are uploaded."""
        if isinstance(job, Mapping):
            return job
        document = read_job(job, sets)
        dataset = document.get("dataset")
        if isinstance(dataset, str) and dataset and ":" not in dataset:
            path = Path(job).parent / dataset
            if not path.is_file():
                raise invalid(
                    f"dataset: {str(path)!r} is no file; name one beside the job file, or a URI such as builtin:digits",
                    field="dataset",
                )
            document["dataset"] = (await self.push_blob(path))["uri"]
        model = document.get("model")
        if isinstance(model, dict) and ("script" in model or "source" in model) and "files" not in model:
            document["model"] = await self._upload_code(model, Path(job).parent)
        if isinstance(model, dict) and isinstance(path := weights_file(model, Path(job).parent), Path):
            document["model"] = {**model, "weights": f"blob:sha256:{(await self.push_blob(path))['sha256']}"}
        return document

    async def _upload_code(self, model: Mapping[str, Any], base: Path) -> Mapping[str, Any]:
        """The same model with its code as blobs; what the server has already is not sent again."""
        entry, files = code_files(base, model.get("source"), model.get("script"))
        at_once = asyncio.Semaphore(8)

        async def push(path: Path) -> str:
            async with at_once:
                return str((await self.push_blob(path))["sha256"])

        digests = await asyncio.gather(*(push(path) for path in files.values()))
        rest = {key: value for key, value in model.items() if key not in ("source", "script")}
        return {**rest, "script": entry, "files": dict(zip(files, digests, strict=True))}

    async def get(self, job_id: str) -> Json:
        return await self._read("GetJob", job_id)

    async def list_jobs(self, **filters: Any) -> Json:
        """A page of jobs: status, type, node_id, user_id, name, cursor, page, limit."""
        return await self._read("ListJobs", **filters)

    async def cancel(self, job_id: str, reason: str = "") -> Json:
        return await self._ask("CancelJob", job_id, {"reason": reason or None})

    async def pause(self, job_id: str) -> Json:
        return await self._ask("PauseJob", job_id)

    async def resume(self, job_id: str) -> Json:
        return await self._ask("ResumeJob", job_id)

    async def preempt(self, job_id: str, reason: str = "") -> Json:
        return await self._ask("PreemptJob", job_id, {"reason": reason or None})

    async def checkpoints(self, job_id: str, page: int = 1, limit: int = 20) -> Json:
        return await self._read("GetJobCheckpoints", job_id, page=page, limit=limit)

    async def delete(self, job_id: str) -> Json:
        return await self._ask("DeleteJob", job_id)

    async def explain(self, job_id: str) -> Json:
        return await self._read("ExplainJob", job_id)

    async def metrics(self, job_id: str, after: int = 0, limit: int = 1000) -> Json:
        return await self._read("GetJobMetrics", job_id, after=after, limit=limit)

    async def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> Json:
        return await self._read("GetJobLogs", job_id, after=after, limit=limit)

    async def result(self, job_id: str) -> Json:
        return await self._read("GetJobResult", job_id)

    async def proof(self, job_id: str) -> Json:
        return await self._read("GetJobProof", job_id)

    async def receipt(self, job_id: str) -> Json:
        return await self._read("GetJobReceipt", job_id)

    async def watch(self, job_id: str, cursor: str | None = None) -> AsyncGenerator[Json, None]:
        """Every update until the job has ended. `FROM_START` as cursor begins with all that is kept of it."""
        wait = Patience(self._reconnect)
        renewed, status = False, ""
        while True:
            try:
                async with contextlib.aclosing(self._updates(job_id, cursor)) as updates:
                    async for update in updates:
                        self._met, renewed = True, False
                        wait.reset()
                        cursor, status = update["cursor"], update["job"]["status"]
                        yield update
                if status in ENDED:
                    return
                error = CyxError(Code.UNAVAILABLE, f"{self.address} ended the watch of job {job_id}")
            except grpc.RpcError as raised:
                error = rebuild(raised, self.address)
            if error.code is Code.UNAUTHENTICATED and not renewed and await self._renew():
                renewed = True
                continue
            if not (self._met and is_passing(error) and await wait.again()):
                raise error

    async def _updates(self, job_id: str, cursor: str | None) -> AsyncGenerator[Json, None]:
        self._open()
        query = client_pb2.Query(id=job_id, json=encode({"cursor": cursor}) if cursor else b"")
        stream = self._stub.WatchJob(query, metadata=self.metadata())
        try:
            async for document in stream:
                yield json.loads(document.json)
        finally:
            stream.cancel()

    async def wait(self, job_id: str, timeout: float | None = None) -> Json:
        """The job object once the job has ended.

        Raises:
            CyxError: TIMEOUT when it has not ended within `timeout` seconds; it runs on.
        """
        job: Json = {}
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.watch(job_id)) as updates:
                async for update in updates:
                    job = update["job"]
        except TimeoutError:
            state = job.get("status", "not known")
            raise CyxError(
                Code.TIMEOUT, f"Job {job_id} has not ended within {timeout:g} s: it is {state}", {"job_id": job_id}
            ) from None
        return job

    def job(self, job_id: str) -> JobHandle:
        """The requests about one job, without repeating its id."""
        return JobHandle(self, job_id)

    # files

    async def push_blob(self, path: Path | str, progress: blobs.Progress | None = None) -> Json:
        """Uploads a file, or a folder as a tar, going on where an earlier try stopped: {"sha256", "size", "uri",
        "sent"}."""
        return await blobs.push(self, self._blobs(), Path(path), progress)

    async def pull_blob(self, sha256: str, path: Path | str, progress: blobs.Progress | None = None) -> Path:
        """Downloads a blob to `path`, going on where an earlier try stopped; it appears there only when it is whole."""
        return await blobs.pull(self, self._blobs(), sha256, Path(path), progress)

    async def download(self, job_id: str, directory: Path | str, progress: blobs.Progress | None = None) -> list[Path]:
        """Downloads a job's result files into `directory`, each checked against its SHA-256.

        Raises:
            CyxError: NOT_FOUND for a result of a node of the earlier kind, whose files central does not have; INVALID
                for a name that leads out of the folder; CONFLICT while there is no result.
        """
        result = await self.result(job_id)
        files = result["files"]
        if not files:
            at = f"at {result['model_weights_uri']!r}" if result["model_weights_uri"] else "and did not say where"
            raise CyxError(
                Code.NOT_FOUND,
                f"Central does not have the weights of job {job_id}: its node, of the earlier kind, keeps them {at}; "
                "fetch them from the node itself",
            )
        targets = [blobs.place(Path(directory), file["name"]) for file in files]
        for file, target in zip(files, targets, strict=True):
            await self.pull_blob(file["sha256"], target, progress)
        return targets

    def _blobs(self) -> Any:
        return blobs_pb2_grpc.BlobServiceStub(self._open())

    # nodes

    async def stats(self) -> Json:
        return await self._read("GetStats")

    async def nodes(self, **filters: Any) -> Json:
        """A page of nodes: status, region, mine, page, limit."""
        return await self._read("ListNodes", **filters)

    async def node(self, node_id: str) -> Json:
        return await self._read("GetNode", node_id)

    async def node_metrics(
        self, node_id: str, start: str | None = None, end: str | None = None, limit: int = 1000
    ) -> Json:
        return await self._read("GetNodeMetrics", node_id, start=start, end=end, limit=limit)

    async def drain_node(self, node_id: str) -> Json:
        """Gives the node nothing new; what runs there moves on with a checkpoint."""
        return await self._ask("DrainNode", node_id, safe=self._met)

    async def resume_node(self, node_id: str) -> Json:
        return await self._ask("ResumeNode", node_id, safe=self._met)

    async def ban_node(self, node_id: str, seconds: float | None = None) -> Json:
        return await self._ask("BanNode", node_id, {"seconds": seconds}, safe=self._met)

    async def create_node_token(self, uses: int | None = None, expires_seconds: float | None = None) -> Json:
        return await self._ask("CreateNodeToken", "", {"uses": uses, "expires_seconds": expires_seconds})

    async def node_tokens(self, page: int = 1, limit: int = 100) -> Json:
        return await self._read("ListNodeTokens", page=page, limit=limit)

    async def revoke_node_token(self, token_id: str) -> Json:
        return await self._ask("RevokeNodeToken", token_id, safe=self._met)

    # accounts

    async def login(self, name: str, password: str, *, keep: bool = False) -> Json:
        """Logs in and goes on as that user. `keep` leaves the tokens in the data directory for later programs."""
        answer = await self._ask("Login", "", {"name": name, "password": password})
        path = self._kept_path() if keep else None
        if path is not None:
            connection.keep_session(path, {**answer, **connection.where(self._target)})
        self._use(answer, path)
        return answer

    async def wallet_login(self, keypair: Keypair, *, keep: bool = False) -> Json:
        """Logs in as the user of a wallet; as `login`."""
        answer = await self._ask("WalletLogin", "", await self._proof(keypair, Purpose.LOGIN))
        path = self._kept_path() if keep else None
        if path is not None:
            connection.keep_session(path, {**answer, **connection.where(self._target)})
        self._use(answer, path)
        return answer

    def _kept_path(self) -> Path:
        if self._credentials.kept is None:
            raise invalid("A token was given, so a log-in can't be kept: leave --token and CYXWIZ_TOKEN out")
        return self._credentials.kept

    async def refresh(self, refresh_token: str | None = None) -> Json:
        """New tokens for a refresh token, which is void afterwards."""
        held = refresh_token or self._credentials.refresh_token
        answer = await self._ask("Refresh", "", {"refresh_token": held})
        path = self._credentials.kept
        if path is not None:
            connection.keep_session(path, {**connection.read_session(path), **answer})
        self._use(answer, path)
        return answer

    async def logout(self) -> Json:
        """Voids the tokens in use and forgets a kept log-in, also one that has expired; API keys live on."""
        self._open()

        async def once() -> Json:
            # Written anew for each try: a renewal in between brings another refresh token, which is the one to void.
            given = {"refresh_token": self._credentials.refresh_token} if self._credentials.refresh_token else {}
            query = client_pb2.Query(json=encode(given))
            return json.loads((await self._stub.Logout(query, timeout=self._timeout, metadata=self.metadata())).json)

        kept = self._credentials.kept
        try:
            answer = await self.guarded(once, safe=False)
        except CyxError as error:
            if error.code is not Code.UNAUTHENTICATED or kept is None or not kept.exists():
                raise
            answer = {"logged_out": True}  # the kept log-in is void already: forgetting it is all that is left
        if kept is not None:
            kept.unlink(missing_ok=True)
        self._credentials = connection.Credentials(kept=kept)
        return answer

    async def whoami(self) -> Json:
        return await self._read("WhoAmI")

    async def create_user(self, name: str, password: str = "", role: str = "user") -> Json:
        return await self._ask("CreateUser", "", {"name": name, "password": password, "role": role})

    async def users(self, page: int = 1, limit: int = 100) -> Json:
        return await self._read("ListUsers", page=page, limit=limit)

    async def disable_user(self, name_or_id: str) -> Json:
        return await self._ask("DisableUser", name_or_id, safe=self._met)

    async def create_key(self, name: str = "key") -> Json:
        return await self._ask("CreateKey", "", {"name": name})

    async def keys(self, page: int = 1, limit: int = 100) -> Json:
        return await self._read("ListKeys", page=page, limit=limit)

    async def revoke_key(self, key_id: str) -> Json:
        return await self._ask("RevokeKey", key_id, safe=self._met)

    async def blobs(self, page: int = 1, limit: int = 100) -> Json:
        return await self._read("ListBlobs", page=page, limit=limit)

    async def delete_blob(self, sha256: str) -> Json:
        return await self._ask("DeleteBlob", sha256)


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON as the server reads it.

    Raises:
        CyxError: INVALID for what JSON can't hold.
    """
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"The request can't be written as JSON: {error}") from None
