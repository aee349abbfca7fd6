"""The client for programs without asyncio: the same methods, which wait for their answer.

Promised: every public method of `Client` is here under its name, with its arguments; `watch` is a plain iterator; a
program may use one `SyncClient` from several threads. The calls run on one background thread, which ends with `close`:
what other threads still wait for then, and every call after it, is a CONFLICT.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from cyxwiz.client.client import Client
from cyxwiz.client.handle import JobHandle
from cyxwiz.domain.errors import conflict

T = TypeVar("T")


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = threading.Lock()
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="cyxwiz-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._closing:
            if self.closed:
                work.close()
                raise conflict("This client is closed: make a new one")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise conflict("This client was closed while the call was under way") from None
        except BaseException:
            future.cancel()  # an interrupt of this thread ends the call too
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ends what is under way, does `last`, and ends the thread."""
        with self._closing:
            if self.closed:
                return
            self.closed = True
        asyncio.run_coroutine_threadsafe(self._end(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await last()


class _Waiting:
    """Wraps an object of the asynchronous API: its coroutines are waited for, its streams are iterators."""

    def __init__(self, inner: Any, loop: _Loop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._inner, name)
        return _wrapped(value, self._loop) if callable(value) else value

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._inner) if not name.startswith("_")]


def _wrapped(act: Callable[..., Any], loop: _Loop) -> Callable[..., Any]:
    @functools.wraps(act)
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = act(*args, **kwargs)
        if inspect.iscoroutine(answer):
            return loop.wait(answer)
        if hasattr(answer, "__anext__"):
            return _iterate(answer, loop)
        return SyncJobHandle(answer, loop) if isinstance(answer, JobHandle) else answer

    return call


def _iterate(stream: Any, loop: _Loop) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(stream, _END)

    try:
        while (value := loop.wait(following())) is not _END:
            yield value
    finally:
        if not loop.closed:  # the thread's end closes it otherwise
            loop.wait(stream.aclose())


_END = object()


class SyncJobHandle(_Waiting):
    """`JobHandle`, waited for."""


class SyncClient(_Waiting):
    """`Client`, waited for. Takes the same arguments; close it, or use it in a `with` statement."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        inner = Client(*args, **kwargs)
        super().__init__(inner, _Loop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._loop.close(self._inner.close)
