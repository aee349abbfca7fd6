"""`P2PSession`: a client and one job's node, straight where that can be, else over central.

Promised: a direct connection is to the node that central named, by its certificate or on loopback; every byte of a
download is checked, by chunk and as a whole, and goes on where an earlier try stopped; a cut connection is made again
with a new token, on whatever node has the job then. Updates are mappings with `type` (progress, log, checkpoint,
complete, error), `job_id`, `at_ms` and the fields of that message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from cyxwiz.client.blobs import writing
from cyxwiz.client.client import ENDED, Client, Json
from cyxwiz.client.engine import LocalData, no_data
from cyxwiz.client.errors import is_passing, rebuild
from cyxwiz.client.patience import Patience
from cyxwiz.client.pinned import CONNECT_SECONDS, is_loopback, open_node_channel
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.protocol import common_pb2, execution_pb2_grpc, job_pb2, job_pb2_grpc
from cyxwiz.protocol import execution_pb2 as pb

WAYS = ("auto", "direct", "relay")
ASSIGNED_POLL_SECONDS = 0.2
SILENCE_SECONDS = 10.0  # after which central is asked whether the job is still there
PATIENCE_SECONDS = 60.0  # for a node that was cut off to be reached again
ENGINE_VERSION = "cyxwiz-python"
Progress = Callable[[str, int, int], None]


class P2PSession:
    """Connects at entry, when the job has a node; ends the session at exit.

    Args:
        client: the way to central.
        job_id: one of the caller's jobs.
        way: `direct` or `relay` alone, or `auto`: direct, and by relay when the node can't be reached.
        data: what the node may ask for, for a job whose data set is `remote://`.
    """

    def __init__(self, client: Client, job_id: str, *, way: str = "auto", data: LocalData | None = None) -> None:
        if way not in WAYS:
            raise invalid(f"way: must be one of {', '.join(WAYS)}, not {way!r}", field="way")
        self.job_id = job_id
        self.node_id = ""
        self.relayed = False
        self.why_relayed = ""  # what was wrong with the direct way
        self.capabilities: Json = {}
        self._client = client
        self._way = way
        self._data = data
        self._stub: Any = None
        self._own: grpc.aio.Channel | None = None  # to the node
        self._token = ""
        self._call: Any = None
        self._writing = asyncio.Lock()  # gRPC takes one message at a time
        self._seen: set[bytes] = set()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(grpc.RpcError):  # a node that is gone has no session either
            request = pb.DisconnectRequest(reason="done")
            await self._stub.DisconnectFromNode(request, metadata=self._metadata, timeout=CONNECT_SECONDS)
        await self._drop()

    # connecting

    async def connect(self) -> None:
        """Waits until the job has a node, and connects to it.

        Raises:
            CyxError: CONFLICT when the job ended without one; UNAVAILABLE when the node can't be reached; FORBIDDEN
                when somebody else answers at its address and only the direct way is wanted.
        """
        given = await self._assignment()
        await self._drop()
        self._token, self.node_id = given.auth_token, given.node_id
        self.relayed, self.why_relayed = False, ""
        if self._way != "relay":
            try:
                await self._direct(given)
                return
            except CyxError as error:
                await self._drop()
                if self._way == "direct":
                    raise
                self.why_relayed = error.message
        self.relayed = True
        await self._greet(execution_pb2_grpc.JobExecutionServiceStub(self._client._open()), self._client.address)

    async def _assignment(self) -> job_pb2.NodeAssignment:
        stub: Any = job_pb2_grpc.JobServiceStub(self._client._open())
        request = job_pb2.GetJobStatusRequest(job_id=self.job_id)

        async def ask() -> job_pb2.GetJobStatusResponse:
            return await stub.GetJobStatus(request, metadata=self._client.metadata(), timeout=30)

        while True:
            answer = await self._client.guarded(ask)
            if answer.HasField("node_assignment"):
                return answer.node_assignment
            job = await self._client.get(self.job_id)
            if job["status"] in ENDED:
                raise conflict(f"Job {self.job_id} is {job['status']}, and no node has anything of it to give")
            if job["status"] in ("assigned", "running") and answer.status.status == common_pb2.STATUS_IN_PROGRESS:
                raise CyxError(Code.UNSUPPORTED, f"The node of job {self.job_id} serves no clients itself")
            await asyncio.sleep(ASSIGNED_POLL_SECONDS)  # noqa: TID251  the SDK has no injected clock

    async def _direct(self, given: job_pb2.NodeAssignment) -> None:
        self._own = await open_node_channel(
            given.node_endpoint, given.node_public_key, same_machine=is_loopback(self._client.address)
        )
        await self._greet(execution_pb2_grpc.JobExecutionServiceStub(self._own), given.node_endpoint)

    async def _greet(self, stub: Any, address: str) -> None:
        request = pb.ConnectRequest(auth_token=self._token, job_id=self.job_id, engine_version=ENGINE_VERSION)
        try:
            answer = await stub.ConnectToNode(request, metadata=self._metadata, timeout=CONNECT_SECONDS)
        except grpc.RpcError as error:
            raise rebuild(error, address, CONNECT_SECONDS) from None
        if answer.status != common_pb2.STATUS_SUCCESS:
            raise CyxError(Code.UNAUTHENTICATED, f"{address}: {answer.error.message} ({answer.error.code})")
        if answer.node_id != self.node_id:
            raise CyxError(Code.FORBIDDEN, f"{address} is node {answer.node_id[:36]}, not {self.node_id}")
        self._stub, self.capabilities = stub, plain(answer.capabilities)

    @property
    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token}"), ("x-job-id", self.job_id)]

    async def _drop(self) -> None:
        own, self._own = self._own, None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if own is not None:
            await own.close()

    # the job

    async def send_job(self, initial_dataset: bytes = b"") -> None:
        """Attaches to the job; `initial_dataset` is the file of a job whose data set is `remote://`.

        Raises INVALID with the node's reason when it is refused.
        """
        request = pb.SendJobRequest(job_id=self.job_id, initial_dataset=initial_dataset)
        try:
            answer = await self._stub.SendJob(request, metadata=self._metadata, timeout=60)
        except grpc.RpcError as error:
            raise rebuild(error, self.node_id) from None
        if not answer.accepted:
            raise invalid(f"The node refused job {self.job_id}: {answer.rejection_reason}", code=answer.error.code)

    async def follow(self) -> AsyncGenerator[Json]:
        """Every update of the job, each once, until it has ended; answers what the node asks of the data meanwhile.

        A cut connection is made again, on another node if the job went there; so is a pause waited for.
        """
        wait = Patience(PATIENCE_SECONDS)
        while True:
            try:
                async with contextlib.aclosing(self._once()) as updates:
                    async for update in updates:
                        wait.reset()
                        yield update
                        if update["type"] == "complete" or (update["type"] == "error" and not update["recoverable"]):
                            return
                error = CyxError(Code.UNAVAILABLE, f"The stream of job {self.job_id} ended before the job")
            except grpc.RpcError as raised:
                error = rebuild(raised, self.node_id)
                if error.code not in (Code.UNAUTHENTICATED, Code.NOT_FOUND) and not is_passing(error):
                    raise error from None
            await self._again(error, wait)

    async def _again(self, error: CyxError, wait: Patience) -> None:
        """Connects anew; raises `error` when that has not worked for too long, or the node has nothing more of it."""
        if error.code is Code.NOT_FOUND and (await self._client.get(self.job_id))["status"] in ENDED:
            raise error
        while await wait.again():
            try:
                await self.connect()
                return
            except CyxError as failed:
                if failed.code is Code.CONFLICT:
                    raise
                error = failed
        raise error

    async def _once(self) -> AsyncGenerator[Json]:
        call = self._call = self._stub.StreamTrainingMetrics(metadata=self._metadata)
        try:
            async for update in self._updates(call):
                kind = update.WhichOneof("update")
                if kind == "dataset_info_request":
                    info = self._data.info() if self._data is not None else no_data(self.job_id)
                    await self._write(call, pb.TrainingCommand(dataset_info_response=info))
                elif kind == "batch_request" and self._data is not None:
                    answer = pb.TrainingCommand(batch_response=self._data.batch(update.batch_request))
                    await self._write(call, answer)
                elif kind is not None:
                    mark = hashlib.sha256(update.SerializeToString(deterministic=True)).digest()
                    if mark not in self._seen:  # else told before the connection was cut
                        self._seen.add(mark)
                        yield {
                            "type": kind,
                            "job_id": update.job_id,
                            "at_ms": update.timestamp,
                            **plain(getattr(update, kind)),
                        }
                    if kind == "error" and update.error.recoverable:
                        return  # it goes on in another run, here or elsewhere
        finally:
            call.cancel()
            self._call = None

    async def _updates(self, call: Any) -> AsyncIterator[pb.TrainingUpdate]:
        """What the node says. After a silence central is asked whether the job is still there."""
        while True:
            reading = asyncio.ensure_future(call.read())
            try:
                while not (await asyncio.wait({reading}, timeout=SILENCE_SECONDS))[0]:
                    if await self._elsewhere():
                        return
            finally:
                reading.cancel()
            update = await reading
            if not isinstance(update, pb.TrainingUpdate):
                return
            yield update

    async def _elsewhere(self) -> bool:
        job = await self._client.get(self.job_id)
        return job["status"] in ENDED or (job["status"] == "running" and job["assigned_node_id"] != self.node_id)

    async def _write(self, call: Any, command: pb.TrainingCommand) -> None:
        async with self._writing:
            await call.write(command)

    async def command(self, **command: Any) -> None:
        """Sends a `TrainingCommand` in the stream that `follow` reads: pause, resume, stop, request_checkpoint (True),
        update_params (learning_rate, …). Raises CONFLICT when nothing is followed."""
        if self._call is None:
            raise conflict("Nothing is followed: commands go over the stream that follow() reads")
        try:
            params = command.pop("update_params", None)
            if params is not None:
                command["update_params"] = pb.UpdateHyperparameters(**params)
            await self._write(self._call, pb.TrainingCommand(**command))
        except (ValueError, TypeError) as error:
            raise invalid(f"command: {error}") from None
        except grpc.RpcError as error:
            raise rebuild(error, self.node_id) from None

    # the result

    async def download(
        self, path: Path | str, result_hash: str = "", progress: Progress | None = None, *, chunk_size: int = 0
    ) -> Path:
        """The weights, to `path`, which appears when they are whole and checked.

        Raises:
            CyxError: INTERNAL when what arrived is not what `result_hash` (sha256:…) names; NOT_FOUND, CONFLICT as the
                node says; UNAVAILABLE when it stays away; INVALID where the disk does not take it.
        """
        with writing(Path(path)):
            return await self._download(Path(path), result_hash, progress, chunk_size)

    async def _download(self, path: Path, result_hash: str, progress: Progress | None, chunk_size: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{(result_hash or self.job_id)[-12:]}.part")
        wait = Patience(PATIENCE_SECONDS)
        while True:
            try:
                await self._fetch(partial, progress, wait, chunk_size)
                break
            except grpc.RpcError as raised:
                error = rebuild(raised, self.node_id)
                if error.code is Code.INVALID and partial.exists() and partial.stat().st_size:
                    partial.unlink()  # longer than the file: it was of another one
                    continue
                if error.code is not Code.UNAUTHENTICATED and not is_passing(error):
                    raise error from None
                await self._again(error, wait)
        digest = await asyncio.to_thread(_digest, partial)
        if result_hash and digest != result_hash:
            partial.unlink()
            raise CyxError(Code.INTERNAL, f"{path}: what arrived is {digest}, not {result_hash}; it was dropped")
        partial.replace(path)
        return path

    async def _fetch(self, partial: Path, progress: Progress | None, wait: Patience, chunk_size: int) -> None:
        with partial.open("ab") as file:
            request = pb.DownloadRequest(job_id=self.job_id, offset=file.tell(), chunk_size=chunk_size)
            async for chunk in self._stub.DownloadWeights(request, metadata=self._metadata):
                if chunk.offset != file.tell() or chunk.checksum != f"sha256:{hashlib.sha256(chunk.data).hexdigest()}":
                    raise CyxError(Code.INTERNAL, f"A chunk of the weights of job {self.job_id} arrived damaged")
                file.write(chunk.data)
                file.flush()
                wait.reset()
                if progress:
                    progress(partial.name.rpartition(".")[0].rpartition(".")[0], file.tell(), chunk.total_size)
            os.fsync(file.fileno())


def plain(message: Any) -> Json:
    """A message's fields as a mapping of plain values, absent ones with their defaults; bytes are left out."""
    found: Json = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            value = dict(value) if hasattr(value, "items") else list(value)
        if not isinstance(value, bytes):
            found[field.name] = value
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
