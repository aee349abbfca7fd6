"""`RemoteData`: a data set that the job's owner streams to the node (`remote://`), laid out as files for the run.

Over the client's stream the node asks what there is, then for every sample of the training split, PREFETCH batches at a
time. A request without an answer is repeated; a client that leaves is waited for, and the next one goes on where it
stopped. Refused as INVALID: another dtype than float32, shapes that differ from what was said, labels that are no
class, and more data than the node takes.

The client's shape of the messages is that of the earlier system: float32 samples row by row and int32 labels, both
little-endian.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.p2p.live import LiveJob, Reader
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.protocol import common_pb2
from cyxwiz.protocol import execution_pb2 as pb

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger(__name__)

PREFETCH = 2
DEFAULT_BATCH = 32
ANSWER_SECONDS = 10.0  # for one answer
TRIES = 3  # of one client, for one request
PATIENCE_SECONDS = 600.0  # without any client that answers
POLL_SECONDS = 0.1
MAX_CLASSES = 65_536
MAX_AXES = 8
META = "meta.json"


@dataclass(frozen=True, slots=True)
class Info:
    """What the client says of its data."""

    samples: int
    shape: tuple[int, ...]
    classes: int  # 0: not said
    names: tuple[str, ...]


@dataclass(slots=True)
class _Asked:
    reader: Reader
    answer: asyncio.Future[Any]


class RemoteData:
    def __init__(self, job: LiveJob, clock: Clock, *, batch: int, max_bytes: int) -> None:
        self._job = job
        self._clock = clock
        self._batch = batch or DEFAULT_BATCH
        self._max_bytes = max_bytes
        self._asked: dict[int, _Asked] = {}  # by request id; 0 is the question what there is
        self._last = 0
        self._deaf: list[Reader] = []  # clients that left TRIES requests unanswered
        self._given: bytes | None = None

    # what clients say

    def give(self, data: bytes) -> None:
        """The whole data set as a file, which came with SendJob: nothing is asked for."""
        self._given = data
        self._job.stir()

    def answered(self, reader: Reader, answer: pb.DatasetInfoResponse | pb.BatchResponse) -> None:
        """An answer of a client; one that nobody waits for any more is passed by."""
        number = answer.request_id if isinstance(answer, pb.BatchResponse) else 0
        asked = self._asked.get(number)
        if asked is not None and asked.reader is reader and not asked.answer.done():
            asked.answer.set_result(answer)

    def left(self, reader: Reader) -> None:
        """That client is gone: what it was asked for is asked for again."""
        for asked in self._asked.values():
            if asked.reader is reader and not asked.answer.done():
                asked.answer.set_result(None)

    # the fetch

    async def fetch(self, folder: Path, wanted: Callable[[], bool]) -> Path | None:
        """Brings all training data below `folder`; None once the run is not `wanted` any more.

        Raises:
            CyxError: INVALID for data that can't be trained on, TIMEOUT when no client answers for PATIENCE_SECONDS.
        """
        info = await self._info(wanted)
        if self._given is not None:
            return await asyncio.to_thread(_keep, folder, self._given)
        if info is None:
            return None
        features, labels = await asyncio.to_thread(_lay_out, folder, info)
        starts = iter(range(0, info.samples, self._batch))

        async def work() -> None:
            for start in starts:
                indices = range(start, min(info.samples, start + self._batch))
                answer = await self._ask(wanted, indices)
                if answer is None:
                    return
                x, y = _checked(answer, info, len(indices))
                features[start : indices.stop], labels[start : indices.stop] = x, y

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(PREFETCH):
                    group.create_task(work(), name=f"remote data {number}")
        except BaseExceptionGroup as many:
            raise many.exceptions[0] from None
        if self._given is not None:
            return await asyncio.to_thread(_keep, folder, self._given)
        if not wanted():
            return None
        await asyncio.to_thread(_finish, folder, info, features, labels)
        return folder

    async def _info(self, wanted: Callable[[], bool]) -> Info | None:
        answer = await self._ask(wanted, None)
        return None if answer is None else _info_of(answer, self._max_bytes)

    async def _ask(self, wanted: Callable[[], bool], indices: Sequence[int] | None) -> Any:
        """The answer to one request (None: what there is), by whichever client gives it; None once not `wanted`."""
        tries: dict[int, int] = {}
        while (reader := await self._client(wanted)) is not None:
            answer = await self._ask_once(reader, indices, wanted)
            if answer is not None:
                if answer.status == common_pb2.STATUS_SUCCESS:
                    return answer
                raise invalid(
                    f"The client of job {self._job.job_id} has no data for it: {answer.error.message or 'no reason'} "
                    f"({answer.error.code})."
                )
            tries[id(reader)] = tries.get(id(reader), 0) + 1
            if tries[id(reader)] >= TRIES and reader in self._job.readers and reader not in self._deaf:
                log.warning("job %s: a client answers no request for data", self._job.job_id)
                self._deaf.append(reader)
        return None

    async def _ask_once(self, reader: Reader, indices: Sequence[int] | None, wanted: Callable[[], bool]) -> Any:
        number = 0
        if indices is not None:
            self._last = number = self._last + 1
        asked = self._asked[number] = _Asked(reader, asyncio.get_running_loop().create_future())
        try:
            reader.say(self._request(reader, number, indices))
            return await self._within(asked.answer, wanted)
        except CyxError as error:
            log.info("job %s: %s", self._job.job_id, error.message)
            return None
        finally:
            del self._asked[number]

    async def _within(self, answer: asyncio.Future[Any], wanted: Callable[[], bool]) -> Any:
        """The answer, or None when it did not come in time or is not wanted any more."""
        deadline = self._clock.monotonic() + ANSWER_SECONDS
        while not answer.done() and wanted() and self._given is None and self._clock.monotonic() < deadline:
            async with asyncio.TaskGroup() as group:
                look = group.create_task(self._clock.sleep(POLL_SECONDS), name="look again")
                await asyncio.wait({answer, look}, return_when=asyncio.FIRST_COMPLETED)
                look.cancel()
        return answer.result() if answer.done() else None

    def _request(self, reader: Reader, number: int, indices: Sequence[int] | None) -> pb.TrainingUpdate:
        job_id = self._job.job_id
        update = pb.TrainingUpdate(job_id=job_id, timestamp=int(self._clock.now().timestamp() * 1000))
        if indices is None:
            update.dataset_info_request.CopyFrom(pb.DatasetInfoRequest(job_id=job_id, auth_token=reader.token))
        else:
            request = pb.BatchRequest(
                job_id=job_id,
                auth_token=reader.token,
                split=pb.SPLIT_TRAIN,
                sample_indices=indices,
                request_id=number,
            )
            update.batch_request.CopyFrom(request)
        return update

    async def _client(self, wanted: Callable[[], bool]) -> Reader | None:
        """The newest client that can answer; waits for one. None once the run is not wanted, or has its data."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while wanted() and self._given is None:
            for reader in reversed(self._job.readers):
                if not reader.half_closed and reader not in self._deaf:
                    return reader
            if self._clock.monotonic() > deadline:
                raise CyxError(
                    Code.TIMEOUT,
                    f"No client streamed the data of job {self._job.job_id} within {PATIENCE_SECONDS:.0f} s: connect "
                    "to its node and submit it again.",
                    retryable=False,
                )
            await self._clock.sleep(POLL_SECONDS)
        return None


def _info_of(answer: pb.DatasetInfoResponse, max_bytes: int) -> Info:
    shape = tuple(answer.sample_shape)
    if answer.dtype not in ("float32", ""):
        raise invalid(f"The client's data are {answer.dtype[:40]}; float32 is needed.", got=answer.dtype[:40])
    if not answer.train.available or answer.train.num_samples < 2:
        raise invalid(f"The client has {answer.train.num_samples} samples to train on; at least 2 are needed.")
    if not shape or len(shape) > MAX_AXES or min(shape) < 1:
        raise invalid(f"The client's samples have the shape {list(shape)[:MAX_AXES]}; 1 to {MAX_AXES} axes are needed.")
    if not 0 <= answer.num_classes <= MAX_CLASSES:
        raise invalid(f"The client names {answer.num_classes} classes; at most {MAX_CLASSES} are known.")
    size = answer.train.num_samples * math.prod(shape) * 4
    if size > max_bytes:
        raise invalid(
            f"The client's data have {size} bytes; this node takes at most {max_bytes} (node.max_dataset_bytes).",
            bound=max_bytes,
            got=size,
        )
    names = tuple(str(name)[:200] for name in answer.class_names)
    if len(names) != answer.num_classes:
        names = ()
    return Info(answer.train.num_samples, shape, answer.num_classes, names)


def _checked(answer: pb.BatchResponse, info: Info, count: int) -> tuple[Array, Array]:
    """Samples and labels of one batch; INVALID if they are not what was asked for."""
    import numpy as np

    expected = (count, *info.shape)
    if tuple(answer.batch_shape) != expected or len(answer.images) != 4 * math.prod(expected):
        raise invalid(
            f"The client sent a batch of the shape {list(answer.batch_shape)[:MAX_AXES]} with {len(answer.images)} "
            f"bytes; expected {list(expected)} and {4 * math.prod(expected)}.",
            expected=list(expected),
        )
    if tuple(answer.label_shape) not in ((count,), (count, 1)) or len(answer.labels) != 4 * count:
        raise invalid(
            f"The client sent labels of the shape {list(answer.label_shape)[:MAX_AXES]} with {len(answer.labels)} "
            f"bytes; expected [{count}] and {4 * count}.",
            expected=[count],
        )
    x = np.frombuffer(answer.images, dtype="<f4").reshape(expected)
    y = np.frombuffer(answer.labels, dtype="<i4")
    if not np.isfinite(x).all():
        raise invalid("The client sent missing or infinite values; fill or drop them.")
    bound = info.classes or MAX_CLASSES
    if y.min() < 0 or y.max() >= bound:
        raise invalid(f"The client sent labels from {y.min()} to {y.max()}; classes run from 0 to {bound - 1}.")
    return x, y


def _lay_out(folder: Path, info: Info) -> tuple[Array, Array]:
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    features = np.lib.format.open_memmap(folder / "x.npy", "w+", np.dtype("<f4"), (info.samples, *info.shape))
    labels = np.lib.format.open_memmap(folder / "y.npy", "w+", np.dtype("<i8"), (info.samples,))
    return features, labels


def _finish(folder: Path, info: Info, features: Any, labels: Any) -> None:
    features.flush()
    labels.flush()
    (folder / META).write_text(json.dumps({"classes": info.classes, "names": list(info.names)}))


def _keep(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dataset"
    path.write_bytes(data)
    return path
