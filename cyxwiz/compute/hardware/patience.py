"""NVML without waiting for ever: a driver whose GPU fell off the bus can keep a call from coming back."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

log = logging.getLogger(__name__)

Call = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Patient:
    """The module pynvml, each call of which is made on one thread of its own and waited for so long at most.

    While one has not come back the others fail at once, with NVML_ERROR_TIMEOUT; when it does, they are made again.
    Safe to use from several threads.
    """

    def __init__(self, nvml: Any, seconds: float) -> None:
        self._nvml, self._seconds = nvml, seconds
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._late: Future[Any] | None = None  # a call that was given up and has not come back
        # A daemon: a call that never comes back must not keep the process from ending.
        threading.Thread(target=self._work, name="nvml", daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._nvml, name)
        if not name.startswith("nvml") or not callable(found):
            return found
        return lambda *args: self._call(name, found, args)

    def _call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        late = self._late
        if late is not None and not late.done():
            raise self._nvml.NVMLError(self._nvml.NVML_ERROR_TIMEOUT)
        answer: Future[Any] = Future()
        self._calls.put((answer, function, args))
        try:
            return answer.result(self._seconds)
        except TimeoutError:
            if not answer.cancel():  # it is being made; one that only stood behind it is not made any more
                self._late = answer
                log.warning("NVML does not come back from %s: what it tells is unknown until it does", name)
            raise self._nvml.NVMLError(self._nvml.NVML_ERROR_TIMEOUT) from None

    def _work(self) -> None:
        while True:
            answer, function, args = self._calls.get()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(function(*args))
            except Exception as error:
                answer.set_exception(error)
