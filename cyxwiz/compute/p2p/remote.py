"""`RemoteData`: what the node asks of the client that streams a job's data (`remote://`), over the client's own stream.

The node asks what there is, then for samples of the training split by their numbers, in whatever order it needs them.
Several requests are under way at a time, by a window of bytes. One without an answer is repeated; a client that leaves
is waited for, and the next one goes on where it stopped. Refused as INVALID: another dtype than float32, shapes that
differ from what was said, labels that are no class, and more data than the node takes.

The client's shape of the messages is that of the earlier system: float32 samples row by row and int32 labels, both
little-endian.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.streamed import Info
from cyxwiz.compute.p2p.live import LiveJob, Reader
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.protocol import common_pb2
from cyxwiz.protocol import execution_pb2 as pb

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger(__name__)

WINDOW_BYTES = 8 << 20  # of samples that are asked for and have not come
REQUEST_BYTES = 2 << 20  # at most of one request, unless one sample has more
REQUESTS = (2, 16)  # under way at the same time: at least, whatever their size, and at most
DEFAULT_BATCH = 32
ANSWER_SECONDS = 10.0  # of silence, for one answer
TRIES = 3  # of one client, for one request
PATIENCE_SECONDS = 600.0  # without any client that answers
ALONE_SECONDS = 1.0  # without one before the job's log says so
POLL_SECONDS = 0.1
MAX_CLASSES = 65_536
MAX_SAMPLES = 1 << 25  # the node holds the number of each in memory
MAX_AXES = 8

Say = Callable[[str, str], Awaitable[None]]
"""Writes a line of a level into the job's log."""


@dataclass(slots=True)
class _Asked:
    reader: Reader
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Heard:
    """The newest request that a client answered, and when."""

    number: int = 0
    at: float = 0.0


class RemoteData:
    """`batch` samples are asked for at a time, fewer if they are large. `there` and `say` are the feed's: how much has
    come, for the job's log."""

    def __init__(self, job: LiveJob, clock: Clock, *, batch: int, max_bytes: int) -> None:
        self._job = job
        self._clock = clock
        self._batch = batch or DEFAULT_BATCH
        self._max_bytes = max_bytes
        self._asked: dict[int, _Asked] = {}  # by request id; 0 is the question what there is
        self._last = 0
        self._heard: dict[Reader, _Heard] = {}
        self._deaf: list[Reader] = []  # clients that left TRIES requests unanswered
        self._alone = False  # the job's log says that nobody streams
        self.given: bytes | None = None  # the whole data set as a file, which came with SendJob
        self.begun = False  # samples are asked for: no file can take their place
        self.wanted: Callable[[], bool] = lambda: True
        self.say: Say = _silent
        self.there: Callable[[], str] = str

    # what clients say

    def give(self, data: bytes) -> None:
        """The whole data set as a file: nothing is asked for. Raises CONFLICT once samples are being streamed."""
        if self.begun:
            raise conflict(f"The data of job {self._job.job_id} are being streamed: leave initial_dataset empty")
        self.given = data
        self._job.stir()

    def answered(self, reader: Reader, answer: pb.DatasetInfoResponse | pb.BatchResponse) -> None:
        """An answer of a client; one that nobody waits for any more is passed by."""
        number = answer.request_id if isinstance(answer, pb.BatchResponse) else 0
        asked = self._asked.get(number)
        if asked is not None and asked.reader is reader and not asked.answer.done():
            heard = self._heard.setdefault(reader, _Heard())
            heard.number, heard.at = max(heard.number, number), self._clock.monotonic()
            asked.answer.set_result(answer)

    def left(self, reader: Reader) -> None:
        """That client is gone: what it was asked for is asked for again."""
        self._heard.pop(reader, None)
        for asked in self._asked.values():
            if asked.reader is reader and not asked.answer.done():
                asked.answer.set_result(None)

    # what the node asks

    async def info(self) -> Info | None:
        """What there is; None once the run is not wanted, or the client gave a file.

        Raises:
            CyxError: INVALID for data that can't be trained on, TIMEOUT when no client answers for PATIENCE_SECONDS.
        """
        answer = await self._ask(None)
        return None if answer is None else _info_of(answer, self._max_bytes)

    def sizes(self, info: Info) -> tuple[int, int]:
        """(samples of one request, requests under way at the same time)"""
        rows = min(self._batch, max(1, REQUEST_BYTES // info.row_bytes))
        least, most = REQUESTS
        return rows, min(most, max(least, WINDOW_BYTES // (rows * info.row_bytes)))

    async def batch(self, info: Info, rows: Array) -> tuple[Array, Array] | None:
        """Samples and labels at these rows; None once the run is not wanted. Raises as `info`."""
        answer = await self._ask(rows.tolist())
        return None if answer is None else _checked(answer, info, len(rows))

    async def _ask(self, indices: list[int] | None) -> Any:
        """The answer to one request (None: what there is), by whichever client gives it; None once not `wanted`."""
        tries: dict[int, int] = {}
        while (reader := await self._client()) is not None:
            answer = await self._ask_once(reader, indices)
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

    async def _ask_once(self, reader: Reader, indices: list[int] | None) -> Any:
        number = 0
        if indices is not None:
            self._last = number = self._last + 1
        asked = self._asked[number] = _Asked(reader, asyncio.get_running_loop().create_future())
        try:
            reader.say(self._request(reader, number, indices))
            return await self._within(asked, number)
        except CyxError as error:
            log.info("job %s: %s", self._job.job_id, error.message)
            return None
        finally:
            del self._asked[number]

    async def _within(self, asked: _Asked, number: int) -> Any:
        """The answer, or None when it did not come in time or is not wanted any more."""
        began = self._clock.monotonic()
        while not asked.answer.done() and self._waits() and not self._overdue(asked.reader, number, began):
            async with asyncio.TaskGroup() as group:
                look = group.create_task(self._clock.sleep(POLL_SECONDS), name="look again")
                await asyncio.wait({asked.answer, look}, return_when=asyncio.FIRST_COMPLETED)
                look.cancel()
        return asked.answer.result() if asked.answer.done() else None

    def _overdue(self, reader: Reader, number: int, began: float) -> bool:
        """Whether the answer should have come: a client answers one request after the other, so that the time of one
        begins with the answer to the one before."""
        heard = self._heard.get(reader)
        since = max(began, heard.at) if heard is not None and heard.number < number else began
        return self._clock.monotonic() - since > ANSWER_SECONDS

    def _waits(self) -> bool:
        return self.wanted() and self.given is None

    def _request(self, reader: Reader, number: int, indices: list[int] | None) -> pb.TrainingUpdate:
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

    async def _client(self) -> Reader | None:
        """The newest client that can answer; waits for one. None once the run is not wanted, or has its data."""
        began = self._clock.monotonic()
        while self._waits():
            for reader in reversed(self._job.readers):
                if not reader.half_closed and reader not in self._deaf:
                    if self._alone:
                        self._alone = False
                        await self.say("info", "a client streams the data")
                    return reader
            waited = self._clock.monotonic() - began
            if waited > ALONE_SECONDS and not self._alone:
                self._alone = True
                await self.say("warning", f"waiting for a client that streams the data: {self.there()}")
            if waited > PATIENCE_SECONDS:
                raise CyxError(
                    Code.TIMEOUT,
                    f"No client streamed the data of job {self._job.job_id} within {PATIENCE_SECONDS:.0f} s: connect "
                    "to its node and submit it again.",
                    retryable=False,
                )
            await self._clock.sleep(POLL_SECONDS)
        return None


async def _silent(level: str, message: str) -> None:
    """Before a feed has taken it on."""


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
    if answer.train.num_samples > MAX_SAMPLES:
        raise invalid(
            f"The client has {answer.train.num_samples} samples to train on; at most {MAX_SAMPLES} are streamed.",
            bound=MAX_SAMPLES,
        )
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
